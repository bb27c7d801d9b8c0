//! Renews what a bound worker holds before it ends: beside the requests that come, and beside a call that goes on for
//! longer than its keys. It must not know where grants come from.

use super::{Activator, Bound, Request, Slot, told};
use crate::{bind, forward::link::LinkContext};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use patchbay_core::{
    chain::Chain,
    class::WorkerClass,
    grant::{Grant, GrantSource},
    id::ClassName,
    identity::Authenticated,
    tenant::TenantName,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

/// How long a renewal may take; none begins sooner after the last one.
const LIMIT: SignedDuration = SignedDuration::from_secs(10);
/// What ends sooner is not used for a new request, which waits for newer keys instead: a call takes its time.
const TOO_LATE: SignedDuration = SignedDuration::from_secs(30);

/// When what a worker holds must be renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    /// None where there are no newer ones for the same credential.
    due: Option<Timestamp>,
    end: Timestamp,
}

impl Renewal {
    /// Of what is bound; none where it holds no keys.
    pub(super) fn of(grant: &Grant) -> Option<Self> {
        let keys = grant.aws.as_ref().map(|it| (it.renew_at, it.expires_at));
        let lease = grant.catalog.as_ref().and_then(|catalog| catalog.lease);
        let lease = lease.map(|it| (Some(it.renew_at), it.ends_at));
        let parts = || keys.into_iter().chain(lease);
        let due = parts().filter_map(|(due, _)| due).min();
        Some(Self { due, end: parts().map(|(_, end)| end).min()? })
    }

    /// Whether it is too late for a request that begins now. Keys that nobody can renew are good to their end.
    pub(super) fn is_too_late(self, now: Timestamp) -> bool {
        let spare = if self.due.is_some() { TOO_LATE } else { SignedDuration::ZERO };
        self.end.duration_since(now) <= spare
    }

    fn is_due(self, now: Timestamp) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

/// What a credential is now that was good when its call, or its stream, began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It still makes its user who they are.
    Good,
    /// It ended, was revoked, or is another user's by now.
    Over,
    /// Whoever judges it cannot be asked.
    Unknown,
}

/// Judges a credential again that was good when its call, or its stream, began.
#[async_trait]
pub trait Judge: Send + Sync + 'static {
    /// What it is now, for this class.
    async fn judge(&self, user: &Authenticated, class: &ClassName) -> Verdict;
}

/// For whom keys are renewed, and by which credential.
#[derive(Clone)]
struct Holder {
    context: Arc<LinkContext>,
    grants: Arc<dyn GrantSource>,
    judge: Arc<dyn Judge>,
    class: Arc<WorkerClass>,
    user: Authenticated,
    tenant: TenantName,
    /// The request that they are for.
    request_id: String,
}

/// The calls of one tenant that go on, and what renews their keys meanwhile.
#[derive(Default)]
pub(super) struct Calls {
    count: usize,
    /// By the credential of these calls that ends last; kept no longer than they go on.
    holder: Option<Holder>,
    renewing: Option<AbortOnDropHandle<()>>,
}

/// A call that goes on, to the end of its answer: its worker's keys are renewed whenever they are due.
pub struct InFlight(Arc<Slot>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut calls = self.0.calls.lock();
        calls.count = calls.count.saturating_sub(1);
        if calls.count == 0 {
            *calls = Calls::default();
        }
    }
}

impl Activator {
    /// A call that begins now; none where the worker's keys are never renewed.
    pub fn in_flight(&self, request: &Request<'_>, bound: &Bound) -> Option<InFlight> {
        bound.renewal?.due?;
        let slot = self.slots.get(request.name)?;
        let mut calls = slot.calls.lock();
        calls.count += 1;
        let ends_last = calls.holder.as_ref().is_none_or(|holder| {
            let ends = [&holder.user, request.user].map(|user| user.identity.expires_at);
            matches!(ends, [Some(_), None])
                || matches!(ends, [Some(one), Some(other)] if one < other)
        });
        if ends_last {
            calls.holder = Some(self.holder(request));
        }
        if calls.renewing.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let renewing = tokio::spawn(keep_renewed(slot.clone()));
            calls.renewing = Some(AbortOnDropHandle::new(renewing));
        }
        drop(calls);
        Some(InFlight(slot))
    }

    /// Begins a renewal if one is due. The present keys are good meanwhile, and stay so if it fails; the next request
    /// tries again.
    pub(super) fn renew_if_due(&self, slot: &Arc<Slot>, bound: &Arc<Bound>, request: &Request<'_>) {
        if slot.may_renew(bound, request.now) {
            tokio::spawn(self.holder(request).renewed(slot.clone(), bound.clone()));
        }
    }

    fn holder(&self, request: &Request<'_>) -> Holder {
        Holder {
            context: self.context.clone(),
            grants: self.grants.clone(),
            judge: self.judge.clone(),
            class: request.class.clone(),
            user: request.user.clone(),
            tenant: request.name.clone(),
            request_id: request.id.to_owned(),
        }
    }
}

