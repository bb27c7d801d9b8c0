//! The sessions that this worker knows, by the ids that clients hold, and those that are over. Bounded. It must not know
//! what an id says, or requests.

use super::event_ids::EventIds;
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
    /// The server's side. Held while it begins and while it ends, so that each is once.
    pub(super) own: tokio::sync::Mutex<Own>,
    used: Mutex<Instant>,
}

/// The server's side of a session.
#[derive(Debug, Clone)]
pub(super) enum Own {
    /// The server has it, or is to say that it has not.
    Here(OwnSession),
    /// The server does not have it.
    Lost,
    /// It is over: its client ended it, or it cannot go on.
    Over,
}

/// A session as the server knows it.
#[derive(Debug, Clone)]
pub(super) struct OwnSession {
    /// The server's own id.
    pub(super) id: HeaderValue,
    /// The events that it has said since it was begun in another's place; none where its client began it.
    pub(super) events: Option<Arc<EventIds>>,
}

impl Entry {
    /// The server does not have it any more under this id.
    pub(super) async fn lose(&self, lost: &HeaderValue) {
        let mut own = self.own.lock().await;
        if matches!(&*own, Own::Here(session) if session.id == lost) {
            *own = Own::Lost;
        }
    }
}

/// What is known of an id.
#[derive(Debug)]
pub(super) enum Found {
    Entry(Arc<Entry>),
    /// It is over.
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
        self.0.lock().find(id)
    }

    /// Keeps an id whose session the server has just begun.
    pub(super) fn begin(&self, id: &str, opening: Option<Opening>, own: HeaderValue) {
        let own = Own::Here(OwnSession { id: own, events: None });
        self.0.lock().insert(id, Entry::new(opening, own));
    }

    /// Keeps an id whose session another worker's server had, unless it is known by now; none where it is over.
    pub(super) fn take_up(&self, id: &str, opening: Opening) -> Option<Arc<Entry>> {
        let mut ids = self.0.lock();
        match ids.find(id) {
            Found::Entry(entry) => Some(entry),
            Found::Ended => None,
            Found::Nothing => Some(ids.insert(id, Entry::new(Some(opening), Own::Lost))),
        }
    }

    /// Its session is nowhere; what its id says may be read again.
    pub(super) fn forget(&self, id: &str, entry: &Arc<Entry>) {
        let mut ids = self.0.lock();
        // it may have been forgotten for another's sake, and read again since
        if ids.by_id.get(id).is_some_and(|known| Arc::ptr_eq(known, entry)) {
            ids.by_id.remove(id);
        }
    }

    /// It is over, and stays so here, whatever its id says.
    pub(super) fn end(&self, id: &str) {
        let mut ids = self.0.lock();
        ids.by_id.remove(id);
        if ids.ended.len() >= MAX_ENDED {
            ids.ended.pop_front();
        }
        ids.ended.push_back(Digest::of(id.as_bytes()));
    }

    /// It goes on, since its server would not end it.
    pub(super) fn restore(&self, id: &str, entry: &Arc<Entry>) {
        let mut ids = self.0.lock();
        let digest = Digest::of(id.as_bytes());
        ids.ended.retain(|ended| *ended != digest);
        ids.insert(id, Arc::clone(entry));
    }
}

impl Entry {
    fn new(opening: Option<Opening>, own: Own) -> Arc<Self> {
        let (own, used) = (tokio::sync::Mutex::new(own), Mutex::new(Instant::now()));
        Arc::new(Self { opening, own, used })
    }
}

impl Ids {
    fn find(&self, id: &str) -> Found {
        if let Some(entry) = self.by_id.get(id) {
            *entry.used.lock() = Instant::now();
            return Found::Entry(Arc::clone(entry));
        }
        if self.ended.contains(&Digest::of(id.as_bytes())) { Found::Ended } else { Found::Nothing }
    }

    fn insert(&mut self, id: &str, entry: Arc<Entry>) -> Arc<Entry> {
        if self.by_id.len() >= MAX_KNOWN {
            let oldest = self.by_id.iter().min_by_key(|(_, entry)| *entry.used.lock());
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.by_id.remove(&oldest);
            }
        }
        self.by_id.insert(id.to_owned(), Arc::clone(&entry));
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use patchbay_core::id::Epoch;

    fn opening() -> Opening {
        Opening {
            params: "{}".into(),
            version: "2025-11-25".into(),
            facts: [0; 16],
            epoch: Epoch(1),
            ends_at: Timestamp::MAX,
        }
    }

    #[test]
    fn what_was_ended_stays_ended_and_what_was_forgotten_may_come_again() {
        let known = Known::default();
        let first = known.take_up("a", opening()).unwrap();
        assert!(matches!(known.find("a"), Found::Entry(_)));
        known.forget("a", &first);
        assert!(matches!(known.find("a"), Found::Nothing));
        let entry = known.take_up("a", opening()).unwrap();
        known.forget("a", &first);
        assert!(matches!(known.find("a"), Found::Entry(_)));
        known.end("a");
        assert!(matches!(known.find("a"), Found::Ended));
        assert!(known.take_up("a", opening()).is_none());
        known.restore("a", &entry);
        assert!(matches!(known.find("a"), Found::Entry(found) if Arc::ptr_eq(&found, &entry)));
        known.forget("a", &entry);
        assert!(matches!(known.find("a"), Found::Nothing));
    }

    #[test]
    fn an_id_that_two_requests_bring_at_once_is_one_session() {
        let known = Known::default();
        let [one, other] = [(), ()].map(|()| known.take_up("a", opening()).unwrap());
        assert!(Arc::ptr_eq(&one, &other));
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_the_one_unused_for_longest_is_forgotten() {
        let known = Known::default();
        for number in 0..MAX_KNOWN {
            known.take_up(&number.to_string(), opening());
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
        }
        assert!(matches!(known.find("0"), Found::Entry(_)));
        known.take_up("one more", opening());
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
        known.begin("a", None, HeaderValue::from_static("new"));
        let Found::Entry(entry) = known.find("a") else { panic!("it is known") };
        entry.lose(&HeaderValue::from_static("old")).await;
        assert!(matches!(&*entry.own.lock().await, Own::Here(_)));
        entry.lose(&HeaderValue::from_static("new")).await;
        assert!(matches!(&*entry.own.lock().await, Own::Lost));
    }
}
