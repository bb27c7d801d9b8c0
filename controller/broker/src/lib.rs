//! What a tenant's worker may hold: a grant, made from the credential that the user presented.
//!
//! A credential is presented only where its audience says. The broker turns it into the least that the
//! class's MCP server needs, or into a refusal; it never falls back to another source (invariant 5). It
//! must not know HTTP routing, workers or pods.

mod aws;
mod exchange;
mod kept;
mod token;

pub use aws::{Assume, Exchange, Keys, Sts, StsError, Way, way};
#[cfg(feature = "sts")]
pub use aws::{AwsSts, OwnIdentity};
pub use exchange::{Answered, Shown, TokenEndpoint, would_show};

use async_trait::async_trait;
use exchange::Exchanges;
use jiff::Timestamp;
use patchbay_core::{
    allowed::Allowed,
    class::{CatalogSource, WorkerClass},
    grant::{CatalogGrant, Grant, GrantError, GrantSource},
    identity::Authenticated,
};
use std::sync::Arc;

/// Makes grants.
pub struct Broker {
    keys: Keys,
    exchanges: Exchanges,
    gives_own: bool,
}

impl Broker {
    /// A broker that has roles assumed by `sts`, and tokens exchanged at `endpoint`. The identity that it does so with is
    /// nobody's.
    pub fn new(sts: Arc<dyn Sts>, endpoint: Arc<dyn TokenEndpoint>) -> Self {
        Self { keys: Keys::new(sts), exchanges: Exchanges::new(endpoint), gives_own: false }
    }

    /// The same on a user's own machine, whose identity is theirs where a class says so by name.
    pub fn of_one_machine(sts: Arc<dyn Sts>, endpoint: Arc<dyn TokenEndpoint>) -> Self {
        Self { gives_own: true, ..Self::new(sts, endpoint) }
    }

    /// A credential that is meant for the catalog is used as it is, and another token is exchanged for one that is.
    async fn catalog(
        &self,
        source: &CatalogSource,
        user: &Authenticated,
    ) -> Result<CatalogGrant, GrantError> {
        let (bearer, lease) = match would_show(source, user)? {
            Shown::AsItIs => (user.credential.clone(), None),
            Shown::Exchanged(exchange) => {
                let made = self.exchanges.get(source, exchange, user).await?;
                (made.bearer, Some(made.lease))
            }
        };
        let (origin, registry) = (source.origin.clone(), source.registry.clone());
        Ok(CatalogGrant { origin, registry, bearer, lease })
    }
}

#[async_trait]
impl GrantSource for Broker {
    async fn prepare(
        &self,
        class: &WorkerClass,
        user: &Authenticated,
    ) -> Result<Grant, GrantError> {
        let catalog = match class.credentials.catalog() {
            Some(source) => Some(self.catalog(source, user).await?),
            None => None,
        };
        let aws = match way(class, user, Timestamp::now())? {
            Some(Way::Assume(assume)) => Some(self.keys.assumed(&assume).await?),
            Some(Way::Exchange(exchange)) => Some(self.keys.exchanged(&exchange).await?),
            Some(Way::Carried(keys)) => Some(keys),
            Some(Way::Own(region)) if self.gives_own => Some(self.keys.own(&region).await?),
            // the class is not accepted where this is so, and this is the last to notice
            Some(Way::Own(_)) => {
                let whose = "a gateway in a cluster, whose own AWS identity is nobody's,";
                return Err(GrantError::Refused(whose.into()));
            }
            None => None,
        };
        // a grant ends with the first of what is in it
        let lease = catalog.as_ref().and_then(|catalog| catalog.lease);
        let ends = [
            user.identity.expires_at,
            lease.map(|lease| lease.ends_at),
            aws.as_ref().map(|keys| keys.expires_at),
        ];
        Ok(Grant {
            credential: user.digest,
            expires_at: ends.into_iter().flatten().min(),
            catalog,
            aws,
            allowed: allowed(user)?,
        })
    }
}

