//! The cluster's own parts, killed: API server, etcd, kubelet. Who has a worker notices nothing.

use crate::{installation::Installation, recovery::report};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use patchbay_tests::cluster::{Component, is_ready, until};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Longer than a leader may go without a renewal of its Lease.
const OUTAGE: Duration = Duration::from_secs(20);

/// Users call while a component is away, and nobody notices; then a new one comes in.
async fn while_away(
    component: Component,
    outage: &'static str,
    installation: &Installation,
) -> anyhow::Result<()> {
    let load = installation.load(&["alice", "bob", "carol"]).await?;
    installation.until_whole().await?;
    installation.cluster().kill(component)?;
    sleep(OUTAGE).await;
    load.go_on(50).await?;
    let started = Instant::now();
    installation.cluster().start(component).await?;
    // a request waits for the control plane, within the hold
    installation.contact(&installation.client("dave")).await?;
    report(outage, "a new user is served", started.elapsed());
    installation.cluster().ready().await?;
    let used = installation.assignment("dave").await?;
    let took = installation.until_refilled(&used, started).await?;
    report(outage, "the pool is full again", took);
    installation.until_whole().await?;
    for (user, tally) in load.end().await? {
        tally.ensure_undisturbed().with_context(|| user)?;
    }
    Ok(())
}

#[tokio::test]
async fn nobody_who_has_a_worker_notices_that_the_api_server_is_away() -> anyhow::Result<()> {
    let users = ["alice", "bob", "carol", "dave"];
    let installation = Installation::make("apiserver", &users).await?;
    while_away(Component::Apiserver, "the API server, 20 s", &installation).await?;
    installation.end().await
}

#[tokio::test]
async fn nobody_who_has_a_worker_notices_that_etcd_is_away() -> anyhow::Result<()> {
    let users = ["alice", "bob", "carol", "dave"];
    let installation = Installation::make("etcd", &users).await?;
    while_away(Component::Etcd, "etcd, 20 s", &installation).await?;
    installation.end().await
}

#[tokio::test]
async fn nobody_notices_that_a_kubelet_is_away_even_when_its_node_is_given_up() -> anyhow::Result<()>
{
    let users = ["alice", "bob", "carol", "dave"];
    let installation = Installation::make("kubelet", &users).await?;
    let load = installation.load(&["alice", "bob", "carol"]).await?;
    installation.until_whole().await?;
    installation.cluster().kill(Component::Kubelet)?;
    // a worker that waits needs nobody but a gateway
    installation.first_contact("dave").await?;
    let away = Instant::now();
    let nodes = Api::<Node>::all(installation.place().client.clone());
    until("the cluster has given up the node", async || {
        let nodes = nodes.list(&ListParams::default()).await?;
        let conditions = nodes.items.into_iter().filter_map(|node| node.status?.conditions);
        Ok(conditions.flatten().any(|each| each.type_ == "Ready" && each.status == "Unknown"))
    })
    .await?;
    println!("the node was given up after {:?}", away.elapsed());
    until("and says so of what runs there", async || {
        let workers = installation.pods("worker").await?;
        Ok(!workers.iter().any(is_ready))
    })
    .await?;
    load.go_on(200).await?;
    let started = Instant::now();
    installation.cluster().start(Component::Kubelet).await?;
    installation.cluster().ready().await?;
    let used = installation.assignment("dave").await?;
    let took = installation.until_refilled(&used, started).await?;
    report("a kubelet, until given up", "the pool is full again", took);
    installation.until_whole().await?;
    for (user, tally) in load.end().await? {
        tally.ensure_undisturbed().with_context(|| user)?;
    }
    ensure!(installation.assignment("dave").await? == used, "she was moved");
    installation.end().await
}
