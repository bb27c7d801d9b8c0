//! A bearer becomes an [`Identity`](patchbay_core::identity::Identity), or one reason why not.
//!
//! [`presented`] reads what the client presents, [`choose`] decides which single provider may judge it,
//! and one verifier per method judges. A failure never moves on to another provider or another kind of
//! credential (invariant 5). This module must not know tenants, workers, or HTTP answers.

mod api_keys;
pub mod choose;
mod good_lately;
mod introspection;
mod jwks;
mod jwt;
mod key_material;
mod key_source;
mod login_code;
pub mod presented;
mod unproven;

pub use key_source::{KeySetSource, MAX_KEY_SET_BYTES, NamedKeys};

use crate::outbound::{Outbound, OutboundError};
use good_lately::GoodLately;
use introspection::Introspector;
use jiff::Timestamp;
use jwks::Jwks;
use jwt::JwtVerifier;
use key_material::Form;
use key_source::{Discovered, Published};
use patchbay_core::{
    digest::{Digest, DigestKey},
    entitlement::Entitlement,
    id::ProviderName,
    identity::{Authenticated, Identity},
    provider::{
        ApiKeys, IdentityProvider, Introspection, Jwt, KeySource, Method, NamedBy, Provisioning,
        TokenFormat,
    },
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
    #[error(
        "credentials of this kind are not accepted here: send an API key as `X-API-Key: ...` or as a bearer, and a token as \
         `Authorization: Bearer ...`"
    )]
    NotAccepted,
    /// The credential is a token of an issuer that no provider of this route judges.
    #[error(
        "tokens of this issuer are not accepted here; get one from an issuer that this gateway names"
    )]
    UnknownIssuer,
    /// It is a catalog's login code.
    #[error(
        "this is a login code, which its catalog exchanges once; get an API key for it with \
         `patchbay login --catalog ORIGIN` and send that"
    )]
    LoginCode,
    /// The credential's provider does not know it: it was changed, is another's, or was revoked.
    #[error("the credential is not valid, or was revoked; get a new one")]
    Invalid,
    /// The API key's provider does not know it.
    #[error(
        "the API key is not valid, or was revoked; check that it is complete, or get a new one"
    )]
    InvalidKey,
    /// The API key was good here lately, and its provider does not know it any more.
    #[error("the API key was revoked; get a new one")]
    RevokedKey,
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
    /// The credential does not say what this gateway needs to know: this claim is missing, or has another value. Its
    /// name is for operators.
    #[error("the credential lacks a claim that is required here; ask your platform operator")]
    MissingClaim(String),
    /// The credential's provider does not let it in, whoever presents it: another one would fare no better.
    #[error("the catalog does not let this credential in; ask the catalog's administrator")]
    NotAllowed,
    /// The credential's provider gave no verdict: nobody can be authenticated by it now.
    #[error("{who} cannot be asked now to check the credential; try again")]
    ProviderUnavailable {
        /// Who would have to be asked.
        who: String,
        /// When it wants to be asked again, seconds; none = it did not say.
        retry_after: Option<u32>,
    },
}

impl AuthnError {
    /// A stable word for logs, metrics and clients.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing_credential",
            Self::Malformed(_) => "malformed_credential",
            Self::NotAccepted => "credential_not_accepted",
            Self::UnknownIssuer => "unknown_issuer",
            Self::LoginCode => "login_code",
            Self::Invalid => "invalid_credential",
            Self::InvalidKey => "invalid_api_key",
            Self::RevokedKey => "revoked_api_key",
            Self::Expired => "expired_credential",
            Self::NotYetValid => "credential_not_yet_valid",
            Self::WrongAudience => "wrong_audience",
            Self::MissingClaim(_) => "missing_claim",
            Self::NotAllowed => "credential_not_allowed",
            Self::ProviderUnavailable { .. } => "provider_unavailable",
        }
    }
}

/// Judges credentials. Holds only the key under which they are remembered, and a verifier per provider.
pub struct Authenticator {
    key: Arc<DigestKey>,
    verifiers: BTreeMap<ProviderName, Known>,
    good_lately: GoodLately,
}

/// A provider's verifier, with all that it remembers.
struct Known {
    /// What it was made from.
    method: Method,
    verifier: Arc<Verifier>,
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
    /// Its keys are in a Secret, and nobody said where those are.
    #[error(
        "`spec.jwt.jwks.secretRef` needs a place of Secrets; name a directory with --provider-secrets"
    )]
    NoSecrets,
    /// Its keys are in a Secret, and are none.
    #[error("`spec.jwt.jwks.secretRef`: {0}")]
    Keys(String),
}

