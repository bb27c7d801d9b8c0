//! An admitted request, as a token that lives until its response has ended: what keeps a worker
//! busy, and what ends a stream that waits for events when the worker closes. It must not know
//! requests or responses.

use super::{clock::Moment, policy::meter::Slot, state::Worker};
use patchbay_core::idle::Weight;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// An admitted request. While one for a call exists, the worker is busy.
#[derive(Debug)]
pub(crate) struct InFlight {
    worker: Arc<Worker>,
    weight: Weight,
    /// Its place among its tenant's calls, where these are counted.
    slot: Option<Arc<Slot>>,
}

impl InFlight {
    /// The token of a request that `worker` has admitted, and counted if it is a call.
    pub(super) const fn new(worker: Arc<Worker>, weight: Weight) -> Self {
        Self { worker, weight, slot: None }
    }

    /// Keeps a place among its tenant's calls until it is over.
    pub(crate) fn keep(&mut self, slot: Slot) {
        self.slot = Some(Arc::new(slot));
    }

    /// Another token of the same request: it is over when both have gone.
    pub(crate) fn another(&self) -> Self {
        if self.weight == Weight::Call {
            self.worker.call_goes_on();
        }
        Self { worker: Arc::clone(&self.worker), weight: self.weight, slot: self.slot.clone() }
    }

    /// What ends this request when the worker leaves: a stream that waits for events is ended, a
    /// call is not.
    pub(crate) fn cut_by(&self) -> Option<CancellationToken> {
        (self.weight == Weight::Listening).then(|| self.worker.closing().clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.weight == Weight::Call {
            self.worker.end_call(Moment::now());
        }
    }
}
