//! What a verified credential says of what its user may do, beside who they are.
//!
//! The broker makes less of a role from it, and a worker less of its server's tools; whose worker it is follows from
//! its [`Authority`]. Nothing here ever gives a user more than their identity does. This module must not know how a
//! credential was verified.

use crate::{enhanced::EnhancedClaims, tenant::Authority};
use serde_json::{Map, Value};

/// The claims in which issuers put AWS keys. They narrow nobody and change with every token: no entitlement holds them.
pub const CLAIMS_OF_KEYS: [&str; 2] = ["aws_credentials", "awsCredentials"];

/// What narrows a user. The default is a credential that says nothing: all that its subject may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entitlement {
    /// The claims that the provider lists as `authorityClaims`, as the token says them; those that it lacks are absent.
    pub claims: Map<String, Value>,
    /// What an enhanced token says, where the provider's tokens are such.
    pub enhanced: Option<EnhancedClaims>,
    /// Who can have made the claims.
    pub said_by: SaidBy,
}

/// Who can have made the claims of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SaidBy {
    /// Its issuer alone: they may choose among what the class offers, such as one of its roles.
    #[default]
    Issuer,
    /// Whoever holds it too, because browsers hold the key that signs it: they only take away (DESIGN, credentials).
    Holder,
}

impl Entitlement {
    /// The authority that follows. Two credentials that say the same are one tenant, in whatever form they say it.
    pub fn authority(&self) -> Authority {
        let mut claims = self.claims.clone();
        if let Some(enhanced) = &self.enhanced {
            claims.insert("quiltEnhanced".into(), enhanced.canonical());
        }
        Authority::from_claims(&claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enhanced::Codes;
    use serde_json::json;

    fn enhanced(payload: &Value) -> Entitlement {
        let claims = EnhancedClaims::expand(payload.as_object().unwrap(), &Codes::new());
        Entitlement { enhanced: Some(claims), ..Entitlement::default() }
    }

    #[test]
    fn a_credential_that_says_nothing_narrows_nothing() {
        assert_eq!(Entitlement::default().authority(), Authority::unrestricted());
    }

    #[test]
    fn the_short_and_the_long_form_of_the_same_claims_are_one_authority() {
        let short = enhanced(&json!({"p": ["l", "g"], "b": ["y", "x"], "l": "write", "r": ["R"]}));
        let long = enhanced(&json!({
            "permissions": ["s3:GetObject", "s3:ListBucket"],
            "buckets": ["x", "y", "x"],
            "level": "write",
            "roles": ["R"],
        }));
        assert_eq!(short.authority(), long.authority());
    }

    #[test]
    fn every_part_of_enhanced_claims_makes_another_authority() {
        let all = json!({"p": ["g"], "b": ["x"], "l": "write", "r": ["R"]});
        for (claim, other) in
            [("p", json!(["p"])), ("b", json!(["y"])), ("l", json!("read")), ("r", json!(["S"]))]
        {
            let mut changed = all.clone();
            changed[claim] = other;
            assert_ne!(enhanced(&all).authority(), enhanced(&changed).authority(), "{claim}");
        }
        // an enhanced token that allows nothing is not one that says nothing
        assert_ne!(enhanced(&json!({})).authority(), Authority::unrestricted());
    }
}
