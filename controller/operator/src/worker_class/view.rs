//! What decisions about a class are made from: its wishes, its pods, its tenants, and how fresh all of it is.
//!
//! This module must not know what is decided.

use super::{backoff::Backoff, pace::Pace};
use crate::{
    build::labels,
    observe::ObservedPod,
    total::{after, before},
};
use jiff::Timestamp;
use patchbay_core::id::{ClassName, Epoch, Incarnation, TenantUid};
use patchbay_crds::{
    Tenant,
    tenant::{TenantAssignment, name_matches},
};
use std::collections::BTreeSet;

/// All that a pass is given.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// How many anonymous workers are kept.
    pub warm: u32,
    /// How many tenants may have a worker at one time; none = no limit.
    pub most_tenants: Option<u32>,
    /// What workers are made from now.
    pub revision: &'a str,
    /// The class's pods.
    pub pods: &'a [ObservedPod],
    /// The class's tenants.
    pub tenants: &'a [TenantView],
    /// Nodes that take no new pods.
    pub cordoned: &'a BTreeSet<String>,
    /// Pods that were created and are not among [`Self::pods`] yet.
    pub expected: usize,
    /// What absence proves.
    pub fresh: Freshness,
    /// What is remembered of failures.
    pub backoff: &'a Backoff,
    /// Bounds and patience.
    pub pace: &'a Pace,
    /// The moment of the pass.
    pub now: Timestamp,
    /// Thousandths, for waits.
    pub jitter: u16,
}

/// As of when the view is known to be complete: whatever had been written before is in it, or was undone. A watch
/// gives no such promise; a consistent list (one without a `resourceVersion`) gives it, as of when it was asked
/// for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Of tenants.
    pub tenants: Timestamp,
    /// Of pods.
    pub pods: Timestamp,
}

/// A tenant, as far as workers are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantView {
    /// The object's name.
    pub name: String,
    /// This life of the object.
    pub uid: TenantUid,
    /// Whether it is shut out.
    pub suspended: bool,
    /// Whether its name is its identity's: gateways use no other, so neither its wishes nor its assignment count.
    pub usable: bool,
    /// What it has.
    pub standing: Standing,
}

/// What a tenant has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, and nobody asks.
    Asleep,
    /// Nothing; somebody asked.
    Waiting {
        /// When, by a gateway's clock.
        since: Timestamp,
    },
    /// A worker.
    Assigned(Assigned),
}

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The worker's pod.
    pub worker: String,
    /// The life of it.
    pub uid: Incarnation,
    /// Which of the tenant's assignments it is.
    pub epoch: Epoch,
    /// When this operator saw it first, by its own clock.
    pub seen: Timestamp,
}

impl TenantView {
    /// What is seen of a tenant whose present assignment was first seen at `seen`; none of an object that no API
    /// server would send.
    pub fn of(tenant: &Tenant, seen: Timestamp) -> Option<Self> {
        Some(Self {
            name: tenant.metadata.name.clone()?,
            uid: TenantUid::parse(tenant.metadata.uid.clone()?).ok()?,
            suspended: tenant.spec.suspended,
            usable: name_matches(tenant),
            standing: Standing::of(tenant.spec.assignment.as_ref(), seen),
        })
    }

    /// The assignment, if it counts.
    pub fn assigned(&self) -> Option<&Assigned> {
        match &self.standing {
            Standing::Assigned(assigned) if self.usable => Some(assigned),
            _ => None,
        }
    }

    /// Whether a gateway may be holding a request for it now. A clock that is wrong by more than the hold makes
    /// no tenant wait for ever.
    pub fn waits(&self, hold: std::time::Duration, now: Timestamp) -> bool {
        let Standing::Waiting { since } = self.standing else { return false };
        let holds = after(since, hold) > now && before(since, hold) <= now;
        self.usable && !self.suspended && holds
    }
}

impl Standing {
    /// What an assignment as written says. A UID that is none was edited by hand: no pod has it.
    pub fn of(assignment: Option<&TenantAssignment>, seen: Timestamp) -> Self {
        let Some(assignment) = assignment else { return Self::Asleep };
        match Incarnation::parse(assignment.uid.clone()) {
            Ok(uid) if !assignment.worker.is_empty() => Self::Assigned(Assigned {
                worker: assignment.worker.clone(),
                uid,
                epoch: Epoch(assignment.epoch),
                seen,
            }),
            _ => assignment.requested_at.map_or(Self::Asleep, |since| Self::Waiting { since }),
        }
    }

