//! How many requests a tenant may make in a second: a bucket of tokens that fills with time.
//!
//! This module must not know requests, or the clock: moments come in as the time since some fixed one.

use std::time::Duration;

/// One second's worth of requests, which fills again at its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    per_second: u32,
    /// When it was, or will be, full. What is taken moves it on by the time that it takes to come back.
    full_at: Duration,
}

const SECOND: Duration = Duration::from_secs(1);

impl Bucket {
    /// A full one; 0 counts as 1.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), full_at: Duration::ZERO }
    }

    /// Takes `count`, or says after how long they can be taken.
    ///
    /// More than it ever holds are given when it is full, and owed for: none is refused for ever.
    pub fn take(&mut self, count: u32, now: Duration) -> Result<(), Duration> {
        let full_at = self.full_at.max(now);
        // what must be there, and so how empty it may be
        let needed = count.min(self.per_second);
        let may_lack = SECOND.saturating_sub(self.worth(needed));
        let lacks = full_at.saturating_sub(now);
        if lacks > may_lack {
            return Err(lacks.saturating_sub(may_lack));
        }
        self.full_at = full_at + self.worth(count);
        Ok(())
    }

    fn worth(&self, count: u32) -> Duration {
        SECOND * count / self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_seconds_worth_may_come_at_once_and_then_one_by_one() {
        let mut bucket = Bucket::new(4);
        for _ in 0..4 {
            assert_eq!(bucket.take(1, at(10_000)), Ok(()));
        }
        assert_eq!(bucket.take(1, at(10_000)), Err(at(250)));
        assert_eq!(bucket.take(1, at(10_100)), Err(at(150)));
        assert_eq!(bucket.take(1, at(10_250)), Ok(()));
        assert_eq!(bucket.take(1, at(10_250)), Err(at(250)));
        // a long pause saves up no more than a second's worth
        assert_eq!(bucket.take(4, at(99_000)), Ok(()));
        assert_eq!(bucket.take(1, at(99_000)), Err(at(250)));
    }

    #[test]
    fn more_than_it_holds_are_given_when_it_is_full_and_owed_for() {
        let mut bucket = Bucket::new(2);
        assert_eq!(bucket.take(6, at(0)), Ok(()));
        assert_eq!(bucket.take(1, at(0)), Err(at(2500)));
        assert_eq!(bucket.take(1, at(2500)), Ok(()));
        assert_eq!(bucket.take(6, at(2500)), Err(at(1000)));
        assert_eq!(bucket.take(6, at(3500)), Ok(()));
    }

    #[test]
    fn nothing_costs_nothing_and_the_least_rate_is_one() {
        let mut bucket = Bucket::new(0);
        assert_eq!(bucket.take(0, at(0)), Ok(()));
        assert_eq!(bucket.take(1, at(0)), Ok(()));
        assert_eq!(bucket.take(0, at(0)), Ok(()));
        assert_eq!(bucket.take(1, at(1)), Err(at(999)));
    }

    proptest! {
        #[test]
        fn no_more_are_given_than_the_rate_and_one_second_ahead(
            per_second in 1u32..50,
            waits in proptest::collection::vec(0u64..200, 1..200),
        ) {
            let mut bucket = Bucket::new(per_second);
            let (mut now, mut given) = (0, 0u64);
            for wait in waits {
                now += wait;
                match bucket.take(1, at(now)) {
                    Ok(()) => given += 1,
                    // it is told right when to come back
                    Err(after) => prop_assert_eq!(bucket.clone().take(1, at(now) + after), Ok(())),
                }
                let most = u64::from(per_second) * (now + 1000) / 1000;
                // what is worth one is rounded down to a nanosecond
                prop_assert!(given <= most + 1, "{given} of {most}");
            }
        }
    }
}
