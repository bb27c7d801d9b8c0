//! The part of a `WorkerClass` that says which credentials its MCP server gets, and how.
//!
//! It names sources and places and holds no credential itself. This module must not know how
//! credentials are obtained.

use super::assume_role::AssumeRole;
use crate::{bounds, identity_provider::SecretKeyRef, rules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the user's credentials for the MCP server come from, and how it gets them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::worker_class::credentials()))]
pub struct Credentials {
    /// `none`; `catalog` (a Quilt catalog); `assumeRole`, `webIdentity` or `inlineClaims` (AWS);
    /// `ambient` (the gateway's own AWS identity, for one user on their own machine; refused in a
    /// cluster). Default: `none`.
    pub source: CredentialSource,
    /// The Quilt catalog: needed for `source: catalog`, and taken beside every other source but `none`. There the user's
    /// own credential is for the catalog, and AWS keys are the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogCredentials>,
    /// Which AWS role is a user's and what is left of it, for `source: assumeRole` and `source: webIdentity`: needed
    /// there, and not allowed with other sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
    /// Which tokens are exchanged for keys, for `source: webIdentity`: needed there, and not allowed with other sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_identity: Option<WebIdentity>,
    /// What goes with the keys that tokens carry, for `source: inlineClaims` alone. Default: the region `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline_claims: Option<InlineClaims>,
    /// Whose the gateway's own AWS identity is, for `source: ambient`: needed there, and not allowed with other sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ambient: Option<Ambient>,
    /// Files that are written for the MCP server when a user is given the worker, and again whenever
    /// its credentials are renewed, at most 16. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::CREDENTIAL_FILES))]
    pub files: Option<Vec<CredentialFile>>,
    /// Environment variables that hold credentials, by name, as templates of at most 4096
    /// characters, at most 16; the placeholders are those of `files`. For servers that can read
    /// nothing else: whatever the server starts finds them too, and they cannot be renewed, so that
    /// a worker with AWS keys in them leaves before these end. Needs `start: onBind`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = bounds::CREDENTIAL_ENV,
        "additionalProperties" = {"type": "string", "maxLength": bounds::ENV_VALUE},
        "x-kubernetes-validations" = rules::templates::env()
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
    /// The user's token carries AWS keys, in the claim `aws_credentials` or `awsCredentials`.
    InlineClaims,
    /// The gateway's own AWS identity.
    Ambient,
}

/// Which tokens are exchanged for AWS keys of a role (STS `AssumeRoleWithWebIdentity`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebIdentity {
    /// What a user's token must name as `aud`, beside this gateway, to be shown to AWS: the audience of the OIDC
    /// provider in the role's account, such as `sts.amazonaws.com`. 1 to 1024 characters.
    #[schemars(
        length(min = 1, max = bounds::IDENTITY),
        extend("x-kubernetes-validations" =
            rules::form::filled("name AWS as the tokens do, such as `sts.amazonaws.com`"))
    )]
    pub audience: String,
}

/// What goes with the AWS keys that tokens carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InlineClaims {
    /// AWS region of the users' data: lower-case letters, digits and `-`. A token whose keys name another one is
    /// refused: the MCP server knows its region before it knows its user. Default: `us-east-1`.
    #[serde(default = "default_region")]
    #[schemars(
        length(min = 1, max = bounds::WORD),
        extend("x-kubernetes-validations" = rules::worker_class::region())
    )]
    pub region: String,
}

/// Whose the gateway's own AWS identity is: one user's, on their own machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ambient {
    /// Who vouches for the user, as `patchbay why` tells it: what tokens say as `iss`, a catalog's origin, or the
    /// `issuer` of API keys. 1 to 1024 characters.
    #[schemars(length(min = 1, max = bounds::IDENTITY))]
    pub issuer: String,
    /// The user's subject there, 1 to 1024 characters. Everybody else is refused.
    #[schemars(length(min = 1, max = bounds::IDENTITY))]
    pub subject: String,
    /// AWS region of the user's data: lower-case letters, digits and `-`. Default: `us-east-1`.
    #[serde(default = "default_region")]
    #[schemars(
        length(min = 1, max = bounds::WORD),
        extend("x-kubernetes-validations" = rules::worker_class::region())
    )]
    pub region: String,
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
    /// PEM certificates to trust for these two origins and the token endpoint besides the public
    /// ones, for stacks with certificates of their own. At most 65536 characters. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::CA_BUNDLE))]
    pub ca_bundle: Option<String>,
    /// What the users' JWTs name as `aud` if they are meant for the catalog, 1 to 1024 characters. One
    /// that names it, or `origin` or `registry`, is used as it is, as is whatever the catalog itself
    /// issued. Default: none; only those two names count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = bounds::IDENTITY),
        extend("x-kubernetes-validations" = rules::worker_class::name())
    )]
    pub audience: Option<String>,
    /// How a JWT that is not meant for the catalog is exchanged for a token that is (RFC 8693). One
    /// whose `aud` has the exchange's `audience` is meant for it too. Default: no exchange; other
    /// JWTs are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<TokenExchange>,
}

pub(crate) fn default_region() -> String {
    "us-east-1".into()
}

/// How a token is exchanged for another (RFC 8693).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenExchange {
    /// https URL of the authorization server's token endpoint, at most 2048 characters. The gateway
    /// asks it.
    #[schemars(
        length(max = bounds::URL),
        extend("x-kubernetes-validations" = rules::form::https_url())
    )]
    pub token_endpoint: String,
    /// Audience that is asked for: the catalog, as the authorization server calls it, 1 to 1024
    /// characters.
    #[schemars(
        length(min = 1, max = bounds::IDENTITY),
        extend("x-kubernetes-validations" = rules::worker_class::name())
    )]
    pub audience: String,
    /// Scopes that are asked for, separated by spaces, 1 to 1024 characters. Default: the server's
    /// choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = bounds::IDENTITY),
        extend("x-kubernetes-validations" = rules::worker_class::scope())
    )]
    pub scope: Option<String>,
    /// As whom the gateway asks. Default: as nobody; most servers want a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ExchangeClient>,
}

/// Patchbay as a client of an authorization server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExchangeClient {
    /// Its `client_id`, 1 to 253 characters.
    #[schemars(
        length(min = 1, max = bounds::NAME),
        extend("x-kubernetes-validations" = rules::worker_class::name())
    )]
    pub id: String,
    /// Entry of a Secret in the same namespace with the client's secret, shown by HTTP Basic. The
    /// gateway must have the right to get it (the chart's `gateway.providerSecrets`); on one
    /// machine: the file `<name>/<key>` below `--provider-secrets`. A final line end is not part of
    /// it. Default: none; the client is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// One file that is written for the MCP server when a user is given the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::templates::file()))]
pub struct CredentialFile {
    /// Path under the MCP server's home directory, such as `.config/server.json`, at most 1024
    /// characters. It is readable for its owner alone (0600).
    #[schemars(
        length(min = 1, max = bounds::PATH),
        extend("x-kubernetes-validations" = rules::templates::path())
    )]
    pub path: String,
    /// The file's content, at most 16384 characters, and 32768 bytes with its values. `${NAME}` is a
    /// value as it is, `${json:NAME}` the value inside of a string of JSON (or TOML, or YAML in
    /// double quotes), `$$` a dollar. NAME is `user.issuer` or `user.subject`; or, where the source
    /// gives AWS keys, `aws.accessKeyId`, `aws.secretAccessKey`, `aws.sessionToken`,
    /// `aws.expiration` or `aws.region`.
    #[schemars(length(max = bounds::TEMPLATE))]
    pub template: String,
}