/// With what providers are asked.
#[derive(Clone)]
pub struct Sources {
    /// The crypto provider of every connection.
    pub crypto: Arc<CryptoProvider>,
    /// The keys of the cluster's own issuer, where there is a cluster.
    pub cluster: Option<Arc<dyn KeySetSource>>,
    /// Keys in Secrets, where there are any.
    pub named: Option<Arc<dyn NamedKeys>>,
}

/// An authenticated user, and whether the provider lets a first contact make a tenant.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The user.
    pub user: Authenticated,
    /// The provider's rule.
    pub provisioning: Provisioning,
}

/// Why somebody is not let in, and who decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAdmitted {
    /// Why.
    pub error: AuthnError,
    /// The one provider that was to judge the credential; none where there is none for it.
    pub provider: Option<ProviderName>,
}

/// Who is to judge a credential.
struct Chosen<'a> {
    provider: &'a IdentityProvider,
    verifier: &'a Verifier,
    digest: Digest,
}

impl NotAdmitted {
    fn by(provider: &IdentityProvider, error: AuthnError) -> Self {
        Self { error, provider: Some(provider.name.clone()) }
    }
}

impl From<AuthnError> for NotAdmitted {
    fn from(error: AuthnError) -> Self {
        Self { error, provider: None }
    }
}

impl Authenticator {
    /// An authenticator for these providers that remembers credentials under `key`.
    pub fn new(
        key: DigestKey,
        providers: &[Arc<IdentityProvider>],
        sources: &Sources,
    ) -> Result<Self, UnusableProvider> {
        let nobody = Self {
            key: Arc::new(key),
            verifiers: BTreeMap::new(),
            good_lately: GoodLately::default(),
        };
        let (authenticator, unusable) = nobody.for_providers(providers, sources);
        unusable.into_iter().next().map_or(Ok(authenticator), Err)
    }

    /// An authenticator for these providers instead. Those whose method did not change keep what they remember
    /// of credentials; those that cannot be used admit nobody.
    pub fn for_providers(
        &self,
        providers: &[Arc<IdentityProvider>],
        sources: &Sources,
    ) -> (Self, Vec<UnusableProvider>) {
        let mut verifiers = BTreeMap::new();
        let mut unusable = Vec::new();
        for provider in providers {
            let before = self.verifiers.get(&provider.name);
            let kept = before.filter(|known| known.method == provider.method);
            let made = match kept {
                Some(known) => Ok(known.verifier.clone()),
                None => verifier(provider, sources).map(Arc::new),
            };
            match made {
                Ok(verifier) => {
                    let known = Known { method: provider.method.clone(), verifier };
                    verifiers.insert(provider.name.clone(), known);
                }
                Err(source) => {
                    unusable.push(UnusableProvider { provider: provider.name.clone(), source });
                }
            }
        }
        let (key, good_lately) = (self.key.clone(), self.good_lately.clone());
        (Self { key, verifiers, good_lately }, unusable)
    }

    /// Judges what was presented on a route.
    pub async fn authenticate(
        &self,
        presented: Presented,
        route: &Route,
        now: Timestamp,
    ) -> Result<Admitted, NotAdmitted> {
        let Chosen { provider, verifier, digest } = self.chosen(&presented, route)?;
        let judged: Result<Identity, AuthnError> = match verifier {
            Verifier::ApiKeys(keys) => {
                api_keys::verify(presented.secret(), &provider.name, keys, now)
            }
            Verifier::Jwt(jwt) => jwt.verify(presented.secret(), digest, now).await,
            Verifier::Introspection(asked) => asked.verify(presented.secret(), digest).await,
        };
        let identity = self.good_lately.told(&provider.name, digest, judged).await;
        let identity = identity.map_err(|error| NotAdmitted::by(provider, error))?;
        let user = Authenticated { identity, credential: presented.into_secret(), digest };
        Ok(Admitted { user, provisioning: provider.provisioning })
    }
}

/// What a credential comes to where it is shown to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// It proves this by itself.
    Proven(Identity),
    /// A catalog would be asked whose it is.
    WouldAsk {
        /// In whose name.
        provider: ProviderName,
        /// The catalog's origin, which would be the issuer.
        catalog: String,
        /// What the credential says by itself.
        entitlement: Arc<Entitlement>,
    },
}

