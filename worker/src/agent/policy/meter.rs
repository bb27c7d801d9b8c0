//! A tenant's requests, counted: how many run, and how many came in the last second. It must not know what they say.

use parking_lot::Mutex;
use patchbay_core::{class::TenantLimits, rate::Bucket};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Counts what a class limits.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Instant,
    most: Option<u32>,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    running: u32,
    bucket: Option<Bucket>,
}

/// Why requests are not taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Over {
    #[error("too many requests in a short time; send fewer")]
    Rate(Duration),
    #[error("too many calls at one time: at most {0}; wait for one to end")]
    Calls(u32),
}

impl Over {
    /// Whole seconds after which to come back, at least one.
    pub(crate) fn retry_after(self) -> u64 {
        match self {
            Self::Rate(after) => (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1),
            // when one ends is not known
            Self::Calls(_) => 1,
        }
    }
}

impl Meter {
    /// What counts for these limits; none where there are none.
    pub(crate) fn new(limits: TenantLimits, now: Instant) -> Option<Self> {
        let TenantLimits { requests_per_second, concurrent_calls } = limits;
        let bucket = requests_per_second.map(Bucket::new);
        let is_needed = bucket.is_some() || concurrent_calls.is_some();
        is_needed.then(|| Self {
            begun: now,
            most: concurrent_calls,
            counts: Mutex::new(Counts { running: 0, bucket }),
        })
    }

    /// Takes `calls` requests, which run until the slot is dropped. What is refused costs nothing.
    pub(crate) fn enter(
        self: &Arc<Self>,
        calls: usize,
        now: Instant,
    ) -> Result<Option<Slot>, Over> {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        if calls == 0 {
            return Ok(None);
        }
        let mut counts = self.counts.lock();
        let running = counts.running.saturating_add(calls);
        if let Some(most) = self.most.filter(|most| running > *most) {
            return Err(Over::Calls(most));
        }
        if let Some(bucket) = &mut counts.bucket {
            bucket.take(calls, now.saturating_duration_since(self.begun)).map_err(Over::Rate)?;
        }
        counts.running = running;
        drop(counts);
        Ok(Some(Slot { meter: Arc::clone(self), calls }))
    }

    /// Takes one request that makes no call: it has come, and nothing of it runs.
    pub(crate) fn pass(&self, now: Instant) -> Result<(), Over> {
        match &mut self.counts.lock().bucket {
            Some(bucket) => {
                bucket.take(1, now.saturating_duration_since(self.begun)).map_err(Over::Rate)
            }
            None => Ok(()),
        }
    }
}

/// Requests that run.
#[derive(Debug)]
pub(crate) struct Slot {
    meter: Arc<Meter>,
    calls: u32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.meter.counts.lock();
        counts.running = counts.running.saturating_sub(self.calls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::clock::Moment;

    fn meter(requests_per_second: Option<u32>, concurrent_calls: Option<u32>) -> Arc<Meter> {
        let limits = TenantLimits { requests_per_second, concurrent_calls };
        Arc::new(Meter::new(limits, Moment::now().instant).unwrap())
    }

    #[test]
    fn as_many_run_as_the_limit_says_and_a_place_is_free_when_one_ends() {
        let (meter, now) = (meter(None, Some(2)), Moment::now().instant);
        let first = meter.enter(1, now).unwrap();
        let _second = meter.enter(1, now).unwrap();
        assert_eq!(meter.enter(1, now).unwrap_err(), Over::Calls(2));
        // what needs no work is always taken
        assert!(meter.enter(0, now).unwrap().is_none());
        drop(first);
        assert_eq!(meter.enter(2, now).unwrap_err(), Over::Calls(2));
        assert!(meter.enter(1, now).unwrap().is_some());
    }

    #[test]
    fn what_is_refused_for_one_limit_costs_nothing_of_the_other() {
        let (meter, now) = (meter(Some(2), Some(1)), Moment::now().instant);
        let running = meter.enter(1, now).unwrap();
        for _ in 0..5 {
            assert_eq!(meter.enter(1, now).unwrap_err(), Over::Calls(1));
        }
        drop(running);
        drop(meter.enter(1, now).unwrap());
        let over = meter.enter(1, now).unwrap_err();
        assert!(matches!(over, Over::Rate(_)), "{over:?}");
        assert_eq!(over.retry_after(), 1);
        assert!(meter.enter(1, now + Duration::from_millis(500)).is_ok());
    }

    #[test]
    fn a_request_that_makes_no_call_counts_when_it_comes_and_then_no_more() {
        let (both, now) = (meter(Some(2), Some(1)), Moment::now().instant);
        let _running = both.enter(1, now).unwrap();
        assert_eq!(both.pass(now), Ok(()), "it took a call's place");
        assert!(matches!(both.pass(now), Err(Over::Rate(_))));
        assert_eq!(both.pass(now + Duration::from_millis(500)), Ok(()));
        let calls = meter(None, Some(1));
        for _ in 0..3 {
            assert_eq!(calls.pass(now), Ok(()));
        }
        assert!(calls.enter(1, now).unwrap().is_some());
    }

    #[test]
    fn who_is_told_to_come_back_is_told_whole_seconds() {
        for (after, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (2500, 3)] {
            assert_eq!(Over::Rate(Duration::from_millis(after)).retry_after(), seconds);
        }
    }
}
