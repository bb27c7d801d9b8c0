//! How long to wait before a program is started anew, where the last ones were of no use. It must not know programs.

use std::time::Duration;
use tokio::time::Instant;

/// After the second start without use; doubled after each further one.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// The starts since a program was of use.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    in_vain: u32,
    last: Option<Instant>,
}

impl Restarts {
    /// How long the next start has to wait.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        // one for a client, one that is ready ahead: the third is the first that says something
        let Some(doublings) = self.in_vain.checked_sub(3) else { return Duration::ZERO };
        let pause = FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST);
        pause.saturating_sub(now.saturating_duration_since(last))
    }

    pub(super) fn started(&mut self, now: Instant) {
        self.in_vain = self.in_vain.saturating_add(1);
        self.last = Some(now);
    }

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
        for _ in 0..12 {
            waits.push(restarts.wait(now).as_millis());
            restarts.started(now);
        }
        assert_eq!(waits, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert_eq!(restarts.wait(now + Duration::from_secs(4)).as_secs(), 6);
        restarts.was_of_use();
        assert_eq!(restarts.wait(now), Duration::ZERO);
    }
}
