//! Judges an opaque bearer or a `qk_` key by asking its catalog whose it is, and says the same of enhanced tokens.
//!
//! The catalog's `me` is the only call that is made for an unproven credential. Answers are remembered by
//! the credential's keyed digest, good ones for a minute and bad ones for seconds, and concurrent
//! questions about one credential are one question. Of credentials that nobody has proven, few are asked
//! about at a time; those that were good lately wait for none of them. A catalog that cannot be asked is
//! no verdict: for a few minutes its last good one still counts, so that its unrest ends nobody's session.
//! This module must not know other methods.

use super::{
    AuthnError,
    unproven::{TooMany, Unproven},
};
use crate::outbound::{Outbound, retry_after};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use moka::{Expiry, future::Cache};
use patchbay_core::{
    digest::Digest,
    id::ProviderName,
    identity::{Identity, Mode},
    provider::{CATALOG_KEY_PREFIX, Introspection},
    tenant::Authority,
};
use serde::{Deserialize, de::IgnoredAny};
use std::{sync::Arc, time::Duration};

/// How long a good answer is remembered: a revoked key works for at most this long, while the catalog answers.
const KNOWN_FOR: Duration = Duration::from_mins(1);
/// Until when a good answer is counted on, from when it was given, where the catalog gives none: with what is counted on at
/// a time, five minutes.
const COUNTED_ON_FOR: Duration = Duration::from_secs(270);
/// How long a catalog that gave no answer is not asked again about somebody whose last answer counts: asking it may take
/// as long as a request can wait.
const COUNTED_ON_AT_A_TIME: Duration = Duration::from_secs(30);
/// For how long a credential that was good once is asked about ahead of those that nobody has proven.
const PROVEN_FOR: Duration = Duration::from_hours(24);
/// How long a bad answer is remembered.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// How many answers are remembered per provider.
const MAX_ANSWERS: u64 = 20_000;

/// Whose a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    Known(String),
    /// As the catalog last said; it cannot be asked now.
    CountedOn(String),
    Nobody,
    /// It is not said whose it is: the catalog does not let it in.
    NotAllowed,
}

/// Asks one catalog.
pub(super) struct Introspector {
    name: ProviderName,
    catalog: Introspection,
    outbound: Outbound,
    owners: Cache<Digest, Owner>,
    /// The last good answers.
    counted_on: Cache<Digest, String>,
    /// What was good, and is not known to be nobody's by now.
    proven: Cache<Digest, ()>,
    unproven: Unproven,
}

struct ByOwner;

impl Expiry<Digest, Owner> for ByOwner {
    fn expire_after_create(
        &self,
        _: &Digest,
        owner: &Owner,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(match owner {
            Owner::Known(_) => KNOWN_FOR,
            Owner::CountedOn(_) => COUNTED_ON_AT_A_TIME,
            Owner::Nobody | Owner::NotAllowed => UNKNOWN_FOR,
        })
    }
}

impl Introspector {
    pub(super) fn new(name: ProviderName, catalog: Introspection, outbound: Outbound) -> Self {
        let owners = Cache::builder().max_capacity(MAX_ANSWERS).expire_after(ByOwner).build();
        let counted_on =
            Cache::builder().max_capacity(MAX_ANSWERS).time_to_live(COUNTED_ON_FOR).build();
        let proven = Cache::builder().max_capacity(MAX_ANSWERS).time_to_live(PROVEN_FOR).build();
        let unproven = Unproven::default();
        Self { name, catalog, outbound, owners, counted_on, proven, unproven }
    }

    /// Judges one credential. `digest` is its keyed digest.
    pub(super) async fn verify(
        &self,
        credential: &str,
        digest: Digest,
    ) -> Result<Identity, AuthnError> {
        let (mode, refusal) = if credential.starts_with(CATALOG_KEY_PREFIX) {
            (Mode::ApiKey, AuthnError::InvalidKey)
        } else {
            (Mode::Opaque, AuthnError::Invalid)
        };
        Ok(Identity {
            provider: self.name.clone(),
            issuer: self.catalog.origin.clone(),
            subject: self.owner(credential, digest).await?.ok_or(refusal)?,
            entitlement: Arc::default(),
            authority: Authority::unrestricted(),
            mode,
            expires_at: None,
        })
    }

