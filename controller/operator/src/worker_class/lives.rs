//! What each worker's and each tenant's state asks for, whatever else there is of the class.
//!
//! What the worker said decides over what tenants say. A bound latch never opens, so "it is this tenant's" stays
//! true however old it is; "it is nobody's" may be false by now, so all that follows from it is to ask the latch.
//! This module must not know how many workers are wanted.

use super::{
    plan::{Action, Draft, DrainReason, PodRef, ReapReason, RetireReason},
    view::{TenantView, View},
};
use crate::{
    observe::{Latched, Life, ObservedPod, Trouble},
    total::after,
};
use jiff::Timestamp;
use patchbay_core::id::{Incarnation, TenantUid};
use std::{collections::BTreeMap, time::Duration};

/// Plans for every life, and returns the workers that are free as far as can be seen.
pub(super) fn plan<'a>(view: &View<'a>, draft: &mut Draft) -> Vec<&'a ObservedPod> {
    let mut by_worker: BTreeMap<&Incarnation, Vec<&TenantView>> = BTreeMap::new();
    for tenant in view.tenants {
        if let Some(assigned) = tenant.assigned() {
            by_worker.entry(&assigned.uid).or_default().push(tenant);
        }
    }
    let pods: BTreeMap<_, _> = view.pods.iter().map(|pod| (&pod.uid, pod)).collect();
    for tenant in view.tenants {
        self::tenant(view, tenant, &pods, draft);
    }
    let pace = view.pace;
    let is_wanted = view.tenants.iter().any(|tenant| tenant.waits(pace.hold, view.now));
    let ask_every = if is_wanted { pace.ask_when_wanted } else { pace.ask_every };
    let mut lives = Lives { view, draft, ask_every };
    let is_free = |pod: &&ObservedPod| {
        lives.pod(pod, by_worker.get(&pod.uid).map(Vec::as_slice).unwrap_or_default())
    };
    view.pods.iter().filter(is_free).collect()
}

/// Clears an assignment that can never be of use again.
fn tenant(
    view: &View<'_>,
    tenant: &TenantView,
    pods: &BTreeMap<&Incarnation, &ObservedPod>,
    draft: &mut Draft,
) {
    let Some(assigned) = tenant.assigned() else { return };
    let pod = pods.get(&assigned.uid);
    let owner = pod.and_then(|pod| bound_to(pod));
    let is_its = owner == Some(&tenant.uid);
    let farewell = match pod {
        // the pod was there before the assignment, so it is gone if a later list does not have it
        None if assigned.seen < view.fresh.pods => None,
        None => return draft.relist(),
        // several tenants may have picked it; its last words say whose it was
        Some(pod) if pod.has_ended() => pod.farewell_of(&tenant.uid).cloned(),
        // its gateway is about to move it on by itself, with one write less
        Some(_) if owner.is_some() && !is_its => {
            if !draft.is_due(after(assigned.seen, view.pace.settle)) {
                return;
            }
            None
        }
        Some(_) => return,
    };
    draft.act(Action::ClearAssignment {
        name: tenant.name.clone(),
        tenant: tenant.uid.clone(),
        worker: assigned.uid.clone(),
        epoch: assigned.epoch,
        farewell,
    });
}

fn bound_to(pod: &ObservedPod) -> Option<&TenantUid> {
    match pod.known.said.as_ref().map(|said| &said.latch) {
        Some(Latched::Bound(tenant)) => Some(tenant),
        _ => None,
    }
}

struct Lives<'v, 'a, 'd> {
    view: &'v View<'a>,
    draft: &'d mut Draft,
    /// How often a worker that looks anonymous is asked whether it is.
    ask_every: Duration,
}

