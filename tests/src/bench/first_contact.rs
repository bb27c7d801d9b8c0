//! How long a user's first request takes while a worker is warm.
//!
//! Each user is new, and is served only when the pool is full and nothing is starting, so that no
//! worker's start is in the figure. The same user's next request, under the same conditions, is
//! what the first is compared with.

use super::{
    CLASS, Scale,
    client::Endpoint,
    footprint::{self, Memory},
    message::Era,
    rounds::Caller as _,
    statistics::Latency,
};
use crate::controller::{Controller, ControllerConfig, api_key, fixture_documents};
use anyhow::{Context, ensure};
use std::time::Duration;
use tokio::time::timeout;

const WARM: usize = 2;
/// Longer than the gateway holds a request, so that its own refusal is what is seen.
const ANSWER_LIMIT: Duration = Duration::from_secs(75);

/// From before a request is sent to the first byte of the answer's body.
#[derive(Debug, Clone, Copy)]
pub struct FirstContact {
    /// Users that were measured.
    pub users: usize,
    /// Each user's first request.
    pub first: Latency,
    /// Each user's second.
    pub bound: Latency,
    /// The gateway's memory with all of these users bound.
    pub gateway: Memory,
}

/// Measures with a controller of its own, which is ended afterwards.
pub async fn measure(scale: &Scale) -> anyhow::Result<FirstContact> {
    let users: Vec<String> = (0..scale.users).map(|user| format!("user{user}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let documents = fixture_documents(CLASS, u32::try_from(WARM)?, &names, "")?;
    let mut controller = ControllerConfig::new(documents).start().await?;
    let (mut first, mut bound) = (Vec::new(), Vec::new());
    for user in &names {
        let endpoint = Endpoint::with_key(controller.url(CLASS), &api_key(user), Era::Modern)?;
        let mut connection = endpoint.connect().await?;
        for times in [&mut first, &mut bound] {
            wait_for_full_pool(&controller).await?;
            let timing = timeout(ANSWER_LIMIT, connection.call()).await;
            times.push(timing.with_context(|| format!("{user} got no answer"))??.first_byte);
        }
    }
    let gateway = footprint::memory(controller.pid().context("the gateway has ended")?)?;
    ensure!(controller.terminate().await?, "the gateway failed:\n{}", controller.logs());
    Ok(FirstContact {
        users: names.len(),
        first: Latency::of(first).context("no first contact was measured")?,
        bound: Latency::of(bound).context("no further request was measured")?,
        gateway,
    })
}

/// Waits until as many workers are warm as the class wants: then none is starting. An answer comes after
/// its worker was taken, so that this never sees the pool as it was before.
async fn wait_for_full_pool(controller: &Controller) -> anyhow::Result<()> {
    let full = format!("patchbay_warm_workers{{class=\"{CLASS}\"}} {WARM}");
    controller
        .eventually("the pool is full", async || {
            Ok(controller.metrics().await?.lines().any(|line| line == full))
        })
        .await
}
