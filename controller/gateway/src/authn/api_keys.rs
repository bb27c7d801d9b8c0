//! Judges Patchbay's own API keys against their digests at rest.
//!
//! The key is found by its public id and compared in constant time. An unknown id costs the same
//! comparison, so time does not tell which ids exist. This module must not know the other methods.

use super::AuthnError;
use jiff::Timestamp;
use patchbay_core::{
    digest::Digest,
    id::ProviderName,
    identity::{Identity, Mode},
    provider::{ApiKeys, api_key_id},
    tenant::Authority,
};
use std::sync::Arc;

/// Judges one key.
pub(super) fn verify(
    presented: &str,
    provider: &ProviderName,
    keys: &ApiKeys,
    now: Timestamp,
) -> Result<Identity, AuthnError> {
    let digest = Digest::of(presented.as_bytes());
    let id = api_key_id(presented);
    let known = keys.keys.iter().find(|key| Some(key.id.as_str()) == id);
    let expected = known.map_or(Digest::of(b""), |key| key.digest);
    let matches = digest.constant_time_eq(&expected);
    let key = known.filter(|_| matches).ok_or(AuthnError::InvalidKey)?;
    if key.expires_at.is_some_and(|end| end <= now) {
        return Err(AuthnError::Expired);
    }
    Ok(Identity {
        provider: provider.clone(),
        issuer: keys.issuer.clone(),
        subject: key.subject.clone(),
        entitlement: Arc::default(),
        authority: Authority::unrestricted(),
        mode: Mode::ApiKey,
        expires_at: key.expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{fixtures::api_keys, provider::Method};

    fn judge(key: &str, expires_at: Option<i64>, now: i64) -> Result<Identity, AuthnError> {
        let provider = api_keys("p", &["c"], &["k1", "k2"]);
        let Method::ApiKeys(mut keys) = provider.method else { panic!() };
        keys.keys[0].expires_at = expires_at.map(|s| Timestamp::from_second(s).unwrap());
        verify(key, &provider.name, &keys, Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn a_key_proves_its_subject() {
        let identity = judge("pb_k1_secret", None, 0).unwrap();
        assert_eq!(identity.subject, "user-k1");
        assert_eq!(identity.issuer, "urn:patchbay:api-keys:p");
        assert_eq!(identity.mode, Mode::ApiKey);
    }

    #[test]
    fn a_key_with_another_secret_or_id_is_invalid() {
        for bad in ["pb_k1_Secret", "pb_k1_", "pb_k3_secret", "pb_k2_secre", "pb_", ""] {
            assert_eq!(judge(bad, None, 0), Err(AuthnError::InvalidKey), "{bad}");
        }
    }

    #[test]
    fn an_expired_key_says_so_only_to_its_holder() {
        assert_eq!(judge("pb_k1_secret", Some(100), 100), Err(AuthnError::Expired));
        assert!(judge("pb_k1_secret", Some(100), 99).is_ok());
        assert_eq!(judge("pb_k1_wrong", Some(100), 100), Err(AuthnError::InvalidKey));
    }
}
