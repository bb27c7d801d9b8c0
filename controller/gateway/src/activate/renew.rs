//! Renews what a bound worker holds before it ends, beside the requests that go on meanwhile. It must not know where
//! grants come from.

use super::{Activator, Bound, Request, Slot};
use crate::bind;
use jiff::{SignedDuration, Timestamp};
use patchbay_core::{chain::Chain, grant::Grant};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// How long a renewal may take; none begins sooner after the last one.
const LIMIT: Duration = Duration::from_secs(10);
/// What ends sooner is not used for a new request, which waits for newer keys instead: a call takes its time.
const TOO_LATE: SignedDuration = SignedDuration::from_secs(30);

/// When what a worker holds must be renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    due: Timestamp,
    end: Timestamp,
}

impl Renewal {
    /// Of what is bound; none where nothing in it is ever renewed.
    pub(super) fn of(grant: &Grant) -> Option<Self> {
        let keys = grant.aws.as_ref();
        let keys = keys.map(|it| (it.renew_at.unwrap_or(it.expires_at), it.expires_at));
        let lease = grant.catalog.as_ref().and_then(|catalog| catalog.lease);
        let lease = lease.map(|it| (it.renew_at, it.ends_at));
        let (due, end) = match (keys, lease) {
            (Some(keys), Some(lease)) => (keys.0.min(lease.0), keys.1.min(lease.1)),
            (one, other) => one.or(other)?,
        };
        Some(Self { due, end })
    }

    /// Whether it is too late for a request that begins now.
    pub(super) fn is_too_late(self, now: Timestamp) -> bool {
        self.end.duration_since(now) <= TOO_LATE
    }
}

impl Activator {
    /// Begins a renewal if one is due. The present keys are good meanwhile, and stay so if it fails; the next request
    /// tries again.
    pub(super) fn renew_if_due(&self, slot: &Arc<Slot>, bound: &Arc<Bound>, request: &Request<'_>) {
        if bound.renewal.is_none_or(|renewal| request.now < renewal.due) {
            return;
        }
        let (now, last) = (request.now.as_millisecond(), slot.last_renewal.load(Ordering::Relaxed));
        let is_early =
            now.saturating_sub(last) < i64::try_from(LIMIT.as_millis()).unwrap_or(i64::MAX);
        let mine =
            slot.last_renewal.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_early || mine.is_err() {
            return;
        }
        let (grants, class, user) =
            (self.grants.clone(), request.class.clone(), request.user.clone());
        let (slot, bound, tenant) = (slot.clone(), bound.clone(), request.name.clone());
        let told = request.told_user();
        let renewal = async move {
            let grant = match grants.prepare(&class, &user).await {
                Ok(grant) => grant,
                Err(error) => {
                    tracing::warn!(%tenant, %error, "a worker's keys are not renewed");
                    return;
                }
            };
            let bind = bind::bind(&bound.link, &bound.placement.claim, &grant, told);
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
        tokio::spawn(timeout(LIMIT, renewal));
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
        assert_eq!(renewal.due, at(450));
        assert!(!renewal.is_too_late(at(869)) && renewal.is_too_late(at(870)));
        let catalog = |lease| CatalogGrant {
            origin: "https://c.example".into(),
            registry: "https://r.example".into(),
            bearer: "b".into(),
            lease,
        };
        let lease = Lease { renew_at: at(500), ends_at: at(600) };
        let both = Grant { catalog: Some(catalog(Some(lease))), ..grant.clone() };
        let renewal = Renewal::of(&both).unwrap();
        assert_eq!((renewal.due, renewal.end), (at(450), at(600)));
        let alone = Grant { aws: None, ..both };
        let renewal = Renewal::of(&alone).unwrap();
        assert_eq!((renewal.due, renewal.end), (at(500), at(600)));
        let as_presented = Grant { catalog: Some(catalog(None)), ..alone };
        assert!(Renewal::of(&as_presented).is_none());
        assert!(Renewal::of(&Grant { aws: None, ..grant }).is_none());
    }
}
