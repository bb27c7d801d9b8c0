//! One activation of a tenant at a time, and one failure for all who waited for it: where whoever is asked says nothing for
//! ten seconds, the tenth request of a user is not told so after a hundred. This module must not know what an activation does.

use super::ActivateError;
use parking_lot::Mutex;
use patchbay_core::digest::Digest;
use tokio::sync::MutexGuard;

/// The activations of one tenant.
#[derive(Default)]
pub(super) struct Flights {
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Last>,
}

/// How the last one that failed did.
#[derive(Default)]
struct Last {
    /// How many failed so far.
    count: u64,
    failed: Option<(Digest, ActivateError)>,
}

/// The turn to make a worker ready; whoever else wants one waits until it is dropped.
pub(super) struct Turn<'a> {
    flights: &'a Flights,
    _alone: MutexGuard<'a, ()>,
    /// How many had failed when it was asked for.
    failed_before: u64,
}

impl Flights {
    /// The next turn.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let failed_before = self.last.lock().count;
        let alone = self.turn.lock().await;
        Turn { flights: self, _alone: alone, failed_before }
    }
}

impl Turn<'_> {
    /// How the flight that was waited for failed, if it did, and by this credential: by another one it may fare better.
    pub(super) fn shared(&self, credential: Digest) -> Option<ActivateError> {
        let last = self.flights.last.lock();
        let (by, error) = last.failed.as_ref().filter(|_| last.count > self.failed_before)?;
        (*by == credential).then(|| error.clone())
    }

    /// This one failed.
    pub(super) fn failed(&self, credential: Digest, error: &ActivateError) {
        // what went wrong with workers says nothing of the next try, which may be given another one
        if !matches!(error, ActivateError::Grant(_)) {
            return;
        }
        let mut last = self.flights.last.lock();
        last.count += 1;
        last.failed = Some((credential, error.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use patchbay_core::grant::GrantError;

    fn silent() -> ActivateError {
        GrantError::unavailable("STS").into()
    }

    fn by(credential: &str) -> Digest {
        Digest::of(credential.as_bytes())
    }

    #[tokio::test]
    async fn those_who_waited_share_a_failure_and_those_who_come_later_do_not() {
        let flights = Flights::default();
        let first = flights.turn().await;
        assert!(first.shared(by("one")).is_none());
        let mut waiting = [(); 3].map(|()| Box::pin(flights.turn()));
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none(), "two at a time");
        }
        first.failed(by("one"), &silent());
        drop(first);
        let [second, another, last] = waiting;
        assert!(matches!(second.await.shared(by("one")), Some(ActivateError::Grant(_))));
        assert!(another.await.shared(by("another")).is_none(), "it was another credential's");
        assert!(last.await.shared(by("one")).is_some(), "it waited too");
        assert!(flights.turn().await.shared(by("one")).is_none(), "it did not wait");
    }

    #[tokio::test]
    async fn who_had_no_luck_with_workers_or_gave_up_leaves_the_next_one_a_try_of_its_own() {
        let flights = Flights::default();
        let first = flights.turn().await;
        let mut second = Box::pin(flights.turn());
        assert!((&mut second).now_or_never().is_none());
        for of_workers in [ActivateError::Outrun, ActivateError::BindFailed] {
            first.failed(by("one"), &of_workers);
        }
        drop(first);
        let second = second.await;
        assert!(second.shared(by("one")).is_none());
        let mut third = Box::pin(flights.turn());
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        assert!(third.await.shared(by("one")).is_none());
    }
}
