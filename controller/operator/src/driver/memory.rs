//! What the operator remembers of one class between passes. All of it may be lost at any time: a new process asks
//! again.
//!
//! It turns a snapshot into what decisions are made from, and takes in what came of them. This module must not know
//! clients; it is the part of the driver that `tests/protocol` models.

use crate::{
    cache::{Snapshot, store::Record as _},
    observe::{Known, Latched, ObservedPod, Said},
    total::after,
    worker_class::{Assigned, Standing, TenantView, backoff::Backoff},
};
use jiff::Timestamp;
use patchbay_core::{
    id::{Epoch, Incarnation, TenantUid},
    jitter,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A pod that was created is seen within this time, or it is gone again.
const EXPECT_FOR: Duration = Duration::from_secs(30);
/// How long a worker that could not be asked is left alone: at first, and at most.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: BTreeMap<Incarnation, Remembered>,
    /// Since when each tenant's assignment is seen.
    assignments: BTreeMap<String, Assignment>,
    /// Pods that were created and not seen yet, and when.
    expected: BTreeMap<Incarnation, Timestamp>,
    /// Of failures.
    pub(super) backoff: Backoff,
}

#[derive(Debug, Default)]
struct Remembered {
    known: Known,
    /// How often in a row it could not be asked.
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct Assignment {
    tenant: TenantUid,
    worker: Incarnation,
    epoch: Epoch,
    seen: Timestamp,
}

/// What decisions are made from, besides the class.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) pods: Vec<ObservedPod>,
    pub(super) tenants: Vec<TenantView>,
    /// Pods that were created and not seen yet.
    pub(super) expected: usize,
}

impl Memory {
    /// What is seen now, together with what is remembered.
    pub(super) fn look(&mut self, snapshot: &Snapshot, now: Timestamp) -> Seen {
        let there: BTreeSet<&Incarnation> = snapshot.pods.iter().map(|pod| &pod.seen.uid).collect();
        self.known.retain(|uid, _| there.contains(uid));
        self.expected.retain(|uid, at| !there.contains(uid) && after(*at, EXPECT_FOR) > now);
        let tenants = self.tenants(snapshot, now);
        let known = |uid| self.known.get(uid).map(|it| it.known.clone()).unwrap_or_default();
        let pods = snapshot.pods.iter();
        let pods = pods
            .map(|pod| ObservedPod { known: known(&pod.seen.uid), ..pod.seen.clone() })
            .collect();
        Seen { pods, tenants, expected: self.expected.len() }
    }

    fn tenants(&mut self, snapshot: &Snapshot, now: Timestamp) -> Vec<TenantView> {
        let mut before = std::mem::take(&mut self.assignments);
        let mut views = Vec::with_capacity(snapshot.tenants.len());
        for record in &snapshot.tenants {
            let (name, object) = (record.name(), &record.object);
            let Ok(uid) = TenantUid::parse(record.uid()) else { continue };
            let mut standing = Standing::of(object.spec.assignment.as_ref(), now);
            if let Standing::Assigned(Assigned { uid: worker, epoch, seen, .. }) = &mut standing {
                let mut next = Assignment {
                    tenant: uid.clone(),
                    worker: worker.clone(),
                    epoch: *epoch,
                    seen: now,
                };
                if let Some(known) = before.get(name) {
                    next.seen = known.seen;
                    if *known == next {
                        before.remove(name);
                    } else {
                        next.seen = now;
                    }
                }
                *seen = next.seen;
                if record.usable {
                    self.known.entry(worker.clone()).or_default().known.named_by =
                        Some(uid.clone());
                }
                self.assignments.insert(name.to_owned(), next);
            }
            views.push(TenantView {
                name: name.to_owned(),
                uid,
                suspended: object.spec.suspended,
                usable: record.usable,
                standing,
            });
        }
        // What a worker said of being nobody's is no answer any more once its tenant is gone or elsewhere; that it
        // is somebody's stays true.
        for lost in before.into_values() {
            if let Some(remembered) = self.known.get_mut(&lost.worker)
                && let Some(Said { latch: Latched::Anonymous, .. }) = remembered.known.said
            {
                remembered.known.said = None;
            }
        }
        views
    }

    /// A pod was created.
    pub(super) fn created(&mut self, pod: Incarnation, now: Timestamp) {
        self.expected.insert(pod, now);
    }

    /// The cluster refuses further pods: that is a start that failed.
    pub(super) fn not_created(&mut self, revision: &str, why: String, now: Timestamp, jitter: u16) {
        self.backoff = Backoff {
            last: Some(now),
            reason: "FailedCreate".into(),
            message: why,
            ..self.backoff.of_revision(revision).failed(now, jitter)
        };
    }

    /// The API server did not answer: no pod is created before this moment, and nothing is to blame.
    pub(super) fn rest_after_create(&mut self, until: Timestamp) {
        self.backoff.not_before = self.backoff.not_before.max(Some(until));
    }

    /// A worker said where it is.
    pub(super) fn said(&mut self, pod: Incarnation, said: Said) {
        let remembered = self.answered(pod);
        remembered.known.said = Some(said);
    }

    /// A worker contradicted what it had said.
    pub(super) fn contradicted(&mut self, pod: Incarnation) {
        self.answered(pod).known.said = None;
    }

    /// A worker was asked to leave when it is idle.
    pub(super) fn asked_to_leave(&mut self, pod: Incarnation) {
        self.answered(pod).known.asked_to_leave = true;
    }

    /// A pod's enrolment was refused for good.
    pub(super) fn refused(&mut self, pod: Incarnation, why: String) {
        self.answered(pod).known.refused = Some(why);
    }

    /// A worker answered.
    pub(super) fn heard(&mut self, pod: Incarnation) {
        self.answered(pod);
    }

    fn answered(&mut self, pod: Incarnation) -> &mut Remembered {
        let remembered = self.known.entry(pod).or_default();
        remembered.failures = 0;
        remembered.known.not_before = None;
        remembered
    }

    /// A worker could not be asked: it is left alone for a while, each time for longer. `jitter` (thousandths)
    /// shortens the wait by up to a half.
    pub(super) fn unreachable(&mut self, pod: Incarnation, now: Timestamp, jitter: u16) {
        let remembered = self.known.entry(pod).or_default();
        let (first, most) = REST;
        let whole = first.saturating_mul(1 << remembered.failures.min(8)).min(most);
        remembered.failures = remembered.failures.saturating_add(1);
        remembered.known.not_before = Some(after(now, jitter::shortened(whole, jitter)));
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