    /// Whether it has gone on from a worker of its: it has another one, or asks for one. What became of the old one has
    /// no place in its status then.
    pub fn has_gone_on_from(&self, worker: &Incarnation) -> bool {
        match self {
            Self::Asleep => false,
            Self::Waiting { .. } => true,
            Self::Assigned(assigned) => assigned.uid != *worker,
        }
    }
}

/// An assignment after its worker has ended. The epoch is kept: were it forgotten, a later assignment would have
/// the same one, and a bind that was delayed on its way could give the tenant a second worker of that epoch.
#[must_use]
pub fn cleared(epoch: Epoch) -> TenantAssignment {
    TenantAssignment {
        worker: String::new(),
        uid: String::new(),
        epoch: epoch.0,
        requested_at: None,
    }
}

/// The selector of a class's anonymous workers, in the words of `kubectl get -l`.
pub fn selector(class: &ClassName) -> String {
    let mut terms: Vec<String> =
        labels::selector(class).iter().map(|(name, value)| format!("{name}={value}")).collect();
    terms.push(format!("!{}", labels::BOUND));
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn assignment(worker: &str, requested: i64) -> TenantAssignment {
        TenantAssignment {
            worker: worker.into(),
            uid: if worker.is_empty() { String::new() } else { "pod-1".into() },
            epoch: 3,
            requested_at: Some(at(requested)),
        }
    }

    fn tenant(standing: Standing) -> TenantView {
        TenantView {
            name: "t".into(),
            uid: TenantUid::parse("u").unwrap(),
            suspended: false,
            usable: true,
            standing,
        }
    }

    #[test]
    fn a_cleared_assignment_remembers_its_epoch_and_does_not_wait() {
        let cleared = cleared(Epoch(3));
        assert_eq!(cleared.epoch, 3);
        assert_eq!(Standing::of(Some(&cleared), at(9)), Standing::Asleep);
        let waits = Standing::Waiting { since: at(5) };
        assert_eq!(Standing::of(Some(&assignment("", 5)), at(9)), waits);
        assert!(matches!(
            Standing::of(Some(&assignment("w", 5)), at(9)),
            Standing::Assigned(Assigned { epoch: Epoch(3), .. })
        ));
    }

    #[test]
    fn who_has_another_worker_or_asks_for_one_has_gone_on_from_the_old_one() {
        let old = Incarnation::parse("pod-1").unwrap();
        let has_gone_on = |assignment: Option<&TenantAssignment>| {
            Standing::of(assignment, at(9)).has_gone_on_from(&old)
        };
        let another = TenantAssignment { uid: "pod-2".into(), ..assignment("w2", 5) };
        assert!(has_gone_on(Some(&another)));
        assert!(has_gone_on(Some(&assignment("", 5))));
        for still in [Some(&assignment("w", 5)), Some(&cleared(Epoch(3))), None] {
            assert!(!has_gone_on(still), "{still:?}");
        }
    }

    #[test]
    fn a_wait_ends_with_the_hold_and_one_from_a_wrong_clock_does_too() {
        let hold = Duration::from_mins(1);
        let waiting = tenant(Standing::Waiting { since: at(1000) });
        let waits = |now| waiting.waits(hold, at(now));
        assert_eq!([939, 940, 1000, 1059, 1060].map(waits), [false, true, true, true, false]);
        assert!(!TenantView { suspended: true, ..waiting.clone() }.waits(hold, at(1000)));
        assert!(!TenantView { usable: false, ..waiting }.waits(hold, at(1000)));
    }

    #[test]
    fn the_selector_leaves_out_workers_that_have_a_tenant() {
        assert_eq!(
            selector(&ClassName::parse("c").unwrap()),
            "app.kubernetes.io/component=worker,app.kubernetes.io/part-of=patchbay,\
             patchbay.dev/class=c,!patchbay.dev/bound"
        );
    }
}
