//! Judges a credential again that was judged when its call began: by the providers of this moment, as if it had just been
//! presented. It must not know why.

use crate::{activate::Judge, authn::presented::Presented, service::Configuration};
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
    async fn is_still_good(&self, user: &Authenticated, class: &ClassName) -> bool {
        let configuration = self.0.load_full();
        let Configuration { routes, authenticator } = &*configuration;
        let Some(route) = routes.routes().iter().find(|route| route.class.name == *class) else {
            return false;
        };
        let secret = user.credential.clone();
        let presented = match user.identity.mode {
            Mode::ApiKey => Presented::ApiKey(secret),
            Mode::Jwt | Mode::Opaque => Presented::Bearer(secret),
        };
        let judged = authenticator.authenticate(presented, route, Timestamp::now()).await;
        judged.is_ok_and(|admitted| {
            admitted.user.identity.tenant(class) == user.identity.tenant(class)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::{Authenticator, Sources};
    use patchbay_core::{
        digest::{Digest, DigestKey},
        fixtures::{api_keys, class},
        identity::Identity,
        provider::IdentityProvider,
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
        assert!(again.is_still_good(&user, &class).await);
        let other = Identity {
            authority: Authority::from_digest(Digest::of(b"x")),
            ..user.identity.clone()
        };
        let other = Authenticated { identity: other, ..user.clone() };
        assert!(!again.is_still_good(&other, &class).await, "it is another user's by now");
        assert!(!again.is_still_good(&user, &ClassName::parse("d").unwrap()).await);
        in_use.store(Arc::new(with(&["k2"])));
        assert!(!again.is_still_good(&user, &class).await, "it was taken out");
    }
}
