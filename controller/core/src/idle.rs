//! When a worker has been idle for long enough to leave.
//!
//! The worker knows, because it sees every request. What counts is calls, not connections: in-flight
//! calls are busy; open idle streams and pings are not (invariant 6). This module must not know HTTP
//! bodies, or the clock: durations come in as values.

use std::time::Duration;

/// Whether a request keeps a worker busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// A call: busy while in flight, activity when it begins and ends.
    Call,
    /// A stream that waits for events, or a ping: may stay open for days without any work.
    Listening,
}

impl Weight {
    /// The weight of a request by its HTTP method and the modern era's `Mcp-Method` header.
    ///
    /// A legacy stream is a `GET`; a modern one is a `POST` whose header says `subscriptions/listen`
    /// (MCP 2026-07-28, basic/transports/streamable-http). A client that lies about the header only
    /// shortens its own worker's life.
    pub fn of(method: &str, mcp_method: Option<&str>) -> Self {
        match (method, mcp_method) {
            ("GET" | "HEAD" | "OPTIONS", _) | (_, Some("subscriptions/listen" | "ping")) => {
                Self::Listening
            }
            _ => Self::Call,
        }
    }
}

/// When a worker should leave by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdlePolicy {
    /// Leave after this long without a call.
    pub idle_timeout: Duration,
    /// Leave at the first idle moment after having had a tenant for so long.
    pub max_age: Option<Duration>,
}

/// What a worker has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Calls in flight.
    pub in_flight: u64,
    /// Since the last call began or ended, or since the bind.
    pub quiet_for: Duration,
    /// Since the bind. How long it was kept warm before is nothing to its tenant, who would lose it at once.
    pub age: Duration,
    /// Whether an operator asked it to leave at its next idle moment.
    pub is_asked_to_leave: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleDecision {
    /// Idle for long enough.
    LeaveIdle,
    /// Old enough, and idle at this moment.
    LeaveAged,
    /// Asked to leave, and idle at this moment.
    LeaveAsked,
    /// Nothing to decide before this much time has passed (or a call has ended).
    LookAgainIn(Duration),
}

impl IdlePolicy {
    /// Decides for a bound worker.
    pub fn decide(&self, activity: Activity) -> IdleDecision {
        if activity.in_flight > 0 {
            // the end of the last call is awaited as an event; this bounds only a lost wake-up
            return IdleDecision::LookAgainIn(self.idle_timeout);
        }
        if activity.quiet_for >= self.idle_timeout {
            return IdleDecision::LeaveIdle;
        }
        if activity.is_asked_to_leave {
            return IdleDecision::LeaveAsked;
        }
        let until_idle = self.idle_timeout.saturating_sub(activity.quiet_for);
        match self.max_age {
            Some(max_age) if activity.age >= max_age => IdleDecision::LeaveAged,
            Some(max_age) => {
                IdleDecision::LookAgainIn(until_idle.min(max_age.saturating_sub(activity.age)))
            }
            None => IdleDecision::LookAgainIn(until_idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: IdlePolicy = IdlePolicy { idle_timeout: Duration::from_mins(15), max_age: None };

    fn quiet(in_flight: u64, quiet_secs: u64, age_secs: u64) -> Activity {
        Activity {
            in_flight,
            quiet_for: Duration::from_secs(quiet_secs),
            age: Duration::from_secs(age_secs),
            is_asked_to_leave: false,
        }
    }

    #[test]
    fn a_call_in_flight_keeps_a_worker_however_long_it_runs() {
        let aged = IdlePolicy { max_age: Some(Duration::from_secs(1)), ..POLICY };
        for policy in [POLICY, aged] {
            assert!(matches!(
                policy.decide(quiet(1, 100_000, 100_000)),
                IdleDecision::LookAgainIn(_)
            ));
        }
    }

    #[test]
    fn a_quiet_worker_leaves_at_its_timeout_and_not_before() {
        assert_eq!(
            POLICY.decide(quiet(0, 899, 899)),
            IdleDecision::LookAgainIn(Duration::from_secs(1))
        );
        assert_eq!(POLICY.decide(quiet(0, 900, 900)), IdleDecision::LeaveIdle);
    }

    #[test]
    fn an_old_worker_leaves_at_its_next_idle_moment() {
        let aged = IdlePolicy { max_age: Some(Duration::from_secs(100)), ..POLICY };
        assert_eq!(aged.decide(quiet(0, 0, 100)), IdleDecision::LeaveAged);
        assert_eq!(aged.decide(quiet(0, 0, 40)), IdleDecision::LookAgainIn(Duration::from_mins(1)));
    }

    #[test]
    fn a_worker_that_is_asked_leaves_at_its_next_idle_moment_and_never_within_a_call() {
        let asked = |activity| Activity { is_asked_to_leave: true, ..activity };
        assert_eq!(POLICY.decide(asked(quiet(0, 0, 1))), IdleDecision::LeaveAsked);
        let busy = POLICY.decide(asked(quiet(1, 100_000, 100_000)));
        assert!(matches!(busy, IdleDecision::LookAgainIn(_)));
    }

    #[test]
    fn streams_and_pings_are_no_activity() {
        assert_eq!(Weight::of("GET", None), Weight::Listening);
        assert_eq!(Weight::of("POST", Some("subscriptions/listen")), Weight::Listening);
        assert_eq!(Weight::of("POST", Some("tools/call")), Weight::Call);
        assert_eq!(Weight::of("POST", None), Weight::Call);
        assert_eq!(Weight::of("DELETE", None), Weight::Call);
    }
}
