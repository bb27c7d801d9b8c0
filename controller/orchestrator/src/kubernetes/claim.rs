//! What a claim writes, and what the answer means. Pure: from what is known to one write or none.
//!
//! The epoch is the comparison of a compare-and-swap (ADR 5). A write changes the assignment and nothing else of a
//! tenant, so that what a later release keeps there survives. This module must not know an API server.

use super::{
    seen::SeenTenant,
    view::{Named, View},
};
use jiff::Timestamp;
use patchbay_core::{
    class::Limits,
    id::{Epoch, TenantUid},
    orchestrator::{AssignRefusal, Assignment, Offer, TenantState},
    provider::Provisioning,
    tenant::{TenantKey, TenantName},
};
use patchbay_crds::{bounds, tenant::TenantAssignment};
use std::time::Duration;

/// Who claims.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimant<'a> {
    /// What makes the tenant.
    pub(super) key: &'a TenantKey,
    /// Its name.
    pub(super) name: &'a TenantName,
    /// Whether it may be made.
    pub(super) provisioning: Provisioning,
    /// Bounds on the tenants of its class.
    pub(super) limits: Limits,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    /// What the tenant must be for the write to be right; none = it must not be there.
    pub(super) before: Option<Before>,
    /// The assignment that it gets.
    pub(super) after: TenantAssignment,
}

/// What a write compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Before {
    /// This life of the object.
    pub(super) uid: TenantUid,
    /// Its assignment.
    pub(super) assignment: Option<TenantAssignment>,
}

/// What to do about a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: this is how it ended.
    Answer(Assignment),
    /// Write this.
    Write(Write),
}

/// What to do for a tenant that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WaitPlan {
    /// It is noted.
    Noted {
        /// Until when.
        until: Timestamp,
    },
    /// Write this.
    Write(Write),
}

/// Why a tenant gets no worker, whatever workers there are.
pub(super) fn refusal(view: &View, claimant: Claimant<'_>) -> Option<AssignRefusal> {
    let Claimant { key, name, provisioning, limits } = claimant;
    let is_too_long = |text: &str| text.chars().nth(bounds::IDENTITY as usize).is_some();
    if is_too_long(&key.issuer) || is_too_long(&key.subject) {
        return Some(AssignRefusal::IdentityTooLong);
    }
    let refusal = match view.tenant(name) {
        None if provisioning == Provisioning::Preprovisioned => Some(AssignRefusal::NotProvisioned),
        Some(tenant) if !tenant.is_usable => Some(AssignRefusal::NameMismatch),
        Some(tenant) if tenant.is_deleting => Some(AssignRefusal::Deleting),
        Some(tenant) if tenant.is_suspended => Some(AssignRefusal::Suspended),
        None | Some(_) => None,
    };
    refusal.or_else(|| {
        let is_full = |limit| view.with_worker(&key.class, name) >= limit as usize;
        limits.tenants.is_some_and(is_full).then_some(AssignRefusal::TenantLimit)
    })
}

/// Gives an offered worker to a tenant.
pub(super) fn assign(
    view: &View,
    claimant: Claimant<'_>,
    offer: &Offer,
    epoch: Epoch,
    now: Timestamp,
) -> Plan {
    let refuse = |why| Plan::Answer(Assignment::Refused(why));
    if let Some(why) = refusal(view, claimant) {
        return refuse(why);
    }
    let tenant = view.tenant(claimant.name);
    let state = view.lookup(claimant.name);
    match state {
        // a later claim of its own, or the very worker that was offered
        TenantState::Assigned(placement)
            if epoch <= placement.claim.epoch
                || placement.offer.incarnation == offer.incarnation =>
        {
            return Plan::Answer(Assignment::Lost(placement));
        }
        state if epoch != state.next_epoch() => return refuse(AssignRefusal::StaleEpoch),
        _ => {}
    }
    if !view.is_free(&offer.incarnation, &claimant.key.class) {
        return refuse(AssignRefusal::OfferGone);
    }
    Plan::Write(Write {
        before: tenant.map(before),
        after: TenantAssignment {
            worker: offer.worker.to_string(),
            uid: offer.incarnation.to_string(),
            epoch: epoch.0,
            requested_at: Some(now),
        },
    })
}

/// Notes that a tenant waits, so that the operator makes a worker for it. What was noted needs no word more until most of
/// the time for which it counts is over: a new note is one of the queue's end, and whoever waited first is served first.
pub(super) fn wait(view: &View, name: &TenantName, hold: Duration, now: Timestamp) -> WaitPlan {
    let tenant = view.tenant(name);
    let noted = tenant.and_then(SeenTenant::waits_since);
    let after = |since: Timestamp| since.saturating_add(hold * 9 / 10).unwrap_or(Timestamp::MAX);
    if let Some(until) = noted.map(after).filter(|until| *until > now) {
        return WaitPlan::Noted { until };
    }
    WaitPlan::Write(Write {
        before: tenant.map(before),
        after: TenantAssignment {
            worker: String::new(),
            uid: String::new(),
            // an epoch is never 0, and never forgotten
            epoch: tenant.map_or(Epoch::default(), SeenTenant::last).0.max(1),
            requested_at: Some(now),
        },
    })
}

fn before(tenant: &SeenTenant) -> Before {
    Before { uid: tenant.uid.clone(), assignment: tenant.assignment.clone() }
}

/// Whether a tenant is what a write found it to be.
pub(super) fn is_as_before(tenant: Option<&SeenTenant>, write: &Write) -> bool {
    tenant.map(before) == write.before
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settled {
    /// As a claim does.
    Ended(Assignment),
    /// Nothing has changed: it was not written.
    NotWritten,
}

/// What a tenant that was read back after a write says of it.
pub(super) fn settle(view: &View, name: &TenantName, write: &Write, offer: &Offer) -> Settled {
    let Some(tenant) = view.tenant(name) else {
        return match write.before {
            None => Settled::NotWritten,
            Some(_) => Settled::Ended(Assignment::Refused(AssignRefusal::StaleEpoch)),
        };
    };
    if is_as_before(Some(tenant), write) {
        return Settled::NotWritten;
    }
    let refused = if !tenant.is_usable {
        Some(AssignRefusal::NameMismatch)
    } else if tenant.is_suspended {
        Some(AssignRefusal::Suspended)
    } else {
        None
    };
    if let Some(why) = refused {
        return Settled::Ended(Assignment::Refused(why));
    }
    let is_ours = tenant.assignment.as_ref().is_some_and(|found| {
        let wanted = &write.after;
        (&found.worker, &found.uid, found.epoch) == (&wanted.worker, &wanted.uid, wanted.epoch)
    });
    if is_ours {
        return Settled::Ended(Assignment::Won(tenant.placement(offer.clone())));
    }
    Settled::Ended(match view.worker_of(tenant) {
        Named::Worker(offer) => Assignment::Lost(tenant.placement(offer)),
        Named::Nobody | Named::Unseen(_) => Assignment::Refused(AssignRefusal::StaleEpoch),
    })
}
