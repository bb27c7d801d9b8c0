//! How long a user's first request takes while a worker is warm.
//!
//! Each user is new, and is served only when the pool is full and nothing is starting, so that no
//! worker's start is in the figure. The same user's next request, under the same conditions, is
//! what the first is compared with.

use super::{CLASS, Scale, client::Endpoint, footprint, footprint::Memory, statistics::Latency};
use crate::controller::{Controller, ControllerConfig, api_key, fixture_documents};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// What `PATCHBAY_LOG` must say when the controller starts: that a worker became ready is told in
/// its log alone, since `/readyz` stays ready once a class has a tenant.
pub const LOG_FILTER: &str = "info,patchbay_orchestrator::local::worker=debug";

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
    for (served, user) in names.iter().enumerate() {
        let endpoint = Endpoint::with_key(controller.url(CLASS), &api_key(user))?;
        let mut connection = endpoint.connect().await?;
        for (workers, times) in [(served + WARM, &mut first), (served + 1 + WARM, &mut bound)] {
            wait_for_workers(&controller, workers).await?;
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

/// Waits until this many workers became ready since the start. One that ended would have to be
/// replaced, and the replacement would not be told from a refill: then there is no figure.
async fn wait_for_workers(controller: &Controller, wanted: usize) -> anyhow::Result<()> {
    let what = format!("{wanted} workers became ready");
    controller
        .eventually(&what, async || {
            let seen = Workers::in_log(&controller.logs());
            ensure!(seen.ended == 0, "a worker ended during the measurement");
            Ok(seen.ready >= wanted)
        })
        .await
}

#[derive(Debug, PartialEq, Eq)]
struct Workers {
    ready: usize,
    ended: usize,
}

impl Workers {
    fn in_log(log: &str) -> Self {
        let said = |what: &str| {
            log.lines()
                // most lines are about something else: look before parsing
                .filter(|line| line.contains(what))
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|event| event["target"] == "patchbay_orchestrator::local::worker")
                .filter(|event| event["message"] == what)
                .count()
        };
        Self { ready: said("ready"), ended: said("a worker has ended") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workers_are_counted_by_the_orchestrators_own_words() {
        const WORKER: &str = "patchbay_orchestrator::local::worker";
        let event = |target, message| {
            json!({ "target": target, "message": message, "line": "ready" }).to_string()
        };
        let log = [
            event(WORKER, "ready"),
            event(WORKER, "worker output"),
            event("elsewhere", "ready"),
            event(WORKER, "a worker has ended"),
            "ready".to_owned(),
        ];
        assert_eq!(Workers::in_log(&log.join("\n")), Workers { ready: 1, ended: 1 });
    }
}
