//! The tenants that an operator made, as the operator says it now: what changed becomes changes of the ledger, and ends of
//! workers. It must not know where the operator says it.

use super::{Shared, fresh_uid};
use patchbay_core::tenant::{TenantKey, TenantName};
use std::collections::BTreeMap;

/// Whether each is suspended.
pub(super) type Made = BTreeMap<TenantName, bool>;

/// What became of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Made,
    Suspended,
    Resumed,
}

impl Change {
    /// None where nothing changed.
    fn between(before: Option<bool>, suspended: bool) -> Option<Self> {
        match (before, suspended) {
            (None, false) => Some(Self::Made),
            (None | Some(false), true) => Some(Self::Suspended),
            (Some(true), false) => Some(Self::Resumed),
            (Some(false), false) | (Some(true), true) => None,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Made => "an operator made a tenant",
            Self::Suspended => "a tenant is suspended",
            Self::Resumed => "a tenant is suspended no more",
        }
    }
}

impl Shared {
    /// An operator's tenants are these from now on.
    pub(super) fn made_by_an_operator(&self, tenants: impl IntoIterator<Item = (TenantKey, bool)>) {
        // held to the end: whoever says it later must be the last to be heard
        let mut made = self.made.lock();
        let mut before = std::mem::take(&mut *made);
        for (key, suspended) in tenants {
            let (tenant, class) = (key.name(), key.class.clone());
            let change = Change::between(before.remove(&tenant), suspended);
            if let Some(change) = change {
                let last = self.ledger.lock().provision(key, suspended, fresh_uid());
                tracing::info!(%tenant, %class, "{}", change.words());
                if let Some(worker) = last {
                    self.lives.end(&worker);
                }
            }
            made.insert(tenant, suspended);
        }
        for tenant in before.into_keys() {
            let last = self.ledger.lock().delete(&tenant);
            tracing::info!(%tenant, "an operator deleted a tenant");
            if let Some(worker) = last {
                self.lives.end(&worker);
            }
        }
        drop(made);
        self.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_anew_is_a_change() {
        let changes = [
            (None, false, Some(Change::Made)),
            (None, true, Some(Change::Suspended)),
            (Some(false), true, Some(Change::Suspended)),
            (Some(true), false, Some(Change::Resumed)),
            (Some(true), true, None),
            (Some(false), false, None),
        ];
        for (before, suspended, expected) in changes {
            assert_eq!(Change::between(before, suspended), expected, "{before:?} {suspended}");
        }
    }
}
