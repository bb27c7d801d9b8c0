//! What is said of authentications: one line for every credential that is new here, and for every refusal what was
//! presented, who judged it and what it lacked (issue 4, diagnostics).
//!
//! A request is no authentication of its own: a credential that was told of is not told of again for a while. Lines hold
//! tenants' derived names and numbers of claims, never a credential, a subject or a claim's value.

use crate::authn::{Admitted, AuthnError, presented::Presented};
use moka::future::Cache;
use patchbay_core::{
    digest::Digest,
    entitlement::{Entitlement, SaidBy},
    provider::{API_KEY_PREFIX, CATALOG_KEY_PREFIX},
    routing::Route,
    tenant::TenantName,
};
use std::time::Duration;

/// A credential is told of again after this long.
const TOLD_FOR: Duration = Duration::from_mins(10);
/// Credentials that are remembered as told of. Of more than these, some are told of more often.
const MOST_TOLD: u64 = 20_000;

/// Says which credentials are new.
#[derive(Debug)]
pub(crate) struct Told(Cache<Digest, ()>);

impl Default for Told {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MOST_TOLD).time_to_live(TOLD_FOR).build())
    }
}

impl Told {
    /// Says who was authenticated and how, if it was not said of this credential lately.
    pub(crate) async fn admitted(
        &self,
        admitted: &Admitted,
        route: &Route,
        tenant: &TenantName,
        request_id: &str,
    ) {
        let digest = admitted.user.digest;
        if self.0.contains_key(&digest) {
            return;
        }
        if !self.0.entry(digest).or_insert(()).await.is_fresh() {
            return;
        }
        let identity = &admitted.user.identity;
        let claims = Claims::of(&identity.entitlement);
        tracing::info!(
            request_id,
            provider = %identity.provider,
            mode = route.mode(identity),
            decoded = claims.decoded,
            flaws = claims.flaws,
            level = claims.level,
            permissions = claims.permissions,
            buckets = claims.buckets,
            roles = claims.roles,
            said_by = claims.said_by,
            %tenant,
            expires_at = identity.expires_at.map(|end| end.to_string()),
            "authenticated"
        );
    }
}

/// What claims come to, without their values.
#[derive(Debug, PartialEq, Eq)]
struct Claims {
    /// How the token's claims were read: `enhanced`, or of those only `in_part`; `narrowed` by claims of the provider's
    /// choice, or `none`.
    decoded: &'static str,
    /// What of them could not be read, where something could not.
    flaws: Option<String>,
    level: Option<&'static str>,
    permissions: Option<usize>,
    buckets: Option<usize>,
    roles: Option<usize>,
    said_by: &'static str,
}

impl Claims {
    fn of(entitlement: &Entitlement) -> Self {
        let enhanced = entitlement.enhanced.as_ref();
        Self {
            decoded: match (enhanced, entitlement.claims.is_empty()) {
                (Some(claims), _) if !claims.flaws.is_empty() => "in_part",
                (Some(_), _) => "enhanced",
                (None, false) => "narrowed",
                (None, true) => "none",
            },
            flaws: enhanced.filter(|claims| !claims.flaws.is_empty()).map(|claims| {
                let words: Vec<_> = claims.flaws.iter().map(|flaw| flaw.as_str()).collect();
                words.join(", ")
            }),
            level: enhanced.map(|claims| claims.level.as_str()),
            permissions: enhanced.map(|claims| claims.permissions.len()),
            buckets: enhanced.map(|claims| claims.buckets.len()),
            roles: enhanced.map(|claims| claims.roles.len()),
            said_by: match entitlement.said_by {
                SaidBy::Issuer => "issuer",
                SaidBy::Holder => "holder",
            },
        }
    }
}

/// What a request presents, by its form alone; a label of metrics and logs.
pub(crate) fn form(presented: &Result<Presented, AuthnError>) -> &'static str {
    match presented {
        Err(AuthnError::Missing) => "none",
        Err(_) => "malformed",
        Ok(Presented::ApiKey(_)) => "api_key",
        Ok(Presented::Bearer(_)) => {
            let secret = presented.as_ref().map_or("", Presented::secret);
            if secret.starts_with(API_KEY_PREFIX) || secret.starts_with(CATALOG_KEY_PREFIX) {
                "api_key"
            } else if secret.split('.').count() == 3 {
                "jwt"
            } else {
                "opaque"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::enhanced::{Codes, EnhancedClaims};
    use serde_json::json;

    #[test]
    fn a_credential_is_known_by_its_form_before_anybody_judged_it() {
        let bearer = |text: &str| form(&Ok(Presented::Bearer(text.into())));
        assert_eq!(bearer("pb_k_secret"), "api_key");
        assert_eq!(bearer("qk_secret"), "api_key");
        assert_eq!(bearer("a.b.c"), "jwt");
        assert_eq!(bearer("a.b.c.d"), "opaque");
        assert_eq!(form(&Ok(Presented::ApiKey("a.b.c".into()))), "api_key");
        assert_eq!(form(&Err(AuthnError::Missing)), "none");
        assert_eq!(form(&Err(AuthnError::Malformed("it is empty"))), "malformed");
    }

    #[test]
    fn claims_are_told_in_numbers_and_not_by_what_they_say() {
        assert_eq!(Claims::of(&Entitlement::default()).decoded, "none");
        let payload = json!({"p": ["g", "l"], "b": ["secret-project"], "l": "write", "r": ["R"]});
        let enhanced = EnhancedClaims::expand(payload.as_object().unwrap(), &Codes::new());
        let said_by = SaidBy::Holder;
        let told = Claims::of(&Entitlement {
            enhanced: Some(enhanced),
            said_by,
            ..Entitlement::default()
        });
        let expected = Claims {
            decoded: "enhanced",
            flaws: None,
            level: Some("write"),
            permissions: Some(2),
            buckets: Some(1),
            roles: Some(1),
            said_by: "holder",
        };
        assert_eq!(told, expected);
        assert!(!format!("{told:?}").contains("project"));
    }

    #[test]
    fn claims_that_could_be_read_in_part_only_say_what_could_not() {
        let payload = json!({"p": ["g"], "b": {"_type": "zip", "_data": {}}});
        let enhanced = EnhancedClaims::expand(payload.as_object().unwrap(), &Codes::new());
        let told = Claims::of(&Entitlement { enhanced: Some(enhanced), ..Entitlement::default() });
        let flaws = Some("no_level, unknown_form_of_buckets".to_owned());
        assert_eq!((told.decoded, told.flaws), ("in_part", flaws));
    }
}