impl Lives<'_, '_, '_> {
    /// Plans for one pod. Returns whether it is free.
    fn pod(&mut self, pod: &ObservedPod, names: &[&TenantView]) -> bool {
        match &pod.life {
            Life::Finished(_) | Life::Failed { .. } => {
                if names.is_empty() {
                    self.reap(pod, ReapReason::Ended);
                }
                false
            }
            Life::Leaving => false,
            Life::Starting { dialable, trouble } => {
                // a pod that no node has room for is not helped by another one in its place
                let may_be_late = trouble.as_ref().is_none_or(Trouble::blames_class);
                self.starting(pod, *dialable, may_be_late)
            }
            Life::Up => self.up(pod, names),
        }
    }

    /// No gateway dials a pod without a key, so it is nobody's as long as the delete finds it unchanged.
    fn starting(&mut self, pod: &ObservedPod, dialable: bool, may_be_late: bool) -> bool {
        let why = if pod.known.refused.is_some() {
            Some(ReapReason::Refused)
        } else if pod.revision != self.view.revision {
            Some(ReapReason::OldRevision)
        } else if self.is_cordoned(pod) {
            Some(ReapReason::Cordoned)
        } else if may_be_late && self.draft.is_due(after(pod.created, self.view.pace.start_within))
        {
            Some(ReapReason::NotStarting)
        } else {
            None
        };
        if let Some(why) = why {
            self.reap(pod, why);
            return false;
        }
        if dialable && self.is_rested(pod) {
            self.draft.act(Action::Enrol(PodRef::from(pod)));
        }
        true
    }

    fn up(&mut self, pod: &ObservedPod, names: &[&TenantView]) -> bool {
        if !names.is_empty() && !pod.marked_bound {
            self.draft.act(Action::MarkBound(pod.into()));
        }
        match pod.known.said.as_ref().map(|said| (&said.latch, said.at)) {
            Some((Latched::Leaving, _)) => false,
            Some((Latched::Bound(owner), at)) => {
                if names.is_empty() && !pod.marked_bound {
                    self.draft.act(Action::MarkBound(pod.into()));
                }
                let owner_view = names.iter().find(|tenant| tenant.uid == *owner);
                self.bound(pod, owner, owner_view.copied(), at);
                false
            }
            Some((Latched::Anonymous, _)) | None if names.is_empty() => self.unnamed(pod),
            Some((Latched::Anonymous, at)) => {
                self.unbound(pod, names, Some(at));
                false
            }
            None => {
                self.unbound(pod, names, None);
                false
            }
        }
    }

    /// It is `owner`'s, who names it or does not.
    fn bound(
        &mut self,
        pod: &ObservedPod,
        owner: &TenantUid,
        named_by_owner: Option<&TenantView>,
        said_at: Timestamp,
    ) {
        let why = match named_by_owner {
            Some(tenant) if tenant.suspended => DrainReason::Suspended,
            Some(_) => {
                if self.is_cordoned(pod) && !pod.known.asked_to_leave && self.is_rested(pod) {
                    self.draft.act(Action::AskToLeaveWhenIdle(pod.into()));
                }
                return;
            }
            // The assignment was written before the bind, so it is in every list that was asked for after the
            // worker spoke, unless it was undone; and no assignment comes back.
            None if said_at < self.view.fresh.tenants => {
                let is_there = self.view.tenants.iter().any(|tenant| tenant.uid == *owner);
                if is_there { DrainReason::Orphaned } else { DrainReason::Deleted }
            }
            None => return self.draft.relist(),
        };
        if self.is_rested(pod) {
            self.draft.act(Action::Drain { pod: pod.into(), tenant: owner.clone(), why });
        }
    }

    /// Assigned, and not known to be bound: a bind may be on its way.
    fn unbound(&mut self, pod: &ObservedPod, names: &[&TenantView], said: Option<Timestamp>) {
        let seen = names.iter().filter_map(|tenant| tenant.assigned()).map(|a| a.seen).max();
        let seen = seen.unwrap_or(self.view.now);
        let abandoned = after(seen, self.view.pace.abandoned);
        let settled = after(seen, self.view.pace.settle);
        if names.iter().all(|tenant| tenant.suspended) {
            self.retire_or_ask(pod, said, RetireReason::Suspended);
        } else if names.iter().any(|tenant| tenant.suspended) {
            self.ask(pod, self.view.pace.ask_when_wanted);
        } else if self.draft.is_due(abandoned) {
            let said = said.filter(|at| *at >= abandoned);
            self.retire_or_ask(pod, said, RetireReason::Abandoned);
        } else if said.is_none_or(|at| at < settled) && self.draft.is_due(settled) {
            // by now it is bound; to whom, nobody else knows
            self.inquire(pod);
        }
    }

    /// No tenant names it. Returns whether it is free.
    fn unnamed(&mut self, pod: &ObservedPod) -> bool {
        let said = pod.known.said.as_ref().map(|said| said.at);
        let why = if pod.marked_bound {
            Some(RetireReason::Taken)
        } else if pod.revision != self.view.revision {
            Some(RetireReason::OldRevision)
        } else {
            self.is_cordoned(pod).then_some(RetireReason::Cordoned)
        };
        if let Some(why) = why {
            self.retire_or_ask(pod, said, why);
            return false;
        }
        // A tenant that came and went between two looks may have left it bound: then it is of no use to anybody
        // else, and nothing but the worker itself knows.
        self.ask(pod, self.ask_every);
        true
    }

    /// Retires a worker that has said that it is nobody's. A refusal makes the operator forget what it said, and the
    /// next look asks whose it is: so the two do not alternate for ever.
    fn retire_or_ask(&mut self, pod: &ObservedPod, said: Option<Timestamp>, why: RetireReason) {
        if said.is_none() {
            self.inquire(pod);
        } else if self.is_rested(pod) {
            self.draft.act(Action::Retire(pod.into(), why));
        }
    }

    fn ask(&mut self, pod: &ObservedPod, every: Duration) {
        let due = pod.known.said.as_ref().map_or(Timestamp::MIN, |said| after(said.at, every));
        if self.draft.is_due(due) {
            self.inquire(pod);
        }
    }

    fn inquire(&mut self, pod: &ObservedPod) {
        if self.is_rested(pod) {
            self.draft.act(Action::Inquire(pod.into()));
        }
    }

    fn reap(&mut self, pod: &ObservedPod, why: ReapReason) {
        self.draft.act(reap(pod, why));
    }

    fn is_cordoned(&self, pod: &ObservedPod) -> bool {
        pod.node.as_ref().is_some_and(|node| self.view.cordoned.contains(node))
    }

    fn is_rested(&mut self, pod: &ObservedPod) -> bool {
        pod.known.not_before.is_none_or(|due| self.draft.is_due(due))
    }
}

/// Deletes a pod that ended, or one that never had a key.
pub(super) fn reap(pod: &ObservedPod, why: ReapReason) -> Action {
    let only_if = (!pod.has_ended()).then(|| pod.resource_version.clone());
    Action::Reap { pod: pod.into(), only_if, why }
}
