//! From a view of a class to what to do next: an ordered, bounded list of actions.
//!
//! A worker that a tenant may have is only ended by what its latch says: it is asked to leave if it is nobody's,
//! or drained once it has said whose it is and that tenant is proven to be shut out, gone or elsewhere. So a plan
//! that is made from a stale cache, or twice by two operators, interrupts nobody (invariant 6). Every action may
//! fail, be lost or be done twice. This module must not know clients, and keeps nothing between passes.

use super::{backoff::Backoff, lives, supply, view::View};
use crate::observe::ObservedPod;
use jiff::Timestamp;
use patchbay_core::{
    id::{Epoch, Incarnation, TenantUid},
    link::Farewell,
};
use std::collections::BTreeSet;

/// A life of a worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRef {
    /// The pod's name.
    pub name: String,
    /// The life of it; every delete and every dial names it.
    pub uid: Incarnation,
}

/// One thing to do. The order of the variants is the order in which they are done: who must be out first, then who
/// waits, then order and thrift.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// End this worker, which has said that it is `tenant`'s: finish what is in flight and leave.
    Drain {
        /// The worker.
        pod: PodRef,
        /// Whose it is.
        tenant: TenantUid,
        /// Why.
        why: DrainReason,
    },
    /// Dial the pod, verify who it is, and record its key (see [`crate::enrol`]).
    Enrol(PodRef),
    /// Create this many pods.
    Create(usize),
    /// Replace the assignment by [`super::cleared`], if it still names this UID and epoch. With the farewell goes
    /// the tenant's status.
    ClearAssignment {
        /// The tenant's object.
        name: String,
        /// This life of it.
        tenant: TenantUid,
        /// What the assignment must still say.
        worker: Incarnation,
        /// What the assignment must still say.
        epoch: Epoch,
        /// The worker's last words, if they are of this tenant.
        farewell: Option<Farewell>,
    },
    /// Put the mark of workers that have a tenant on it: it is protected from eviction, and offered to nobody.
    MarkBound(PodRef),
    /// Ask it to leave if it is nobody's. A refusal means that what it said is out of date.
    Retire(PodRef, RetireReason),
    /// Delete the pod.
    Reap {
        /// The pod.
        pod: PodRef,
        /// Only if it has not changed: it runs, and only its lack of a key says that it is nobody's.
        only_if: Option<String>,
        /// Why.
        why: ReapReason,
    },
    /// List tenants and then pods, consistently, and plan again.
    Relist,
    /// Ask it to leave at its next idle moment.
    AskToLeaveWhenIdle(PodRef),
    /// Ask it for its status.
    Inquire(PodRef),
}

/// Why a worker is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainReason {
    /// Its tenant is shut out.
    Suspended,
    /// Its tenant is deleted.
    Deleted,
    /// Its tenant has another worker or none.
    Orphaned,
}

impl DrainReason {
    /// Whether it is to be over within five seconds (DESIGN.md, invariant 8), whatever its tenant's calls do.
    pub const fn cuts(self) -> bool {
        matches!(self, Self::Suspended | Self::Deleted)
    }
}

/// Why an anonymous worker is retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetireReason {
    /// It is of another revision than its class.
    OldRevision,
    /// Its node takes no new work.
    Cordoned,
    /// There are more than are wanted.
    Surplus,
    /// It was assigned, its gateway died before the bind, and nobody came back.
    Abandoned,
    /// It was assigned to a tenant that is shut out.
    Suspended,
    /// It carries the mark of those that have a tenant, and no tenant names it.
    Taken,
}

/// Why a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReapReason {
    /// It ended, and its last words are copied.
    Ended,
    /// It never had a key, and is of another revision.
    OldRevision,
    /// It never had a key, and its node takes no new work.
    Cordoned,
    /// It never had a key, and there are more than are wanted.
    Surplus,
    /// It did not start in time.
    NotStarting,
    /// It is not who it should be.
    Refused,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// What to remember of failures.
    pub backoff: Backoff,
    /// When to plan again even if nothing changes.
    pub look_again: Option<Timestamp>,
}

/// Decides what to do.
pub fn plan(view: &View<'_>) -> Plan {
    let mut draft = Draft { now: view.now, ..Draft::default() };
    let free = lives::plan(view, &mut draft);
    let backoff = supply::plan(view, &free, &mut draft);
    draft.finish(view.pace.actions, backoff)
}

impl From<&ObservedPod> for PodRef {
    fn from(pod: &ObservedPod) -> Self {
        Self { name: pod.name.clone(), uid: pod.uid.clone() }
    }
}

impl Action {
    /// Whether it follows from the lives that there are alone, and so is right whatever the class says now.
    pub const fn follows_lives(&self) -> bool {
        match self {
            Self::Drain { .. }
            | Self::ClearAssignment { .. }
            | Self::MarkBound(_)
            | Self::Relist
            | Self::Inquire(_)
            | Self::Reap { why: ReapReason::Ended | ReapReason::Refused, .. } => true,
            Self::Enrol(_)
            | Self::Create(_)
            | Self::Retire(..)
            | Self::AskToLeaveWhenIdle(_)
            | Self::Reap { .. } => false,
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Drain { .. } => 0,
            Self::Enrol(_) => 1,
            Self::Create(_) => 2,
            Self::ClearAssignment { .. } => 3,
            Self::MarkBound(_) => 4,
            Self::Retire(..) => 5,
            Self::Reap { .. } => 6,
            Self::Relist => 7,
            Self::AskToLeaveWhenIdle(_) => 8,
            Self::Inquire(_) => 9,
        }
    }
}

/// A plan that is being made.
#[derive(Debug, Default)]
pub(super) struct Draft {
    now: Timestamp,
    actions: Vec<Action>,
    relist: bool,
    later: BTreeSet<Timestamp>,
}

impl Draft {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn relist(&mut self) {
        self.relist = true;
    }

    /// Whether `due` has come; if not, the plan is made again then.
    pub(super) fn is_due(&mut self, due: Timestamp) -> bool {
        let is_due = due <= self.now;
        if !is_due {
            self.later.insert(due);
        }
        is_due
    }

    fn finish(mut self, most: usize, backoff: Backoff) -> Plan {
        if self.relist {
            self.actions.push(Action::Relist);
        }
        self.actions.sort_by_key(Action::rank);
        let is_cut = self.actions.len() > most;
        self.actions.truncate(most);
        let look_again = if is_cut { Some(self.now) } else { self.later.first().copied() };
        Plan { actions: self.actions, backoff, look_again }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
