//! What claims cost the API server, and when the last word about them was written, by its audit log.

use super::{
    Scale,
    installation::{Installation, user},
};
use crate::{
    bench::statistics::Latency,
    pods::{audit, users::name},
};
use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;
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

#[derive(Debug, Default)]
struct Claim {
    by_gateways: usize,
    by_operator: usize,
    assigned: Option<Timestamp>,
    last_word: Option<Timestamp>,
}

impl FollowUps {
    /// From what was logged since this place of the log.
    pub(super) fn since(
        installation: &Installation,
        mark: u64,
        scale: Scale,
    ) -> anyhow::Result<Self> {
        let entries = audit::since(&installation.stage.place.cluster, mark)?;
        let users = scale.one_by_one..scale.one_by_one + scale.warm;
        let names: Vec<String> = users
            .map(|number| Ok(name(&user(number))?.to_string()))
            .collect::<anyhow::Result<_>>()?;
        let claims = claims(&entries, &installation.config.user(), &names);
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
        let in_all = |claim: &Claim| claim.by_gateways + claim.by_operator;
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

/// Sorts writes by the tenants that they are about. A worker's mark is its tenant's.
fn claims(entries: &[Value], gateways: &str, tenants: &[String]) -> BTreeMap<String, Claim> {
    let mut claims: BTreeMap<String, Claim> =
        tenants.iter().map(|name| (name.clone(), Claim::default())).collect();
    let mut by_worker = BTreeMap::new();
    for entry in entries {
        let Some(write) = audit::write(entry, gateways) else { continue };
        let Some(claim) = claims.get_mut(&write.tenant) else { continue };
        claim.by_gateways += 1;
        let worker = &entry["responseObject"]["spec"]["assignment"]["worker"];
        let worker = worker.as_str().filter(|name| !name.is_empty());
        if let (200 | 201, Some(worker)) = (write.status, worker) {
            claim.assigned = audit::time(entry);
            by_worker.insert(worker, write.tenant);
        }
    }
    let by_others = entries.iter().filter(|entry| entry["user"]["username"] != gateways);
    for entry in by_others.filter(|entry| entry["verb"] == "patch") {
        let about = &entry["objectRef"];
        let name = about["name"].as_str().unwrap_or_default();
        let tenant = match (about["resource"].as_str(), about["subresource"].as_str()) {
            (Some("tenants"), Some("status")) => Some(name),
            (Some("pods"), None) => by_worker.get(name).map(String::as_str),
            _ => None,
        };
        let Some(claim) = tenant.and_then(|tenant| claims.get_mut(tenant)) else { continue };
        let at = audit::time(entry);
        // a worker's key was recorded before
        if claim.assigned.is_some() && at >= claim.assigned {
            claim.by_operator += 1;
            claim.last_word = claim.last_word.max(at);
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(user: &str, verb: &str, about: &Value, second: u32) -> Value {
        json!({
            "stage": "ResponseComplete", "verb": verb, "user": { "username": user },
            "objectRef": about, "responseStatus": { "code": 200 },
            "stageTimestamp": format!("2026-11-26T12:00:{second:02}.000000Z"),
            "responseObject": { "spec": { "assignment": { "worker": "w" } } },
        })
    }

    #[test]
    fn a_claims_writes_are_its_gateways_and_what_the_operator_wrote_after_it() {
        let tenant = json!({ "resource": "tenants", "name": "t" });
        let status = json!({ "resource": "tenants", "subresource": "status", "name": "t" });
        let pod = |name| json!({ "resource": "pods", "name": name });
        let log = [
            // its key
            entry("operator", "patch", &pod("w"), 1),
            entry("gateway", "patch", &tenant, 2),
            entry("operator", "patch", &pod("w"), 3),
            entry("operator", "patch", &pod("another"), 4),
            entry("operator", "patch", &status, 5),
        ];
        let claims = claims(&log, "gateway", &["t".to_owned()]);
        let found = FollowUps::of(&claims).unwrap();
        assert_eq!((found.most_on_path, found.most_in_all), (1, 3));
        assert_eq!(found.longest, Duration::from_secs(3));
    }
}