impl Slot {
    /// Whether a renewal is due, and is the caller's: it has begun then.
    fn may_renew(&self, bound: &Bound, now: Timestamp) -> bool {
        if !bound.renewal.is_some_and(|renewal| renewal.is_due(now)) {
            return false;
        }
        let (now, last) = (now.as_millisecond(), self.last_renewal.load(Ordering::Relaxed));
        let is_early =
            now.saturating_sub(last) < i64::try_from(LIMIT.as_millis()).unwrap_or(i64::MAX);
        !is_early
            && self
                .last_renewal
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// When the next renewal may begin; none where there is nothing to renew.
    fn next_renewal(&self) -> Option<Timestamp> {
        let due = self.bound.load().as_ref()?.renewal?.due?;
        let last = self.last_renewal.load(Ordering::Relaxed);
        let earliest = Timestamp::from_millisecond(last).ok()?.checked_add(LIMIT).ok()?;
        Some(due.max(earliest))
    }
}

/// Renews a tenant's keys whenever they are due, for as long as they can be.
async fn keep_renewed(slot: Arc<Slot>) {
    while let Some(next) = slot.next_renewal() {
        sleep(next.duration_since(Timestamp::now()).try_into().unwrap_or_default()).await;
        let Some(holder) = slot.calls.lock().holder.clone() else { return };
        let Some(bound) = slot.bound.load_full() else { return };
        if !slot.may_renew(&bound, Timestamp::now()) {
            continue;
        }
        // nobody has looked at the credential since the call began: it may have ended, or been revoked
        if holder.judge.judge(&holder.user, &holder.class.name).await != Verdict::Good {
            tracing::debug!(tenant = %holder.tenant, "keys are not renewed by a credential that is not good now");
            continue;
        }
        // one that has begun goes on when the last call has ended: the worker may have taken its keys already
        let _ = tokio::spawn(holder.renewed(slot.clone(), bound)).await;
    }
}

impl Holder {
    /// Prepares a grant anew and offers it to the worker, within the limit.
    async fn renewed(self, slot: Arc<Slot>, bound: Arc<Bound>) {
        let Self { context, grants, judge: _, class, user, tenant, request_id } = self;
        let identity = &user.identity;
        let span = tracing::info_span!(
            "renewal", request_id, %tenant, provider = %identity.provider, mode = %identity.mode
        );
        let renewal = async {
            let grant = match grants.prepare(&class, &user).await {
                Ok(grant) => grant,
                Err(error) => {
                    tracing::warn!(%tenant, %error, "a worker's keys are not renewed");
                    return;
                }
            };
            let claim = &bound.placement.claim;
            let told = told(&context, &class, &user, claim);
            let bind = bind::bind(&bound.link, claim, &grant, told);
            if let Err(error) = bind.await {
                tracing::warn!(%tenant, error = %Chain(&error), "a worker did not take newer keys");
                return;
            }
            let (current, renewed) = (Some(bound), Renewal::of(&grant));
            let renewed = current.as_deref().map(|bound| {
                Arc::new(Bound { renewal: renewed, acknowledged: user.digest, ..bound.clone() })
            });
            // where the worker was given up meanwhile, it stays given up
            slot.bound.compare_and_swap(&current, renewed);
        };
        // what takes longer is tried again
        let limit = Duration::try_from(LIMIT).unwrap_or_default();
        let _ = timeout(limit, renewal.instrument(span)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{
        digest::Digest,
        grant::{AwsGrant, CatalogGrant, Lease},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn keys_are_renewed_when_they_say_and_not_used_shortly_before_they_end() {
        let keys = AwsGrant::temporary("ASIAX".into(), "s".into(), "t".into(), at(900), "r".into());
        let keys = keys.map(|keys| AwsGrant { renew_at: Some(at(450)), ..keys });
        let grant = Grant {
            credential: Digest::of(b"credential"),
            expires_at: None,
            catalog: None,
            aws: keys,
            allowed: None,
        };
        let renewal = Renewal::of(&grant).unwrap();
        assert!(!renewal.is_due(at(449)) && renewal.is_due(at(450)));
        assert!(!renewal.is_too_late(at(869)) && renewal.is_too_late(at(870)));
        // those of which there are no newer ones are never due, and good to their end
        let last = Grant {
            aws: grant.aws.clone().map(|it| AwsGrant { renew_at: None, ..it }),
            ..grant.clone()
        };
        let last = Renewal::of(&last).unwrap();
        assert!(!last.is_due(at(1000)) && !last.is_too_late(at(899)) && last.is_too_late(at(900)));
        let catalog = |lease| CatalogGrant {
            origin: "https://c.example".into(),
            registry: "https://r.example".into(),
            bearer: "b".into(),
            lease,
        };
        let lease = Lease { renew_at: at(500), ends_at: at(600) };
        let both = Grant { catalog: Some(catalog(Some(lease))), ..grant.clone() };
        let renewal = Renewal::of(&both).unwrap();
        assert_eq!((renewal.due, renewal.end), (Some(at(450)), at(600)));
        let alone = Grant { aws: None, ..both };
        let renewal = Renewal::of(&alone).unwrap();
        assert_eq!((renewal.due, renewal.end), (Some(at(500)), at(600)));
        let as_presented = Grant { catalog: Some(catalog(None)), ..alone };
        assert!(Renewal::of(&as_presented).is_none());
        assert!(Renewal::of(&Grant { aws: None, ..grant }).is_none());
    }
}
