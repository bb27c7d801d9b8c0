//! When a worker is to be heard: at once where its link listens already, and on a port when it is ready, and not before.
//!
//! That a port takes connections is all that a pod's probe can see of a worker (ADR 13). It must not know who connects.

use super::{departure::Departure, link::Link, state::Worker};
use crate::listen::Reserved;
use patchbay_core::link::{LeaveReason, WorkerPhase};
use std::sync::Arc;

/// Serves the link until the worker closes.
pub(crate) async fn serve(link: Link, place: Reserved, worker: Arc<Worker>) {
    if matches!(place, Reserved::Port(_)) && !becomes_ready(&worker).await {
        return;
    }
    match place.listen() {
        Ok(listener) => link.serve(listener).await,
        Err(error) => worker.leave(Departure::new(LeaveReason::ServerNotReady, error.to_string())),
    }
}

/// Whether the worker is ready, once it is known: it is not if it leaves before.
async fn becomes_ready(worker: &Worker) -> bool {
    let mut changes = worker.changes();
    loop {
        changes.borrow_and_update();
        match worker.status().phase {
            WorkerPhase::Anonymous | WorkerPhase::Bound => return true,
            WorkerPhase::Leaving => return false,
            WorkerPhase::Warming => {}
        }
        let outcome = tokio::select! {
            outcome = changes.changed() => outcome,
            () = worker.leaving() => Ok(()),
        };
        if outcome.is_err() {
            return false; // the worker is gone
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::credentials::Credentials;

    #[tokio::test]
    async fn a_worker_is_ready_when_its_server_answers_and_not_before() {
        let worker = Worker::new(Credentials::Nothing);
        let mut waiting = std::pin::pin!(becomes_ready(&worker));
        tokio::select! {
            biased;
            is_ready = &mut waiting => panic!("{is_ready} before it is"),
            () = tokio::task::yield_now() => {}
        }
        worker.set_ready();
        assert!(waiting.await && becomes_ready(&worker).await);
    }

    #[tokio::test]
    async fn a_worker_that_leaves_before_it_is_ready_never_is() {
        let worker = Arc::new(Worker::new(Credentials::Nothing));
        let waiting = tokio::spawn({
            let worker = Arc::clone(&worker);
            async move { becomes_ready(&worker).await }
        });
        tokio::task::yield_now().await;
        worker.leave(LeaveReason::ServerNotReady.into());
        assert!(!waiting.await.unwrap());
    }
}
