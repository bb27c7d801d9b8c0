//! What is made for users and ends, such as keys and tokens: made once for all who want the same at one moment, few at a time,
//! and kept until it is time for a newer one. Failures are shared by those who waited, and not kept.
//!
//! This module must not know what is made, or how.

use jiff::{SignedDuration, Timestamp};
use moka::{Expiry, future::Cache};
use patchbay_core::digest::Digest;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Makings that are under way at a time.
pub(crate) const MOST_MADE: usize = 16;
/// How many are kept; one more is made again.
const MOST_KEPT: u64 = 10_000;

/// Something that ends.
pub(crate) trait Ends: Clone + Send + Sync + 'static {
    /// When a newer one should take its place.
    fn renewed_at(&self) -> Timestamp;
}

/// All that was made of one kind.
pub(crate) struct Kept<V> {
    made: Cache<Digest, V>,
    places: Semaphore,
}

struct WhileFresh;

impl<V: Ends> Expiry<Digest, V> for WhileFresh {
    fn expire_after_create(&self, _: &Digest, made: &V, _: std::time::Instant) -> Option<Duration> {
        let left = made.renewed_at().duration_since(Timestamp::now());
        Some(Duration::try_from(left).unwrap_or_default())
    }
}

impl<V: Ends> Default for Kept<V> {
    fn default() -> Self {
        let made = Cache::builder().max_capacity(MOST_KEPT).expire_after(WhileFresh).build();
        Self { made, places: Semaphore::new(MOST_MADE) }
    }
}

impl<V: Ends> Kept<V> {
    /// What is kept under this digest, or what `making` makes.
    pub(crate) async fn get<E: Send + Sync + 'static>(
        &self,
        wanted: Digest,
        making: impl Future<Output = Result<V, E>> + Send,
    ) -> Result<V, Arc<E>> {
        // the cache's clock stands still while a machine sleeps, and what is kept ends all the same
        let is_over = |kept: V| kept.renewed_at() <= Timestamp::now();
        if self.made.get(&wanted).await.is_some_and(is_over) {
            self.made.invalidate(&wanted).await;
        }
        let in_turn = async {
            // an error would say that the places were closed, which nobody does
            let _place = self.places.acquire().await.ok();
            making.await
        };
        self.made.try_get_with(wanted, in_turn).await
    }
}

/// How long something that lives for `life` is handed out: until so long before its end, and at least for half of it.
pub(crate) fn fresh_for(life: SignedDuration, ahead: SignedDuration) -> SignedDuration {
    life - ahead.min(life / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    /// Its end may come sooner than it said: so it looks where a clock stood still.
    #[derive(Debug, Clone)]
    struct Made(usize, Arc<AtomicI64>);

    impl Ends for Made {
        fn renewed_at(&self) -> Timestamp {
            Timestamp::from_second(self.1.load(Ordering::SeqCst)).unwrap()
        }
    }

    /// Counts what it makes.
    #[derive(Default)]
    struct Maker(AtomicUsize);

    impl Maker {
        async fn make(&self) -> Result<Made, ()> {
            let count = self.0.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let end = Timestamp::now().as_second() + 3600;
            Ok(Made(count, Arc::new(AtomicI64::new(end))))
        }
    }

    fn wanted(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    #[tokio::test]
    async fn what_many_want_at_one_moment_is_made_once_and_kept() {
        let (kept, maker) = (Kept::default(), Maker::default());
        let get = || kept.get(wanted("a"), maker.make());
        let (one, other) = tokio::join!(get(), get());
        assert_eq!([one.unwrap().0, other.unwrap().0, get().await.unwrap().0], [0, 0, 0]);
        assert_eq!(kept.get(wanted("b"), maker.make()).await.unwrap().0, 1);
    }

    #[tokio::test]
    async fn what_ended_while_the_machine_slept_is_not_handed_out() {
        let (kept, maker) = (Kept::default(), Maker::default());
        let first = kept.get(wanted("a"), maker.make()).await.unwrap();
        // by the cache's own clock it is fresh
        first.1.store(Timestamp::now().as_second(), Ordering::SeqCst);
        assert_eq!(kept.get(wanted("a"), maker.make()).await.unwrap().0, 1);
    }

    #[tokio::test]
    async fn those_who_waited_share_a_failure_and_the_next_one_asks_again() {
        let (kept, asked) = (Kept::<Made>::default(), AtomicUsize::default());
        let failing = || async {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Err::<Made, _>("away")
        };
        let get = || kept.get(wanted("a"), failing());
        let (one, other) = tokio::join!(get(), get());
        assert_eq!([*one.unwrap_err(), *other.unwrap_err()], ["away"; 2]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(get().await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn few_are_made_at_a_time() {
        let (kept, asked) = (Kept::<Made>::default(), AtomicUsize::default());
        let wanting = (0..=MOST_MADE).map(|name| {
            let making = async {
                asked.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<Result<Made, ()>>().await
            };
            Box::pin(kept.get(wanted(&name.to_string()), making))
        });
        let mut wanting: Vec<_> = wanting.collect();
        for one in &mut wanting {
            tokio::select! {
                biased;
                _ = one => panic!("it was made"),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), MOST_MADE);
    }

    #[test]
    fn a_short_life_is_used_for_half_of_it() {
        let fresh = |life, ahead| {
            fresh_for(SignedDuration::from_secs(life), SignedDuration::from_secs(ahead)).as_secs()
        };
        assert_eq!(fresh(3600, 1200), 2400);
        assert_eq!([fresh(900, 1200), fresh(600, 300), fresh(0, 300)], [450, 300, 0]);
    }
}
