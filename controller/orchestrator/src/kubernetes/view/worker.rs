//! What a gateway knows of one worker: what its pod shows, what it said itself, and what came of speaking to it. It must
//! not know whose it is.

use super::SeenWorker;
use patchbay_core::orchestrator::Offer;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) seen: SeenWorker,
    pub(super) said: Said,
    /// When this gateway could not reach it last.
    pub(super) unreached: Option<Instant>,
    /// This gateway could not reach it, and the cluster did not vouch for it either.
    pub(super) is_lost: bool,
    /// Its place among the free ones, while it is one.
    pub(super) free: Option<u64>,
    pub(super) offered: u32,
    pub(super) is_in_hand: bool,
    /// Until then nobody asks it: it is kept for a tenant of another gateway, as it said itself, or was not reached.
    pub(super) not_before: Option<Instant>,
    /// Ends with this stretch of its life in which it takes work.
    pub(super) over: CancellationToken,
}

/// What a worker said itself that stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    /// It is a tenant's.
    Taken,
    /// It takes no new work.
    Leaves,
}

impl Worker {
    pub(super) fn new(seen: SeenWorker) -> Self {
        Self {
            seen,
            said: Said::Nothing,
            unreached: None,
            is_lost: false,
            free: None,
            offered: 0,
            is_in_hand: false,
            not_before: None,
            over: CancellationToken::new(),
        }
    }

    pub(super) fn offer(&self) -> Option<Offer> {
        self.seen.offer().filter(|_| self.said != Said::Leaves && !self.is_lost)
    }

    /// Whether nothing is against it but that its address or its key was not seen yet.
    pub(super) fn is_incomplete(&self) -> bool {
        self.said != Said::Leaves && !self.is_lost && self.seen.is_incomplete()
    }

    /// Neither that a gateway cannot reach it nor that it is not ready is a worker's end: both are. A worker for
    /// which the cluster vouches again is there again.
    pub(super) fn judge(&mut self, now: Instant) {
        let is_unreached =
            self.unreached.is_some_and(|at| now.saturating_duration_since(at) < UNREACHED);
        self.is_lost = !self.seen.is_ready() && (self.is_lost || is_unreached);
    }
}

/// How long it counts that a worker could not be reached: a node tells of its end within this time, and a request
/// waits for that.
const UNREACHED: Duration = Duration::from_secs(10);
