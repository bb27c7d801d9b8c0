//! What a verified credential proves. Only an authenticator makes an [`Identity`]; everything behind
//! it trusts the value. This module must not know how credentials are presented or verified.

use crate::{
    digest::Digest,
    entitlement::Entitlement,
    id::{ClassName, ProviderName},
    link::User,
    tenant::{Authority, TenantKey},
};
use jiff::Timestamp;
use secrecy::SecretString;
use std::{fmt, sync::Arc};

/// How a user proved who they are; a label of metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// An API key: `X-API-Key`, or a `pb_`/`qk_` bearer.
    ApiKey,
    /// A signed JWT.
    Jwt,
    /// An opaque bearer that its provider vouched for.
    Opaque,
}

impl Mode {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Jwt => "jwt",
            Self::Opaque => "opaque",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A verified user together with the credential that proved it.
///
/// The credential is kept because the broker may have to present it, where its audience says, and
/// because a worker's grant is tied to it by its digest.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// Who it is.
    pub identity: Identity,
    /// What was presented.
    pub credential: SecretString,
    /// Keyed digest of it.
    pub digest: Digest,
}

/// A verified user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider that verified the credential.
    pub provider: ProviderName,
    /// Who vouches for the subject.
    pub issuer: String,
    /// The user, in the issuer's words.
    pub subject: String,
    /// What the credential's claims narrow the user to.
    pub entitlement: Arc<Entitlement>,
    /// The authority that follows from it.
    pub authority: Authority,
    /// How the user proved it.
    pub mode: Mode,
    /// When the credential ends, where it says so.
    pub expires_at: Option<Timestamp>,
}

impl Identity {
    /// Who this user is, as a worker is told that makes texts of it.
    pub fn told(&self) -> User {
        User { issuer: self.issuer.clone(), subject: self.subject.clone() }
    }

    /// The tenant that this user is for workers of `class`.
    pub fn tenant(&self, class: &ClassName) -> TenantKey {
        TenantKey {
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
            class: class.clone(),
            authority: self.authority,
        }
    }
}
