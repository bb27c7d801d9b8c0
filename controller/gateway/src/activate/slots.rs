//! What this gateway remembers of tenants and of the lives of workers, for as long as it is of use: a link while its worker
//! lives, and a tenant's slot while a request makes a worker ready for it or the worker that it is bound to lives.
//!
//! One lock is over all of it, so that a tenant never has two slots: who finds none in the map makes one, and nobody takes
//! one out that another still holds. This module must not know what is asked of workers, or how it is known that one is gone.

use super::{Bound, Slot};
use crate::forward::link::Link;
use parking_lot::Mutex;
use patchbay_core::{id::Incarnation, tenant::TenantName};
use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Deref,
    sync::Arc,
};

/// All slots and links.
#[derive(Default)]
pub(super) struct Slots(Mutex<Known>);

#[derive(Default)]
struct Known {
    tenants: HashMap<TenantName, Remembered>,
    lives: HashMap<Incarnation, Life>,
}

/// A tenant's slot, and how many hold it.
#[derive(Default)]
struct Remembered {
    slot: Arc<Slot>,
    holders: usize,
}

/// One life of a worker that is not known to be over.
struct Life {
    link: Arc<Link>,
    /// Whose slot is bound to it: a worker has one tenant in its life.
    tenant: Option<TenantName>,
}

/// A tenant's slot, which is its only one until this is dropped.
pub(super) struct Held {
    slots: Arc<Slots>,
    name: TenantName,
    slot: Arc<Slot>,
}

impl Deref for Held {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut known = self.slots.0.lock();
        if let Some(remembered) = known.tenants.get_mut(&self.name) {
            remembered.holders = remembered.holders.saturating_sub(1);
        }
        known.forget_if_unused(&self.name);
    }
}

impl Slots {
    /// A tenant's slot, if there is one. What it says may be looked at; it may be no tenant's any more in a moment.
    pub(super) fn get(&self, name: &TenantName) -> Option<Arc<Slot>> {
        self.0.lock().tenants.get(name).map(|remembered| remembered.slot.clone())
    }

    /// A tenant's slot, to be used.
    pub(super) fn hold(self: &Arc<Self>, name: &TenantName) -> Held {
        let mut known = self.0.lock();
        let remembered = known.tenants.entry(name.clone()).or_default();
        remembered.holders += 1;
        Held { slots: self.clone(), name: name.clone(), slot: remembered.slot.clone() }
    }

    /// The link to a life of a worker, if there is one.
    pub(super) fn link(&self, life: &Incarnation) -> Option<Arc<Link>> {
        self.0.lock().lives.get(life).map(|life| life.link.clone())
    }

    /// The one link to a life of a worker: this one, unless there is one already; and whether it is this one.
    pub(super) fn meet(&self, life: &Incarnation, link: Arc<Link>) -> (Arc<Link>, bool) {
        match self.0.lock().lives.entry(life.clone()) {
            Entry::Occupied(known) => (known.get().link.clone(), false),
            Entry::Vacant(new) => (new.insert(Life { link, tenant: None }).link.clone(), true),
        }
    }

    /// The tenant has this worker. Of one that is known to be gone by now nothing is kept.
    pub(super) fn bind(&self, held: &Held, bound: &Arc<Bound>) {
        let mut known = self.0.lock();
        if let Some(life) = known.lives.get_mut(&bound.placement.offer.incarnation) {
            life.tenant = Some(held.name.clone());
            held.slot.bound.store(Some(bound.clone()));
        }
    }

    /// The tenant does not have this worker any more, if that is what it has.
    pub(super) fn unbind(&self, name: &TenantName, bound: &Arc<Bound>) {
        self.0.lock().unbind(name, |current| Arc::ptr_eq(current, bound));
    }

    /// This life of a worker is over, and with it whatever is remembered because of it.
    pub(super) fn gone(&self, life: &Incarnation) {
        let mut known = self.0.lock();
        if let Some(Life { tenant: Some(name), .. }) = known.lives.remove(life) {
            known.unbind(&name, |current| current.placement.offer.incarnation == *life);
        }
    }
}

impl Known {
    fn unbind(&mut self, name: &TenantName, is_meant: impl FnOnce(&Arc<Bound>) -> bool) {
        let Some(remembered) = self.tenants.get(name) else { return };
        if remembered.slot.bound.load_full().is_some_and(|current| is_meant(&current)) {
            remembered.slot.bound.store(None);
        }
        self.forget_if_unused(name);
    }

    fn forget_if_unused(&mut self, name: &TenantName) {
        let is_unused = |it: &Remembered| it.holders == 0 && it.slot.bound.load().is_none();
        if self.tenants.get(name).is_some_and(is_unused) {
            self.tenants.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
