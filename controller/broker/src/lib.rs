//! What a tenant's worker may hold: a grant, made from the credential that the user presented.
//!
//! A credential is presented only where its audience says. The broker turns it into the least that the
//! class's MCP server needs, or into a refusal; it never falls back to another source (invariant 5). It
//! must not know HTTP routing, workers or pods.

use async_trait::async_trait;
use patchbay_core::{
    allowed::Allowed,
    class::{CatalogSource, CredentialSource, WorkerClass},
    grant::{CatalogGrant, Grant, GrantError, GrantSource},
    identity::Authenticated,
    provider::API_KEY_PREFIX,
};
use secrecy::ExposeSecret;

/// Makes grants.
#[derive(Debug, Default)]
pub struct Broker;

#[async_trait]
impl GrantSource for Broker {
    async fn prepare(
        &self,
        class: &WorkerClass,
        user: &Authenticated,
    ) -> Result<Grant, GrantError> {
        let catalog = match &class.credentials {
            CredentialSource::None => None,
            CredentialSource::Catalog(source) => Some(catalog_grant(source, user)?),
        };
        Ok(Grant {
            credential: user.digest,
            expires_at: user.identity.expires_at,
            catalog,
            aws: None,
            allowed: allowed(user)?,
        })
    }
}

/// What the user's claims leave of the MCP server's tools.
fn allowed(user: &Authenticated) -> Result<Option<Allowed>, GrantError> {
    Allowed::of(&user.identity.entitlement)
        .map_err(|error| GrantError::Refused(format!("this gateway, because {error},")))
}

/// A catalog's own token or `qk_` key is used as it is. Patchbay's own keys mean nothing to a catalog and
/// are never shown to one.
fn catalog_grant(source: &CatalogSource, user: &Authenticated) -> Result<CatalogGrant, GrantError> {
    if user.credential.expose_secret().starts_with(API_KEY_PREFIX) {
        return Err(GrantError::Refused(format!(
            "{} cannot be reached with a Patchbay API key, so this class",
            source.origin
        )));
    }
    Ok(CatalogGrant {
        origin: source.origin.clone(),
        registry: source.registry.clone(),
        bearer: user.credential.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{
        digest::Digest,
        enhanced::EnhancedClaims,
        entitlement::Entitlement,
        fixtures::class,
        id::ProviderName,
        identity::{Identity, Mode},
        tenant::Authority,
    };
    use std::sync::Arc;

    fn user(credential: &str) -> Authenticated {
        Authenticated {
            identity: Identity {
                provider: ProviderName::parse("p").unwrap(),
                issuer: "i".into(),
                subject: "s".into(),
                entitlement: Arc::default(),
                authority: Authority::unrestricted(),
                mode: Mode::ApiKey,
                expires_at: None,
            },
            credential: credential.into(),
            digest: Digest::of(credential.as_bytes()),
        }
    }

    fn catalog_class() -> WorkerClass {
        let mut class = class("quilt", "/mcp");
        class.credentials = CredentialSource::Catalog(CatalogSource {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            region: "us-east-1".into(),
            ca_bundle: None,
        });
        class
    }

    #[tokio::test]
    async fn a_class_without_credentials_gets_a_grant_that_holds_nothing() {
        let grant = Broker.prepare(&class("c", "/c"), &user("pb_k_secret")).await.unwrap();
        assert!(grant.catalog.is_none() && grant.aws.is_none());
        let text = serde_json::to_string(&grant).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn a_catalogs_own_credential_is_granted_for_its_two_origins() {
        let grant = Broker.prepare(&catalog_class(), &user("qk_abc")).await.unwrap();
        let catalog = grant.catalog.unwrap();
        assert_eq!(catalog.origin, "https://catalog.example");
        assert_eq!(catalog.bearer.expose_secret(), "qk_abc");
    }

    #[tokio::test]
    async fn a_patchbay_key_is_never_shown_to_a_catalog() {
        let refused = Broker.prepare(&catalog_class(), &user("pb_k_secret")).await;
        assert!(matches!(refused, Err(GrantError::Refused(_))));
    }

    #[tokio::test]
    async fn what_a_tokens_claims_allow_goes_with_the_grant_or_is_refused_whole() {
        let claiming = |buckets: &[String]| {
            let enhanced = EnhancedClaims {
                buckets: buckets.iter().cloned().collect(),
                ..EnhancedClaims::default()
            };
            let entitlement = Entitlement { enhanced: Some(enhanced), ..Entitlement::default() };
            let mut user = user("token");
            user.identity.entitlement = Arc::new(entitlement);
            user
        };
        let plain = class("c", "/c");
        let grant = Broker.prepare(&plain, &claiming(&["b-alice".into()])).await.unwrap();
        assert!(grant.allowed.is_some_and(|it| it.reaches("b-alice") && !it.reaches("b-bob")));
        assert!(Broker.prepare(&plain, &user("token")).await.unwrap().allowed.is_none());
        let many: Vec<String> = (0..2000).map(|n| format!("{n:0>60}")).collect();
        let refused = Broker.prepare(&plain, &claiming(&many)).await;
        assert!(matches!(refused, Err(GrantError::Refused(_))), "{refused:?}");
    }
}
