//! Judges a credential again that was judged when its call began: by the providers of this moment, as if it had just been
//! presented. It must not know why.

use crate::{
    activate::{Judge, Verdict},
    authn::{AuthnError, NotAdmitted, presented::Presented},
    service::Configuration,
};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use jiff::Timestamp;
use patchbay_core::{
    id::ClassName,
    identity::{Authenticated, Mode},
};
use std::sync::Arc;

/// Judges by the configuration that is in use.
pub(crate) struct Again(pub(crate) Arc<ArcSwap<Configuration>>);

#[async_trait]
impl Judge for Again {
    async fn judge(&self, user: &Authenticated, class: &ClassName) -> Verdict {
        let configuration = self.0.load_full();
        let Configuration { routes, authenticator } = &*configuration;
        let Some(route) = routes.routes().iter().find(|route| route.class.name == *class) else {
            return Verdict::Over;
        };
        let secret = user.credential.clone();
        let presented = match user.identity.mode {
            Mode::ApiKey => Presented::ApiKey(secret),
            Mode::Jwt | Mode::Opaque => Presented::Bearer(secret),
        };
        let judged = authenticator.authenticate(presented, route, Timestamp::now()).await;
        match judged {
            Ok(admitted) if admitted.user.identity.tenant(class) == user.identity.tenant(class) => {
                Verdict::Good
            }
            Err(NotAdmitted { error: AuthnError::ProviderUnavailable { .. }, .. }) => {
                Verdict::Unknown
            }
            Ok(_) | Err(_) => Verdict::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::{Authenticator, Sources};
    use patchbay_core::{
        digest::{Digest, DigestKey},
        fixtures::{api_keys, class, introspection},
        id::ProviderName,
        identity::Identity,
        provider::{IdentityProvider, Method},
        routing::RouteTable,
        tenant::Authority,
    };

    fn configuration(providers: Vec<IdentityProvider>) -> Configuration {
        let providers: Vec<_> = providers.into_iter().map(Arc::new).collect();
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let sources = Sources { crypto, cluster: None, named: None };
        let routes = RouteTable::build(&[Arc::new(class("c", "/mcp"))], &providers).unwrap();
        let key = DigestKey::generate().unwrap();
        Configuration {
            routes,
            authenticator: Authenticator::new(key, &providers, &sources).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_catalog_that_cannot_be_asked_says_nothing_of_anybody() {
        let mut asking = introspection("catalog", &["c"]);
        let Method::Introspection(catalog) = &mut asking.method else { panic!() };
        // nobody listens there
        catalog.registry = "https://127.0.0.1:1".into();
        let again = Again(Arc::new(ArcSwap::from_pointee(configuration(vec![asking]))));
        let user = Authenticated {
            identity: Identity {
                provider: ProviderName::parse("catalog").unwrap(),
                issuer: "https://catalog.example".into(),
                subject: "s".into(),
                entitlement: Arc::default(),
                authority: Authority::unrestricted(),
                mode: Mode::ApiKey,
                expires_at: None,
            },
            credential: "qk_abc".to_owned().into(),
            digest: Digest::of(b"qk_abc"),
        };
        let verdict = again.judge(&user, &ClassName::parse("c").unwrap()).await;
        assert_eq!(verdict, Verdict::Unknown);
    }

    #[tokio::test]
    async fn a_credential_is_good_until_its_provider_or_its_class_no_longer_takes_it() {
        let with = |ids: &[&str]| configuration(vec![api_keys("keys", &["c"], ids)]);
        let now = Timestamp::now();
        let before = with(&["k1"]);
        let presented = Presented::Bearer("pb_k1_secret".into());
        let route = &before.routes.routes()[0];
        let admitted = before.authenticator.authenticate(presented, route, now).await.unwrap();
        let user = admitted.user;
        let class = ClassName::parse("c").unwrap();
        let in_use = Arc::new(ArcSwap::from_pointee(before));
        let again = Again(in_use.clone());
        assert_eq!(again.judge(&user, &class).await, Verdict::Good);
        let other = Identity {
            authority: Authority::from_digest(Digest::of(b"x")),
            ..user.identity.clone()
        };
        let other = Authenticated { identity: other, ..user.clone() };
        assert_eq!(again.judge(&other, &class).await, Verdict::Over, "it is another user's by now");
        assert_eq!(again.judge(&user, &ClassName::parse("d").unwrap()).await, Verdict::Over);
        in_use.store(Arc::new(with(&["k2"])));
        assert_eq!(again.judge(&user, &class).await, Verdict::Over, "it was taken out");
    }
}
