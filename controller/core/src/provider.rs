//! Validated identity providers: one way in each.
//!
//! `patchbay-crds` makes them from documents. This module must not know how a credential is presented,
//! nor do any verification: it only holds what a verifier needs.

use crate::{
    digest::Digest,
    enhanced::{Aliases, Bounds, Codes},
    id::{ClassName, ProviderName},
    identity::Mode,
};
use jiff::Timestamp;
use std::{collections::BTreeMap, fmt};

/// One way in, to the classes that it lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityProvider {
    /// Its name.
    pub name: ProviderName,
    /// The classes that its users may reach.
    pub classes: Vec<ClassName>,
    /// Whether a first contact makes a tenant.
    pub provisioning: Provisioning,
    /// How credentials are verified.
    pub method: Method,
}

/// Whether a first contact makes a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// Yes.
    OnFirstContact,
    /// No: only tenants that an operator made are served.
    Preprovisioned,
}

/// How credentials are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// Signed tokens.
    Jwt(Jwt),
    /// A Quilt catalog is asked.
    Introspection(Introspection),
    /// Patchbay's own keys.
    ApiKeys(ApiKeys),
}

impl Method {
    /// How its users may prove who they are.
    pub const fn modes(&self) -> &'static [Mode] {
        match self {
            Self::Jwt(_) => &[Mode::Jwt],
            Self::Introspection(_) => &[Mode::ApiKey, Mode::Opaque],
            Self::ApiKeys(_) => &[Mode::ApiKey],
        }
    }
}

/// Signed tokens of one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// What a token says as `iss`, byte for byte.
    pub issuer: String,
    /// A token names at least one of these as `aud`.
    pub audiences: Vec<String>,
    /// Where the issuer's keys are.
    pub jwks: KeySource,
    /// Signature algorithms that are accepted, whatever a token says of itself.
    pub algorithms: Vec<SignatureAlgorithm>,
    /// The claim that names the user.
    pub subject_claim: String,
    /// Claims that a token must carry, each with exactly this value (or a list that contains it).
    pub required_claims: BTreeMap<String, String>,
    /// Claims that narrow what the user may do.
    pub authority_claims: Vec<String>,
    /// From where clients get their tokens, if they are to be told (RFC 9728).
    pub authorization_server: Option<String>,
    /// What the claims of its tokens mean.
    pub format: TokenFormat,
}

/// What the claims of a provider's tokens mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFormat {
    /// The registered claims, and those that the provider names.
    Standard,
    /// Those of a Quilt catalog's enhanced tokens too.
    QuiltEnhanced(Box<EnhancedFormat>),
}

/// What a provider says of its enhanced tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnhancedFormat {
    /// Who says whose token it is.
    pub named_by: NamedBy,
    /// Permission codes of this catalog, beside those of every one.
    pub codes: Codes,
    /// Other names of roles.
    pub aliases: Aliases,
    /// What roles and levels include at most.
    pub bounds: Bounds,
}

/// Who says whose an enhanced token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedBy {
    /// The catalog, which is asked: browsers hold the key, so that the token itself proves nothing of it.
    Catalog(Introspection),
    /// The token: the provider's author states that servers alone hold its key.
    Token,
}

/// Where an issuer's keys are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// At a URL.
    Url(JwksUrl),
    /// Where the issuer's own document says (`OpenID` Connect Discovery 1.0, 4).
    Discovery {
        /// PEM certificates to trust for both, besides the public ones.
        ca_bundle: Option<String>,
    },
    /// The issuer is the cluster's own: at its API server.
    Cluster,
    /// In a Secret beside the provider, or in a file of this machine.
    Secret(SecretEntry),
}

/// One entry of a Secret: a key set, one key in PEM, or a shared key as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEntry {
    /// The Secret.
    pub name: String,
    /// The entry in it.
    pub key: String,
}

impl fmt::Display for SecretEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.key)
    }
}

/// The https URL of a JSON Web Key Set (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl {
    /// The URL.
    pub url: String,
    /// PEM certificates to trust for it, besides the public ones.
    pub ca_bundle: Option<String>,
}

/// An algorithm that signs tokens, by its name in RFC 7518 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the registry")]
pub enum SignatureAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
    /// The one with a shared key: whoever can check such a signature can make it. It is never beside others in one
    /// provider, or a public key could be taken for the shared one.
    HS256,
}

/// A Quilt catalog that says whose bearer it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// The catalog's origin; the issuer of its users.
    pub origin: String,
    /// The registry's origin, which is asked.
    pub registry: String,
    /// PEM certificates to trust for it, besides the public ones.
    pub ca_bundle: Option<String>,
}

/// Patchbay's own API keys: `pb_<id>_<secret>`, digests at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// Who vouches for the subjects; part of every tenant's name.
    pub issuer: String,
    /// The keys. Several may name one subject, so that a key can be rotated without a gap.
    pub keys: Vec<ApiKey>,
}

/// One API key at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part, by which the key is found.
    pub id: String,
    /// The user.
    pub subject: String,
    /// SHA-256 of the whole key. The secret part is 256 random bits, so no slow hash is needed: there is
    /// no dictionary to try.
    pub digest: Digest,
    /// When the key ends.
    pub expires_at: Option<Timestamp>,
}

/// The prefix of a Quilt catalog's API keys.
pub const CATALOG_KEY_PREFIX: &str = "qk_";

/// The prefix of Patchbay's own API keys.
pub const API_KEY_PREFIX: &str = "pb_";

/// The public id of a key of the form `pb_<id>_<secret>`: 1 to 32 lower-case letters and digits.
pub fn api_key_id(key: &str) -> Option<&str> {
    let (id, secret) = key.strip_prefix(API_KEY_PREFIX)?.split_once('_')?;
    let id_is_valid = matches!(id.len(), 1..=32)
        && id.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (id_is_valid && !secret.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_api_key_is_its_middle_part() {
        assert_eq!(api_key_id("pb_alice1_c2VjcmV0"), Some("alice1"));
        assert_eq!(api_key_id("pb_a_with_underscores"), Some("a"));
        for bad in ["", "pb_", "pb_a", "pb_a_", "pb__x", "qk_a_b", "pb_A_x", "pb_a b_x"] {
            assert_eq!(api_key_id(bad), None, "{bad}");
        }
    }
}
