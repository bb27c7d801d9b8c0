//! How a worker that takes nothing new comes to its end: calls finish, then streams that wait for
//! events are ended, then connections close. It must not know why the worker leaves.

use super::{link::Link, state::Worker};
use std::time::Duration;
use tokio::time::timeout;

/// Without its MCP server no call can succeed; this is for the bytes that are already on their way.
const SERVERLESS_LIMIT: Duration = Duration::from_secs(5);
/// What the connections may take to carry their last bytes once nothing is in flight.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Returns when the worker, which is leaving already, may exit; calls may take up to `limit`.
pub(crate) async fn drain(worker: &Worker, link: &Link, limit: Duration) {
    let limit = if worker.is_without_server() { limit.min(SERVERLESS_LIMIT) } else { limit };
    if timeout(limit, calls_end(worker)).await.is_err() {
        tracing::warn!(?limit, in_flight = worker.status().in_flight, "calls did not end in time");
    }
    worker.close();
    link.finish(FLUSH_LIMIT).await;
}

async fn calls_end(worker: &Worker) {
    let mut changes = worker.changes();
    loop {
        changes.borrow_and_update();
        if worker.is_quiet() || changes.changed().await.is_err() {
            return;
        }
    }
}
