//! The part of a `WorkerClass` that says which credentials its MCP server gets, and how.
//!
//! It names sources and places and holds no credential itself. This module must not know how
//! credentials are obtained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the user's credentials for the MCP server come from, and how it gets them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// `none`; `catalog` (a Quilt catalog); `assumeRole`, `webIdentity` or `inlineClaims` (AWS);
    /// `ambient` (the operator's own AWS identity, for one user on their own machine). Default:
    /// `none`.
    pub source: CredentialSource,
    /// The Quilt catalog, for `source: catalog`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogCredentials>,
    /// Files that are written for the MCP server when a user is given the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<CredentialFile>>,
    /// Environment variables that hold credentials, by name, as templates. For servers that can
    /// read nothing else; needs `start: onBind`.
    #[serde(skip_serializing_if = "Option::is_none")]
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogCredentials {
    /// Origin of the catalog, such as `https://catalog.example.com`: lower case, no path.
    pub origin: String,
    /// Origin of its registry, such as `https://registry.example.com`.
    pub registry: String,
    /// AWS region of the stack. Default: `us-east-1`.
    #[serde(default = "default_region")]
    pub region: String,
    /// PEM certificates to trust for these two origins besides the public ones, for stacks with
    /// certificates of their own. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// How a token that is meant for Patchbay alone is exchanged for one that the catalog takes
    /// (RFC 8693). Default: no exchange; the user's token must be meant for the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<TokenExchange>,
}

fn default_region() -> String {
    "us-east-1".into()
}

/// How a token is exchanged for another (RFC 8693).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenExchange {
    /// URL of the authorization server's token endpoint.
    pub token_endpoint: String,
    /// Audience that is asked for.
    pub audience: String,
    /// Scopes that are asked for, separated by spaces. Default: the server's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// One file that is written for the MCP server when a user is given the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialFile {
    /// Path under the MCP server's home directory.
    pub path: String,
    /// The file's content, with placeholders for credentials.
    pub template: String,
}
