//! A worker's pod and a tenant as a gateway sees them: from objects to the little that claims need of them.
//!
//! Nothing else of an object is kept: with ten thousand tenants, most of each would be of no use. This module
//! must not know who else there is.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::ObjectMeta;
use patchbay_core::{
    id::{ClassName, Epoch, Incarnation, TenantUid, WorkerId},
    latch::Claim,
    orchestrator::{Endpoint, Offer, Placement},
    pin::Fingerprint,
    tenant::TenantName,
};
use patchbay_crds::{
    Tenant,
    marks::{BOUND, CLASS, COMPONENT, FINGERPRINT, LINK_PORT, PART_OF, PATCHBAY, TRUE, WORKER},
    tenant::{TenantAssignment, name_matches},
};
use std::net::SocketAddr;

/// When an object was written, in the API server's count. Objects of one kind can be put in order by it; one
/// that is no number is of an API server that counts otherwise, and then the last word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Version(Option<u64>);

impl Version {
    pub(super) fn of(metadata: &ObjectMeta) -> Self {
        Self(metadata.resource_version.as_deref().and_then(|version| version.parse().ok()))
    }

    pub(super) fn is_before(self, other: Self) -> bool {
        matches!((self.0, other.0), (Some(one), Some(other)) if one < other)
    }

    pub(super) fn max(self, other: Self) -> Self {
        if self.is_before(other) || self.0.is_none() { other } else { self }
    }

    /// A place in the order; those that count otherwise come first.
    pub(super) fn order(self) -> u64 {
        self.0.unwrap_or_default()
    }
}

/// A worker's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenWorker {
    /// The pod's name.
    pub(super) name: WorkerId,
    /// This life of the worker.
    pub(super) uid: Incarnation,
    /// What it is of.
    pub(super) class: ClassName,
    /// When this was so.
    pub(super) version: Version,
    /// Where its agent listens.
    address: Option<SocketAddr>,
    /// The key that was recorded when it enrolled.
    fingerprint: Option<Fingerprint>,
    /// Whether the operator has marked it as a worker that has, or had, a tenant.
    pub(super) is_marked_bound: bool,
    health: Health,
}

/// Whether a worker takes work, as far as the cluster knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// The cluster vouches for it.
    Ready,
    /// It runs, and the cluster does not vouch for it: its probe fails, or its node is silent, or has just begun to
    /// speak again. Whether it is well, only whoever speaks to it can tell.
    Doubtful,
    /// It has ended, or is told to end.
    Down,
}

impl SeenWorker {
    /// What a pod shows; none if it is no worker.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let label = |name| Some(metadata.labels.as_ref()?.get(name)?.as_str());
        if label(COMPONENT) != Some(WORKER) || label(PART_OF) != Some(PATCHBAY) {
            return None;
        }
        let status = pod.status.as_ref();
        let address = status.and_then(|status| status.pod_ip.as_deref()?.parse().ok());
        let fingerprint = metadata.annotations.as_ref().and_then(|all| all.get(FINGERPRINT));
        Some(Self {
            name: WorkerId::parse(metadata.name.clone()?).ok()?,
            uid: Incarnation::parse(metadata.uid.clone()?).ok()?,
            class: ClassName::parse(label(CLASS)?).ok()?,
            version: Version::of(metadata),
            address: address.map(|ip| SocketAddr::new(ip, LINK_PORT)),
            fingerprint: fingerprint.and_then(|text| Fingerprint::parse(text).ok()),
            is_marked_bound: label(BOUND) == Some(TRUE),
            health: match status {
                Some(status) if metadata.deletion_timestamp.is_none() => health(status),
                _ => Health::Down,
            },
        })
    }

    /// How it is dialled; none while nobody should.
    pub(super) fn offer(&self) -> Option<Offer> {
        let known = self.address.zip(self.fingerprint);
        let (address, fingerprint) = known.filter(|_| self.health != Health::Down)?;
        Some(Offer {
            worker: self.name.clone(),
            incarnation: self.uid.clone(),
            endpoint: Endpoint::Tcp(address),
            fingerprint,
        })
    }

    /// Whether it may still come to be one that is dialled: it has not ended, and lacks its address or its key.
    pub(super) fn is_incomplete(&self) -> bool {
        self.health != Health::Down && self.offer().is_none()
    }

    /// Whether the cluster vouches for it, so that a new tenant may have it.
    pub(super) fn is_ready(&self) -> bool {
        self.health == Health::Ready
    }
}

