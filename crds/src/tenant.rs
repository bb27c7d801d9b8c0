//! `Tenant`: one user of one class with one authority.
//!
//! A Tenant's name is derived from its identity, so that whoever knows the identity finds the
//! object without a search, and an object under another name is never used. The comments on fields
//! are what `kubectl explain` shows: they speak to users. This module must not know how tenants
//! get workers.

#![allow(clippy::duplicated_attributes, reason = "every column has a type")]

use crate::{bounds, condition::Condition, rules};
use jiff::Timestamp;
use kube::CustomResource;
use patchbay_core::tenant::TenantKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One user of one class with one authority.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "patchbay.dev",
    version = "v1alpha1",
    kind = "Tenant",
    plural = "tenants",
    namespaced,
    shortname = "tn",
    category = "patchbay",
    status = "TenantStatus",
    derive = "PartialEq",
    // from Kubernetes 1.31; 1.30 ignores it
    selectable = ".spec.className",
    validation = crate::rules::tenant::name(),
    printcolumn(
        name = "Class",
        type_ = "string",
        json_path = ".spec.className",
        description = "The WorkerClass"
    ),
    printcolumn(
        name = "Subject",
        type_ = "string",
        json_path = ".spec.identity.subject",
        description = "The user, in the issuer's own words"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the tenant is in its life"
    ),
    printcolumn(
        name = "Worker",
        type_ = "string",
        json_path = ".spec.assignment.worker",
        description = "The pod of the worker that the user has"
    ),
    printcolumn(
        name = "Epoch",
        type_ = "integer",
        json_path = ".spec.assignment.epoch",
        description = "The count of the tenant's assignments",
        priority = 1
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.reason",
        description = "Why the phase last changed"
    ),
    printcolumn(
        name = "Last activity",
        type_ = "date",
        json_path = ".status.lastActivity",
        description = "How long ago the user last called, as the last worker said when it left"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.identity.issuer",
        description = "Who vouches for the subject",
        priority = 1
    ),
    doc = "One user of one WorkerClass with one authority. Its name is derived from its identity; \
           `patchbay tenant` prints the manifest. Deleting it erases all that is held for the user."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::tenant::spec()))]
pub struct TenantSpec {
    /// Who the user is. Cannot be changed: another identity is another Tenant.
    pub identity: TenantIdentity,
    /// Name of the `WorkerClass`: 1 to 63 lower-case letters, digits and `-`. Cannot be changed:
    /// another class is another Tenant.
    #[schemars(
        length(min = 1, max = bounds::LABEL),
        extend("x-kubernetes-validations" = rules::tenant::class_name())
    )]
    pub class_name: String,
    /// Whether the user is shut out: a suspended tenant's worker is ended, and it gets no other.
    /// Default: false.
    #[serde(default)]
    pub suspended: bool,
    /// The worker that the user has, or waits for. Written by the gateway, and emptied by the
    /// operator, alone. Once there, it is never removed, because it holds the epoch. Default:
    /// none; the user has not called yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<TenantAssignment>,
}

/// Who a user is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::tenant::identity()))]
pub struct TenantIdentity {
    /// Who vouches for the subject: a token's issuer, a catalog's origin, or a provider of API
    /// keys. 1 to 1024 characters.
    #[schemars(length(min = 1, max = bounds::IDENTITY))]
    pub issuer: String,
    /// The user, in the issuer's own words. 1 to 1024 characters.
    #[schemars(length(min = 1, max = bounds::IDENTITY))]
    pub subject: String,
    /// Digest of the claims that narrow what the user may do: `sha256:` and 64 lower-case
    /// hexadecimal characters. Default: none; the user may do all that the subject may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::DIGEST))]
    pub authority: Option<String>,
}

/// Which worker a tenant has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::tenant::assignment()))]
pub struct TenantAssignment {
    /// Name of the worker's pod, at most 253 characters. Empty while the tenant has none. Default:
    /// empty.
    #[serde(default)]
    #[schemars(length(max = bounds::NAME))]
    pub worker: String,
    /// UID of the worker's pod, at most 63 characters. Empty exactly when `worker` is. Default:
    /// empty.
    #[serde(default)]
    #[schemars(length(max = bounds::LABEL))]
    pub uid: String,
    /// Counts the tenant's assignments, from 1. It never decreases, and another worker has a
    /// greater one.
    #[schemars(range(min = 1))]
    pub epoch: u64,
    /// When the worker was asked for, such as `2030-01-31T00:00:00Z`. Default: nobody asks for one,
    /// and the tenant is asleep unless it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_timestamp")]
    pub requested_at: Option<Timestamp>,
}

