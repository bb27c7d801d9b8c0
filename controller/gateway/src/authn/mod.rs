//! A bearer becomes an [`Identity`](patchbay_core::identity::Identity), or one reason why not.
//!
//! [`presented`] reads what the client presents, [`choose`] decides which single provider may judge it,
//! and one verifier per method judges. A failure never moves on to another provider or another kind of
//! credential (invariant 5). This module must not know tenants, workers, or HTTP answers.

mod api_keys;
pub mod choose;
mod introspection;
mod jwks;
mod jwt;
pub mod presented;

pub use jwks::KeySetSource;

use crate::outbound::{Outbound, OutboundError};
use introspection::Introspector;
use jiff::Timestamp;
use jwks::{Jwks, Published};
use jwt::JwtVerifier;
use patchbay_core::{
    digest::DigestKey,
    id::ProviderName,
    identity::{Authenticated, Identity},
    provider::{ApiKeys, IdentityProvider, KeySource, Method, Provisioning},
    routing::Route,
};
use presented::Presented;
use rustls::crypto::CryptoProvider;
use std::{collections::BTreeMap, sync::Arc};

/// Why nobody is authenticated. The texts are shown to the client: they say what to do, and nothing of
/// the credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    /// No credential at all.
    #[error("a credential is required: send `Authorization: Bearer ...` or `X-API-Key: ...`")]
    Missing,
    /// The credential is presented in a way that is not allowed.
    #[error("the credential is presented wrongly: {0}")]
    Malformed(&'static str),
    /// No provider of this route judges credentials of this form.
    #[error("credentials of this kind are not accepted here")]
    NotAccepted,
    /// The credential's provider does not know it.
    #[error("the credential is not valid")]
    Invalid,
    /// The credential has ended.
    #[error("the credential has expired; get a new one")]
    Expired,
    /// The credential's time has not come.
    #[error("the credential is not valid yet; check the clocks of its issuer and of this gateway")]
    NotYetValid,
    /// The credential was issued for somebody else.
    #[error(
        "the credential was issued for another audience; ask its issuer for one for this gateway"
    )]
    WrongAudience,
    /// The credential does not say what this gateway needs to know.
    #[error("the credential lacks a claim that is required here; ask your platform operator")]
    MissingClaim,
    /// The credential's provider gave no verdict: nobody can be authenticated by it now.
    #[error("{0} cannot be reached to check the credential; try again")]
    ProviderUnavailable(String),
}

impl AuthnError {
    /// A stable word for logs, metrics and clients.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing_credential",
            Self::Malformed(_) => "malformed_credential",
            Self::NotAccepted => "credential_not_accepted",
            Self::Invalid => "invalid_credential",
            Self::Expired => "expired_credential",
            Self::NotYetValid => "credential_not_yet_valid",
            Self::WrongAudience => "wrong_audience",
            Self::MissingClaim => "missing_claim",
            Self::ProviderUnavailable(_) => "provider_unavailable",
        }
    }
}

/// Judges credentials. Holds only the key under which they are remembered, and a verifier per provider.
pub struct Authenticator {
    key: DigestKey,
    verifiers: BTreeMap<ProviderName, Verifier>,
}

enum Verifier {
    ApiKeys(ApiKeys),
    Jwt(Box<JwtVerifier>),
    Introspection(Box<Introspector>),
}

/// A provider whose verifier cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("identity provider `{provider}` cannot be used")]
pub struct UnusableProvider {
    /// The provider.
    pub provider: ProviderName,
    /// Why not.
    pub source: Unusable,
}

/// Why a verifier cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Nothing can be asked in its name.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// It trusts the cluster's own issuer, and there is no cluster.
    #[error("`spec.jwt.jwks.cluster` needs a cluster; give the key set's `url` here")]
    NoCluster,
}

/// With what providers are asked.
#[derive(Clone)]
pub struct Sources {
    /// The crypto provider of every connection.
    pub crypto: Arc<CryptoProvider>,
    /// The keys of the cluster's own issuer, where there is a cluster.
    pub cluster: Option<Arc<dyn KeySetSource>>,
}

/// An authenticated user, and whether the provider lets a first contact make a tenant.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The user.
    pub user: Authenticated,
    /// The provider's rule.
    pub provisioning: Provisioning,
}

impl Authenticator {
    /// An authenticator for these providers that remembers credentials under `key`.
    pub fn new(
        key: DigestKey,
        providers: &[Arc<IdentityProvider>],
        sources: &Sources,
    ) -> Result<Self, UnusableProvider> {
        let mut verifiers = BTreeMap::new();
        for provider in providers {
            let verifier = verifier(provider, sources)
                .map_err(|source| UnusableProvider { provider: provider.name.clone(), source })?;
            verifiers.insert(provider.name.clone(), verifier);
        }
        Ok(Self { key, verifiers })
    }

    /// Judges what was presented on a route.
    pub async fn authenticate(
        &self,
        presented: Presented,
        route: &Route,
        now: Timestamp,
    ) -> Result<Admitted, AuthnError> {
        let provider = choose::choose(&presented, &route.providers)?;
        let digest = self.key.digest("credential", presented.secret().as_bytes());
        let verifier = self.verifiers.get(&provider.name).ok_or(AuthnError::NotAccepted)?;
        let identity: Identity = match verifier {
            Verifier::ApiKeys(keys) => {
                api_keys::verify(presented.secret(), &provider.name, keys, now)?
            }
            Verifier::Jwt(jwt) => jwt.verify(presented.secret(), digest, now).await?,
            Verifier::Introspection(asked) => asked.verify(presented.secret(), digest).await?,
        };
        let user = Authenticated { identity, credential: presented.into_secret(), digest };
        Ok(Admitted { user, provisioning: provider.provisioning })
    }
}

fn verifier(provider: &IdentityProvider, sources: &Sources) -> Result<Verifier, Unusable> {
    let outbound =
        |ca_bundle: &Option<String>| Outbound::new(sources.crypto.clone(), ca_bundle.as_deref());
    Ok(match &provider.method {
        Method::ApiKeys(keys) => Verifier::ApiKeys(keys.clone()),
        Method::Jwt(rules) => {
            let source = match &rules.jwks {
                KeySource::Url(at) => {
                    Arc::new(Published { url: at.url.clone(), outbound: outbound(&at.ca_bundle)? })
                }
                KeySource::Cluster => sources.cluster.clone().ok_or(Unusable::NoCluster)?,
            };
            let jwks = Jwks::new(rules.issuer.clone(), source);
            let verifier = JwtVerifier::new(provider.name.clone(), rules.clone(), jwks);
            Verifier::Jwt(Box::new(verifier))
        }
        Method::Introspection(catalog) => {
            let outbound = outbound(&catalog.ca_bundle)?;
            let asked = Introspector::new(provider.name.clone(), catalog.clone(), outbound);
            Verifier::Introspection(Box::new(asked))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::fixtures;
    use rustls::crypto::aws_lc_rs;

    #[test]
    fn the_clusters_own_issuer_is_refused_where_there_is_no_cluster() {
        let mut provider = fixtures::jwt("agents", &["c"], "https://kubernetes.default.svc");
        let Method::Jwt(rules) = &mut provider.method else { panic!() };
        rules.jwks = KeySource::Cluster;
        let sources = Sources { crypto: Arc::new(aws_lc_rs::default_provider()), cluster: None };
        let made = Authenticator::new(DigestKey::generate().unwrap(), &[provider.into()], &sources);
        let error = made.err().unwrap();
        assert_eq!(error.provider.as_str(), "agents");
        assert!(matches!(error.source, Unusable::NoCluster));
    }
}
