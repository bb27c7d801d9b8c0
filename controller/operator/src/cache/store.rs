//! What is known of all objects of one kind: from the events of a watch to records by class and name, and as of when
//! they are complete.
//!
//! A watch shows what changed; only a list shows what is not there (see [`crate::worker_class::Freshness`]). The
//! lists here are consistent ones, so what had been written before one was asked for is in it. This module must not
//! know clients.

use jiff::Timestamp;
use kube::runtime::watcher::Event;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What is kept of an object.
pub trait Record: Sized {
    /// The object, as it is read from a watch.
    type Object;

    /// What is kept of an object.
    fn read(object: Self::Object) -> Result<Self, Unread>;
    /// The object's name, which the namespace has once.
    fn name(&self) -> &str;
    /// The class that it is of.
    fn class(&self) -> &str;
    /// This life of the object.
    fn uid(&self) -> &str;
    /// Its `resourceVersion`.
    fn version(&self) -> &str;
}

/// An object of which nothing can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Its name.
    pub name: String,
    /// Why.
    pub error: String,
}

/// A change of a record: what it was, and what it is.
#[derive(Debug)]
pub struct Change<R> {
    /// What it was; none = it is new.
    pub before: Option<Arc<R>>,
    /// What it is; none = it is gone.
    pub after: Option<Arc<R>>,
}

/// The records of a kind.
#[derive(Debug)]
pub struct Store<R> {
    classes: BTreeMap<String, BTreeMap<String, Arc<R>>>,
    class_of: HashMap<String, String>,
    unread: BTreeMap<String, String>,
    /// The list that is arriving.
    listing: Option<Listing<R>>,
    listed: Option<Timestamp>,
}

/// A list that is arriving.
#[derive(Debug)]
struct Listing<R> {
    /// When it was asked for.
    asked: Timestamp,
    /// What has come of it.
    records: Vec<Result<R, Unread>>,
    /// What writes have answered of meanwhile: the list may be from before them.
    answered: BTreeSet<String>,
}

impl<R> Default for Store<R> {
    fn default() -> Self {
        Self {
            classes: BTreeMap::new(),
            class_of: HashMap::new(),
            unread: BTreeMap::new(),
            listing: None,
            listed: None,
        }
    }
}

impl<R: Record> Store<R> {
    /// When the last whole list was asked for; none = there was none yet.
    pub const fn listed(&self) -> Option<Timestamp> {
        self.listed
    }

    /// As of when the records are complete. They never are while there is an object that cannot be read.
    pub fn complete_as_of(&self) -> Timestamp {
        if self.unread.is_empty() { self.listed.unwrap_or(Timestamp::MIN) } else { Timestamp::MIN }
    }

    /// The objects that cannot be read, and why.
    pub const fn unread(&self) -> &BTreeMap<String, String> {
        &self.unread
    }

    /// The classes of which there are records.
    pub fn classes(&self) -> impl Iterator<Item = &String> {
        self.classes.keys()
    }

    /// The records of a class.
    pub fn of_class(&self, class: &str) -> impl Iterator<Item = &Arc<R>> {
        self.classes.get(class).into_iter().flat_map(BTreeMap::values)
    }

    /// A record.
    pub fn get(&self, name: &str) -> Option<&Arc<R>> {
        self.classes.get(self.class_of.get(name)?)?.get(name)
    }

    /// Takes an event of a watch. Returns what it changes; a whole list is one event.
    pub fn take(&mut self, event: Event<R::Object>, now: Timestamp) -> Vec<Change<R>> {
        match event {
            Event::Init => {
                let (records, answered) = (Vec::new(), BTreeSet::new());
                self.listing = Some(Listing { asked: now, records, answered });
                Vec::new()
            }
            Event::InitApply(object) => {
                let read = R::read(object);
                if let Some(listing) = &mut self.listing {
                    listing.records.push(read);
                }
                Vec::new()
            }
            Event::InitDone => self.replace(),
            Event::Apply(object) => self.put(object).into_iter().collect(),
            Event::Delete(object) => {
                let (name, uid) = match R::read(object) {
                    Ok(record) => (record.name().to_owned(), Some(record.uid().to_owned())),
                    Err(unread) => (unread.name, None),
                };
                self.unread.remove(&name);
                // another life of this name may have come first
                let is_known = self
                    .get(&name)
                    .is_some_and(|known| uid.as_deref().is_none_or(|uid| uid == known.uid()));
                let before = if is_known { self.remove(&name) } else { None };
                before
                    .map(|before| Change { before: Some(before), after: None })
                    .into_iter()
                    .collect()
            }
        }
    }

