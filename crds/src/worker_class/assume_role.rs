//! The part of a `WorkerClass` that says which AWS role the gateway assumes for a user, and what is left of it.
//!
//! This module must not know how roles are assumed.

use crate::{bounds, rules, validate::credentials as limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How AWS roles are assumed for users (STS `AssumeRole`). Keys are temporary, and name the user in AWS's own logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::assume_role::assume_role()))]
pub struct AssumeRole {
    /// ARN of one role for all users, at most 640 characters. Exactly one of `role`, `roleMap` and `roleClaim` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::ROLE_ARN),
        extend("x-kubernetes-validations" = rules::assume_role::role_arn())
    )]
    pub role: Option<String>,
    /// Roles by subject, or by what a claim says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_map: Option<RoleMap>,
    /// A claim that names the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_claim: Option<RoleClaim>,
    /// What the roles' trust policies ask for as `sts:ExternalId`, 2 to 1224 letters, digits and `_+=,.@:/-`. Default:
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::EXTERNAL_ID),
        extend("x-kubernetes-validations" = rules::assume_role::external_id())
    )]
    pub external_id: Option<String>,
    /// AWS region of the STS endpoint and of the users' data: lower-case letters, digits and `-`. Default:
    /// `us-east-1`.
    #[serde(default = "super::credentials::default_region")]
    #[schemars(
        length(min = 1, max = bounds::WORD),
        extend("x-kubernetes-validations" = rules::worker_class::region())
    )]
    pub region: String,
    /// Origin of an STS endpoint in the place of the region's own, such as a VPC endpoint's: https, or http on a
    /// loopback address. Default: the region's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::ORIGIN),
        extend("x-kubernetes-validations" = rules::assume_role::endpoint())
    )]
    pub endpoint: Option<String>,
    /// How long keys live, as a duration from `15m` to `12h`. Keys that are out live to their end, whatever becomes of
    /// the user. Default: `15m`.
    #[serde(default = "default_duration")]
    #[schemars(
        length(max = bounds::DURATION),
        extend("x-kubernetes-validations" = rules::form::duration_from(limits::LEAST_KEYS, limits::MOST_KEYS))
    )]
    pub duration: String,
    /// Session tags beside Patchbay's own (`patchbay:tenant`, `:class`, `:issuer`, `:subject`), at most 20; all are
    /// transitive. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = bounds::TAGS,
        "additionalProperties" = {"type": "string", "maxLength": bounds::TAG_VALUE},
        "x-kubernetes-validations" = rules::assume_role::tags()
    ))]
    pub tags: BTreeMap<String, String>,
    /// Whether a user whose claims say no buckets and permissions is given keys: `required` (they are refused) or
    /// `whenClaimed` (they may do all that the role may). Where claims do say so, keys allow that alone. Default:
    /// `required`.
    #[serde(default)]
    pub session_policy: SessionPolicy,
    /// The claims that say a user's buckets and permissions in tokens that are not a catalog's enhanced ones. The
    /// provider must list both in `authorityClaims`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<PolicyClaims>,
}

fn default_duration() -> String {
    "15m".into()
}

/// Roles by what is said of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleMap {
    /// Name of the claim whose value, or one of whose values, chooses; the provider must list it in
    /// `authorityClaims`. Default: the user's subject chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::WORD))]
    pub claim: Option<String>,
    /// From a value to the ARN of a role, 1 to 32 entries. Who is not in it gets no keys.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = bounds::ROLES,
        "additionalProperties" = {"type": "string", "maxLength": bounds::ROLE_ARN},
        "x-kubernetes-validations" = rules::assume_role::role_arns()
    ))]
    pub roles: BTreeMap<String, String>,
}

/// A claim that names a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleClaim {
    /// Name of the claim: an ARN, or a list of which one is taken. The provider must list it in `authorityClaims`;
    /// `roles` is that of an enhanced token too.
    #[schemars(length(min = 1, max = bounds::WORD))]
    pub claim: String,
    /// Which roles are taken: ARNs with `*` and `?` in account, path and name, 1 to 16.
    #[schemars(
        length(min = 1, max = bounds::ROLE_PATTERNS),
        inner(length(max = bounds::ROLE_ARN)),
        extend("x-kubernetes-validations" = rules::assume_role::role_patterns())
    )]
    pub roles: Vec<String>,
}

/// Whether a user whose claims do not narrow the role is given keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SessionPolicy {
    /// Such users are refused.
    #[default]
    Required,
    /// Such users may do all that the role may.
    WhenClaimed,
}

/// The claims that narrow a role: lists of texts, or one text with words between spaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyClaims {
    /// Name of the claim that lists buckets; `*` is all of them.
    #[schemars(length(min = 1, max = bounds::WORD))]
    pub buckets: String,
    /// Name of the claim that lists IAM actions, such as `s3:GetObject`.
    #[schemars(length(min = 1, max = bounds::WORD))]
    pub permissions: String,
}
