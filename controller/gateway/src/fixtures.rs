//! What unit tests of several modules need.

use jiff::Timestamp;
use patchbay_core::{
    digest::Digest,
    id::ProviderName,
    identity::{Authenticated, Identity, Mode},
    tenant::Authority,
};
use std::sync::Arc;

/// One of a user's credentials.
pub(crate) fn credential(name: &str, expires_at: Option<Timestamp>) -> Authenticated {
    Authenticated {
        identity: Identity {
            provider: ProviderName::parse("p").unwrap(),
            issuer: "i".into(),
            subject: "s".into(),
            entitlement: Arc::default(),
            authority: Authority::unrestricted(),
            mode: if expires_at.is_some() { Mode::Jwt } else { Mode::ApiKey },
            expires_at,
        },
        credential: name.to_owned().into(),
        digest: Digest::of(name.as_bytes()),
    }
}
