//! How many requests may wait for a worker at one time: bounded per tenant in number, and for all of
//! them together in the bytes that they may hold.
//!
//! A waiting request's body is not read, but its headers are held, and so is what the client sent before
//! flow control stopped it. This module must not know what is waited for.

use parking_lot::Mutex;
use patchbay_core::tenant::TenantName;
use std::{collections::HashMap, sync::Arc};

/// Why a request may not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueFull {
    /// The tenant has its share of waiting requests.
    #[error("too many requests of this user wait for the worker; try again")]
    Tenant,
    /// All waiting requests together hold as much as they may.
    #[error("too many requests wait for workers; try again")]
    Bytes,
}

/// All waiting requests.
#[derive(Debug)]
pub struct WaitingRoom {
    state: Mutex<State>,
    per_tenant: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    waiters: HashMap<TenantName, usize>,
    bytes: usize,
}

/// A place in the room; leaving it is dropping it.
#[derive(Debug)]
pub struct Place {
    room: Arc<WaitingRoom>,
    tenant: TenantName,
    bytes: usize,
}

impl WaitingRoom {
    /// A room for `per_tenant` requests of each tenant, and `bytes` of all of them.
    pub fn new(per_tenant: usize, bytes: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), per_tenant, bytes })
    }

    /// Takes a place for a request that holds about `bytes`.
    pub fn enter(self: &Arc<Self>, tenant: &TenantName, bytes: usize) -> Result<Place, QueueFull> {
        let mut state = self.state.lock();
        if state.waiters.get(tenant).is_some_and(|count| *count >= self.per_tenant) {
            return Err(QueueFull::Tenant);
        }
        if state.bytes.saturating_add(bytes) > self.bytes {
            return Err(QueueFull::Bytes);
        }
        *state.waiters.entry(tenant.clone()).or_default() += 1;
        state.bytes += bytes;
        Ok(Place { room: self.clone(), tenant: tenant.clone(), bytes })
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.state.lock().waiters.values().sum()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.state.lock();
        state.bytes = state.bytes.saturating_sub(self.bytes);
        if let Some(count) = state.waiters.get_mut(&self.tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.waiters.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u8) -> TenantName {
        TenantName::parse(format!("t-{}", char::from(b'a' + n).to_string().repeat(20))).unwrap()
    }

    #[test]
    fn a_tenant_fills_only_its_own_share() {
        let room = WaitingRoom::new(2, 100);
        let places = [room.enter(&tenant(0), 1).unwrap(), room.enter(&tenant(0), 1).unwrap()];
        assert_eq!(room.enter(&tenant(0), 1).unwrap_err(), QueueFull::Tenant);
        assert!(room.enter(&tenant(1), 1).is_ok());
        drop(places);
        assert!(room.enter(&tenant(0), 1).is_ok());
    }

    #[test]
    fn all_together_hold_no_more_than_allowed_and_give_it_back() {
        let room = WaitingRoom::new(10, 100);
        let place = room.enter(&tenant(0), 60).unwrap();
        assert_eq!(room.enter(&tenant(1), 60).unwrap_err(), QueueFull::Bytes);
        drop(place);
        assert!(room.enter(&tenant(1), 60).is_ok());
        assert!(room.is_empty());
    }
}
