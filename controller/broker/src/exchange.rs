//! Exchanges a user's token for one that a catalog takes (RFC 8693), once for all who want it, and keeps that until it is
//! time for a newer one.
//!
//! MCP forbids to pass a token on to whom it is not meant for: only one whose audience is the catalog goes there. This
//! module must not know how a token endpoint is reached, nor who asks for what is made.

mod answer;

use crate::{
    kept::{Ends, Kept, fresh_for},
    token::Said,
};
use answer::{Answer, Refused, read};
use async_trait::async_trait;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use patchbay_core::{
    class::{CatalogSource, TokenExchange},
    digest::Digest,
    grant::{GrantError, Lease},
    identity::{Authenticated, Mode},
    provider::API_KEY_PREFIX,
};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use std::sync::Arc;

/// A token is renewed so long before it ends, or after half of its life.
const RENEW_AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// Of a token whose life nobody says (RFC 8693 leaves it open): it is asked for again after half of this.
const UNSAID_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// The way to token endpoints.
#[async_trait]
pub trait TokenEndpoint: Send + Sync + 'static {
    /// Posts a form as the exchange's client, trusting `ca_bundle` (PEM) beside the public authorities, and returns the
    /// whole answer; or why there is none, in words for logs.
    async fn post(
        &self,
        exchange: &TokenExchange,
        ca_bundle: Option<&str>,
        form: &[(&str, SecretString)],
    ) -> Result<Answered, String>;
}

/// What a token endpoint answered.
#[derive(Debug)]
pub struct Answered {
    /// With which status.
    pub status: StatusCode,
    /// When it wants to be asked again, seconds; none = it did not say.
    pub retry_after: Option<u32>,
    /// What.
    pub body: SecretSlice<u8>,
}

/// A token that was made for a user.
#[derive(Debug, Clone)]
pub(crate) struct Exchanged {
    pub(crate) bearer: SecretString,
    pub(crate) lease: Lease,
}

/// The exchanged tokens of this gateway.
pub(crate) struct Exchanges {
    endpoint: Arc<dyn TokenEndpoint>,
    kept: Kept<Exchanged>,
}

impl Ends for Exchanged {
    fn renewed_at(&self) -> Timestamp {
        self.lease.renew_at
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NoToken {
    /// The server does not exchange this user's token.
    Refused,
    /// It cannot be asked, does not know Patchbay, or its answer makes no sense.
    Unavailable { retry_after: Option<u32> },
}

impl Exchanges {
    pub(crate) fn new(endpoint: Arc<dyn TokenEndpoint>) -> Self {
        Self { endpoint, kept: Kept::default() }
    }

    /// The user's token for the catalog.
    pub(crate) async fn get(
        &self,
        source: &CatalogSource,
        exchange: &TokenExchange,
        user: &Authenticated,
    ) -> Result<Exchanged, GrantError> {
        let TokenExchange { token_endpoint, audience, scope, client } = exchange;
        // Debug covers every field; the digest of a credential is keyed
        let wanted =
            format!("{} {token_endpoint:?} {audience:?} {scope:?} {client:?}", user.digest);
        let wanted = Digest::of(wanted.as_bytes());
        let kept = self.kept.get(wanted, self.exchanged(source, exchange, user)).await;
        kept.map_err(|why| match *why {
            NoToken::Refused => GrantError::Refused(format!(
                "the server that exchanges tokens for {}",
                source.origin
            )),
            NoToken::Unavailable { retry_after } => {
                GrantError::Unavailable { who: "the exchange of tokens".into(), retry_after }
            }
        })
    }

    async fn exchanged(
        &self,
        source: &CatalogSource,
        exchange: &TokenExchange,
        user: &Authenticated,
    ) -> Result<Exchanged, NoToken> {
        let at = &exchange.token_endpoint;
        let form = form(exchange, &user.credential);
        let answered = self.endpoint.post(exchange, source.ca_bundle.as_deref(), &form).await;
        let Answered { status, retry_after, body } = answered.map_err(|why| {
            tracing::warn!(token_endpoint = at, why, "a token cannot be exchanged");
            NoToken::Unavailable { retry_after: None }
        })?;
        match read(status, body.expose_secret()) {
            Ok(Answer { bearer, life }) => {
                let lease = lease(life.unwrap_or(UNSAID_LIFE), Timestamp::now());
                let audience = &exchange.audience;
                tracing::info!(token_endpoint = at, audience, ends = %lease.ends_at, "a token was exchanged");
                Ok(Exchanged { bearer, lease })
            }
            Err(Refused::User(error)) => {
                tracing::info!(token_endpoint = at, error, "a user's token was not exchanged");
                Err(NoToken::Refused)
            }
            Err(Refused::Other(why)) => {
                tracing::error!(token_endpoint = at, why, "tokens are not exchanged");
                Err(NoToken::Unavailable { retry_after })
            }
        }
    }
}

/// What is asked (RFC 8693, 2.1).
fn form(exchange: &TokenExchange, token: &SecretString) -> Vec<(&'static str, SecretString)> {
    let mut form = vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".into()),
        ("subject_token", token.clone()),
        ("subject_token_type", answer::ACCESS_TOKEN.into()),
        ("requested_token_type", answer::ACCESS_TOKEN.into()),
        ("audience", exchange.audience.as_str().into()),
    ];
    form.extend(exchange.scope.as_deref().map(|scope| ("scope", scope.into())));
    form
}

fn lease(life: SignedDuration, now: Timestamp) -> Lease {
    let at = |after| now.checked_add(after).unwrap_or(Timestamp::MAX);
    Lease { renew_at: at(fresh_for(life, RENEW_AHEAD)), ends_at: at(life) }
}

/// What a class's catalog is shown for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// Their credential, which is meant for it.
    AsItIs,
    /// A token that theirs is exchanged for.
    Exchanged(&'a TokenExchange),
}

/// What a class's catalog would be shown for a user, or why nothing. Nobody is asked. What a catalog itself said yes to is its
/// own; a JWT is meant for those whom its `aud` names (DESIGN, credentials: it is presented there only), and any other must be
/// exchanged. Patchbay's own keys mean nothing to any.
pub fn would_show<'a>(
    source: &'a CatalogSource,
    user: &Authenticated,
) -> Result<Shown<'a>, GrantError> {
    let refused = |why| Err(GrantError::Refused(format!("{} {why}, so this class", source.origin)));
    if user.credential.expose_secret().starts_with(API_KEY_PREFIX) {
        return refused("cannot be reached with a Patchbay API key");
    }
    let is_catalogs_own = user.identity.issuer == source.origin;
    if is_catalogs_own {
        return Ok(Shown::AsItIs);
    }
    if matches!(user.identity.mode, Mode::ApiKey | Mode::Opaque) {
        return refused("cannot be reached with another catalog's credential");
    }
    let exchange = source.exchange.as_deref();
    let names = [
        Some(source.origin.as_str()),
        Some(&source.registry),
        source.audience.as_deref(),
        exchange.map(|exchange| exchange.audience.as_str()),
    ];
    let is_meant_for_it = Said::by(user)
        .is_ok_and(|said| names.into_iter().flatten().any(|audience| said.is_for(audience)));
    match exchange {
        _ if is_meant_for_it => Ok(Shown::AsItIs),
        Some(exchange) => Ok(Shown::Exchanged(exchange)),
        None => refused("is not in the token's `aud`, and tokens are not exchanged for it"),
    }
}

#[cfg(test)]
mod tests;
