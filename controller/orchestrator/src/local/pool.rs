//! How many workers of a class to start now. Pure.
//!
//! The pool is kept at `warm` anonymous workers plus one for each waiting tenant. Starts are capped,
//! because each takes a core for seconds and a burst of them would slow every one, and workers that do
//! not become ready are started again after growing pauses. This module must not know sandboxes.

use std::time::Duration;
use tokio::time::Instant;

/// What has happened to a class's workers.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Tenants that wait for a worker.
    pub waiting: usize,
    /// Workers on their way to ready.
    pub starting: usize,
    /// Workers in a row that ended before they were ready.
    failures: u32,
    /// Workers in a row that became ready and ended by themselves before anybody had them.
    early_ends: u32,
    last_failure: Option<Failure>,
}

/// The last worker that was of no use to anybody.
#[derive(Debug)]
struct Failure {
    at: Instant,
    why: String,
}

/// After this many workers in a row that were of no use, waiting requests are told.
const HOPELESS: u32 = 3;

impl Pool {
    /// A worker became ready.
    pub(super) fn ready(&mut self) {
        self.starting = self.starting.saturating_sub(1);
        self.failures = 0;
    }

    /// A worker ended before it was ready.
    pub(super) fn failed(&mut self, at: Instant, why: String) {
        self.starting = self.starting.saturating_sub(1);
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(Failure { at, why });
    }

    /// A worker became ready, and its MCP server ended by itself before anybody had it.
    pub(super) fn ended_early(&mut self, at: Instant, why: String) {
        self.early_ends = self.early_ends.saturating_add(1);
        self.last_failure = Some(Failure { at, why });
    }

    /// A tenant took a worker: they are of use.
    pub(super) fn taken(&mut self) {
        self.early_ends = 0;
    }

    /// Why nobody should wait for a worker, where nobody should.
    pub(super) fn hopeless(&self) -> Option<&str> {
        let failure = self.last_failure.as_ref()?;
        (self.useless() >= HOPELESS).then_some(failure.why.as_str())
    }

    fn useless(&self) -> u32 {
        self.failures.max(self.early_ends)
    }

    /// What a plan is made from.
    pub(super) fn view(
        &self,
        warm: usize,
        anonymous: usize,
        max_starting: usize,
        now: Instant,
    ) -> PoolView {
        let since = |failure: &Failure| now.saturating_duration_since(failure.at);
        PoolView {
            warm,
            waiting: self.waiting,
            anonymous,
            starting: self.starting,
            max_starting,
            failures: self.useless(),
            since_failure: self.last_failure.as_ref().map_or(Duration::MAX, since),
        }
    }
}

/// What is known of a class's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolView {
    /// How many anonymous workers are wanted with nobody waiting.
    pub warm: usize,
    /// Tenants that wait for a worker.
    pub waiting: usize,
    /// Anonymous workers that are ready.
    pub anonymous: usize,
    /// Workers on their way to ready.
    pub starting: usize,
    /// How many may be on their way at one time.
    pub max_starting: usize,
    /// Workers in a row that were of no use.
    pub failures: u32,
    /// How long ago the last of them ended.
    pub since_failure: Duration,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolPlan {
    /// Start this many.
    Start(usize),
    /// Start nothing before this much time has passed.
    BackOff(Duration),
    /// Nothing to do until something changes.
    Rest,
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

impl PoolView {
    /// Decides.
    pub(super) fn plan(&self) -> PoolPlan {
        let wanted = self.warm + self.waiting;
        let missing = wanted.saturating_sub(self.anonymous + self.starting);
        if missing == 0 {
            return PoolPlan::Rest;
        }
        let pause = pause_after(self.failures);
        if self.since_failure < pause {
            return PoolPlan::BackOff(pause.saturating_sub(self.since_failure));
        }
        // after a failure, one at a time until one becomes ready
        let cap = if self.failures > 0 { 1 } else { self.max_starting };
        match missing.min(cap.saturating_sub(self.starting)) {
            0 => PoolPlan::Rest,
            count => PoolPlan::Start(count),
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(2_u32.saturating_pow((n - 1).min(16))).min(LONGEST_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool() -> PoolView {
        PoolView {
            warm: 2,
            waiting: 0,
            anonymous: 0,
            starting: 0,
            max_starting: 4,
            failures: 0,
            since_failure: Duration::MAX,
        }
    }

    #[test]
    fn the_pool_is_filled_to_warm_and_one_for_each_that_waits() {
        assert_eq!(pool().plan(), PoolPlan::Start(2));
        assert_eq!(PoolView { waiting: 1, ..pool() }.plan(), PoolPlan::Start(3));
        assert_eq!(PoolView { anonymous: 1, starting: 1, ..pool() }.plan(), PoolPlan::Rest);
    }

    #[test]
    fn a_burst_is_started_a_few_at_a_time() {
        let burst = PoolView { waiting: 100, starting: 3, ..pool() };
        assert_eq!(burst.plan(), PoolPlan::Start(1));
        assert_eq!(PoolView { starting: 4, ..burst }.plan(), PoolPlan::Rest);
    }

    #[test]
    fn workers_that_fail_are_started_one_at_a_time_after_growing_pauses() {
        let failed = |failures, since| {
            PoolView { failures, since_failure: Duration::from_secs(since), ..pool() }.plan()
        };
        assert_eq!(failed(1, 0), PoolPlan::BackOff(Duration::from_secs(1)));
        assert_eq!(failed(1, 1), PoolPlan::Start(1));
        assert_eq!(failed(4, 5), PoolPlan::BackOff(Duration::from_secs(3)));
        assert_eq!(failed(1000, 0), PoolPlan::BackOff(LONGEST_PAUSE));
    }

    #[test]
    fn workers_that_end_right_after_they_were_ready_back_off_too() {
        let now = Instant::now();
        let mut pool = Pool::default();
        for _ in 0..3 {
            pool.starting = 1;
            pool.ready();
            pool.ended_early(now, "it crashed".into());
        }
        assert_eq!(pool.hopeless(), Some("it crashed"));
        let view = pool.view(1, 0, 4, now);
        assert_eq!(view.plan(), PoolPlan::BackOff(Duration::from_secs(4)));
        pool.taken();
        assert_eq!(pool.hopeless(), None);
        assert_eq!(pool.view(1, 0, 4, now).plan(), PoolPlan::Start(1));
    }

    proptest! {
        #[test]
        fn a_plan_never_starts_more_than_is_missing_or_allowed(
            warm in 0..50_usize, waiting in 0..50_usize, anonymous in 0..50_usize,
            starting in 0..50_usize, max_starting in 1..10_usize, failures in 0..5_u32,
            since in 0..100_u64,
        ) {
            let view = PoolView {
                warm, waiting, anonymous, starting, max_starting, failures,
                since_failure: Duration::from_secs(since),
            };
            if let PoolPlan::Start(count) = view.plan() {
                prop_assert!(count > 0);
                prop_assert!(anonymous + starting + count <= warm + waiting);
                prop_assert!(starting + count <= max_starting);
            }
        }
    }
}
