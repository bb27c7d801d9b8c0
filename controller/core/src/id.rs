//! Names and numbers that identify things: parsing is validation, so a value of one of these types is
//! well-formed wherever it turns up. This module must not know what the identified things are.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::fmt;

/// A name that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {kind}: {rule}")]
pub struct InvalidName {
    /// What was being named.
    pub kind: &'static str,
    /// The refused text, cut to 80 characters.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

fn invalid(kind: &'static str, value: &str, rule: &'static str) -> InvalidName {
    InvalidName { kind, value: value.chars().take(80).collect(), rule }
}

const DNS_LABEL: &str =
    "use 1 to 63 lower-case letters, digits and '-', starting and ending with a letter or digit";

/// RFC 1123 label, the rule for names of Kubernetes objects that become labels.
fn is_dns_label(text: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!(bytes.len(), 1..=63)
        && bytes.iter().all(|&c| edge(c) || c == b'-')
        && bytes.first().copied().is_some_and(edge)
        && bytes.last().copied().is_some_and(edge)
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:expr, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            #[doc = concat!("Checks that `text` is a valid ", $kind, ".")]
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(&text) { Ok(Self(text)) } else { Err(invalid($kind, &text, $rule)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    };
}

name!(
    /// Name of a `WorkerClass`.
    ClassName, "class name", DNS_LABEL, is_dns_label
);
name!(
    /// Name of an `IdentityProvider`.
    ProviderName, "provider name", DNS_LABEL, is_dns_label
);
name!(
    /// Name of a worker: the pod's name in a cluster, a generated one locally.
    WorkerId, "worker name", DNS_LABEL, is_dns_label
);
name!(
    /// One life of one worker: the pod's UID in a cluster. A restarted worker is another incarnation,
    /// and everything remembered about a worker (its key, its connections) is remembered under this.
    Incarnation, "worker incarnation", "use 1 to 63 letters, digits and '-'", is_uid
);
name!(
    /// A Tenant object's UID. Another object of the same name has another UID, so a worker that is
    /// latched on a deleted tenant's UID refuses the recreated one.
    TenantUid, "tenant UID", "use 1 to 63 letters, digits and '-'", is_uid
);

fn is_uid(text: &str) -> bool {
    matches!(text.len(), 1..=63) && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

impl From<uuid::Uuid> for TenantUid {
    fn from(uid: uuid::Uuid) -> Self {
        Self(uid.to_string())
    }
}

impl From<uuid::Uuid> for Incarnation {
    fn from(uid: uuid::Uuid) -> Self {
        Self(uid.to_string())
    }
}

/// Counts the assignments of one tenant, from 1. A worker serves exactly one epoch of one tenant, so a
/// gateway that acts on an old assignment is refused (421) instead of served by the wrong worker.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next assignment.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_follow_the_dns_label_rule() {
        for good in ["a", "quilt", "a-b", "0x", &"a".repeat(63)] {
            assert!(ClassName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(ClassName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refused_name_is_quoted_but_bounded() {
        let error = ClassName::parse("X".repeat(5000)).unwrap_err();
        assert_eq!(error.value.len(), 80);
        assert!(error.to_string().contains("class name"));
    }

    #[test]
    fn deserialising_is_validation() {
        assert!(serde_json::from_str::<ClassName>("\"ok\"").is_ok());
        assert!(serde_json::from_str::<ClassName>("\"../etc\"").is_err());
    }
}
