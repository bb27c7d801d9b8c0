//! One issuer's keys: fetched when first needed, and again when a token names a key that is not there.
//!
//! The last good set is kept whatever happens to later fetches. A token with a made-up key id costs at
//! most one fetch in half a minute, for all such tokens together. Keys of which nothing tells that they
//! changed are looked at from time to time. This module must not know tokens.

use super::{
    AuthnError,
    key_material::{self, Form, VerificationKey},
    key_source::KeySetSource,
};
use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use patchbay_core::digest::Digest;
use secrecy::ExposeSecret;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// An unknown key id makes at most one fetch in this time.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);
/// A set is fetched again after this time, so that a withdrawn key is noticed.
const MAX_AGE: Duration = Duration::from_mins(10);

/// A set of keys, as it was fetched.
pub(super) struct KeySet {
    /// Another set has another number: verdicts made with it end.
    pub(super) generation: u64,
    /// Tells one set from another.
    digest: Digest,
    keys: Arc<[VerificationKey]>,
    fetched: Instant,
}

impl KeySet {
    /// The key for a token that names it so and is signed so.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&VerificationKey> {
        key_material::find(&self.keys, id, algorithm)
    }
}

/// The keys of one issuer.
pub(super) struct Jwks {
    issuer: String,
    source: Arc<dyn KeySetSource>,
    form: Form,
    current: ArcSwapOption<KeySet>,
    generations: AtomicU64,
    /// When the last fetch began; also makes fetches one at a time.
    last_fetch: tokio::sync::Mutex<Option<Instant>>,
    /// Why the last one failed; each reason is told once.
    problem: Mutex<String>,
}

impl Jwks {
    pub(super) fn new(issuer: String, source: Arc<dyn KeySetSource>, form: Form) -> Self {
        Self {
            issuer,
            source,
            form,
            current: ArcSwapOption::empty(),
            generations: AtomicU64::new(0),
            last_fetch: tokio::sync::Mutex::new(None),
            problem: Mutex::default(),
        }
    }

    /// Looks at keys now and again, where they have to be looked at; until what is returned is dropped.
    pub(super) fn looked_at(self: &Arc<Self>) -> Option<AbortOnDropHandle<()>> {
        let (every, jwks) = (self.source.look_every()?, self.clone());
        let look = async move {
            loop {
                {
                    let mut last_fetch = jwks.last_fetch.lock().await;
                    *last_fetch = Some(Instant::now());
                    jwks.fetch().await;
                }
                sleep(every).await;
            }
        };
        Some(AbortOnDropHandle::new(tokio::spawn(look)))
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
        let current = self.current.load_full();
        let known = current.as_ref().filter(|set| set.find(id, algorithm).is_some());
        if let Some(set) = known.filter(|set| set.fetched.elapsed() < MAX_AGE) {
            return Ok(set.clone());
        }
        // who has an old set of use does not wait for another's fetch: an issuer that is away would hold up everybody
        let mut last_fetch = match (known, self.last_fetch.try_lock()) {
            (_, Ok(last_fetch)) => last_fetch,
            (Some(set), Err(_)) => return Ok(set.clone()),
            (None, Err(_)) => self.last_fetch.lock().await,
        };
        // another request may have fetched while this one waited
        let is_newer = match (&current, &self.current.load_full()) {
            (Some(before), Some(now)) => before.fetched != now.fetched,
            (None, now) => now.is_some(),
            (Some(_), None) => false,
        };
        let may_fetch = last_fetch.is_none_or(|at| at.elapsed() >= REFRESH_PAUSE);
        if !is_newer && may_fetch {
            *last_fetch = Some(Instant::now());
            self.fetch().await;
        }
        drop(last_fetch);
        // the last good set, however old, rather than none
        self.current.load_full().ok_or_else(|| AuthnError::ProviderUnavailable {
            who: "the key of the token's issuer".into(),
            retry_after: None,
        })
    }

