//! `IdentityProvider`: one way in, to the classes that it lists.
//!
//! These types hold what was written, defaults filled in; `crate::validate` says whether it makes
//! sense. The comments on fields are what `kubectl explain` shows: they speak to users. This
//! module must not know how a credential is verified.

#![allow(clippy::duplicated_attributes, reason = "every column has a type")]

use crate::{bounds, condition::Condition, rules};
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
    printcolumn(
        name = "Classes",
        type_ = "string",
        json_path = ".spec.classes",
        description = "The WorkerClasses that its users may reach"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether its users can be told apart now"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why it is ready, or not"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Token issuer",
        type_ = "string",
        json_path = ".spec.jwt.issuer",
        description = "Who signs the tokens, where users present tokens",
        priority = 1
    ),
    printcolumn(
        name = "Catalog",
        type_ = "string",
        json_path = ".spec.introspection.catalog.origin",
        description = "The catalog that is asked, where one is",
        priority = 1
    ),
    doc = "One way in: how users of the listed classes prove who they are. Exactly one of `jwt`, \
           `introspection` and `apiKeys` is set."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::identity_provider::spec()))]
pub struct IdentityProviderSpec {
    /// Names of the `WorkerClasses` that users of this provider may reach: 1 to 256, each once.
    #[schemars(
        length(min = 1, max = bounds::CLASSES),
        extend("x-kubernetes-list-type" = "set", "items" = {
            "type": "string",
            "maxLength": bounds::LABEL,
            "x-kubernetes-validations": rules::form::label(),
        })
    )]
    pub classes: Vec<String>,
    /// Whether a user's first contact makes their Tenant (`OnFirstContact`), or only users whose
    /// Tenant an operator made are served (`Preprovisioned`). Default: `OnFirstContact`.
    #[serde(default)]
    pub provisioning: Provisioning,
    /// Users present a JSON Web Token (RFC 7519) that an issuer signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Users present an opaque token or a `qk_` API key that a Quilt catalog knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<Introspection>,
    /// Users present an API key of Patchbay's own form, `pb_<id>_<secret>`, that is listed here.
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
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::identity_provider::jwt()))]
pub struct Jwt {
    /// Issuer: exactly what a token says as `iss`. 1 to 1024 characters.
    #[schemars(length(min = 1, max = bounds::IDENTITY))]
    pub issuer: String,
    /// Audiences: a token must name at least one of them as `aud`. 1 to 32, each of at most 1024
    /// characters.
    #[schemars(
        length(min = 1, max = bounds::CLAIMS),
        extend("items" = {
            "type": "string",
            "maxLength": bounds::IDENTITY,
            "x-kubernetes-validations": rules::form::filled("write what the tokens say as `aud`"),
        })
    )]
    pub audiences: Vec<String>,
    /// Where the issuer's keys are found. Exactly one of `discovery`, `cluster`, `url` and
    /// `secretRef` is set.
    pub jwks: Jwks,
    /// Signature algorithms that are accepted, whatever a token says: `RS256`, `RS384`, `RS512`,
    /// `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`; or `HS256` alone, with
    /// `jwks.secretRef` only. Default: `RS256` and `ES256`.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = bounds::CLAIMS))]
    pub algorithms: Vec<SignatureAlgorithm>,
    /// Claim that names the user, at most 256 characters. Default: `sub`.
    #[serde(default = "default_subject_claim")]
    #[schemars(
        length(max = bounds::WORD),
        extend("x-kubernetes-validations" = rules::form::filled("name the claim, such as `sub`"))
    )]
    pub subject_claim: String,
    /// Claims that a token must carry, by name, each with exactly this value (a list must contain
    /// it). At most 32, with values of at most 1024 characters. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = bounds::CLAIMS,
        "additionalProperties" = {"type": "string", "maxLength": bounds::IDENTITY}
    ))]
    pub required_claims: BTreeMap<String, String>,
    /// Names of claims that narrow what the user may do, such as `role` or `buckets`. One user
    /// with two different values of them has two workers. At most 32, each of at most 256
    /// characters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::CLAIMS),
        inner(length(min = 1, max = bounds::WORD)),
        extend("x-kubernetes-validations" = rules::identity_provider::authority_claims())
    )]
    pub authority_claims: Vec<String>,
    /// https URL of the authorization server from which clients get their tokens, as its own
    /// metadata names its `issuer` (RFC 8414), at most 2048 characters. Where it is set, clients
    /// without a valid token are pointed to it (RFC 9728).
    /// Default: none; nothing is advertised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::URL),
        extend("x-kubernetes-validations" = rules::form::authorization_server())
    )]
    pub authorization_server: Option<String>,
    /// Form of the tokens: `standard`, or `quiltEnhanced` (as Quilt's front end makes them).
    /// Default: `standard`.
    #[serde(default)]
    pub format: JwtFormat,
    /// For `format: quiltEnhanced`: the catalog that is asked whose the token is, because a key that
    /// browsers hold proves nothing. Its answer is the user; what the token says of that is not
    /// read. Needed there unless `keyHeldByServersOnly` is set. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogOrigins>,
    /// For `format: quiltEnhanced`: states that the signing key is held by servers only, so that a
    /// token's own subject can be believed. Shown as a condition while it is set. Default: false.
    #[serde(default)]
    pub key_held_by_servers_only: bool,
    /// For `format: quiltEnhanced`: what further codes in a token's claim `p` stand for, such as
    /// `gt: s3:GetObjectTagging`. Those of every catalog (`g`, `p`, `d`, `l`, `la`, `gv`, `pa`,
    /// `amu`) stay as they are. At most 64, each of at most 256 characters. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = bounds::CODES,
        "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": bounds::WORD}
    ))]
    pub permission_codes: BTreeMap<String, String>,
    /// For `format: quiltEnhanced`: by which name a role counts, by the other names that tokens may
    /// have for it, such as `ReadQuiltV2: ReadOnlyQuilt`. At most 64, each of at most 256
    /// characters. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = bounds::CODES,
        "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": bounds::WORD}
    ))]
    pub role_aliases: BTreeMap<String, String>,
    /// For `format: quiltEnhanced`: what each role includes at most. What a token's level and buckets
    /// say beyond its roles, taken together, does not count, and a role that is not here includes
    /// nothing. At most 64. Default: none; roles take nothing away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::CODES),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"]
        )
    )]
    pub roles: Vec<Role>,
    /// For `format: quiltEnhanced`: the permissions that each level includes at most. Others in a token
    /// do not count. Default: none; levels take no permission away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<LevelPermissions>,
}

