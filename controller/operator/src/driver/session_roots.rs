//! Keeps the root keys of sessions while this operator leads: the clock, and the retries.

use super::metrics::Metrics;
use crate::session_roots::SessionRootKeeper;
use jiff::Timestamp;
use patchbay_core::{chain::Chain, jitter};
use std::{future::pending, time::Duration};
use tokio::time::sleep;

/// A failure is tried again after about this long; gateways go on with the keys that they have.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Somebody may have emptied the Secret.
const LOOK: Duration = Duration::from_mins(1);

/// Never ends.
pub(super) async fn keep(keeper: Option<SessionRootKeeper>, metrics: &Metrics) {
    let Some(keeper) = keeper else { return pending().await };
    loop {
        match keeper.pass(Timestamp::now()).await {
            Ok(()) => sleep(LOOK).await,
            Err(error) => {
                metrics.failed("session-keys");
                tracing::warn!(error = %Chain(&error), "the root keys of sessions cannot be kept");
                sleep(jitter::pause(TRY_AGAIN)).await;
            }
        }
    }
}
