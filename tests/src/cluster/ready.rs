//! Waiting for what other processes come to be, which they tell only when asked. Every wait has an end.

use super::addons::{DNS, SYSTEM};
use anyhow::{Context, anyhow, bail};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, ServiceAccount},
};
use kube::{Api, Client};
use std::{fmt::Display, time::Duration};
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other things to do.
const LIMIT: Duration = Duration::from_mins(2);
/// A wait is an answer's time plus at most this.
const PAUSE: Duration = Duration::from_millis(50);

/// A failure that no later answer makes good: a wait in which it comes ends with it.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct Final(pub anyhow::Error);

/// Fails for good if something is so that must not be, not even once while something else is waited for.
pub fn never(is_so: bool, seen: impl Display) -> Result<(), Final> {
    if is_so { Err(Final(anyhow!("this must never be: {seen}"))) } else { Ok(()) }
}

/// Waits until `is_so`. A failure is an answer like any other until the time is over, unless it is [`Final`].
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
        match &answer {
            Ok(true) => return Ok(()),
            Err(error) if error.is::<Final>() => {
                return answer.map(drop).with_context(|| format!("before this was so: {what}"));
            }
            _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[tokio::test]
    async fn a_wait_forgives_a_failure() {
        let mut asked = 0;
        let waited = until("it comes", async || {
            asked += 1;
            ensure!(asked > 1, "not yet");
            Ok(true)
        });
        waited.await.unwrap();
        assert_eq!(asked, 2);
    }

    #[tokio::test]
    async fn a_wait_ends_with_what_must_never_be_although_all_would_be_well_later() {
        let mut asked = 0;
        let waited = until("it comes", async || {
            asked += 1;
            never(asked == 1, "hers").context("asked by him")?;
            Ok(true)
        });
        let error = format!("{:#}", waited.await.unwrap_err());
        assert_eq!(asked, 1);
        assert!(error.starts_with("before this was so: it comes: asked by him: "), "{error}");
        assert!(error.ends_with("hers"), "{error}");
    }
}