/// What a role of a catalog includes at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// The role, by the name by which it counts (`roleAliases`), 1 to 256 characters.
    #[schemars(length(min = 1, max = bounds::WORD))]
    pub name: String,
    /// Its level: `read`, `write` or `admin`. Default: `read`.
    #[serde(default)]
    pub level: RoleLevel,
    /// Its buckets; `"*"` is all of them. At most 256. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::ROLE_ENTRIES),
        inner(length(min = 1, max = bounds::WORD)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub buckets: Vec<String>,
}

/// How much a role may do. Each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RoleLevel {
    /// Look.
    #[default]
    Read,
    /// Change.
    Write,
    /// Rule.
    Admin,
}

/// The permissions that each level adds to those before it, such as `s3:GetObject`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LevelPermissions {
    /// Those of every level, at most 256. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::ROLE_ENTRIES),
        inner(length(min = 1, max = bounds::WORD)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub read: Vec<String>,
    /// Those of `write` and `admin`, at most 256. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::ROLE_ENTRIES),
        inner(length(min = 1, max = bounds::WORD)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub write: Vec<String>,
    /// Those of `admin` alone, at most 256. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::ROLE_ENTRIES),
        inner(length(min = 1, max = bounds::WORD)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub admin: Vec<String>,
}

fn default_algorithms() -> Vec<SignatureAlgorithm> {
    vec![SignatureAlgorithm::RS256, SignatureAlgorithm::ES256]
}

fn default_subject_claim() -> String {
    "sub".into()
}

/// Where an issuer's keys are found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::identity_provider::jwks()))]
pub struct Jwks {
    /// Whether the issuer's discovery document names the key set (OIDC Discovery):
    /// `issuer` is an https URL then, and the document is at `/.well-known/openid-configuration`
    /// below it. Default: false.
    pub discovery: bool,
    /// Whether the issuer is the cluster's own: its API server is asked for the keys that sign
    /// tokens of `ServiceAccounts`, so that programs of the cluster are users. Default: false.
    pub cluster: bool,
    /// https URL of the key set (RFC 7517), at most 2048 characters. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::URL),
        extend("x-kubernetes-validations" = rules::form::https_url())
    )]
    pub url: Option<String>,
    /// PEM certificates to trust for `url` or `discovery` besides the public ones, at most 65536
    /// characters. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::CA_BUNDLE))]
    pub ca_bundle: Option<String>,
    /// Entry of a Secret in the same namespace, which the gateway must have the right to get (the
    /// chart's `gateway.providerSecrets`): a key set (JSON), one public key or certificate (PEM),
    /// or, for `HS256`, the shared key, at least 32 bytes, every byte of it. It is read again about
    /// every minute. On one machine: the file `<name>/<key>` below `--provider-secrets`. Default:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// One entry of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret, 1 to 253 characters.
    #[schemars(
        length(max = bounds::NAME),
        extend("x-kubernetes-validations" = rules::form::object_name())
    )]
    pub name: String,
    /// Key of the entry, 1 to 253 characters.
    #[schemars(
        length(max = bounds::NAME),
        extend("x-kubernetes-validations" = rules::form::entry_key())
    )]
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
#[serde(rename_all = "camelCase")]
pub struct Introspection {
    /// The catalog that is asked who the user is.
    pub catalog: CatalogOrigins,
}