/// What is observed of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TenantStatus {
    /// Where the tenant is in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// When the user last called, as the last worker said when it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_timestamp")]
    pub last_activity: Option<Timestamp>,
    /// Why the phase last changed, as one CamelCase word, such as `Idle`. The conditions
    /// say more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::CONDITION_WORD))]
    pub reason: Option<String>,
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds of the tenant, and why; one of each type.
    #[schemars(
        length(max = bounds::CONDITIONS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["type"]
        )
    )]
    pub conditions: Vec<Condition>,
}

/// Where the tenant is in its life: `Asleep` (no worker; the next call brings one), `Waiting` (a
/// worker was asked for), `Ready` (it has one), `Draining` (its worker is leaving), `Suspended`
/// (shut out), or `Failed` (it cannot be served; the conditions say why).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It has no worker; the next request brings one.
    Asleep,
    /// It waits for a worker.
    Waiting,
    /// It has a worker.
    Ready,
    /// Its worker is leaving.
    Draining,
    /// It is shut out.
    Suspended,
    /// It cannot be served; the conditions say why.
    Failed,
}

impl Tenant {
    /// The manifest of the tenant that `key` makes, under the name that follows from it.
    pub fn for_key(key: &TenantKey) -> Self {
        let authority = key.authority.digest();
        Self::new(
            key.name().as_str(),
            TenantSpec {
                identity: TenantIdentity {
                    issuer: key.issuer.clone(),
                    subject: key.subject.clone(),
                    authority: authority.map(|digest| format!("sha256:{digest}")),
                },
                class_name: key.class.to_string(),
                suspended: false,
                assignment: None,
            },
        )
    }
}

/// Whether a tenant's name is the one that its identity makes. One that is not is never used.
pub fn name_matches(tenant: &Tenant) -> bool {
    crate::validate::tenant::key(tenant).is_ok_and(|key| {
        let name = tenant.metadata.name.as_deref();
        name == Some(key.name().as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{digest::Digest, id::ClassName, tenant::Authority};

    fn key(authority: Authority) -> TenantKey {
        TenantKey {
            issuer: "https://issuer.example".into(),
            subject: "alice".into(),
            class: ClassName::parse("quilt").unwrap(),
            authority,
        }
    }

    #[test]
    fn a_manifest_has_the_derived_name_and_leads_back_to_its_key() {
        for authority in [Authority::unrestricted(), Authority::from_digest(Digest::of(b"claims"))]
        {
            let key = key(authority);
            let tenant = Tenant::for_key(&key);
            assert_eq!(tenant.metadata.name.as_deref(), Some(key.name().as_str()));
            assert_eq!(crate::validate::tenant::key(&tenant), Ok(key));
            assert!(name_matches(&tenant));
        }
    }

    #[test]
    fn a_name_that_the_identity_does_not_make_does_not_match() {
        let good = Tenant::for_key(&key(Authority::unrestricted()));
        let mut renamed = good.clone();
        renamed.metadata.name = Some("t-aaaaaaaaaaaaaaaaaaaa".into());
        let mut another = good.clone();
        another.spec.identity.subject = "bob".into();
        let mut narrowed = good.clone();
        narrowed.spec.identity.authority = Some(format!("sha256:{}", Digest::of(b"x")));
        let mut unreadable = good.clone();
        unreadable.spec.identity.authority = Some("sha256:short".into());
        let mut nameless = good;
        nameless.metadata.name = None;
        for wrong in [renamed, another, narrowed, unreadable, nameless] {
            assert!(!name_matches(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_new_manifest_holds_nothing_that_the_gateway_writes() {
        let tenant = Tenant::for_key(&key(Authority::unrestricted()));
        let json = serde_json::to_value(&tenant).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "apiVersion": "patchbay.dev/v1alpha1",
                "kind": "Tenant",
                "metadata": {"name": "t-go5gbctxrdlmessgoznl"},
                "spec": {
                    "identity": {"issuer": "https://issuer.example", "subject": "alice"},
                    "className": "quilt",
                    "suspended": false,
                },
            })
        );
    }
}
