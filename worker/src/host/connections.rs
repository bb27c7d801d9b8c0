//! Takes connections, each with a task of its own: so many at one time, until no more are wanted. It must not know what a
//! connection is for.

use crate::listen::accepted;
use std::{io, sync::Arc};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks, and whether there may be more.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    /// Those that go on.
    pub(crate) tasks: TaskTracker,
    /// Cancelled once no more are taken.
    pub(crate) closing: CancellationToken,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self { tasks: TaskTracker::new(), closing: CancellationToken::new() }
    }

    /// Serves each connection that `accept` takes; those beyond `most` wait in the listener's queue.
    pub(crate) async fn serve<S, P, A, F>(
        &self,
        most: usize,
        accept: impl Fn() -> A,
        serve: impl Fn(S) -> F,
    ) where
        A: Future<Output = io::Result<(S, P)>>,
        F: Future<Output = ()> + Send + 'static,
    {
        let permits = Arc::new(Semaphore::new(most));
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let result = tokio::select! {
                result = accept() => result,
                () = self.closing.cancelled() => return,
            };
            let Some((connection, _)) = accepted(result).await else {
                continue;
            };
            let serving = serve(connection);
            self.tasks.spawn(async move {
                serving.await;
                drop(permit);
            });
        }
    }

    /// Takes no more.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
    }
}