impl Authenticator {
    /// What was presented on a route comes to, as far as that is known without showing it to anybody: for operators, who
    /// look at somebody's credential. Keys of issuers are fetched as always.
    pub async fn examine(
        &self,
        presented: &Presented,
        route: &Route,
        now: Timestamp,
    ) -> Result<Examined, NotAdmitted> {
        let Chosen { provider, verifier, digest } = self.chosen(presented, route)?;
        let examined = match verifier {
            Verifier::ApiKeys(keys) => {
                api_keys::verify(presented.secret(), &provider.name, keys, now)
                    .map(Examined::Proven)
            }
            Verifier::Jwt(jwt) => jwt.examine(presented.secret(), digest, now).await,
            Verifier::Introspection(asked) => Ok(Examined::WouldAsk {
                provider: provider.name.clone(),
                catalog: asked.origin().to_owned(),
                entitlement: Arc::default(),
            }),
        };
        examined.map_err(|error| NotAdmitted::by(provider, error))
    }

    /// The one provider that may judge what was presented, its verifier, and the credential's digest.
    fn chosen<'a>(
        &'a self,
        presented: &Presented,
        route: &'a Route,
    ) -> Result<Chosen<'a>, NotAdmitted> {
        let provider = choose::choose(presented, &route.providers)?;
        let digest = self.key.digest("credential", presented.secret().as_bytes());
        let known = self.verifiers.get(&provider.name);
        let known = known.ok_or_else(|| NotAdmitted::by(provider, AuthnError::NotAccepted))?;
        Ok(Chosen { provider, verifier: &known.verifier, digest })
    }
}

/// Whether a provider's keys in a Secret can be used now; of other places, nothing is asked.
pub async fn check_keys(
    provider: &IdentityProvider,
    sources: &Sources,
) -> Result<(), UnusableProvider> {
    let unusable = |source| UnusableProvider { provider: provider.name.clone(), source };
    let Method::Jwt(rules) = &provider.method else { return Ok(()) };
    let KeySource::Secret(_) = &rules.jwks else { return Ok(()) };
    let source = key_source(rules, sources).map_err(unusable)?;
    let why = jwks::unusable(source.as_ref(), Form::of(rules)).await;
    why.map_or(Ok(()), |why| Err(unusable(Unusable::Keys(why))))
}

fn key_source(rules: &Jwt, sources: &Sources) -> Result<Arc<dyn KeySetSource>, Unusable> {
    Ok(match &rules.jwks {
        KeySource::Url(at) => {
            let outbound = sources.outbound(at.ca_bundle.as_deref())?;
            Arc::new(Published { url: at.url.clone(), outbound })
        }
        KeySource::Discovery { ca_bundle } => {
            let outbound = sources.outbound(ca_bundle.as_deref())?;
            Arc::new(Discovered { issuer: rules.issuer.clone(), outbound })
        }
        KeySource::Cluster => sources.cluster.clone().ok_or(Unusable::NoCluster)?,
        KeySource::Secret(entry) => {
            sources.named.as_ref().ok_or(Unusable::NoSecrets)?.source(entry)
        }
    })
}

fn verifier(provider: &IdentityProvider, sources: &Sources) -> Result<Verifier, Unusable> {
    let asking = |catalog: &Introspection| {
        let outbound = sources.outbound(catalog.ca_bundle.as_deref())?;
        Ok::<_, Unusable>(Introspector::new(provider.name.clone(), catalog.clone(), outbound))
    };
    Ok(match &provider.method {
        Method::ApiKeys(keys) => Verifier::ApiKeys(keys.clone()),
        Method::Jwt(rules) => {
            let source = key_source(rules, sources)?;
            let jwks = Jwks::new(rules.issuer.clone(), source, Form::of(rules));
            let named_by = match &rules.format {
                TokenFormat::QuiltEnhanced(format) => Some(&format.named_by),
                TokenFormat::Standard => None,
            };
            let catalog = match named_by {
                Some(NamedBy::Catalog(catalog)) => Some(asking(catalog)?),
                Some(NamedBy::Token) => {
                    tracing::warn!(
                        provider = %provider.name,
                        condition = "KeyHeldByServersOnly",
                        "users are believed to be who their enhanced tokens say: nobody but servers \
                         may hold the key"
                    );
                    None
                }
                None => None,
            };
            let verifier = JwtVerifier::new(provider.name.clone(), rules.clone(), jwks, catalog);
            Verifier::Jwt(Box::new(verifier))
        }
        Method::Introspection(catalog) => Verifier::Introspection(Box::new(asking(catalog)?)),
    })
}

impl Sources {
    fn outbound(&self, ca_bundle: Option<&str>) -> Result<Outbound, OutboundError> {
        Outbound::new(self.crypto.clone(), ca_bundle)
    }
}

#[cfg(test)]
mod tests;
