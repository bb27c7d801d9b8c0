//! What claims cost the API server, and when the last word about them was written, by its audit log.

use super::{
    Scale,
    installation::{Installation, user},
};
use crate::{
    bench::statistics::Latency,
    pods::{
        audit::{self, Claim},
        users::name,
    },
};
use anyhow::Context;
use std::{collections::BTreeMap, time::Duration};

/// Of the users who came at once.
#[derive(Debug)]
pub(super) struct FollowUps {
    /// Writes by gateways, for each claim.
    pub(super) on_path: f64,
    /// The most for one claim.
    pub(super) most_on_path: usize,
    /// With the operator's.
    pub(super) in_all: f64,
    /// The most for one claim.
    pub(super) most_in_all: usize,
    /// From the assignment to the last word that follows from it: the mark on the pod, or the tenant's status.
    pub(super) lag: Latency,
    /// The longest.
    pub(super) longest: Duration,
}

impl FollowUps {
    /// From what was logged since this place of the log.
    pub(super) fn since(
        installation: &Installation,
        mark: u64,
        scale: Scale,
    ) -> anyhow::Result<Self> {
        let place = &installation.stage.place;
        let entries = audit::since(&place.cluster, mark)?;
        let users = scale.one_by_one..scale.one_by_one + scale.warm;
        let names: Vec<String> = users
            .map(|number| Ok(name(&user(number))?.to_string()))
            .collect::<anyhow::Result<_>>()?;
        let claims = audit::claims(&entries, &place.name, &installation.config.user(), &names);
        Self::of(&claims).context("the audit log tells of no claim")
    }

    fn of(claims: &BTreeMap<String, Claim>) -> Option<Self> {
        let lags: Option<Vec<Duration>> = claims
            .values()
            .map(|claim| {
                let lag = claim.last_word?.duration_since(claim.assigned?);
                Some(Duration::try_from(lag).unwrap_or_default())
            })
            .collect();
        let lags = lags?;
        // what failed was written too
        let in_all = |claim: &Claim| claim.in_all() + claim.failed;
        let mean = |count: &dyn Fn(&Claim) -> usize| {
            let sum: usize = claims.values().map(count).sum();
            Some(f64::from(u32::try_from(sum).ok()?) / f64::from(u32::try_from(claims.len()).ok()?))
        };
        Some(Self {
            on_path: mean(&|claim| claim.by_gateways)?,
            most_on_path: claims.values().map(|claim| claim.by_gateways).max()?,
            in_all: mean(&in_all)?,
            most_in_all: claims.values().map(in_all).max()?,
            longest: lags.iter().max().copied()?,
            lag: Latency::of(lags)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn the_means_and_the_most_are_of_all_claims_and_one_without_an_end_is_none() {
        let second = |second| Timestamp::from_second(second).ok();
        let claim = |by_operator, last| Claim {
            by_gateways: 1,
            by_operator,
            assigned: second(2),
            last_word: last,
            ..Claim::default()
        };
        let mut claims: BTreeMap<_, _> =
            [("a".to_owned(), claim(2, second(5))), ("b".to_owned(), claim(3, second(3)))].into();
        let found = FollowUps::of(&claims).unwrap();
        assert_eq!((found.most_on_path, found.most_in_all), (1, 4));
        assert!((found.in_all - 3.5).abs() < f64::EPSILON);
        assert_eq!(found.longest, Duration::from_secs(3));
        claims.insert("c".to_owned(), claim(0, None));
        assert!(FollowUps::of(&claims).is_none());
    }
}
