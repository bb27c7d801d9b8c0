//! Who leads: from a Lease and what this process saw of it to what to do next.
//!
//! The caller writes with the `resourceVersion` that it read, so of two candidates that decide alike one loses.
//! Times in a Lease are its writer's, and are never compared with this process's clock: what counts is for how
//! long *this* process has seen the Lease unchanged. So the clocks of two nodes may differ by any amount; they
//! must only run at about the same speed. A leader stops at two thirds of the duration without a renewal that
//! was acknowledged, counted from before it was sent; another takes over at the whole of it. The third between is
//! for clocks that run unevenly and for work that is already sent.

use crate::total::after;
use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};
use std::time::Duration;

/// How long a Lease holds without a renewal.
pub const DURATION: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How long after the last renewal that was acknowledged a leader stops, whatever is under way.
pub const STOP_AFTER: Duration = Duration::from_secs(10);

/// This process, as a candidate.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its identity: another one for every start of the process, or a restarted process would take the leadership
    /// of its predecessor for its own.
    pub me: &'a str,
    /// If it leads: when it sent the last write that was acknowledged.
    pub renewed: Option<Timestamp>,
    /// Since when this process has seen the Lease as it is.
    pub unchanged_since: Timestamp,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Write [`acquired`]; lead once it is acknowledged.
    Acquire,
    /// Write [`renewed`].
    Renew,
    /// Nothing before this moment, or a change of the Lease.
    Wait {
        /// When to look again.
        until: Timestamp,
    },
    /// Stop leading at once, whatever is under way.
    StepDown,
}

/// Decides about the Lease as it was last seen. None = there is none yet: acquiring creates it.
pub fn evaluate(lease: Option<&LeaseSpec>, candidate: &Candidate<'_>, now: Timestamp) -> Decision {
    let holder = lease.and_then(|lease| lease.holder_identity.as_deref()).unwrap_or_default();
    let is_mine = !holder.is_empty() && holder == candidate.me;
    match candidate.renewed {
        Some(_) if !is_mine => Decision::StepDown,
        Some(renewed) if now >= after(renewed, STOP_AFTER) => Decision::StepDown,
        Some(renewed) if now >= after(renewed, RENEW_EVERY) => Decision::Renew,
        Some(renewed) => Decision::Wait { until: after(renewed, RENEW_EVERY) },
        // a write of which no answer came
        None if is_mine => Decision::Renew,
        None if holder.is_empty() => Decision::Acquire,
        None => {
            // the holder's own word for how long it may be silent
            let duration = lease
                .and_then(|lease| u64::try_from(lease.lease_duration_seconds?).ok())
                .map_or(DURATION, Duration::from_secs);
            let expires = after(candidate.unchanged_since, duration);
            if now >= expires { Decision::Acquire } else { Decision::Wait { until: expires } }
        }
    }
}

/// The Lease after `me` has taken it.
pub fn acquired(lease: Option<&LeaseSpec>, me: &str, now: Timestamp) -> LeaseSpec {
    let transitions = lease.map_or(0, |lease| {
        let is_new = lease.holder_identity.as_deref() != Some(me);
        lease.lease_transitions.unwrap_or_default().saturating_add(i32::from(is_new))
    });
    LeaseSpec {
        acquire_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..renewed(&LeaseSpec { holder_identity: Some(me.into()), ..LeaseSpec::default() }, now)
    }
}

/// The Lease after its holder has renewed it.
pub fn renewed(lease: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        renew_time: Some(MicroTime(now)),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        ..lease.clone()
    }
}

/// The Lease after its holder has given it up, so that another need not wait. Only to be written when all work has
/// ended.
pub fn released(lease: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec { holder_identity: None, ..renewed(lease, now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn decide(lease: Option<&LeaseSpec>, led: Option<i64>, unchanged: i64, now: i64) -> Decision {
        let candidate =
            Candidate { me: "me", renewed: led.map(at), unchanged_since: at(unchanged) };
        evaluate(lease, &candidate, at(now))
    }

    #[test]
    fn a_lease_of_nobody_is_taken_at_once_and_that_is_a_transition() {
        assert_eq!(decide(None, None, 0, 0), Decision::Acquire);
        let first = acquired(None, "other", at(0));
        assert_eq!(first.lease_transitions, Some(0));
        let free = released(&first, at(5));
        assert_eq!(decide(Some(&free), None, 5, 5), Decision::Acquire);
        let mine = acquired(Some(&free), "me", at(6));
        assert_eq!(
            (mine.lease_transitions, &mine.acquire_time),
            (Some(1), &Some(MicroTime(at(6))))
        );
        let again = renewed(&mine, at(9));
        assert_eq!(
            (again.lease_transitions, &again.acquire_time),
            (Some(1), &Some(MicroTime(at(6))))
        );
    }

    #[test]
    fn the_holders_clock_decides_nothing() {
        for skew in [-100_000, 0, 100_000] {
            let other = acquired(None, "other", at(skew));
            assert_eq!(decide(Some(&other), None, 0, 14), Decision::Wait { until: at(15) });
            assert_eq!(decide(Some(&other), None, 0, 15), Decision::Acquire);
        }
    }

    #[test]
    fn a_leader_renews_and_stops_before_another_may_begin() {
        let mine = acquired(None, "me", at(0));
        assert_eq!(decide(Some(&mine), Some(0), 0, 1), Decision::Wait { until: at(3) });
        assert_eq!(decide(Some(&mine), Some(0), 0, 3), Decision::Renew);
        assert_eq!(decide(Some(&mine), Some(0), 0, 10), Decision::StepDown);
        let other = Candidate { me: "other", renewed: None, unchanged_since: at(0) };
        assert_eq!(evaluate(Some(&mine), &other, at(10)), Decision::Wait { until: at(15) });
    }

    #[test]
    fn a_leader_that_sees_another_holder_or_no_lease_stops_at_once() {
        let other = acquired(None, "other", at(0));
        assert_eq!(decide(Some(&other), Some(0), 0, 0), Decision::StepDown);
        assert_eq!(decide(None, Some(0), 0, 0), Decision::StepDown);
    }

    #[test]
    fn a_write_without_an_answer_that_arrived_is_renewed_and_counts_no_transition() {
        let mine = acquired(None, "me", at(0));
        assert_eq!(decide(Some(&mine), None, 0, 1), Decision::Renew);
        assert_eq!(acquired(Some(&mine), "me", at(1)).lease_transitions, Some(0));
    }

    #[test]
    fn an_absurd_duration_is_no_panic() {
        let mut other = acquired(None, "other", at(0));
        other.lease_duration_seconds = Some(i32::MAX);
        assert!(matches!(decide(Some(&other), None, 0, 1), Decision::Wait { .. }));
        other.lease_duration_seconds = Some(-1);
        assert_eq!(decide(Some(&other), None, 0, 1), Decision::Wait { until: at(15) });
    }
}
