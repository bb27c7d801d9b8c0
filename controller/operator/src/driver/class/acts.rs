//! From actions to jobs, and from outcomes to what is remembered.

use super::{TRY_AGAIN, Task, words::Ends};
use crate::{
    cache::{Snapshot, records::PodRecord, store::Record as _},
    driver::{
        jobs::{Key, Outcome, class, pods, tenants, workers},
        memory::Seen,
    },
    tenant::forget,
    total::after,
    worker_class::{Action, plan::PodRef},
};
use jiff::Timestamp;
use patchbay_core::{id::Incarnation, jitter};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Task {
    /// Starts a job about `key`, unless there is one.
    pub(super) fn start<F>(&mut self, key: Key, job: impl FnOnce() -> F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        if !self.busy.insert(key.clone()) {
            return;
        }
        let job = job();
        self.jobs.spawn(async move { (key, job.await) });
    }

    /// Carries out what was decided.
    pub(super) fn act(&mut self, actions: Vec<Action>, snapshot: &Snapshot, seen: &Seen) {
        let mut ends = Self::ends(snapshot, seen);
        let pods: BTreeMap<&Incarnation, &Arc<PodRecord>> =
            snapshot.pods.iter().map(|pod| (&pod.seen.uid, pod)).collect();
        for action in actions {
            if let Action::Reap { pod, .. } = &action
                && pods.get(&pod.uid).is_some_and(|pod| !self.has_told(pod, snapshot))
            {
                continue;
            }
            self.act_once(action, &pods, &mut ends);
        }
    }

    /// Whether a worker's last words are in the status of the tenant that they are of.
    fn has_told(&self, pod: &PodRecord, snapshot: &Snapshot) -> bool {
        let Some(tenant) = pod.seen.farewell().and_then(|said| said.tenant.as_ref()) else {
            return true;
        };
        let found = snapshot.tenants.iter().find(|record| record.uid() == tenant.as_str());
        found.is_none_or(|record| {
            self.said.get(record.name()).is_some_and(|basis| basis.has_farewell)
        })
    }

    fn act_once(
        &mut self,
        action: Action,
        pods: &BTreeMap<&Incarnation, &Arc<PodRecord>>,
        ends: &mut Ends,
    ) {
        let context = Arc::clone(&self.context);
        match action {
            Action::Create(count) => self.create(count),
            Action::Relist => self.start(Key::List, || async move {
                context.relister.list().await;
                Outcome::Done
            }),
            Action::ClearAssignment { name, tenant, worker, epoch, farewell: _ } => {
                self.start(Key::Tenant(name.clone()), || async move {
                    tenants::clear(&context, &name, &tenant, &worker, epoch).await
                });
            }
            Action::MarkBound(pod) => self.start(Key::Pod(pod.uid.clone()), || async move {
                pods::mark_bound(&context, &pod).await
            }),
            Action::Reap { pod, only_if, why } => {
                let end = ends.remove(&pod.uid);
                self.start(Key::Pod(pod.uid.clone()), || async move {
                    if let Some((tenant, trouble)) = end {
                        tenants::tell_end(&context, &tenant, &pod.name, &trouble).await;
                    }
                    tracing::info!(pod = pod.name, ?why, "deleted");
                    pods::delete(&context, &pod, pods::Deletion { only_if, within: None }).await
                });
            }
            Action::Enrol(pod) => self
                .ask(&pod, pods, |worker| async move { workers::enrol(&context, &worker).await }),
            Action::Inquire(pod) => self
                .ask(&pod, pods, |worker| async move { workers::inquire(&context, &worker).await }),
            Action::Retire(pod, why) => self.ask(&pod, pods, |worker| async move {
                tracing::info!(pod = worker.pod.name, ?why, "asked to leave if it is nobody's");
                workers::retire(&context, &worker).await
            }),
            Action::Drain { pod, tenant: _, why } => self.ask(&pod, pods, |worker| async move {
                tracing::info!(pod = worker.pod.name, ?why, "asked to finish and leave");
                if why.cuts() {
                    workers::end(&context, &worker).await
                } else {
                    workers::drain(&context, &worker).await
                }
            }),
            Action::AskToLeaveWhenIdle(pod) => self.ask(&pod, pods, |worker| async move {
                tracing::info!(pod = worker.pod.name, "asked to leave when it is idle");
                workers::ask_to_leave(&context, &worker).await
            }),
        }
    }

    fn create(&mut self, count: usize) {
        let Some(prepared) = &self.prepared else { return };
        if self.busy.contains(&Key::Create) {
            return;
        }
        let (context, pod) = (Arc::clone(&self.context), prepared.pod.clone());
        tracing::info!(
            class = self.name,
            count,
            revision = prepared.revision,
            "workers are created"
        );
        self.creating = count;
        self.start(Key::Create, || async move { pods::create(&context, pod, count).await });
    }

    /// Starts a job with a worker that has an address.
    fn ask<F>(
        &mut self,
        pod: &PodRef,
        pods: &BTreeMap<&Incarnation, &Arc<PodRecord>>,
        job: impl FnOnce(workers::Worker) -> F,
    ) where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let Some(record) = pods.get(&pod.uid) else { return };
        let Some(ip) = record.ip else { return };
        let worker = workers::Worker {
            pod: pod.clone(),
            ip,
            fingerprint: record.seen.fingerprint.clone(),
            version: record.version().to_owned(),
        };
        self.start(Key::Pod(pod.uid.clone()), || job(worker));
    }

    /// Takes in what came of a job.
    pub(super) fn note(&mut self, key: Key, outcome: Outcome) {
        self.busy.remove(&key);
        let now = Timestamp::now();
        match (key, outcome) {
            (_, Outcome::Failed) => self.due(Some(after(now, jitter::pause(TRY_AGAIN)))),
            (_, Outcome::Created { pods, refused, is_incomplete }) => {
                self.creating = 0;
                for pod in pods {
                    self.memory.created(pod, now);
                }
                if let Some(why) = refused {
                    let revision = self.prepared.as_ref().map_or("", |it| it.revision.as_str());
                    self.memory.not_created(revision, why, now, jitter::draw());
                }
                if is_incomplete {
                    self.memory.rest_after_create(after(now, jitter::pause(TRY_AGAIN)));
                }
            }
            (Key::Pod(pod), outcome) => match outcome {
                Outcome::Said(said) => self.memory.said(pod, said),
                Outcome::Contradicted => self.memory.contradicted(pod),
                Outcome::AskedToLeave => self.memory.asked_to_leave(pod),
                Outcome::Heard => self.memory.heard(pod),
                Outcome::Refused(why) => self.memory.refused(pod, why),
                Outcome::Unreachable => self.memory.unreachable(pod, now, jitter::draw()),
                Outcome::Done | Outcome::Failed | Outcome::Created { .. } => {}
            },
            _ => {}
        }
    }

    /// Deletes tenants that have slept for as long as the class says.
    pub(super) fn forget_tenants(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let Some(forget_after) = self.prepared.as_ref().and_then(|it| it.class.forget_after) else {
            return;
        };
        for record in &snapshot.tenants {
            let tenant = Arc::clone(&record.object);
            match forget::due(&tenant, forget_after, self.context.pace.hold, now) {
                Some(due) if due <= now => {
                    let context = Arc::clone(&self.context);
                    self.start(Key::Tenant(record.name().to_owned()), || async move {
                        tenants::forget(&context, &tenant).await
                    });
                }
                due => self.due(due),
            }
        }
    }

    /// Removes what belongs to nothing any more. What a class owns, the cluster removes with it; this is for what it
    /// was told not to.
    pub(super) fn sweep(&mut self, snapshot: &Snapshot) {
        if snapshot.class.is_none() && !snapshot.is_unread {
            self.sweep_orphans(snapshot);
        }
        let Some(prepared) = &self.prepared else { return };
        let mut used: BTreeSet<String> =
            snapshot.pods.iter().map(|pod| pod.seen.revision.clone()).collect();
        used.insert(prepared.revision.clone());
        let is_clean = self.are_boots_known && self.boots.is_subset(&used);
        let Some(name) = self.class_name().filter(|_| !is_clean && self.creating == 0) else {
            return;
        };
        self.are_boots_known = true;
        self.boots.clone_from(&used);
        let context = Arc::clone(&self.context);
        self.start(Key::Boots, || async move { class::sweep_boots(&context, &name, &used).await });
    }

    /// Ends the workers of a class that is gone.
    fn sweep_orphans(&mut self, snapshot: &Snapshot) {
        for pod in &snapshot.pods {
            if matches!(pod.seen.life, crate::observe::Life::Leaving) {
                continue;
            }
            let (context, class) = (Arc::clone(&self.context), self.name.clone());
            let pod = PodRef::from(&pod.seen);
            self.start(Key::Pod(pod.uid.clone()), || async move {
                class::end_orphan(&context, &class, &pod).await
            });
        }
    }
}
