//! Tells a supervisor whether the worker is ready, over a Unix socket: each connection is held until it is,
//! and then gets one byte; where the worker leaves it gets none. So whoever asks early learns it in the
//! moment in which it becomes so. It must not know who asks.

use super::state::Worker;
use crate::listen::accepted;
use patchbay_core::{boot::WORKER_READY, link::WorkerPhase};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

/// Connections at one time; a supervisor has one.
const MAX_CONNECTIONS: usize = 8;

/// Serves until the agent ends.
pub(crate) async fn serve(listener: UnixListener, worker: Arc<Worker>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let Some((stream, _)) = accepted(listener.accept().await).await else {
            continue;
        };
        let worker = Arc::clone(&worker);
        tokio::spawn(async move {
            answer(stream, &worker).await;
            drop(permit);
        });
    }
}

async fn answer(mut stream: UnixStream, worker: &Worker) {
    let (mut question, mut answer) = stream.split();
    let is_ready = tokio::select! {
        is_ready = becomes_ready(worker) => is_ready,
        // whoever asked has given up: nothing is ever said on this connection from there
        _ = question.read_u8() => return,
    };
    if is_ready && let Err(error) = answer.write_all(&[WORKER_READY]).await {
        tracing::debug!(%error, "who asked whether the worker is ready did not wait");
    }
}

/// Whether the worker is ready once it is known.
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
    use patchbay_core::link::LeaveReason;

    async fn ask(path: &std::path::Path) -> Vec<u8> {
        let mut said = Vec::new();
        UnixStream::connect(path).await.unwrap().read_to_end(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn a_question_is_answered_when_the_server_answers_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("probe");
        let worker = Arc::new(Worker::new(Credentials::Generic));
        tokio::spawn(serve(UnixListener::bind(&path).unwrap(), Arc::clone(&worker)));

        let mut asking = UnixStream::connect(&path).await.unwrap();
        let mut second = UnixStream::connect(&path).await.unwrap();
        let mut byte = [0];
        tokio::select! {
            biased;
            answer = asking.read(&mut byte) => panic!("{answer:?} before it is ready"),
            () = tokio::task::yield_now() => {}
        }
        worker.set_ready();
        assert_eq!(asking.read(&mut byte).await.unwrap(), 1);
        assert_eq!(second.read(&mut byte).await.unwrap(), 1);
        assert_eq!(ask(&path).await, [WORKER_READY]);

        worker.leave(LeaveReason::Drained.into());
        assert_eq!(ask(&path).await, [0; 0]);
    }

    #[tokio::test]
    async fn a_worker_that_leaves_before_it_is_ready_keeps_nobody_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("probe");
        let worker = Arc::new(Worker::new(Credentials::Generic));
        tokio::spawn(serve(UnixListener::bind(&path).unwrap(), Arc::clone(&worker)));
        let asking = tokio::spawn(async move { ask(&path).await });
        tokio::task::yield_now().await;
        worker.leave(LeaveReason::ServerNotReady.into());
        assert_eq!(asking.await.unwrap(), [0; 0]);
    }
}