/// Where a Quilt catalog is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogOrigins {
    /// Origin of the catalog, such as `https://catalog.example.com`: lower case, no path, no
    /// default port. It is the issuer of the catalog's users.
    #[schemars(
        length(max = bounds::ORIGIN),
        extend("x-kubernetes-validations" = rules::form::origin())
    )]
    pub origin: String,
    /// Origin of its registry, such as `https://registry.example.com`.
    #[schemars(
        length(max = bounds::ORIGIN),
        extend("x-kubernetes-validations" = rules::form::origin())
    )]
    pub registry: String,
    /// PEM certificates to trust for both besides the public ones, at most 65536 characters.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::CA_BUNDLE))]
    pub ca_bundle: Option<String>,
}

/// Patchbay's own API keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeys {
    /// Who vouches for the users; part of what makes a Tenant. Set it where two providers' keys
    /// are to reach the same Tenants. Default: `urn:patchbay:api-keys:` and the provider's name.
    /// At most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::IDENTITY),
        extend("x-kubernetes-validations" =
            rules::form::filled("name who vouches for the users, or leave the field out"))
    )]
    pub issuer: Option<String>,
    /// The keys, at most 1000, each with an `id` of its own. Several may name one subject, so that
    /// a key can be replaced without a gap.
    #[schemars(
        length(max = bounds::API_KEYS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["id"]
        )
    )]
    pub keys: Vec<ApiKey>,
}

/// One API key: what is known of it, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::identity_provider::api_key()))]
pub struct ApiKey {
    /// The key's public part: `<id>` of `pb_<id>_<secret>`, 1 to 32 lower-case letters and digits.
    #[schemars(length(max = bounds::KEY_ID))]
    pub id: String,
    /// The user whose key it is, 1 to 1024 characters.
    #[schemars(length(min = 1, max = bounds::IDENTITY))]
    pub subject: String,
    /// SHA-256 of the whole key: `sha256:` and 64 lower-case hexadecimal characters. `patchbay
    /// api-key` prints a new key and its digest.
    #[schemars(length(max = bounds::DIGEST))]
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
    /// What holds of the provider, and why; one of each type.
    #[schemars(
        length(max = bounds::CONDITIONS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["type"]
        )
    )]
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
}