    /// Fetches the set that is there now. The caller holds `last_fetch`.
    async fn fetch(&self) {
        let fetched = match self.source.key_set().await {
            Ok(material) => self.taken(material.expose_secret()),
            Err(why) => Err(why),
        };
        let why = fetched.err().unwrap_or_default();
        let mut problem = self.problem.lock();
        if !why.is_empty() && *problem != why {
            let kept = self.current.load().is_some();
            tracing::warn!(issuer = self.issuer, why, kept, "cannot get the issuer's keys");
        }
        *problem = why;
    }

    /// Takes what was fetched, if it can be used. The same again changes nothing but its age.
    fn taken(&self, material: &[u8]) -> Result<(), String> {
        let (digest, fetched) = (Digest::of(material), Instant::now());
        let current = self.current.load_full();
        let (generation, keys) = match current.filter(|set| set.digest == digest) {
            Some(set) => (set.generation, set.keys.clone()),
            None => self.new_set(material)?,
        };
        let set = KeySet { generation, digest, keys, fetched };
        self.current.store(Some(Arc::new(set)));
        Ok(())
    }

    fn new_set(&self, material: &[u8]) -> Result<(u64, Arc<[VerificationKey]>), String> {
        let keys: Arc<[_]> = key_material::parse(self.form, material)?.into();
        tracing::info!(issuer = self.issuer, keys = keys.len(), "the issuer's keys are in use");
        Ok((self.generations.fetch_add(1, Ordering::Relaxed), keys))
    }
}

/// Why what a source holds now cannot be used, if it cannot.
pub(super) async fn unusable(source: &dyn KeySetSource, form: Form) -> Option<String> {
    match source.key_set().await {
        Ok(material) => key_material::parse(form, material.expose_secret()).err(),
        Err(why) => Some(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use secrecy::SecretSlice;

    /// A Secret whose entry may change, or be gone.
    struct Entry(Mutex<Option<Vec<u8>>>);

    #[async_trait]
    impl KeySetSource for Entry {
        async fn key_set(&self) -> Result<SecretSlice<u8>, String> {
            self.0.lock().clone().map(Into::into).ok_or_else(|| "it is gone".into())
        }

        fn look_every(&self) -> Option<Duration> {
            Some(Duration::from_mins(1))
        }
    }

    const HS256: Algorithm = Algorithm::HS256;

    #[tokio::test(start_paused = true)]
    async fn a_key_that_rolls_is_in_use_a_minute_later_and_the_last_good_one_stays() {
        let entry = Arc::new(Entry(Mutex::new(Some(vec![1; 32]))));
        let jwks = Arc::new(Jwks::new("i".into(), entry.clone(), Form::Shared));
        let _looked_at = jwks.looked_at();
        let first = jwks.set_for(None, HS256).await.unwrap().generation;
        // read again and the same: verdicts stay
        sleep(Duration::from_secs(61)).await;
        assert_eq!(jwks.generation(), Some(first));
        *entry.0.lock() = Some(vec![2; 32]);
        sleep(Duration::from_secs(61)).await;
        let second = jwks.generation().unwrap();
        assert_ne!(first, second);
        for bad in [Some(vec![3; 31]), None] {
            *entry.0.lock() = bad;
            sleep(Duration::from_secs(61)).await;
            assert_eq!(jwks.set_for(None, HS256).await.unwrap().generation, second);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_usable_key_nobody_is_judged_until_there_is_one() {
        let entry = Arc::new(Entry(Mutex::new(None)));
        let jwks = Arc::new(Jwks::new("i".into(), entry.clone(), Form::Shared));
        let _looked_at = jwks.looked_at();
        let refused = jwks.set_for(None, HS256).await.err();
        assert!(matches!(refused, Some(AuthnError::ProviderUnavailable { .. })));
        assert_eq!(jwks.generation(), None);
        *entry.0.lock() = Some(vec![1; 32]);
        sleep(Duration::from_secs(61)).await;
        assert!(jwks.set_for(None, HS256).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_for_a_provider_that_is_gone() {
        let entry = Arc::new(Entry(Mutex::new(Some(vec![1; 32]))));
        let jwks = Arc::new(Jwks::new("i".into(), entry.clone(), Form::Shared));
        drop(jwks.looked_at());
        drop(jwks);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&entry), 1);
    }
}
