//! How long to wait before another pod is made of a class whose pods fail. Forgetting it costs one early attempt.

use crate::total::after;
use jiff::Timestamp;
use patchbay_core::jitter;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_mins(5);
/// From this many failures on, one pod at a time is tried: one or two are a mishap.
const MISHAPS: u32 = 2;

/// Failures in a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backoff {
    /// The revision that they are of: another one deserves a fresh try.
    pub revision: String,
    /// How many; pods that fail together are one.
    pub failures: u32,
    /// When the last one ended.
    pub last: Option<Timestamp>,
    /// No pod is made before this moment.
    pub not_before: Option<Timestamp>,
    /// The last one's reason.
    pub reason: String,
    /// What it said.
    pub message: String,
}

impl Backoff {
    /// Of this revision: itself, or a fresh start.
    #[must_use]
    pub fn of_revision(&self, revision: &str) -> Self {
        if self.revision == revision {
            return self.clone();
        }
        Self { revision: revision.into(), ..Self::default() }
    }

    /// After a failure. `jitter` (thousandths) shortens the wait by up to a half, so that classes that fail for
    /// one reason do not try at one time.
    #[must_use]
    pub fn failed(self, now: Timestamp, jitter: u16) -> Self {
        let doublings = self.failures.min(16);
        let whole = FIRST.saturating_mul(1 << doublings).min(MOST);
        Self {
            failures: self.failures.saturating_add(1),
            not_before: Some(after(now, jitter::shortened(whole, jitter))),
            ..self
        }
    }

    /// After a good start. The time of the last failure is kept, so that a failed pod that is seen again is not
    /// another failure.
    #[must_use]
    pub fn succeeded(self) -> Self {
        Self { failures: 0, not_before: None, ..self }
    }

    /// Whether only one pod at a time is tried.
    pub const fn is_cautious(&self) -> bool {
        self.failures > MISHAPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wait(backoff: &Backoff) -> Duration {
        let at = backoff.not_before.unwrap();
        Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).unwrap()
    }

    #[test]
    fn waits_double_up_to_the_cap_and_begin_anew_after_a_good_start_or_with_another_revision() {
        let mut backoff = Backoff::default().of_revision("r1");
        let mut waits = Vec::new();
        for _ in 0..12 {
            backoff = backoff.failed(Timestamp::UNIX_EPOCH, 0);
            waits.push(wait(&backoff).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert!(backoff.is_cautious());
        assert_eq!(backoff.clone().succeeded().failures, 0);
        assert_eq!(backoff.of_revision("r2").failures, 0);
        assert_eq!(backoff.of_revision("r1").failures, 12);
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_and_by_a_half_at_most(failures in 0..u32::MAX, jitter in 0..2000u16) {
            let of = |jitter| {
                let backoff = Backoff { failures, ..Backoff::default() };
                wait(&backoff.failed(Timestamp::UNIX_EPOCH, jitter))
            };
            prop_assert!(of(jitter) <= of(0));
            prop_assert!(of(jitter) >= of(0) / 2);
        }
    }
}