/// What the user's claims leave of the MCP server's tools.
fn allowed(user: &Authenticated) -> Result<Option<Allowed>, GrantError> {
    Allowed::of(&user.identity.entitlement)
        .map_err(|error| GrantError::Refused(format!("this gateway, because {error},")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use patchbay_core::{
        class::{Ambient, AssumeRole, CredentialSource, SessionPolicy, TokenExchange},
        digest::Digest,
        enhanced::EnhancedClaims,
        entitlement::Entitlement,
        fixtures::class,
        grant::{AwsGrant, NoKeys},
        id::ProviderName,
        identity::{Identity, Mode},
        tenant::Authority,
    };
    use secrecy::{ExposeSecret as _, SecretString};

    const CATALOG: &str = "https://catalog.example";

    /// Keys of an hour.
    struct Double;

    #[async_trait]
    impl Sts for Double {
        async fn assume(&self, assume: &Assume, _: &str) -> Result<AwsGrant, StsError> {
            let (id, end) = ("ASIAX".to_owned(), Timestamp::now() + SignedDuration::from_hours(1));
            AwsGrant::temporary(id, "hunter2".into(), "t".into(), end, assume.region.clone())
                .ok_or(StsError::NotTemporary)
        }

        async fn exchange(&self, _: &Exchange, _: &str) -> Result<AwsGrant, StsError> {
            Err(StsError::Denied)
        }

        async fn own(&self, region: &str) -> Result<AwsGrant, StsError> {
            let end = Timestamp::now() + SignedDuration::from_hours(1);
            AwsGrant::temporary("ASIAOWN".into(), "s".into(), "t".into(), end, region.into())
                .ok_or(StsError::NotTemporary)
        }
    }

    /// There is no token endpoint.
    struct Nowhere;

    #[async_trait]
    impl TokenEndpoint for Nowhere {
        async fn post(
            &self,
            exchange: &TokenExchange,
            _: Option<&str>,
            _: &[(&str, SecretString)],
        ) -> Result<Answered, String> {
            Err(format!("nothing is at {}", exchange.token_endpoint))
        }
    }

    fn broker() -> Broker {
        Broker::new(Arc::new(Double), Arc::new(Nowhere))
    }

    fn user(credential: &str) -> Authenticated {
        Authenticated {
            identity: Identity {
                provider: ProviderName::parse("p").unwrap(),
                issuer: CATALOG.into(),
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
            audience: None,
            exchange: None,
        });
        class
    }

    #[tokio::test]
    async fn a_class_without_credentials_gets_a_grant_that_holds_nothing() {
        let grant = broker().prepare(&class("c", "/c"), &user("pb_k_secret")).await.unwrap();
        assert!(grant.catalog.is_none() && grant.aws.is_none());
        let text = serde_json::to_string(&grant).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn a_catalogs_own_credential_is_granted_for_its_two_origins() {
        let grant = broker().prepare(&catalog_class(), &user("qk_abc")).await.unwrap();
        let catalog = grant.catalog.unwrap();
        assert_eq!(catalog.origin, "https://catalog.example");
        assert_eq!(catalog.bearer.expose_secret(), "qk_abc");
    }

    #[tokio::test]
    async fn another_catalogs_credential_is_never_shown_to_a_catalog() {
        let mut user = user("qk_abc");
        user.identity.issuer = "https://other.example".into();
        let refused = broker().prepare(&catalog_class(), &user).await;
        assert!(matches!(refused, Err(GrantError::Refused(_))));
    }

    #[tokio::test]
    async fn a_patchbay_key_is_never_shown_to_a_catalog() {
        let refused = broker().prepare(&catalog_class(), &user("pb_k_secret")).await;
        assert!(matches!(refused, Err(GrantError::Refused(_))));
    }

    fn aws_class(catalog: bool) -> WorkerClass {
        let catalog = catalog_class().credentials.catalog().filter(|_| catalog).cloned();
        let source = AssumeRole {
            session_policy: SessionPolicy::WhenClaimed,
            catalog,
            ..aws::tests::source()
        };
        let credentials = CredentialSource::AssumeRole(Box::new(source));
        WorkerClass { credentials, ..class("aws", "/mcp") }
    }

    #[tokio::test]
    async fn keys_are_granted_beside_a_catalog_or_alone_and_the_grant_ends_with_the_first_of_its_parts()
     {
        let alone = broker().prepare(&aws_class(false), &user("pb_k_secret")).await.unwrap();
        let keys = alone.aws.unwrap();
        assert!(alone.catalog.is_none());
        assert_eq!((alone.expires_at, keys.region.as_str()), (Some(keys.expires_at), "us-east-1"));
        assert!(keys.renew_at.unwrap() < keys.expires_at);

        let mut ending = user("qk_abc");
        let end = Timestamp::now() + SignedDuration::from_mins(1);
        ending.identity.expires_at = Some(end);
        let both = broker().prepare(&aws_class(true), &ending).await.unwrap();
        assert_eq!(both.catalog.unwrap().bearer.expose_secret(), "qk_abc");
        assert_eq!(both.expires_at, Some(end));
    }

    #[tokio::test]
    async fn the_gateways_own_identity_is_one_users_on_their_own_machine_and_nobodys_elsewhere() {
        let source = Ambient {
            issuer: CATALOG.into(),
            subject: "s".into(),
            region: "r".into(),
            catalog: None,
        };
        let credentials = CredentialSource::Ambient(Box::new(source));
        let class = WorkerClass { credentials, ..class("own", "/mcp") };
        let here = Broker::of_one_machine(Arc::new(Double), Arc::new(Nowhere));
        let keys = here.prepare(&class, &user("pb_k_secret")).await.unwrap().aws.unwrap();
        assert_eq!((keys.access_key_id.as_str(), keys.region.as_str()), ("ASIAOWN", "r"));
        for (issuer, subject) in [(CATALOG, "t"), ("j", "s"), ("", "")] {
            let mut other = user("pb_k_secret");
            (other.identity.issuer, other.identity.subject) = (issuer.into(), subject.into());
            let refused = here.prepare(&class, &other).await.map(drop);
            assert_eq!(refused, Err(NoKeys::NotTheUser.into()), "{issuer} {subject}");
        }
        let refused = broker().prepare(&class, &user("pb_k_secret")).await;
        assert!(matches!(refused, Err(GrantError::Refused(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_credential_that_one_source_refuses_gets_nothing_of_the_other() {
        let refused = broker().prepare(&aws_class(true), &user("pb_k_secret")).await;
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
        let grant = broker().prepare(&plain, &claiming(&["b-alice".into()])).await.unwrap();
        assert!(grant.allowed.is_some_and(|it| it.reaches("b-alice") && !it.reaches("b-bob")));
        assert!(broker().prepare(&plain, &user("token")).await.unwrap().allowed.is_none());
        let many: Vec<String> = (0..2000).map(|n| format!("{n:0>60}")).collect();
        let refused = broker().prepare(&plain, &claiming(&many)).await;
        assert!(matches!(refused, Err(GrantError::Refused(_))), "{refused:?}");
    }
}