    /// Whose the catalog says that a credential is; none if it is nobody's.
    pub(super) async fn owner(
        &self,
        credential: &str,
        digest: Digest,
    ) -> Result<Option<String>, AuthnError> {
        let owner = self.owners.try_get_with(digest, self.judged(credential, digest)).await;
        match owner.map_err(|error| AuthnError::clone(&error))? {
            Owner::Known(subject) | Owner::CountedOn(subject) => Ok(Some(subject)),
            Owner::Nobody => Ok(None),
            Owner::NotAllowed => Err(AuthnError::NotAllowed),
        }
    }

    /// The catalog's origin: the issuer of its users.
    pub(super) fn origin(&self) -> &str {
        &self.catalog.origin
    }

    /// What the catalog says, or what it last said while it cannot be asked.
    async fn judged(&self, credential: &str, digest: Digest) -> Result<Owner, AuthnError> {
        let _turn = if self.proven.contains_key(&digest) {
            None
        } else {
            Some(self.unproven.turn().await.map_err(|TooMany| {
                let origin = &self.catalog.origin;
                tracing::warn!(origin, "too many new credentials are to be shown to a catalog");
                unavailable(None)
            })?)
        };
        let answer = self.ask(credential).await;
        self.learn(digest, &answer).await;
        if let Err(AuthnError::ProviderUnavailable { .. }) = &answer
            && let Some(subject) = self.counted_on.get(&digest).await
        {
            return Ok(Owner::CountedOn(subject));
        }
        answer
    }

    /// Remembers an answer for the time in which there is none, and for the next question.
    async fn learn(&self, digest: Digest, answer: &Result<Owner, AuthnError>) {
        match answer {
            Ok(Owner::Known(subject)) => {
                self.counted_on.insert(digest, subject.clone()).await;
                self.proven.insert(digest, ()).await;
            }
            // whom the catalog shuts out is not counted on; that nobody has made the credential up is as true as before
            Ok(Owner::NotAllowed) => self.counted_on.invalidate(&digest).await,
            Ok(Owner::Nobody) => {
                self.counted_on.invalidate(&digest).await;
                self.proven.invalidate(&digest).await;
            }
            Ok(Owner::CountedOn(_)) | Err(_) => {}
        }
    }

    async fn ask(&self, credential: &str) -> Result<Owner, AuthnError> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {credential}"))
            .map_err(|_| AuthnError::Invalid)?;
        bearer.set_sensitive(true);
        let request = Request::post(format!("{}/graphql", self.catalog.registry))
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from_static(br#"{"query":"{ me { name } }"}"#)))
            .map_err(|_| AuthnError::Invalid)?;
        match self.outbound.answer(request).await {
            Ok(answer) => judge(answer.status(), answer.body()).ok_or_else(|| {
                let (status, origin) = (answer.status(), &self.catalog.origin);
                tracing::warn!(%status, origin, "a catalog gave no verdict");
                unavailable(retry_after(answer.headers(), Timestamp::now()))
            }),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    origin = self.catalog.origin,
                    "a catalog cannot be asked"
                );
                Err(unavailable(None))
            }
        }
    }
}

fn unavailable(retry_after: Option<u32>) -> AuthnError {
    AuthnError::ProviderUnavailable { who: "the catalog".into(), retry_after }
}

