//! The sessions that this worker knows, by the ids that clients hold, and those that their clients ended. Bounded. It must
//! not know what an id says, or requests.

use http::HeaderValue;
use parking_lot::Mutex;
use patchbay_core::{digest::Digest, session::Opening};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use tokio::time::Instant;

/// More than any client has; one that is forgotten is taken up again where it can be.
const MAX_KNOWN: usize = 1024;
const MAX_ENDED: usize = 4096;

/// A session.
#[derive(Debug)]
pub(super) struct Entry {
    /// What another session of the server begins with; none where this one cannot go on in another.
    pub(super) opening: Option<Opening>,
    /// The server's own id; none where the server does not have it. Held while it begins, so that it begins once.
    pub(super) own: tokio::sync::Mutex<Option<HeaderValue>>,
    used: Mutex<Instant>,
}

impl Entry {
    /// The server does not have it any more under this id.
    pub(super) async fn lose(&self, lost: &HeaderValue) {
        let mut own = self.own.lock().await;
        if own.as_ref() == Some(lost) {
            *own = None;
        }
    }
}

/// What is known of an id.
#[derive(Debug)]
pub(super) enum Found {
    Entry(Arc<Entry>),
    /// Its client ended it.
    Ended,
    Nothing,
}

/// The sessions that live, and those that are over.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Ids>);

#[derive(Debug, Default)]
struct Ids {
    by_id: HashMap<String, Arc<Entry>>,
    /// In the order in which they ended.
    ended: VecDeque<Digest>,
}

impl Known {
    /// What is known of an id.
    pub(super) fn find(&self, id: &str) -> Found {
        let ids = self.0.lock();
        if let Some(entry) = ids.by_id.get(id) {
            *entry.used.lock() = Instant::now();
            return Found::Entry(Arc::clone(entry));
        }
        if ids.ended.contains(&Digest::of(id.as_bytes())) { Found::Ended } else { Found::Nothing }
    }

    /// Keeps an id, unless it is known by now.
    pub(super) fn add(
        &self,
        id: &str,
        opening: Option<Opening>,
        own: Option<HeaderValue>,
    ) -> Arc<Entry> {
        let mut ids = self.0.lock();
        if let Some(entry) = ids.by_id.get(id) {
            return Arc::clone(entry);
        }
        if ids.by_id.len() >= MAX_KNOWN {
            let oldest = ids.by_id.iter().min_by_key(|(_, entry)| *entry.used.lock());
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                ids.by_id.remove(&oldest);
            }
        }
        let used = Mutex::new(Instant::now());
        let entry = Arc::new(Entry { opening, own: tokio::sync::Mutex::new(own), used });
        ids.by_id.insert(id.to_owned(), Arc::clone(&entry));
        entry
    }

    /// Its session is nowhere; what its id says may be read again.
    pub(super) fn forget(&self, id: &str) {
        self.0.lock().by_id.remove(id);
    }

    /// Its client ended it: it stays dead here, whatever its id says.
    pub(super) fn end(&self, id: &str) {
        let mut ids = self.0.lock();
        ids.by_id.remove(id);
        if ids.ended.len() >= MAX_ENDED {
            ids.ended.pop_front();
        }
        ids.ended.push_back(Digest::of(id.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ended_stays_ended_and_what_was_forgotten_may_come_again() {
        let known = Known::default();
        known.add("a", None, None);
        assert!(matches!(known.find("a"), Found::Entry(_)));
        known.forget("a");
        assert!(matches!(known.find("a"), Found::Nothing));
        known.add("a", None, None);
        known.end("a");
        assert!(matches!(known.find("a"), Found::Ended));
    }

    #[test]
    fn an_id_that_two_requests_bring_at_once_is_one_session() {
        let known = Known::default();
        assert!(Arc::ptr_eq(&known.add("a", None, None), &known.add("a", None, None)));
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_the_one_unused_for_longest_is_forgotten() {
        let known = Known::default();
        for number in 0..MAX_KNOWN {
            known.add(&number.to_string(), None, None);
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
        }
        assert!(matches!(known.find("0"), Found::Entry(_)));
        known.add("one more", None, None);
        assert!(matches!(known.find("0"), Found::Entry(_)));
        assert!(matches!(known.find("1"), Found::Nothing));
        for number in 0..=MAX_ENDED {
            known.end(&number.to_string());
        }
        assert!(matches!(known.find("1"), Found::Ended));
    }

    #[tokio::test]
    async fn only_the_id_that_was_lost_is_let_go() {
        let known = Known::default();
        let entry = known.add("a", None, Some(HeaderValue::from_static("new")));
        entry.lose(&HeaderValue::from_static("old")).await;
        assert!(entry.own.lock().await.is_some());
        entry.lose(&HeaderValue::from_static("new")).await;
        assert!(entry.own.lock().await.is_none());
    }
}