    /// Takes an object as the answer to a write shows it. One that is not known has gone before the answer came: the watch
    /// has said so, and would not say again that it is gone.
    pub fn answered(&mut self, object: R::Object) -> Option<Change<R>> {
        let record = R::read(object).ok()?;
        let is_known = self.get(record.name()).is_some_and(|known| known.uid() == record.uid());
        if !is_known {
            return None;
        }
        if let Some(listing) = &mut self.listing {
            listing.answered.insert(record.name().to_owned());
        }
        self.insert(record)
    }

    /// Takes an object as a watch shows it. An older state than what is known is none.
    pub fn put(&mut self, object: R::Object) -> Option<Change<R>> {
        match R::read(object) {
            Ok(record) => self.insert(record),
            Err(Unread { name, error }) => {
                self.unread.insert(name, error);
                None
            }
        }
    }

    fn insert(&mut self, record: R) -> Option<Change<R>> {
        let is_stale = self.get(record.name()).is_some_and(|known| {
            known.uid() == record.uid() && is_as_new(known.version(), record.version())
        });
        if is_stale {
            return None;
        }
        self.unread.remove(record.name());
        let before = self.remove(record.name());
        let after = Arc::new(record);
        self.keep(&after);
        Some(Change { before, after: Some(after) })
    }

    fn keep(&mut self, record: &Arc<R>) {
        let (name, class) = (record.name().to_owned(), record.class().to_owned());
        self.class_of.insert(name.clone(), class.clone());
        self.classes.entry(class).or_default().insert(name, Arc::clone(record));
    }

    fn remove(&mut self, name: &str) -> Option<Arc<R>> {
        let class = self.class_of.remove(name)?;
        let records = self.classes.get_mut(&class)?;
        let removed = records.remove(name);
        if records.is_empty() {
            self.classes.remove(&class);
        }
        removed
    }

    /// Puts a whole list in the place of what is known.
    fn replace(&mut self) -> Vec<Change<R>> {
        let Some(Listing { asked, records, answered }) = self.listing.take() else {
            return Vec::new();
        };
        let old = std::mem::take(&mut self.classes);
        self.class_of.clear();
        self.unread.clear();
        let mut old: BTreeMap<String, Arc<R>> = old.into_values().flatten().collect();
        let mut changes = Vec::new();
        for read in records {
            match read {
                Ok(record) => {
                    let before = old.remove(record.name());
                    let is_kept = before.as_ref().is_some_and(|before| {
                        let (known, listed) = (before.version(), record.version());
                        let is_later = answered.contains(record.name()) && is_as_new(known, listed);
                        before.uid() == record.uid() && (known == listed || is_later)
                    });
                    if let (Some(before), true) = (&before, is_kept) {
                        self.keep(before);
                        continue;
                    }
                    let after = Arc::new(record);
                    self.keep(&after);
                    changes.push(Change { before, after: Some(after) });
                }
                Err(Unread { name, error }) => {
                    // what was known of it is better than nothing
                    if let Some(known) = old.remove(&name) {
                        self.keep(&known);
                    }
                    self.unread.insert(name, error);
                }
            }
        }
        changes.extend(old.into_values().map(|gone| Change { before: Some(gone), after: None }));
        self.listed = Some(asked);
        changes
    }

    /// The names of all classes of these changes.
    pub fn touched(changes: &[Change<R>]) -> BTreeSet<String> {
        let sides = changes.iter().flat_map(|change| [&change.before, &change.after]);
        sides.flatten().map(|record| record.class().to_owned()).collect()
    }
}

/// Whether `known` is `seen`, or a later version than it. Versions of one kind are numbers that grow; what is none is taken
/// as it comes.
fn is_as_new(known: &str, seen: &str) -> bool {
    match (known.parse::<u64>(), seen.parse::<u64>()) {
        (Ok(known), Ok(seen)) => known >= seen,
        _ => false,
    }
}
