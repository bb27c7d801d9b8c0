//! An operator that runs the real plan on caches that may be stale, and carries it out action by action. Whatever it
//! remembers may be forgotten at any time, and there may be two of it.

use super::server::{Conflict, Pods, Server, Tenants};
use jiff::Timestamp;
use patchbay_core::{
    id::{Epoch, Incarnation, TenantUid},
    latch::Latch,
};
use patchbay_operator::{
    observe::{Known, Latched, Life, Said},
    worker_class::{
        Action, Assigned, Freshness, Pace, Standing, TenantView, View, backoff::Backoff, cleared,
        plan,
    },
};
use std::collections::BTreeMap;

/// What is wrong with an operator, or a gateway, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// It deletes anonymous workers instead of asking their latch.
    DeletesInsteadOfRetiring,
    /// It takes what a cache does not show for gone.
    TrustsAbsence,
    /// It clears an assignment whole.
    ForgetsTheEpoch,
    /// A gateway takes the worker that it picked although its tenant has one by then.
    TakesWhatWasPicked,
    /// A gateway never again takes a worker that said that it is taken, for the tenant that may have it.
    ShunsWhatIsTaken,
    /// A gateway shuns its tenant's worker for what that said to an earlier claim.
    ShunsWhatRefusedAnEarlierClaim,
}

#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) tenants: Tenants,
    pub(crate) pods: Pods,
    pub(crate) pending: Vec<Action>,
    known: BTreeMap<Incarnation, Known>,
    seen: BTreeMap<u8, (TenantUid, Incarnation, Epoch, Timestamp)>,
    /// Pods that it created and has not seen, for as long as they may still be on their way.
    created: BTreeMap<Incarnation, i64>,
    fresh: Freshness,
    backoff: Backoff,
    flaw: Flaw,
}

impl Operator {
    pub(crate) fn new(flaw: Flaw) -> Self {
        let never = Timestamp::MIN;
        Self {
            tenants: Tenants::new(),
            pods: Pods::new(),
            pending: Vec::new(),
            known: BTreeMap::new(),
            seen: BTreeMap::new(),
            created: BTreeMap::new(),
            fresh: Freshness { tenants: never, pods: never },
            backoff: Backoff::default(),
            flaw,
        }
    }

    /// Another process, whose first lists are as stale as they may be.
    pub(crate) fn restart(&mut self) {
        let (tenants, pods) = (std::mem::take(&mut self.tenants), std::mem::take(&mut self.pods));
        *self = Self { tenants, pods, ..Self::new(self.flaw) };
    }

    /// Looks at its caches and decides.
    pub(crate) fn plan(&mut self, server: &Server) {
        self.created.retain(|uid, at| !self.pods.contains_key(uid) && *at + 30 > server.now);
        let pods: Vec<_> = self
            .pods
            .iter()
            .map(|(uid, pod)| {
                let mut seen = pod.seen.clone();
                seen.known = self.known.get(uid).cloned().unwrap_or_default();
                seen
            })
            .collect();
        let tenants: Vec<_> = self
            .tenants
            .clone()
            .into_iter()
            .map(|(key, tenant)| {
                let standing = Standing::of(tenant.assignment.as_ref(), server.now());
                TenantView {
                    name: key.to_string(),
                    standing: self.since(key, &tenant.uid, standing),
                    uid: tenant.uid,
                    suspended: tenant.suspended,
                    usable: true,
                }
            })
            .collect();
        let always = Freshness { tenants: Timestamp::MAX, pods: Timestamp::MAX };
        let view = View {
            warm: server.warm,
            most_tenants: None,
            revision: &server.revision,
            pods: &pods,
            tenants: &tenants,
            cordoned: &server.cordoned,
            expected: self.created.len(),
            fresh: if self.flaw == Flaw::TrustsAbsence { always } else { self.fresh },
            backoff: &self.backoff,
            pace: &Pace::default(),
            now: server.now(),
            jitter: 500,
        };
        let plan = plan(&view);
        self.backoff = plan.backoff;
        self.pending = plan.actions;
    }

    /// Since when this operator has seen an assignment.
    fn since(&mut self, key: u8, tenant: &TenantUid, standing: Standing) -> Standing {
        let Standing::Assigned(assigned) = standing else {
            self.seen.remove(&key);
            return standing;
        };
        let now = assigned.seen;
        let Assigned { uid, epoch, .. } = &assigned;
        let entry = self.seen.entry(key).or_insert((tenant.clone(), uid.clone(), *epoch, now));
        if (&entry.0, &entry.1, &entry.2) != (tenant, uid, epoch) {
            *entry = (tenant.clone(), uid.clone(), *epoch, now);
        }
        Standing::Assigned(Assigned { seen: entry.3, ..assigned })
    }

