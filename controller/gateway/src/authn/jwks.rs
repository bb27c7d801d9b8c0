//! One issuer's keys: fetched when first needed, and again when a token names a key that is not there.
//!
//! The last good set is kept whatever happens to later fetches. A token with a made-up key id costs at
//! most one fetch in half a minute, for all such tokens together. This module must not know tokens.

use super::AuthnError;
use crate::outbound::Outbound;
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// An unknown key id makes at most one fetch in this time.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);
/// A set is fetched again after this time, so that a withdrawn key is noticed.
const MAX_AGE: Duration = Duration::from_mins(10);

/// Where a key set comes from.
#[async_trait]
pub trait KeySetSource: Send + Sync {
    /// The set as it is published now (RFC 7517), at most 64 KiB of JSON; or why there is none, in words for logs.
    async fn key_set(&self) -> Result<Bytes, String>;
}

/// A key set at a URL.
pub(super) struct Published {
    pub(super) url: String,
    pub(super) outbound: Outbound,
}

#[async_trait]
impl KeySetSource for Published {
    async fn key_set(&self) -> Result<Bytes, String> {
        let request = Request::get(&self.url)
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::new()))
            .map_err(|error| error.to_string())?;
        let (status, body) = self.outbound.ask(request).await.map_err(|error| error.to_string())?;
        if status == StatusCode::OK { Ok(body) } else { Err(format!("it answered {status}")) }
    }
}

/// One usable key.
pub(super) struct VerificationKey {
    id: Option<String>,
    /// The algorithm that the set reserves the key for.
    reserved: Option<String>,
    family: Family,
    pub(super) key: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A set of keys, as it was fetched.
pub(super) struct KeySet {
    /// Another set has another number: verdicts made with it end.
    pub(super) generation: u64,
    keys: Vec<VerificationKey>,
    fetched: Instant,
}

/// The keys of one issuer.
pub(super) struct Jwks {
    issuer: String,
    source: Arc<dyn KeySetSource>,
    current: ArcSwapOption<KeySet>,
    generations: AtomicU64,
    /// When the last fetch began; also makes fetches one at a time.
    last_fetch: tokio::sync::Mutex<Option<Instant>>,
}

impl Jwks {
    pub(super) fn new(issuer: String, source: Arc<dyn KeySetSource>) -> Self {
        Self {
            issuer,
            source,
            current: ArcSwapOption::empty(),
            generations: AtomicU64::new(0),
            last_fetch: tokio::sync::Mutex::new(None),
        }
    }

    /// The number of the current set.
    pub(super) fn generation(&self) -> Option<u64> {
        let set = self.current.load();
        set.as_ref().filter(|set| set.fetched.elapsed() < MAX_AGE).map(|set| set.generation)
    }

    /// A set that has a key for this id and algorithm, fetched again if need be.
    pub(super) async fn set_for(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<KeySet>, AuthnError> {
        let wanted = |set: &KeySet| set.find(id, algorithm).is_some();
        let current = self.current.load_full();
        if let Some(set) = &current
            && set.fetched.elapsed() < MAX_AGE
            && wanted(set)
        {
            return Ok(set.clone());
        }
        let mut last_fetch = self.last_fetch.lock().await;
        // another request may have fetched while this one waited
        let now_current = self.current.load_full();
        let is_newer = match (&current, &now_current) {
            (Some(before), Some(now)) => before.generation != now.generation,
            (None, now) => now.is_some(),
            (Some(_), None) => false,
        };
        let may_fetch = last_fetch.is_none_or(|at| at.elapsed() >= REFRESH_PAUSE);
        if !is_newer && may_fetch {
            *last_fetch = Some(Instant::now());
            match self.fetch().await {
                Ok(set) => self.current.store(Some(Arc::new(set))),
                Err(why) => {
                    tracing::warn!(issuer = self.issuer, why, "cannot fetch the issuer's keys");
                }
            }
        }
        drop(last_fetch);
        // the last good set, however old, rather than none
        self.current
            .load_full()
            .ok_or_else(|| AuthnError::ProviderUnavailable("the token's issuer".into()))
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let keys = parse(&self.source.key_set().await?)?;
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        Ok(KeySet { generation, keys, fetched: Instant::now() })
    }
}

/// The usable keys of a set. Keys for encryption, of unknown types or with errors are passed over: an
/// issuer may publish keys that are meant for others.
fn parse(body: &[u8]) -> Result<Vec<VerificationKey>, String> {
    let set: JwkSet =
        serde_json::from_slice(body).map_err(|error| format!("it is no key set: {error}"))?;
    let keys: Vec<_> = set.keys.iter().filter_map(usable).collect();
    if keys.is_empty() { Err("it holds no key that verifies signatures".into()) } else { Ok(keys) }
}

fn usable(jwk: &Jwk) -> Option<VerificationKey> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Family::Rsa,
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => Family::P256,
            EllipticCurve::P384 => Family::P384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => Family::Ed25519,
        _ => return None,
    };
    Some(VerificationKey {
        id: jwk.common.key_id.clone(),
        reserved: jwk.common.key_algorithm.map(|algorithm| algorithm.to_string()),
        family,
        key: DecodingKey::from_jwk(jwk).ok()?,
    })
}

impl KeySet {
    /// The key with this very id, or the only one where a token names none; of the algorithm's family,
    /// and not reserved for another algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&VerificationKey> {
        let family = family_of(algorithm)?;
        let mut fitting = self.keys.iter().filter(|key| {
            let is_named = id.is_none() || key.id.as_deref() == id;
            let is_free = key.reserved.as_deref().is_none_or(|name| name == name_of(algorithm));
            is_named && is_free && key.family == family
        });
        let found = fitting.next()?;
        // several keys and none named: guessing would be trying
        if id.is_none() && fitting.next().is_some() { None } else { Some(found) }
    }
}

fn family_of(algorithm: Algorithm) -> Option<Family> {
    use Algorithm as A;
    match algorithm {
        A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Some(Family::Rsa),
        A::ES256 => Some(Family::P256),
        A::ES384 => Some(Family::P384),
        A::EdDSA => Some(Family::Ed25519),
        _ => None,
    }
}

fn name_of(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}
