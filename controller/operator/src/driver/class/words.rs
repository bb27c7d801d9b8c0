//! What is said of a class and of its tenants, where it is not what is said already.

use super::Task;
use crate::{
    cache::{Snapshot, records::TenantRecord, store::Record as _},
    driver::{
        jobs::{Key, class, tenants},
        memory::Seen,
    },
    observe::{Latched, ObservedPod, Trouble},
    tenant::status::{self as tenant_status},
    total::after,
    worker_class::{
        Standing, View,
        advice::advice,
        plan::Plan,
        selector,
        status::{status, unusable},
    },
};
use jiff::Timestamp;
use patchbay_core::{
    id::{Incarnation, TenantUid},
    link::Farewell,
};
use patchbay_crds::{Tenant, WorkerClass, worker_class::WorkerClassStatus};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// Counts change with every claim; who reads them does so once a second at most.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Statuses of tenants that one pass begins to write; the next one goes on.
const MOST_WRITES: usize = 256;

/// What a tenant's status followed from. While it is the same, so is the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) has_farewell: bool,
    has_trouble: bool,
    version: String,
    /// The worker's pod as it was, and whether the worker said that it leaves.
    worker: Option<(Incarnation, String, bool)>,
    /// When time alone changes it.
    until: Option<Timestamp>,
}

/// By worker: whose it was, and how it ended.
pub(super) type Ends = BTreeMap<Incarnation, (Arc<Tenant>, Trouble)>;

impl Task {
    /// The status of the class, if it is another one.
    pub(super) fn class_says(
        &self,
        snapshot: &Snapshot,
        view: &View<'_>,
        plan: &Plan,
    ) -> Option<(Arc<WorkerClass>, WorkerClassStatus)> {
        let object = snapshot.class.as_ref()?;
        let known = object.status.clone().unwrap_or_default();
        let generation = object.metadata.generation;
        let next = match (&self.unusable, &self.prepared) {
            (Some(standing), _) => unusable(&standing.why, generation, &known, view.now),
            (None, Some(prepared)) => {
                let own = &self.context.settings.cluster_ranges;
                let advice = advice(&prepared.class, own, &snapshot.swap);
                let selector = selector(&prepared.class.name);
                status(view, plan, &advice, &selector, generation, &known)
            }
            (None, None) => None,
        };
        // a new leader writes nothing that is said already, and counts it all the same
        self.context.metrics.counted(&self.name, view.warm, next.as_ref().unwrap_or(&known));
        Some((Arc::clone(object), next?))
    }

    /// Writes the status of the class, not more often than anybody reads it.
    pub(super) fn tell_class(
        &mut self,
        says: Option<(Arc<WorkerClass>, WorkerClassStatus)>,
        now: Timestamp,
    ) {
        let Some((object, next)) = says else { return };
        let due = self.status_written.map_or(Timestamp::MIN, |last| after(last, STATUS_EVERY));
        if due > now {
            return self.due(Some(due));
        }
        if self.busy.contains(&Key::Class) {
            return;
        }
        self.status_written = Some(now);
        let context = Arc::clone(&self.context);
        self.start(Key::Class, || async move { class::status(&context, &object, &next).await });
    }

    /// Writes the statuses of tenants that are others than those that are known.
    pub(super) fn tell_tenants(&mut self, snapshot: &Snapshot, seen: &Seen, now: Timestamp) {
        let workers: HashMap<&Incarnation, &ObservedPod> =
            seen.pods.iter().map(|pod| (&pod.uid, pod)).collect();
        let farewells: BTreeMap<&TenantUid, &Farewell> = seen
            .pods
            .iter()
            .filter_map(|pod| pod.farewell().and_then(|said| Some((said.tenant.as_ref()?, said))))
            .collect();
        let troubles: BTreeMap<&TenantUid, &Trouble> =
            seen.pods.iter().filter_map(ObservedPod::failed).collect();
        let said = std::mem::take(&mut self.said);
        let mut writes = 0;
        for record in &snapshot.tenants {
            let name = record.name();
            let Ok(uid) = TenantUid::parse(record.uid()) else { continue };
            let farewell = farewells.get(&uid).copied();
            let trouble = troubles.get(&uid).copied();
            let (mut basis, worker) = self.basis(record, &workers, farewell, now);
            basis.has_trouble = trouble.is_some();
            if let Some(until) = basis.until {
                self.due(Some(until));
            }
            if said.get(name) == Some(&basis) {
                self.said.insert(name.to_owned(), basis);
                continue;
            }
            let seen = tenant_status::Seen {
                worker,
                farewell,
                trouble,
                hold: self.context.pace.hold,
                untold: self.context.pace.untold,
                now,
            };
            let Some(next) = tenant_status::status(&record.object, &seen) else {
                self.said.insert(name.to_owned(), basis);
                continue;
            };
            writes += 1;
            if writes > MOST_WRITES {
                self.due(Some(now));
                continue;
            }
            let (context, tenant) = (Arc::clone(&self.context), Arc::clone(&record.object));
            self.start(Key::Tenant(name.to_owned()), || async move {
                tenants::status(&context, &tenant, &next).await
            });
        }
    }

    /// The ends, not as a worker should, of workers whose tenants have gone on: in their statuses there is no place for
    /// what was before.
    pub(super) fn ends(snapshot: &Snapshot, seen: &Seen) -> Ends {
        let failed = seen.pods.iter().filter_map(|pod| Some((pod, pod.failed()?)));
        let tenants =
            |uid: &TenantUid| snapshot.tenants.iter().find(|record| record.uid() == uid.as_str());
        let views = |uid: &TenantUid| seen.tenants.iter().find(|tenant| tenant.uid == *uid);
        failed
            .filter_map(|(pod, (owner, trouble))| {
                let has_gone_on = views(owner)?.standing.has_gone_on_from(&pod.uid);
                let tenant = Arc::clone(&tenants(owner)?.object);
                has_gone_on.then(|| (pod.uid.clone(), (tenant, trouble.clone())))
            })
            .collect()
    }

    fn basis<'p>(
        &self,
        record: &TenantRecord,
        workers: &HashMap<&Incarnation, &'p ObservedPod>,
        farewell: Option<&Farewell>,
        now: Timestamp,
    ) -> (Basis, Option<&'p ObservedPod>) {
        let standing = Standing::of(record.object.spec.assignment.as_ref(), now);
        let (worker, until) = match &standing {
            Standing::Assigned(assigned) => (workers.get(&assigned.uid).copied(), None),
            Standing::Waiting { since } => {
                let pace = &self.context.pace;
                let moments = [pace.untold, pace.hold].map(|time| after(*since, time));
                (None, moments.into_iter().filter(|moment| *moment > now).min())
            }
            Standing::Asleep => (None, None),
        };
        let says_it_leaves = |pod: &ObservedPod| {
            pod.known.said.as_ref().is_some_and(|said| said.latch == Latched::Leaving)
        };
        let basis = Basis {
            version: record.version().to_owned(),
            worker: worker
                .map(|pod| (pod.uid.clone(), pod.resource_version.clone(), says_it_leaves(pod))),
            has_farewell: farewell.is_some(),
            has_trouble: false,
            until,
        };
        (basis, worker)
    }
}
