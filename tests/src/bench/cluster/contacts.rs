//! First contacts with workers that are warm: of one user at a time, and of many at once.

use super::{
    Scale,
    installation::{Installation, user},
};
use crate::{
    bench::{
        client::{Connection, Endpoint},
        message::Era,
        rounds::Caller as _,
        statistics::Latency,
    },
    controller::api_key,
    pods::Gateway,
};
use anyhow::Context;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Longer than a gateway holds a request, so that its own refusal is what is seen.
const ANSWER_LIMIT: Duration = Duration::from_secs(75);
/// Users that are being served at one time.
const AT_ONCE: usize = 64;

/// From before a request is sent to the first byte of the answer's body.
#[derive(Debug)]
pub(super) struct OneByOne {
    pub(super) first: Latency,
    /// The same user's next request.
    pub(super) next: Latency,
}

/// Users at once.
#[derive(Debug)]
pub(super) struct Burst {
    pub(super) latency: Latency,
    /// Until all were served.
    pub(super) took: Duration,
}

/// Each user comes when the pool is full and the operator is done with the one before.
pub(super) async fn one_by_one(
    installation: &Installation,
    gateway: &Gateway,
    scale: Scale,
) -> anyhow::Result<OneByOne> {
    let (mut first, mut next) = (Vec::new(), Vec::new());
    for number in 0..scale.one_by_one {
        installation.full(scale.warm, number).await?;
        let mut connection = connect(gateway, &user(number)).await?;
        first.push(call(&mut connection).await?);
        next.push(call(&mut connection).await?);
    }
    installation.full(scale.warm, scale.one_by_one).await?;
    Ok(OneByOne {
        first: Latency::of(first).context("nobody came")?,
        next: Latency::of(next).context("nobody came")?,
    })
}

/// As many users as there are warm workers, through both gateways.
pub(super) async fn burst(gateways: &[Gateway; 2], scale: Scale) -> anyhow::Result<Burst> {
    let mut connections = Vec::new();
    for number in 0..scale.warm {
        let gateway = gateways.get(number % 2).context("there are two")?;
        connections.push(connect(gateway, &user(scale.one_by_one + number)).await?);
    }
    let begun = Instant::now();
    let times: Vec<Duration> = stream::iter(connections)
        .map(async |mut connection| call(&mut connection).await)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let took = begun.elapsed();
    Ok(Burst { latency: Latency::of(times).context("nobody came")?, took })
}

async fn connect(gateway: &Gateway, user: &str) -> anyhow::Result<Connection> {
    Endpoint::with_key(&format!("{}/mcp", gateway.url), &api_key(user), Era::Modern)?
        .connect()
        .await
}

async fn call(connection: &mut Connection) -> anyhow::Result<Duration> {
    let timing = timeout(ANSWER_LIMIT, connection.call()).await;
    Ok(timing.context("a user got no answer")??.first_byte)
}