    /// Carries out the next action of its last plan, however old that is by now.
    pub(crate) fn act(&mut self, server: &mut Server) {
        if self.pending.is_empty() {
            return;
        }
        let now = server.now();
        match self.pending.remove(0) {
            Action::Create(count) => {
                for _ in 0..count {
                    self.created.insert(server.create_pod(), server.now);
                }
            }
            Action::Enrol(pod) => server.change(&pod.uid, |pod| {
                if matches!(pod.life, Life::Starting { dialable: true, .. }) {
                    pod.fingerprint = Some(pod.uid.to_string());
                    pod.life = Life::Up;
                }
            }),
            Action::Inquire(pod) => {
                let said = answering(server, &pod.uid).map(|latch| match latch {
                    Latch::Anonymous => Latched::Anonymous,
                    Latch::Bound(claim) => Latched::Bound(claim.tenant.clone()),
                    Latch::Leaving(_) => Latched::Leaving,
                });
                self.known.entry(pod.uid).or_default().said =
                    said.map(|latch| Said { at: now, latch });
            }
            Action::MarkBound(pod) => server.change(&pod.uid, |pod| pod.marked_bound = true),
            Action::Retire(pod, _) if self.flaw == Flaw::DeletesInsteadOfRetiring => {
                delete(server, &pod.uid);
            }
            Action::Retire(pod, why) => {
                server.note(format!("retired: {why:?}"));
                let latch = answering(server, &pod.uid).cloned();
                let is_kept = server.is_kept(&pod.uid);
                let known = self.known.entry(pod.uid.clone()).or_default();
                match latch {
                    // it says that for the moment it is kept: the next pass asks again
                    Some(Latch::Anonymous) if is_kept => {
                        server.note("a retirement met a kept worker");
                    }
                    Some(Latch::Bound(_)) => {
                        server.note("a retirement was refused");
                        known.said = None;
                    }
                    Some(_) => {
                        server.note("a retirement");
                        server.leave(&pod.uid);
                        known.said = Some(Said { at: now, latch: Latched::Leaving });
                    }
                    None => {}
                }
            }
            Action::Drain { pod, tenant, why } => {
                server.note(format!("drained: {why:?}"));
                if server.serves_a_user(&pod.uid) {
                    server.violate(format!("{pod:?} of {tenant} was drained: {why:?}"));
                }
                server.leave(&pod.uid);
                self.known.entry(pod.uid).or_default().said =
                    Some(Said { at: now, latch: Latched::Leaving });
            }
            Action::AskToLeaveWhenIdle(pod) => {
                self.known.entry(pod.uid.clone()).or_default().asked_to_leave = true;
                server.asked.insert(pod.uid);
            }
            Action::ClearAssignment { name, tenant, worker, epoch, farewell } => {
                if farewell.is_some() {
                    server.note("a clearing with last words");
                }
                self.clear(server, &name, &tenant, &worker, epoch);
                let whose = server.latches.get(&worker).and_then(Latch::claim);
                if farewell.is_some() && whose.is_some_and(|claim| claim.tenant != tenant) {
                    server
                        .violate(format!("{tenant} was given the last words of another's worker"));
                }
            }
            Action::Reap { pod, only_if, .. } => {
                let found = server.pods.get(&pod.uid).map(|pod| pod.seen.resource_version.clone());
                if only_if.is_none() || found == only_if {
                    delete(server, &pod.uid);
                } else {
                    server.note("a delete conflicted");
                }
            }
            Action::Relist => {
                server.note("a list");
                self.tenants = server.tenants.clone();
                self.fresh.tenants = now;
                self.pods = server.pods.clone();
                self.fresh.pods = now;
            }
        }
    }

    fn clear(
        &self,
        server: &mut Server,
        name: &str,
        tenant: &TenantUid,
        worker: &Incarnation,
        epoch: Epoch,
    ) {
        let key = name.parse().unwrap();
        let was_served = server.serves_a_user(worker)
            && server
                .latches
                .get(worker)
                .and_then(Latch::claim)
                .is_some_and(|claim| claim.tenant == *tenant && claim.epoch == epoch);
        let next = (self.flaw != Flaw::ForgetsTheEpoch).then(|| cleared(epoch));
        if !server.pods.contains_key(worker) {
            server.note("a clearing without a pod");
        }
        match server.clear(key, worker, epoch, next) {
            Err(Conflict) => server.note("a clearing conflicted"),
            Ok(()) if was_served => {
                server.violate(format!("{tenant} lost {worker} while it was served"));
            }
            Ok(()) => {}
        }
    }
}

fn answering<'s>(server: &'s Server, uid: &Incarnation) -> Option<&'s Latch> {
    let pod = server.pods.get(uid)?;
    (!pod.seen.has_ended()).then(|| server.latches.get(uid)).flatten()
}

fn delete(server: &mut Server, uid: &Incarnation) {
    let is_bound = matches!(server.latches.get(uid), Some(Latch::Bound(_)));
    if is_bound && server.pods.get(uid).is_some_and(|pod| !pod.seen.has_ended()) {
        server.violate(format!("{uid} was deleted while it was bound"));
    }
    server.remove_pod(uid);
}