#[derive(Deserialize)]
struct Answer {
    data: Option<AnswerData>,
    /// What went wrong, with all of it or with a part.
    errors: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct AnswerData {
    me: Option<Me>,
}

#[derive(Deserialize)]
struct Me {
    name: String,
}

/// What an answer says; none if it says nothing about the credential. `me: null` is a clear no, unless something went wrong:
/// what failed is null too (GraphQL, 6.4.4), whoever asked for it.
fn judge(status: StatusCode, body: &[u8]) -> Option<Owner> {
    match status {
        StatusCode::OK => {
            let answer: Answer = serde_json::from_slice(body).ok()?;
            let has_failed = answer.errors.is_some_and(|errors| !errors.is_empty());
            match answer.data?.me {
                Some(me) if !me.name.is_empty() => Some(Owner::Known(me.name)),
                _ if has_failed => None,
                _ => Some(Owner::Nobody),
            }
        }
        StatusCode::UNAUTHORIZED => Some(Owner::Nobody),
        StatusCode::FORBIDDEN => Some(Owner::NotAllowed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{net::TcpListener, task::JoinSet, time::timeout};

    const SOON: Duration = Duration::from_secs(2);

    /// What asks a catalog that takes connections and says nothing, one unproven credential at a time while one waits.
    async fn silent() -> (TcpListener, Arc<Introspector>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut asking = Introspector::new(
            ProviderName::parse("p").unwrap(),
            Introspection { origin: origin.clone(), registry: origin, ca_bundle: None },
            Outbound::new(crypto, None).unwrap(),
        );
        asking.unproven = Unproven::new(1, 1);
        (listener, Arc::new(asking))
    }

    fn asked(asking: &mut JoinSet<()>, of: &Arc<Introspector>, credential: &'static str) {
        let of = of.clone();
        asking.spawn(async move {
            let _ = of.owner(credential, Digest::of(credential.as_bytes())).await;
        });
    }

    #[tokio::test]
    async fn one_that_was_good_lately_waits_for_none_that_nobody_has_proven() {
        let (listener, introspector) = silent().await;
        let mut asking = JoinSet::new();
        asked(&mut asking, &introspector, "first");
        let _first = timeout(SOON, listener.accept()).await.unwrap().unwrap();
        asked(&mut asking, &introspector, "second");
        tokio::task::yield_now().await;
        // there is no room for another one, which is told so before the catalog could be tired of
        let third = introspector.owner("third", Digest::of(b"third"));
        let refused = timeout(SOON, third).await.expect("it waits").unwrap_err();
        assert!(matches!(refused, AuthnError::ProviderUnavailable { .. }), "{refused:?}");

        introspector.proven.insert(Digest::of(b"good"), ()).await;
        asked(&mut asking, &introspector, "good");
        timeout(SOON, listener.accept()).await.expect("it waits for the others").unwrap();
    }

    #[tokio::test]
    async fn who_is_shut_out_is_not_counted_on_and_who_is_nobody_is_not_proven_either() {
        let (_, introspector) = silent().await;
        let digest = Digest::of(b"credential");
        for (answer, is_counted_on, is_proven) in [
            (Err(AuthnError::Invalid), false, false),
            (Ok(Owner::Known("alice".into())), true, true),
            (Err(unavailable(None)), true, true),
            (Ok(Owner::NotAllowed), false, true),
            (Ok(Owner::Nobody), false, false),
        ] {
            introspector.learn(digest, &answer).await;
            let counted_on = introspector.counted_on.contains_key(&digest);
            let known = (counted_on, introspector.proven.contains_key(&digest));
            assert_eq!(known, (is_counted_on, is_proven), "{answer:?}");
        }
    }

    #[test]
    fn only_a_name_is_an_owner_and_only_a_clear_no_is_nobody() {
        let said =
            |status: u16, body: &str| judge(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        let known = Some(Owner::Known("alice".into()));
        assert_eq!(said(200, r#"{"data":{"me":{"name":"alice"}}}"#), known);
        assert_eq!(said(200, r#"{"data":{"me":null}}"#), Some(Owner::Nobody));
        assert_eq!(said(200, r#"{"data":{"me":{"name":""}}}"#), Some(Owner::Nobody));
        for no_errors in ["null", "[]"] {
            let no = format!(r#"{{"data":{{"me":null}},"errors":{no_errors}}}"#);
            assert_eq!(said(200, &no), Some(Owner::Nobody), "{no}");
        }
        let beside = r#"{"data":{"me":{"name":"alice"}},"errors":[{"message":"x"}]}"#;
        assert_eq!(said(200, beside), Some(Owner::Known("alice".into())));
        assert_eq!(said(401, ""), Some(Owner::Nobody));
        assert_eq!(said(403, ""), Some(Owner::NotAllowed));
        for (status, body) in [
            (500, ""),
            (429, ""),
            (302, ""),
            (200, "<html>"),
            (200, r#"{"errors":[{"message":"x"}],"data":null}"#),
            (200, r#"{"errors":[{"message":"x","path":["me"]}],"data":{"me":null}}"#),
            (200, r#"{"errors":{},"data":{"me":null}}"#),
        ] {
            assert_eq!(said(status, body), None, "{status} {body}");
        }
    }
}
