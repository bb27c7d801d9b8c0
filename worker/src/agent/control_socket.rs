//! The control socket after the lifeline: every connection is one that the MCP server made to its
//! proxy, and goes to the relay. It must not know what is said on it.

use super::relay::Relay;
use crate::listen::accepted;
use std::sync::Arc;
use tokio::{net::UnixListener, sync::Semaphore};

/// Outbound connections of the MCP server at one time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 256;

/// Serves until the agent ends.
pub(crate) async fn serve(control_side: UnixListener, relay: Arc<Relay>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let Some((stream, _)) = accepted(control_side.accept().await).await else {
            continue;
        };
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            if let Err(error) = relay.serve(stream, permit).await {
                tracing::debug!(%error, "an outbound connection broke");
            }
        });
    }
}
