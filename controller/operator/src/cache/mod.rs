//! What the operator sees of the cluster: classes, tenants, workers' pods and nodes, kept by watches.
//!
//! It says which classes have changed and as of when it is complete. Writers put the answers to their writes in,
//! so that the next decision is made from them. This module must not know what is decided.

mod feed;
mod nodes;
pub mod records;
pub mod store;

pub use self::{
    feed::{Feeds, Relister, WatchFailures},
    nodes::Nodes,
};

use self::{
    records::{ClassRecord, PodRecord, TenantRecord},
    store::{Record, Store},
};
use crate::worker_class::{Freshness, advice::Swap};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use parking_lot::Mutex;
use patchbay_crds::{Tenant, WorkerClass};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::{Notify, watch};

/// Everything that is seen.
#[derive(Debug, Default)]
pub struct Cache {
    kinds: Mutex<Kinds>,
    wakers: Mutex<BTreeMap<String, Arc<Notify>>>,
    /// A class is heard of for the first time.
    unheard: Notify,
    listed: watch::Sender<Listed>,
}

#[derive(Debug, Default)]
struct Kinds {
    classes: Store<ClassRecord>,
    tenants: Store<TenantRecord>,
    pods: Store<PodRecord>,
    nodes: Nodes,
}

/// When the last whole list of each kind was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Listed {
    /// Of classes.
    pub classes: Option<Timestamp>,
    /// Of tenants.
    pub tenants: Option<Timestamp>,
    /// Of pods.
    pub pods: Option<Timestamp>,
}

/// What is seen of one class at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The class; none = there is none of this name, or it cannot be read.
    pub class: Option<Arc<WorkerClass>>,
    /// Whether the class is there and cannot be read.
    pub is_unread: bool,
    /// Its tenants.
    pub tenants: Vec<Arc<TenantRecord>>,
    /// Its workers.
    pub pods: Vec<Arc<PodRecord>>,
    /// Nodes that take no new pods.
    pub cordoned: BTreeSet<String>,
    /// Which nodes may put memory on a disk.
    pub swap: Swap,
    /// As of when tenants and pods are complete.
    pub fresh: Freshness,
}

impl Cache {
    /// What is seen of a class now.
    pub fn snapshot(&self, class: &str) -> Snapshot {
        let kinds = self.kinds.lock();
        let found = kinds.classes.get(class);
        Snapshot {
            class: found.map(|record| Arc::clone(&record.object)),
            is_unread: kinds.classes.unread().contains_key(class),
            tenants: kinds.tenants.of_class(class).cloned().collect(),
            pods: kinds.pods.of_class(class).cloned().collect(),
            cordoned: kinds.nodes.cordoned(),
            swap: kinds.nodes.swap(),
            fresh: Freshness {
                tenants: kinds.tenants.complete_as_of(),
                pods: kinds.pods.complete_as_of(),
            },
        }
    }

    /// The names of all classes that there are, or of which something is left.
    pub fn classes(&self) -> BTreeSet<String> {
        let kinds = self.kinds.lock();
        let named = kinds.classes.classes().chain(kinds.tenants.classes());
        named.chain(kinds.pods.classes()).cloned().collect()
    }

    /// How many objects there are that cannot be read.
    pub fn unread(&self) -> usize {
        let kinds = self.kinds.lock();
        kinds.classes.unread().len() + kinds.tenants.unread().len() + kinds.pods.unread().len()
    }

    /// Tells of changes of a class.
    pub fn waker(&self, class: &str) -> Arc<Notify> {
        Arc::clone(self.wakers.lock().entry(class.to_owned()).or_default())
    }

    /// A class's task has ended: what is heard of it next is heard for the first time.
    pub fn forget_waker(&self, class: &str) {
        self.wakers.lock().remove(class);
        self.unheard.notify_one();
    }

    /// Returns when a class is heard of that had no waker.
    pub async fn unheard(&self) {
        self.unheard.notified().await;
    }

    /// Tells when lists were made.
    pub fn listed(&self) -> watch::Receiver<Listed> {
        self.listed.subscribe()
    }

    /// A tenant, as the answer to a write shows it.
    pub fn put_tenant(&self, tenant: Tenant) {
        self.kinds.lock().tenants.answered(DeserializeGuard(Ok(tenant)));
    }

    /// A class, as the answer to a write shows it.
    pub fn put_class(&self, class: WorkerClass) {
        self.kinds.lock().classes.answered(DeserializeGuard(Ok(class)));
    }

    /// A pod, as the answer to a write shows it.
    pub fn put_pod(&self, pod: Pod) {
        self.kinds.lock().pods.answered(pod);
    }

    fn wake(&self, classes: &BTreeSet<String>) {
        let wakers = self.wakers.lock();
        for class in classes {
            match wakers.get(class) {
                Some(waker) => waker.notify_one(),
                None => self.unheard.notify_one(),
            }
        }
    }

    fn wake_all(&self) {
        for waker in self.wakers.lock().values() {
            waker.notify_one();
        }
        self.unheard.notify_one();
    }
}

#[cfg(test)]
mod tests;
