//! Where the credentials of a class's users come from, as values: nothing here is a secret or about a user.
//! This module must not know how credentials are obtained.

use crate::{
    identity::Identity,
    provider::SecretEntry,
    role::{RoleArn, RolePattern},
};
use std::{collections::BTreeMap, time::Duration};

/// Where the user's credentials for the MCP server come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// The MCP server needs none.
    None,
    /// A Quilt catalog.
    Catalog(CatalogSource),
    /// AWS keys of a role that the gateway assumes for the user.
    AssumeRole(Box<AssumeRole>),
    /// AWS keys of a role that the user's own token is exchanged for.
    WebIdentity(Box<WebIdentity>),
    /// AWS keys that the user's token carries.
    InlineClaims(Box<InlineClaims>),
    /// AWS keys of the gateway's own identity, for one user, on one machine without a cluster.
    Ambient(Box<Ambient>),
}

/// A Quilt catalog as a source of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogSource {
    /// The catalog's origin, `https://host[:port]`, lower case, no trailing slash.
    pub origin: String,
    /// The registry's origin.
    pub registry: String,
    /// The AWS region of the stack.
    pub region: String,
    /// PEM certificates to trust for these two origins and for the token endpoint, besides the public ones.
    pub ca_bundle: Option<String>,
    /// What tokens of others name as `aud` if they are meant for the catalog, beside its two origins.
    pub audience: Option<String>,
    /// How a token that is not meant for the catalog becomes one that is; none = it is refused.
    pub exchange: Option<Box<TokenExchange>>,
}

/// How a user's token is exchanged for one with the catalog as its audience (RFC 8693).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenExchange {
    /// The https URL that is asked.
    pub token_endpoint: String,
    /// The catalog, as the authorization server calls it. A token that names it is meant for the catalog already.
    pub audience: String,
    /// Scopes, between spaces.
    pub scope: Option<String>,
    /// As whom the gateway asks; none = as nobody in particular.
    pub client: Option<ExchangeClient>,
}

/// Patchbay at an authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeClient {
    /// Its `client_id`.
    pub id: String,
    /// Where its secret is; none = it has none.
    pub secret: Option<SecretEntry>,
}

/// How users' own tokens are exchanged for keys of roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebIdentity {
    /// What a token names as `aud` if it is meant for STS; no other is shown to it.
    pub audience: String,
    /// Which role, and what is left of it. It has neither tags nor an external id: those are the token's to say.
    pub role: AssumeRole,
}

/// What goes with the keys that tokens carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineClaims {
    /// The region of the users' data. A worker's server knows it before it knows its user.
    pub region: String,
    /// A catalog that the user's own credential is for, beside AWS.
    pub catalog: Option<CatalogSource>,
}

/// Whose the gateway's own AWS identity is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambient {
    /// Who vouches for the one user.
    pub issuer: String,
    /// The one user. Everybody else is refused.
    pub subject: String,
    /// The region of the user's data.
    pub region: String,
    /// A catalog that the user's own credential is for, beside AWS.
    pub catalog: Option<CatalogSource>,
}

/// How roles are assumed for users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumeRole {
    /// Which role is a user's.
    pub role: RoleChoice,
    /// What the role's trust policy asks of who assumes it, where it does.
    pub external_id: Option<String>,
    /// The region of the STS endpoint, and of the user's data.
    pub region: String,
    /// An STS endpoint in the place of the region's own.
    pub endpoint: Option<String>,
    /// How long keys live: 15 minutes to 12 hours.
    pub duration: Duration,
    /// Session tags beside Patchbay's own.
    pub tags: BTreeMap<String, String>,
    /// Whether keys are given to users whose claims do not narrow the role.
    pub session_policy: SessionPolicy,
    /// The claims of standard tokens that narrow the role.
    pub claims: Option<PolicyClaims>,
    /// A catalog that the user's own credential is for, beside AWS.
    pub catalog: Option<CatalogSource>,
}

/// Which role is a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChoice {
    /// One for all.
    Fixed(RoleArn),
    /// By what a claim says, or by the subject; who is not in it has no role.
    Map {
        /// The claim; none = the subject.
        claim: Option<String>,
        /// From its value to the role.
        roles: BTreeMap<String, RoleArn>,
    },
    /// The one that a claim names, if the class takes it.
    Claim {
        /// The claim.
        claim: String,
        /// What the class takes.
        patterns: Vec<RolePattern>,
    },
}

/// Whether keys are given to users whose claims do not narrow the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionPolicy {
    /// They are refused.
    #[default]
    Required,
    /// They may do all that the role may.
    WhenClaimed,
}

/// The claims of standard tokens that narrow a role: lists of texts, or one text with words between spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyClaims {
    /// Names of buckets; `*` is all of them.
    pub buckets: String,
    /// IAM actions.
    pub permissions: String,
}

impl CredentialSource {
    /// The catalog that the user's own credential is for.
    pub const fn catalog(&self) -> Option<&CatalogSource> {
        match self {
            Self::None => None,
            Self::Catalog(catalog) => Some(catalog),
            Self::AssumeRole(source) => source.catalog.as_ref(),
            Self::WebIdentity(source) => source.role.catalog.as_ref(),
            Self::InlineClaims(source) => source.catalog.as_ref(),
            Self::Ambient(source) => source.catalog.as_ref(),
        }
    }

    /// The AWS region of the user's data.
    pub const fn region(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Catalog(catalog) => Some(catalog.region.as_str()),
            Self::AssumeRole(source) => Some(source.region.as_str()),
            Self::WebIdentity(source) => Some(source.role.region.as_str()),
            Self::InlineClaims(source) => Some(source.region.as_str()),
            Self::Ambient(source) => Some(source.region.as_str()),
        }
    }

    /// Whether some user has the gateway's own AWS identity.
    pub const fn is_ambient(&self) -> bool {
        matches!(self, Self::Ambient(_))
    }

    /// Whether this user has it.
    pub fn is_ambient_for(&self, identity: &Identity) -> bool {
        matches!(self, Self::Ambient(source) if source.is_for(identity))
    }

    /// Whether a user's grant holds AWS keys. A catalog's keys are fetched by the MCP server itself.
    pub const fn grants_aws_keys(&self) -> bool {
        !matches!(self, Self::None | Self::Catalog(_))
    }
}

impl Ambient {
    /// Whether it is this user's: by who vouches for them and by name, whatever they proved it with.
    pub fn is_for(&self, identity: &Identity) -> bool {
        self.issuer == identity.issuer && self.subject == identity.subject
    }
}
