//! How long to wait before a program is started anew, where the last ones were of no use. It must not know programs.

use std::time::Duration;
use tokio::time::Instant;

/// After the first program that was of no use; doubled after each further one.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// The programs that ended, or did not start, since one was of use. Those that were only started do not count: many
/// clients may come at once.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    in_vain: u32,
    last: Option<Instant>,
}

impl Restarts {
    /// How long the next start has to wait.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let (Some(last), Some(doublings)) = (self.last, self.in_vain.checked_sub(1)) else {
            return Duration::ZERO;
        };
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST);
        pause.saturating_sub(now.saturating_duration_since(last))
    }

    /// One was of no use.
    pub(super) fn failed(&mut self, now: Instant) {
        self.in_vain = self.in_vain.saturating_add(1);
        self.last = Some(now);
    }

    /// One was of use.
    pub(super) fn was_of_use(&mut self) {
        self.in_vain = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn programs_that_are_of_no_use_are_started_more_and_more_slowly() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.push(restarts.wait(now).as_millis());
            restarts.failed(now);
        }
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert_eq!(restarts.wait(now + Duration::from_secs(4)).as_secs(), 6);
        restarts.was_of_use();
        assert_eq!(restarts.wait(now), Duration::ZERO);
    }
}