fn health(status: &PodStatus) -> Health {
    let mut conditions = status.conditions.iter().flatten();
    let is_ready = conditions.any(|each| each.type_ == "Ready" && each.status == "True");
    // no container of a worker is started again, and neither is of use without the other
    let mut containers = status.container_statuses.iter().flatten();
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
        || containers
            .any(|each| each.state.as_ref().is_some_and(|state| state.terminated.is_some()));
    match (has_ended, is_ready) {
        (true, _) => Health::Down,
        (false, true) => Health::Ready,
        (false, false) => Health::Doubtful,
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenTenant {
    /// This life of the object.
    pub(super) uid: TenantUid,
    /// Its class.
    pub(super) class: ClassName,
    /// When this was so.
    pub(super) version: Version,
    /// Whether its name is its identity's: one that is not is never used.
    pub(super) is_usable: bool,
    /// Whether it is shut out.
    pub(super) is_suspended: bool,
    /// Whether it is on its way out.
    pub(super) is_deleting: bool,
    /// As it is written.
    pub(super) assignment: Option<TenantAssignment>,
}

impl SeenTenant {
    /// What a tenant shows, and its name; none of an object that no gateway could have meant.
    pub(super) fn of(tenant: &Tenant) -> Option<(TenantName, Self)> {
        let metadata = &tenant.metadata;
        let name = TenantName::parse(metadata.name.clone()?).ok()?;
        let seen = Self {
            uid: TenantUid::parse(metadata.uid.clone()?).ok()?,
            class: ClassName::parse(tenant.spec.class_name.as_str()).ok()?,
            version: Version::of(metadata),
            is_usable: name_matches(tenant),
            is_suspended: tenant.spec.suspended,
            is_deleting: metadata.deletion_timestamp.is_some(),
            assignment: tenant.spec.assignment.clone(),
        };
        Some((name, seen))
    }

    /// The worker that it names. A UID that is none was edited by hand: no pod has it.
    pub(super) fn names(&self) -> Option<Incarnation> {
        let assignment = self.assignment.as_ref().filter(|it| !it.worker.is_empty())?;
        Incarnation::parse(assignment.uid.as_str()).ok()
    }

    /// The epoch of its last assignment.
    pub(super) fn last(&self) -> Epoch {
        self.assignment.as_ref().map_or_else(Epoch::default, |it| Epoch(it.epoch))
    }

    /// Since when it waits for a worker, if it does.
    pub(super) fn waits_since(&self) -> Option<Timestamp> {
        let assignment = self.assignment.as_ref().filter(|it| it.worker.is_empty())?;
        assignment.requested_at.filter(|_| self.is_usable && !self.is_suspended)
    }

    /// Its assignment to this worker.
    pub(super) fn placement(&self, offer: Offer) -> Placement {
        Placement { claim: Claim { tenant: self.uid.clone(), epoch: self.last() }, offer }
    }

    /// Whether nothing that claims look at tells it from another.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        *self == Self { version: self.version, ..other.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(change: impl FnOnce(&mut Value)) -> Option<SeenWorker> {
        let mut pod = json!({
            "metadata": {
                "name": "tools-x", "uid": "u-1", "resourceVersion": "7",
                "labels": {
                    "app.kubernetes.io/component": "worker",
                    "app.kubernetes.io/part-of": "patchbay",
                    "patchbay.dev/class": "tools",
                },
                "annotations": { "patchbay.dev/fingerprint": "0".repeat(64) },
            },
            "status": {
                "phase": "Running", "podIP": "10.1.2.3",
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        });
        change(&mut pod);
        SeenWorker::of(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_ready_worker_with_a_recorded_key_may_be_dialled() {
        let offer = pod(|_| ()).unwrap().offer().unwrap();
        assert_eq!(offer.endpoint, Endpoint::Tcp("10.1.2.3:7443".parse().unwrap()));
        assert_eq!(offer.incarnation.as_str(), "u-1");
    }

    #[test]
    fn nobody_dials_a_worker_that_has_ended_has_no_key_or_goes() {
        let changes: [fn(&mut Value); 6] = [
            |pod| {
                pod["status"]["containerStatuses"] = json!([{
                    "name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": { "terminated": { "exitCode": 137 } },
                }]);
            },
            |pod| pod["status"]["phase"] = json!("Succeeded"),
            |pod| pod["status"]["podIP"] = json!(null),
            |pod| pod["metadata"]["annotations"] = json!({}),
            |pod| pod["metadata"]["annotations"]["patchbay.dev/fingerprint"] = json!("x"),
            |pod| pod["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z"),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(pod(change).unwrap().offer(), None, "{index}");
        }
    }

    #[test]
    fn a_worker_that_is_not_ready_may_be_dialled_and_is_not_for_anybody_new() {
        let doubtful =
            pod(|pod| pod["status"]["conditions"][0]["status"] = json!("False")).unwrap();
        assert!(doubtful.offer().is_some() && !doubtful.is_ready());
        assert!(pod(|_| ()).unwrap().is_ready());
    }

    #[test]
    fn a_pod_without_a_workers_labels_is_none() {
        for label in
            ["app.kubernetes.io/component", "app.kubernetes.io/part-of", "patchbay.dev/class"]
        {
            assert_eq!(pod(|pod| pod["metadata"]["labels"][label] = json!("")), None, "{label}");
        }
    }

    #[test]
    fn versions_are_in_order_and_unreadable_ones_are_never_older() {
        let version = |text: &str| {
            Version::of(&ObjectMeta {
                resource_version: Some(text.to_owned()),
                ..ObjectMeta::default()
            })
        };
        assert!(version("9").is_before(version("10")));
        assert!(!version("10").is_before(version("9")) && !version("9").is_before(version("9")));
        assert!(!version("x").is_before(version("9")) && !version("9").is_before(version("x")));
        assert_eq!(version("9").max(version("10")), version("10"));
        assert_eq!(version("10").max(version("x")), version("10"));
    }
}
