//! Who a tenant is: one user of one class with one authority, and the name that follows from it.
//!
//! Routing is by this name alone (invariant 4), so it is derived from verified facts by a one-way
//! function and never chosen by anyone. This module must not know how identities were verified.

use crate::{
    digest::Digest,
    id::{ClassName, InvalidName},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::fmt;

/// The digest of those claims that narrow what a user may do (role, permissions, buckets), or none
/// where the credential carries no such claims. Other authority, other worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Authority(Option<Digest>);

impl Authority {
    /// A credential without narrowing claims: all that its subject may do.
    pub const fn unrestricted() -> Self {
        Self(None)
    }

    /// The authority that `claims` describe. The claims are digested in their canonical form (object
    /// keys sorted), so two tokens that say the same thing in another order are one tenant.
    pub fn from_claims(claims: &serde_json::Map<String, serde_json::Value>) -> Self {
        if claims.is_empty() {
            return Self(None);
        }
        let canonical = canonical_json(&serde_json::Value::Object(claims.clone()));
        Self(Some(Digest::of_fields("patchbay.dev/authority/v1", &[canonical.as_bytes()])))
    }

    /// The digest, where there is one.
    pub const fn digest(&self) -> Option<&Digest> {
        self.0.as_ref()
    }

    /// The authority with this digest, as recorded in a Tenant object.
    pub const fn from_digest(digest: Digest) -> Self {
        Self(Some(digest))
    }
}

fn canonical_json(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let members: Vec<String> = keys
                .into_iter()
                .filter_map(|key| {
                    map.get(key).map(|member| {
                        format!("{}:{}", Value::String(key.clone()), canonical_json(member))
                    })
                })
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical_json).collect();
            format!("[{}]", items.join(","))
        }
        scalar => scalar.to_string(),
    }
}

/// What makes a tenant: issuer and subject of a verified identity, the class, and the authority.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantKey {
    /// Who vouches for the subject: a JWT's `iss`, a catalog's origin, or a provider of API keys.
    pub issuer: String,
    /// The user, in the issuer's own words.
    pub subject: String,
    /// The class of worker.
    pub class: ClassName,
    /// What the user may do, where the credential narrows it.
    #[serde(default)]
    pub authority: Authority,
}

impl TenantKey {
    /// The tenant's name: `t-` and 20 base32 characters (100 bits) of SHA-256 over all of the key.
    pub fn name(&self) -> TenantName {
        let authority = self.authority.digest().map(Digest::as_bytes);
        let digest = Digest::of_fields(
            "patchbay.dev/tenant/v1",
            &[
                self.issuer.as_bytes(),
                self.subject.as_bytes(),
                self.class.as_str().as_bytes(),
                authority.map_or(&[], <[u8; 32]>::as_slice),
            ],
        );
        let text = data_encoding::BASE32_NOPAD.encode(digest.as_bytes()).to_ascii_lowercase();
        let short = text.get(..NAME_CHARS).unwrap_or(&text);
        TenantName(format!("t-{short}"))
    }
}

const NAME_CHARS: usize = 20;

/// The derived name of a tenant (see [`TenantKey::name`]). It reveals no subject, so it may be logged
/// and be the name of a Kubernetes object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TenantName(String);

impl TenantName {
    /// Checks the form; whether the name matches an identity is [`TenantKey::name`]'s business.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let is_valid = text.strip_prefix("t-").is_some_and(|rest| {
            rest.len() == NAME_CHARS
                && rest.bytes().all(|c| c.is_ascii_lowercase() || matches!(c, b'2'..=b'7'))
        });
        if is_valid {
            return Ok(Self(text));
        }
        Err(InvalidName {
            kind: "tenant name",
            value: text.chars().take(80).collect(),
            rule: "it is `t-` and 20 characters of a-z and 2-7; `patchbay tenant` prints it",
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantName({})", self.0)
    }
}

impl<'de> Deserialize<'de> for TenantName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(issuer: &str, subject: &str) -> TenantKey {
        TenantKey {
            issuer: issuer.into(),
            subject: subject.into(),
            class: ClassName::parse("quilt").unwrap(),
            authority: Authority::unrestricted(),
        }
    }

    fn claims(json: &str) -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_name_is_stable_across_releases() {
        // Names are stored (as names of Tenant objects): changing the derivation orphans every tenant.
        assert_eq!(
            key("https://issuer.example", "alice").name().as_str(),
            "t-go5gbctxrdlmessgoznl"
        );
    }

    #[test]
    fn every_part_of_the_key_changes_the_name() {
        let base = key("i", "s");
        let mut others = vec![key("i", "t"), key("j", "s"), key("is", ""), key("", "is")];
        others.push(TenantKey { class: ClassName::parse("other").unwrap(), ..base.clone() });
        others.push(TenantKey {
            authority: Authority::from_claims(&claims(r#"{"role":"reader"}"#)),
            ..base.clone()
        });
        for other in others {
            assert_ne!(base.name(), other.name(), "{other:?}");
        }
    }

    #[test]
    fn the_order_of_claims_is_no_authority() {
        let one = claims(r#"{"a":{"x":1,"y":[1,2]},"b":true}"#);
        let two = claims(r#"{"b":true,"a":{"y":[1,2],"x":1}}"#);
        let three = claims(r#"{"b":true,"a":{"y":[2,1],"x":1}}"#);
        assert_eq!(Authority::from_claims(&one), Authority::from_claims(&two));
        assert_ne!(Authority::from_claims(&one), Authority::from_claims(&three));
        assert_eq!(Authority::from_claims(&claims("{}")), Authority::unrestricted());
    }

    proptest! {
        #[test]
        fn every_derived_name_parses(issuer in ".*", subject in ".*") {
            let name = key(&issuer, &subject).name();
            prop_assert_eq!(TenantName::parse(name.as_str()), Ok(name));
        }

        #[test]
        fn different_users_have_different_names(a in ("\\PC*", "\\PC*"), b in ("\\PC*", "\\PC*")) {
            prop_assume!(a != b);
            prop_assert_ne!(key(&a.0, &a.1).name(), key(&b.0, &b.1).name());
        }
    }
}
