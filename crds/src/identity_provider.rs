//! `IdentityProvider`: one way in, to the classes that it lists.
//!
//! These types hold what was written, defaults filled in; `crate::validate` says whether it makes
//! sense. The comments on fields are what `kubectl explain` shows: they speak to users. This module
//! must not know how a credential is verified.

use crate::condition::Condition;
use jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One way in, to the classes that it lists.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "patchbay.dev",
    version = "v1alpha1",
    kind = "IdentityProvider",
    plural = "identityproviders",
    namespaced,
    shortname = "idp",
    category = "patchbay",
    status = "IdentityProviderStatus",
    derive = "PartialEq",
    doc = "One way in: how users of the listed classes prove who they are. Exactly one of `jwt`, \
           `introspection` and `apiKeys` is set."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityProviderSpec {
    /// Names of the `WorkerClasses` that users of this provider may reach. At least one.
    #[schemars(length(min = 1))]
    pub classes: Vec<String>,
    /// Whether a user's first contact makes their Tenant (`OnFirstContact`), or only users whose
    /// Tenant an operator made are served (`Preprovisioned`). Default: `OnFirstContact`.
    #[serde(default)]
    pub provisioning: Provisioning,
    /// Users present a JSON Web Token that an issuer signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Users present an opaque token or a `qk_` API key that a Quilt catalog knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<Introspection>,
    /// Users present an API key that is listed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<ApiKeys>,
}

/// Whether a first contact makes a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Provisioning {
    /// Yes.
    #[default]
    OnFirstContact,
    /// No.
    Preprovisioned,
}

/// Verification of signed tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    /// Issuer: exactly what a token says as `iss`.
    pub issuer: String,
    /// Audiences: a token must name at least one of them as `aud`.
    #[schemars(length(min = 1))]
    pub audiences: Vec<String>,
    /// Where the issuer's keys are found. Exactly one of `discovery`, `url` and `secretRef` is set.
    pub jwks: Jwks,
    /// Signature algorithms that are accepted, whatever a token says. Default: `RS256`, `ES256`.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1))]
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Claim that names the user. Default: `sub`.
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
    /// Claims that a token must carry, by name, each with exactly this value (a list must contain
    /// it). Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub required_claims: BTreeMap<String, String>,
    /// Names of claims that narrow what the user may do, such as `role` or `buckets`. One user with
    /// two different values of them has two workers. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authority_claims: Vec<String>,
    /// URL of the authorization server from which clients get their tokens. Where it is set, clients
    /// without a valid token are pointed to it (RFC 9728). Default: none; nothing is advertised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_server: Option<String>,
    /// Form of the tokens: `standard`, or `quiltEnhanced` (as Quilt's front end makes them).
    /// Default: `standard`.
    #[serde(default)]
    pub format: JwtFormat,
    /// For `format: quiltEnhanced`: the catalog that is asked who the user is, because a key that
    /// browsers hold proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogOrigins>,
    /// For `format: quiltEnhanced`: states that the signing key is held by servers only, so that a
    /// token's own subject can be believed. Shown as a condition while it is set. Default: false.
    #[serde(default)]
    pub key_held_by_servers_only: bool,
}

fn default_algorithms() -> Vec<SignatureAlgorithm> {
    vec![SignatureAlgorithm::RS256, SignatureAlgorithm::ES256]
}

fn default_subject_claim() -> String {
    "sub".into()
}

/// Where an issuer's keys are found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwks {
    /// Whether the issuer's discovery document names the key set. Default: false.
    pub discovery: bool,
    /// URL of the key set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// PEM certificates to trust for it besides the public ones. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Secret in the same namespace that holds the key set or key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// One entry of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: String,
    /// Key of the entry.
    pub key: String,
}

/// An algorithm that signs tokens, by its name in RFC 7518 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    HS256,
}

/// Form of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum JwtFormat {
    /// Registered claims.
    #[default]
    Standard,
    /// As Quilt's front end makes them.
    QuiltEnhanced,
}

/// Verification by asking a Quilt catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introspection {
    /// The catalog that is asked who the user is.
    pub catalog: CatalogOrigins,
}

/// Where a Quilt catalog is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatalogOrigins {
    /// Origin of the catalog, such as `https://catalog.example.com`: lower case, no path. It is the
    /// issuer of the catalog's users.
    pub origin: String,
    /// Origin of its registry, such as `https://registry.example.com`.
    pub registry: String,
    /// PEM certificates to trust for both besides the public ones. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// Patchbay's own API keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKeys {
    /// Who vouches for the users; part of what makes a Tenant. Set it where two providers' keys are
    /// to reach the same Tenants. Default: `urn:patchbay:api-keys:` and the provider's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The keys. Several may name one subject, so that a key can be replaced without a gap.
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["id"]
    ))]
    pub keys: Vec<ApiKey>,
}

/// One API key: what is known of it, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKey {
    /// The key's public part: `<id>` of `pb_<id>_<secret>`, 1 to 32 lower-case letters and digits.
    pub id: String,
    /// The user whose key it is.
    pub subject: String,
    /// SHA-256 of the whole key: `sha256:` and 64 lower-case hexadecimal characters.
    pub digest: String,
    /// When the key ends, such as `2030-01-31T00:00:00Z`. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_timestamp")]
    pub expires_at: Option<Timestamp>,
}

/// What is observed of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IdentityProviderStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds of the provider, and why.
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_jwt_provider_has_the_documented_defaults() {
        let spec: IdentityProviderSpec = serde_json::from_value(json!({
            "classes": ["c"],
            "jwt": {"issuer": "i", "audiences": ["a"], "jwks": {"discovery": true}},
        }))
        .unwrap();
        assert_eq!(spec.provisioning, Provisioning::OnFirstContact);
        let jwt = spec.jwt.unwrap();
        assert_eq!(jwt.algorithms, [SignatureAlgorithm::RS256, SignatureAlgorithm::ES256]);
        assert_eq!(jwt.subject_claim, "sub");
        assert_eq!(jwt.format, JwtFormat::Standard);
        assert!(!jwt.key_held_by_servers_only);
    }

    #[test]
    fn the_algorithm_none_does_not_exist() {
        assert!(serde_json::from_value::<SignatureAlgorithm>(json!("none")).is_err());
    }

    #[test]
    fn an_unknown_field_is_refused_at_every_level() {
        for wrong in [
            json!({"classes": ["c"], "apikeys": {"keys": []}}),
            json!({"classes": ["c"], "apiKeys": {"keys": [], "x": 1}}),
            json!({"classes": ["c"], "apiKeys": {
                "keys": [{"id": "k", "subject": "s", "digest": "d", "key": "pb_k_secret"}]
            }}),
        ] {
            let error = serde_json::from_value::<IdentityProviderSpec>(wrong).unwrap_err();
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }
}
