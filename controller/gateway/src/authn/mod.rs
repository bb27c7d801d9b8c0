//! A bearer becomes an [`Identity`](patchbay_core::identity::Identity), or one reason why not.
//!
//! [`presented`] reads what the client presents, [`choose`] decides which single provider may judge it,
//! and one verifier per method judges. A failure never moves on to another provider or another kind of
//! credential (invariant 5). This module must not know tenants, workers, or HTTP answers.

mod api_keys;
pub mod choose;
pub mod presented;

use jiff::Timestamp;
use patchbay_core::{
    digest::DigestKey,
    identity::{Authenticated, Identity},
    provider::{IdentityProvider, Method, Provisioning},
    routing::Route,
};
use presented::Presented;
use secrecy::ExposeSecret;

/// Why nobody is authenticated. The texts are shown to the client: they say what to do, and nothing of
/// the credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    /// No credential at all.
    #[error("a credential is required: send `Authorization: Bearer ...` or `X-API-Key: ...`")]
    Missing,
    /// The credential is presented in a way that is not allowed.
    #[error("the credential is presented wrongly: {0}")]
    Malformed(&'static str),
    /// No provider of this route judges credentials of this form.
    #[error("credentials of this kind are not accepted here")]
    NotAccepted,
    /// The credential's provider does not know it.
    #[error("the credential is not valid")]
    Invalid,
    /// The credential has ended.
    #[error("the credential has expired; get a new one")]
    Expired,
}

impl AuthnError {
    /// A stable word for logs, metrics and clients.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing_credential",
            Self::Malformed(_) => "malformed_credential",
            Self::NotAccepted => "credential_not_accepted",
            Self::Invalid => "invalid_credential",
            Self::Expired => "expired_credential",
        }
    }
}

/// Judges credentials. Holds only the key under which they are remembered.
#[derive(Debug)]
pub struct Authenticator {
    key: DigestKey,
}

/// An authenticated user, and whether the provider lets a first contact make a tenant.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The user.
    pub user: Authenticated,
    /// The provider's rule.
    pub provisioning: Provisioning,
}

impl Authenticator {
    /// An authenticator that remembers credentials under `key`.
    pub const fn new(key: DigestKey) -> Self {
        Self { key }
    }

    /// Judges what was presented on a route.
    pub fn authenticate(
        &self,
        presented: Presented,
        route: &Route,
        now: Timestamp,
    ) -> Result<Admitted, AuthnError> {
        let provider = choose::choose(&presented, &route.providers)?;
        let identity = verify(&presented, provider, now)?;
        let credential = presented.into_secret();
        let digest = self
            .key
            .digest("credential", credential.expose_secret().as_bytes());
        Ok(Admitted {
            user: Authenticated {
                identity,
                credential,
                digest,
            },
            provisioning: provider.provisioning,
        })
    }
}

fn verify(
    presented: &Presented,
    provider: &IdentityProvider,
    now: Timestamp,
) -> Result<Identity, AuthnError> {
    match &provider.method {
        Method::ApiKeys(keys) => api_keys::verify(presented.secret(), &provider.name, keys, now),
    }
}
