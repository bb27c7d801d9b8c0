//! Waiting for what other processes come to be, which they tell only when asked. Every wait has an end.

use super::addons::{DNS, SYSTEM};
use anyhow::{Context, bail};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, ServiceAccount},
};
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other things to do.
const LIMIT: Duration = Duration::from_mins(2);
/// A wait is an answer's time plus at most this.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `is_so`. A failure is an answer like any other until the time is over.
pub async fn until(
    what: &str,
    is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    until_within(LIMIT, what, is_so).await
}

/// The same of what takes longer.
pub async fn until_within(
    limit: Duration,
    what: &str,
    mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    loop {
        let answer = is_so().await;
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= end {
            return match answer {
                Err(error) => Err(error).with_context(|| format!("not so in time: {what}")),
                Ok(_) => bail!("not so in time: {what}"),
            };
        }
        sleep(PAUSE).await;
    }
}

/// Whether the API server says that it is ready.
pub(super) async fn is_api_ready(client: &Client) -> anyhow::Result<bool> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    Ok(client.request_text(request).await? == "ok")
}

/// Whether the API server has heard of the node.
pub(super) async fn is_node_known(client: &Client, name: &str) -> anyhow::Result<bool> {
    Ok(Api::<Node>::all(client.clone()).get_opt(name).await?.is_some())
}

/// Whether pods would run now: the node takes them, and their usual service account is there.
pub(super) async fn is_node_ready(client: &Client, name: &str) -> anyhow::Result<bool> {
    let node = Api::<Node>::all(client.clone()).get(name).await?;
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let is_ready = conditions.iter().any(|each| each.type_ == "Ready" && each.status == "True");
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    Ok(is_ready && accounts.get_opt("default").await?.is_some())
}

/// Whether the name server is there for pods.
pub(super) async fn is_dns_ready(client: &Client) -> anyhow::Result<bool> {
    let deployment = Api::<Deployment>::namespaced(client.clone(), SYSTEM).get(DNS).await?;
    Ok(deployment.status.and_then(|status| status.available_replicas).unwrap_or(0) > 0)
}
