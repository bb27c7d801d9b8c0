//! When a root gives way to the next, so that nobody is ever shown a certificate that they do not trust yet.
//!
//! A new root is published first, and signs only once every worker has had time to see it. The old one stays
//! published until all that it signed has ended. This module must not know keys, clocks or the cluster.

use super::root::Roots;
use crate::total::{after, before};
use jiff::Timestamp;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// How long everything lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// A root.
    pub root: Duration,
    /// For how long before its end the next one is there. More than [`Self::seen_within`] and
    /// [`Self::certificate`] together.
    pub lead: Duration,
    /// Within what time every worker sees what is published. The node that it is on reads a mounted `ConfigMap`
    /// anew about every minute; a day covers a node that was away.
    pub seen_within: Duration,
    /// A certificate.
    pub certificate: Duration,
    /// After how long a certificate is replaced: long before its end, in case nobody can sign one then.
    pub renewal: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            root: DAY * 365,
            lead: DAY * 120,
            seen_within: DAY,
            certificate: DAY * 30,
            renewal: DAY * 10,
        }
    }
}

/// What to do with the roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is none that can be used: make the first.
    Establish,
    /// Make the next, and publish it.
    Introduce,
    /// Let the next one sign from now on.
    Promote,
    /// Nothing before this moment.
    Rest {
        /// When to look again.
        until: Timestamp,
    },
}

/// Decides, where the next root was published at `published`.
pub fn step(roots: &Roots, published: Option<Timestamp>, terms: &Terms, now: Timestamp) -> Step {
    let Some(current) = roots.current.as_ref().filter(|root| root.until > now) else {
        // whoever trusts the next one already can go on
        return if roots.next.as_ref().is_some_and(|root| root.until > now) {
            Step::Promote
        } else {
            Step::Establish
        };
    };
    if roots.next.is_none() {
        let due = before(current.until, terms.lead);
        return if due <= now { Step::Introduce } else { Step::Rest { until: due } };
    }
    // not published: that comes first, and then this again
    let seen = after(published.unwrap_or(now), terms.seen_within);
    if seen <= now { Step::Promote } else { Step::Rest { until: seen } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Bundle, Root};
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn root(until: i64) -> Root {
        Root::stub(&until.to_string(), at(0), at(until))
    }

    const SECOND: Duration = Duration::from_secs(1);
    const TERMS: Terms = Terms {
        root: Duration::from_secs(1000),
        lead: Duration::from_mins(5),
        seen_within: Duration::from_secs(50),
        certificate: Duration::from_secs(100),
        renewal: Duration::from_secs(30),
    };

    fn decide(current: Option<i64>, next: Option<i64>, published: Option<i64>, now: i64) -> Step {
        let roots = Roots { current: current.map(root), next: next.map(root) };
        step(&roots, published.map(at), &TERMS, at(now))
    }

    #[test]
    fn the_usual_terms_leave_time_for_everything() {
        let terms = Terms::default();
        assert!(terms.lead > terms.seen_within + terms.certificate);
        assert!(terms.root > terms.lead * 2);
        assert!(terms.renewal * 2 < terms.certificate);
    }

    #[test]
    fn a_root_is_followed_in_three_steps() {
        assert_eq!(decide(None, None, None, 0), Step::Establish);
        assert_eq!(decide(Some(1000), None, None, 699), Step::Rest { until: at(700) });
        assert_eq!(decide(Some(1000), None, None, 700), Step::Introduce);
        assert_eq!(decide(Some(1000), Some(1700), Some(700), 749), Step::Rest { until: at(750) });
        assert_eq!(decide(Some(1000), Some(1700), Some(700), 750), Step::Promote);
    }

    #[test]
    fn what_is_not_published_does_not_sign() {
        assert_eq!(decide(Some(1000), Some(1700), None, 999), Step::Rest { until: at(1049) });
    }

    #[test]
    fn an_operator_that_was_away_for_long_goes_on_with_what_is_left() {
        assert_eq!(decide(Some(1000), Some(1700), Some(700), 1000), Step::Promote);
        assert_eq!(decide(Some(1000), None, None, 1000), Step::Establish);
        assert_eq!(decide(Some(1000), Some(1700), Some(700), 1700), Step::Establish);
    }

    proptest! {
        /// Looks at any times; from each look to the next, a worker sees what is published, late by up to
        /// `seen_within`.
        #[test]
        fn whoever_shows_a_certificate_is_trusted_by_every_worker(
            looks in proptest::collection::vec(1_u64..120, 1..80),
        ) {
            let mut roots = Roots::default();
            let mut bundle = Bundle::default();
            let mut now = at(0);
            // who signed, when it was given out
            let mut shown: Vec<(String, Timestamp)> = Vec::new();
            let mut history: Vec<(Timestamp, Vec<String>)> = Vec::new();
            for look in looks {
                loop {
                    let published =
                        roots.next.as_ref().and_then(|root| bundle.since(&root.certificate));
                    let made = |name: &str| {
                        Root::stub(&format!("{name}-{now}"), now, after(now, TERMS.root))
                    };
                    match step(&roots, published, &TERMS, now) {
                        Step::Establish => {
                            roots = Roots { current: Some(made("first")), next: None };
                        }
                        Step::Introduce => roots.next = Some(made("next")),
                        Step::Promote => roots.current = roots.next.take(),
                        Step::Rest { .. } => break,
                    }
                    bundle = bundle.with(&roots.certificates(), TERMS.certificate, now);
                    history.push((now, bundle.certificates()));
                }
                bundle = bundle.with(&roots.certificates(), TERMS.certificate, now);
                history.push((now, bundle.certificates()));
                let signer = roots.current.as_ref().unwrap().certificate.clone();
                shown.push((signer, now));
                // what a worker may still see: the bundle as it is, or as it was not longer ago than allowed
                let oldest = before(now, TERMS.seen_within);
                let first = history.iter().rposition(|(at, _)| *at <= oldest).unwrap_or(0);
                for (signer, given) in &shown {
                    let is_held = after(*given, TERMS.renewal) > now
                        || shown.last().is_some_and(|(_, last)| last == given);
                    // a worker starts with what is published then
                    let is_first = history[first].0 > oldest;
                    for (seen, trusted) in &history[first..] {
                        prop_assert!(
                            !is_held || is_first || trusted.contains(signer),
                            "{signer} is shown at {now}, and not trusted by who looked at {seen}"
                        );
                    }
                }
                now = after(now, SECOND * u32::try_from(look).unwrap());
            }
        }
    }
}
