//! Callers that all call for some time become how long their calls took, and how many there were. It must not know what
//! is called.

use super::statistics::{Latency, milliseconds};
use anyhow::Context;
use std::{future::Future, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

/// How much longer than its time a round may take until its last answers are there.
const GRACE: Duration = Duration::from_secs(30);

/// What makes one call at a time.
pub trait Caller: Send + 'static {
    /// Makes one call. An answer that does not hold what the tool was to say is an error.
    fn call(&mut self) -> impl Future<Output = anyhow::Result<Timing>> + Send;
}

/// When the parts of an answer were there, counted from before the request was sent.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The first bytes of the body.
    pub first_byte: Duration,
    /// All of it.
    pub complete: Duration,
}

/// One way of reaching the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// Requests per second.
    pub rate: f64,
}

/// One side in one round.
#[derive(Debug, Clone, Copy)]
pub struct Half {
    /// How it was.
    pub side: Side,
    /// How many were answered.
    pub requests: u32,
}

/// Sends requests by every caller, one after the other by each, for this long, and leaves the callers as they are.
pub async fn half_round<C: Caller>(callers: &mut Vec<C>, length: Duration) -> anyhow::Result<Half> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut caller in callers.drain(..) {
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < length {
                times.push(caller.call().await?.complete);
            }
            anyhow::Ok((caller, times))
        });
    }
    let mut samples = Vec::new();
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            let (caller, times) = ended??;
            callers.push(caller);
            samples.extend(times);
        }
        anyhow::Ok(())
    };
    timeout(length + GRACE, all).await.context("an answer does not come")??;
    let elapsed = begun.elapsed();
    let requests = u32::try_from(samples.len())?;
    let latency = Latency::of(samples).context("no request was answered")?;
    let side = Side {
        p50: milliseconds(latency.p50),
        p99: milliseconds(latency.p99),
        rate: f64::from(requests) / elapsed.as_secs_f64(),
    };
    Ok(Half { side, requests })
}
