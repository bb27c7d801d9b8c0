//! A node that is simulated: its pods become ready without being run, at addresses of this machine.
//! `make test-cluster`.

use anyhow::{Context, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use patchbay_tests::cluster::{Strict, from, is_ready, shell_pod, simulated, until};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::IpAddr};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

const PODS: usize = 200;

fn simulated_pod(name: &str) -> Value {
    let mut pod = shell_pod(name, "exit 1");
    if let (Some(spec), Value::Object(placement)) =
        (pod["spec"].as_object_mut(), simulated::placement())
    {
        spec.extend(placement);
    }
    pod
}

fn address(pod: &Pod) -> anyhow::Result<IpAddr> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    Ok(address.with_context(|| format!("{} has no address", pod.name_any()))?.parse()?)
}

#[tokio::test]
async fn a_crowd_is_ready_at_addresses_of_this_machine_and_no_other_pod_is_there()
-> anyhow::Result<()> {
    let place = Strict::make("simulated").await?;
    place.cluster.simulate_node("simulated", "127.77.0.0/16").await?;
    let begun = Instant::now();
    let pods = place.pods();
    stream::iter(0..PODS)
        .map(|number| {
            let pods = &pods;
            async move {
                let pod = from(simulated_pod(&format!("pod-{number}")))?;
                pods.create(&PostParams::default(), &pod).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(8)
        .try_collect::<()>()
        .await?;
    let mut all = Vec::new();
    until("all are ready", async || {
        all = pods.list(&ListParams::default()).await?.items;
        Ok(all.iter().filter(|pod| is_ready(pod)).count() == PODS)
    })
    .await?;
    println!("{PODS} simulated pods: all Ready after {:?}", begun.elapsed());
    let addresses = all.iter().map(address).collect::<anyhow::Result<BTreeSet<_>>>()?;
    ensure!(addresses.len() == PODS, "some have one address: {addresses:?}");
    ensure!(addresses.iter().all(|each| each.to_string().starts_with("127.77.")), "{addresses:?}");

    // one that is where a test wants it, and listens there
    let listener = TcpListener::bind(("127.78.0.1", 0)).await?;
    let mut chosen = simulated_pod("chosen");
    chosen["metadata"]["annotations"] = json!({ simulated::ADDRESS: "127.78.0.1" });
    let chosen = place.create(chosen, is_ready).await?;
    let at = (address(&chosen)?, listener.local_addr()?.port());
    let (connected, accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
    connected?;
    accepted?;

    let real = place.create(shell_pod("real", "sleep 1000000"), is_ready).await?;
    ensure!(real.spec.and_then(|spec| spec.node_name).as_deref() == Some("node"));

    let everything = ListParams::default().labels("app");
    pods.delete_collection(&DeleteParams::default(), &everything).await?;
    until("all are gone", async || Ok(pods.list(&ListParams::default()).await?.items.is_empty()))
        .await?;
    place.cluster.end_simulation().await?;
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(place.client.clone());
    ensure!(nodes.get_opt("simulated").await?.is_none());
    place.end().await
}
