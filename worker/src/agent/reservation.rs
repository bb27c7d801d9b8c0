//! For whom an anonymous worker is kept while a claim is written, so that gateways do not write one after another
//! for the same worker. It is a courtesy and decides nothing: whom the worker serves, the latch alone decides (ADR
//! 11). Pure; it must not know the latch, HTTP or what a claim writes.

use super::clock::Moment;
use patchbay_core::tenant::TenantName;
use std::time::Duration;
use tokio::time::Instant;

/// For so long a worker is kept for a tenant that does not come. A claim's write takes milliseconds, and seconds where the
/// API server has too much to do, which is when a lost pick costs most. A claim that comes to nothing says so; only a
/// gateway that dies in between leaves a worker to nobody for so long.
const KEPT: Duration = Duration::from_secs(20);

/// For whom the worker is kept, if for anybody.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    holder: Option<(TenantName, Instant)>,
}

impl Reservation {
    /// Keeps the worker for this tenant from now on. False if it is kept for another.
    pub(crate) fn keep(&mut self, tenant: &TenantName, now: Moment) -> bool {
        let is_anothers = self.holder(now).is_some_and(|holder| holder != tenant);
        if !is_anothers {
            self.holder = Some((tenant.clone(), now.instant + KEPT));
        }
        !is_anothers
    }

    /// The worker is kept for this tenant no longer; for another it is.
    pub(crate) fn release(&mut self, tenant: &TenantName) {
        if self.holder.as_ref().is_some_and(|(holder, _)| holder == tenant) {
            self.holder = None;
        }
    }

    /// For whom it is kept.
    pub(crate) fn holder(&self, now: Moment) -> Option<&TenantName> {
        let (holder, until) = self.holder.as_ref()?;
        (*until > now.instant).then_some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(letter: &str) -> TenantName {
        TenantName::parse(format!("t-{}", letter.repeat(20))).unwrap()
    }

    fn after(now: Moment, wait: Duration) -> Moment {
        Moment { instant: now.instant + wait, ..now }
    }

    #[test]
    fn a_worker_is_kept_for_the_first_and_only_for_a_while() {
        let (mut reservation, now) = (Reservation::default(), Moment::now());
        assert!(reservation.keep(&tenant("a"), now));
        assert!(!reservation.keep(&tenant("b"), now));
        let later = after(now, KEPT / 2);
        // asked again it is kept longer
        assert!(reservation.keep(&tenant("a"), later));
        assert!(!reservation.keep(&tenant("b"), after(now, KEPT)));
        assert!(reservation.keep(&tenant("b"), after(later, KEPT)));
        assert_eq!(reservation.holder(after(later, KEPT)), Some(&tenant("b")));
    }

    #[test]
    fn only_the_one_for_whom_it_is_kept_gives_it_up() {
        let (mut reservation, now) = (Reservation::default(), Moment::now());
        assert!(reservation.keep(&tenant("a"), now));
        reservation.release(&tenant("b"));
        assert!(!reservation.keep(&tenant("b"), now));
        reservation.release(&tenant("a"));
        assert!(reservation.keep(&tenant("b"), now));
    }
}
