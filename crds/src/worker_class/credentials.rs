//! The part of a `WorkerClass` that says which credentials its MCP server gets, and how.
//!
//! It names sources and places and holds no credential itself. This module must not know how
//! credentials are obtained.

use super::assume_role::AssumeRole;
use crate::{bounds, rules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the user's credentials for the MCP server come from, and how it gets them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::worker_class::credentials()))]
pub struct Credentials {
    /// `none`; `catalog` (a Quilt catalog); `assumeRole`, `webIdentity` or `inlineClaims` (AWS);
    /// `ambient` (the operator's own AWS identity, for one user on their own machine; refused in a
    /// cluster). Default: `none`.
    pub source: CredentialSource,
    /// The Quilt catalog: needed for `source: catalog`, and taken for `source: assumeRole`, where the user's own
    /// credential is for the catalog and AWS keys are STS's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogCredentials>,
    /// How AWS roles are assumed, for `source: assumeRole`: needed there, and not allowed with other sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
    /// Files that are written for the MCP server when a user is given the worker, at most 16.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::CREDENTIAL_FILES))]
    pub files: Option<Vec<CredentialFile>>,
    /// Environment variables that hold credentials, by name, as templates of at most 4096
    /// characters, at most 16. For servers that can read nothing else; needs `start: onBind`.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = bounds::CREDENTIAL_ENV,
        "additionalProperties" = {"type": "string", "maxLength": bounds::ENV_VALUE},
        "x-kubernetes-validations" = rules::worker_class::names()
    ))]
    pub env: Option<BTreeMap<String, String>>,
}

/// Where the user's credentials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CredentialSource {
    /// The MCP server needs none.
    #[default]
    None,
    /// A Quilt catalog.
    Catalog,
    /// AWS STS `AssumeRole`.
    AssumeRole,
    /// AWS STS `AssumeRoleWithWebIdentity`.
    WebIdentity,
    /// The user's token carries them.
    InlineClaims,
    /// The operator's own AWS identity.
    Ambient,
}

/// A Quilt catalog as a source of credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::worker_class::catalog()))]
pub struct CatalogCredentials {
    /// Origin of the catalog, such as `https://catalog.example.com`: lower case, no path, no
    /// default port.
    #[schemars(
        length(max = bounds::ORIGIN),
        extend("x-kubernetes-validations" = rules::form::origin())
    )]
    pub origin: String,
    /// Origin of its registry, such as `https://registry.example.com`: the same origin, or another
    /// host name.
    #[schemars(
        length(max = bounds::ORIGIN),
        extend("x-kubernetes-validations" = rules::form::origin())
    )]
    pub registry: String,
    /// AWS region of the stack: lower-case letters, digits and `-`. Default: `us-east-1`.
    #[serde(default = "default_region")]
    #[schemars(
        length(min = 1, max = bounds::WORD),
        extend("x-kubernetes-validations" = rules::worker_class::region())
    )]
    pub region: String,
    /// PEM certificates to trust for these two origins besides the public ones, for stacks with
    /// certificates of their own. At most 65536 characters. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::CA_BUNDLE))]
    pub ca_bundle: Option<String>,
    /// How a token that is meant for Patchbay alone is exchanged for one that the catalog takes
    /// (RFC 8693). Default: no exchange; the user's token must be meant for the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<TokenExchange>,
}

pub(super) fn default_region() -> String {
    "us-east-1".into()
}

/// How a token is exchanged for another (RFC 8693).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenExchange {
    /// https URL of the authorization server's token endpoint, at most 2048 characters.
    #[schemars(
        length(max = bounds::URL),
        extend("x-kubernetes-validations" = rules::form::https_url())
    )]
    pub token_endpoint: String,
    /// Audience that is asked for, 1 to 1024 characters.
    #[schemars(length(min = 1, max = bounds::IDENTITY))]
    pub audience: String,
    /// Scopes that are asked for, separated by spaces, at most 1024 characters. Default: the
    /// server's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::IDENTITY))]
    pub scope: Option<String>,
}

/// One file that is written for the MCP server when a user is given the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialFile {
    /// Path under the MCP server's home directory, such as `.config/server.json`, at most 1024
    /// characters.
    #[schemars(
        length(min = 1, max = bounds::PATH),
        extend("x-kubernetes-validations" = rules::worker_class::relative_path())
    )]
    pub path: String,
    /// The file's content, with placeholders for credentials, at most 16384 characters.
    #[schemars(length(max = bounds::TEMPLATE))]
    pub template: String,
}
