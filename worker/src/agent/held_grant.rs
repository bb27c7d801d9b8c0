//! The grant that a worker holds, and whether another would be better: the decision is the core's,
//! the moment is now. It must not know where grants are stored or used.

use super::clock::Moment;
use jiff::Timestamp;
use patchbay_core::grant::{Grant, GrantStanding};

/// The tenant's grant and how it fares.
#[derive(Debug)]
pub(crate) struct HeldGrant {
    grant: Grant,
    refused_upstream: bool,
}

impl HeldGrant {
    /// A grant that has not been used yet.
    pub(crate) const fn new(grant: Grant) -> Self {
        Self {
            grant,
            refused_upstream: false,
        }
    }

    /// Whether one that ends at `offered_expiry` should take its place.
    pub(crate) fn yields_to(&self, offered_expiry: Option<Timestamp>, now: Moment) -> bool {
        let standing = GrantStanding {
            expires_at: self.grant.expires_at,
            refused_upstream: self.refused_upstream,
        };
        standing.yields_to(offered_expiry, now.timestamp)
    }
}
