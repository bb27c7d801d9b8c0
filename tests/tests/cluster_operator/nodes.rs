//! What nodes do to workers: they are cordoned, evict, and are silent.

use super::world::{World, of};
use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt as _,
    api::{EvictParams, Patch, PatchParams, PostParams},
};
use patchbay_crds::tenant::Phase;
use patchbay_operator::build::disruption_budget::{NAME, disruption_budget};
use patchbay_tests::{
    cluster::{from, shell_pod, simulated},
    evidence::Evidence as _,
    pods::{OperatorProcess, Stage, Tenant, doubles::Doubles, watched},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Says in a node's place where a pod is that no node has.
async fn say(pods: &Api<Pod>, pod: &str, status: Value) -> anyhow::Result<()> {
    let status = Patch::Merge(json!({ "status": status }));
    pods.patch_status(pod, &PatchParams::default(), &status).await?;
    Ok(())
}

/// Waits for the one pod of the class, which is none of `known`.
async fn only_pod(world: &World, known: &[&str]) -> anyhow::Result<Arc<Pod>> {
    let pods = watched::all(world.pods(), of("tools"), "there is one that is new", |pods| {
        pods.len() == 1 && !known.contains(&&*pods[0].name_any())
    });
    Ok(Arc::clone(&pods.await.with_logs(|| world.operator.text())?[0]))
}

#[tokio::test]
async fn an_evicted_pod_is_reaped_and_says_nothing_against_its_class() -> anyhow::Result<()> {
    let world = World::make("op-evicted").await?;
    // no node takes them, so that nobody but the test says how they end
    let nowhere = json!({ "test.patchbay.dev/nowhere": "true" });
    world.stage.declare("tools", json!({ "warm": 1, "nodeSelector": nowhere })).await?;
    let first = only_pod(&world, &[]).await?;
    let (name, created) = (first.name_any(), first.creation_timestamp().context("no time")?.0);
    let evicted = json!({
        "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
    });
    say(&world.pods(), &name, evicted).await?;
    world.gone(&name).await?;

    // the next one crashes, which is counted, and is the first to be
    let second = only_pod(&world, &[&name]).await?.name_any();
    let later = created.checked_add(Duration::from_secs(10))?;
    let crashed = json!({ "phase": "Failed", "containerStatuses": [{
        "name": "server", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 3, "reason": "Error", "finishedAt": later } },
    }] });
    say(&world.pods(), &second, crashed).await?;
    let counted =
        |message: &str| message.starts_with("1 starts failed in a row, the last one for Error:");
    world
        .condition("tools", |it| {
            it.type_ == "Progressing" && it.reason == "BackingOff" && counted(&it.message)
        })
        .await?;
    world.gone(&second).await?;
    world.end().await
}

#[tokio::test]
async fn a_cordoned_node_is_left_by_its_free_workers_at_once_and_by_others_when_they_are_idle()
-> anyhow::Result<()> {
    let stage = Stage::simulated("op-cordoned").await?;
    // of a run that was interrupted
    stage.place.cluster.end_simulation().await?;
    stage.place.cluster.simulate_node("cordoned", "127.92.0.0/16").await?;
    let operator = OperatorProcess::start(&stage)?;
    let doubles = Doubles::play(&stage)?;
    let world = World { stage, operator };
    let mut class = simulated::placement();
    class["warm"] = 1.into();
    world.stage.declare("tools", class).await?;
    let hers = world.warm("tools", 1).await?[0].clone();
    let object = world.contact("tools", "alice", Some(&*hers)).await?;
    let link = world.link(&hers)?;
    Tenant::assigned(&link, &object.uid().context("no UID")?, 1)?.bind().await?;
    let settled = doubles.until("hers is marked", |counts| (counts.warm, counts.bound) == (1, 1));
    settled.await.with_logs(|| world.operator.text())?;
    let spare = world.warm("tools", 1).await?[0].clone();
    ensure!(node(&hers) == Some("cordoned") && node(&spare) == Some("cordoned"));

    world.stage.place.cluster.simulate_node("open", "127.93.0.0/16").await?;
    let nodes = Api::<Node>::all(world.stage.place.client.clone());
    nodes.cordon("cordoned").await?;
    let asleep = world
        .tenant(&object.name_any(), "her worker has left", |it| {
            it.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Asleep))
        })
        .await?;
    let status = asleep.status.context("no status")?;
    ensure!(status.reason.as_deref() == Some("Drained"), "{status:?}");
    let (hers, spare) = (hers.name_any(), spare.name_any());
    world.gone(&hers).await?;
    world.gone(&spare).await?;
    let next = world.warm("tools", 1).await?;
    ensure!(node(&next[0]) == Some("open"), "{:?}", node(&next[0]));
    let said = |pod: &str, field: &str, what: &str| {
        world.operator.has_logged(|line| line["pod"] == pod && line[field] == what)
    };
    ensure!(said(&hers, "message", "asked to leave when it is idle"), "{}", world.operator.text());
    ensure!(said(&spare, "why", "Cordoned"), "{}", world.operator.text());
    world.stage.place.cluster.end_simulation().await?;
    world.end().await
}

#[tokio::test]
async fn a_bound_worker_that_is_not_ready_is_not_evicted_and_one_that_has_ended_is()
-> anyhow::Result<()> {
    let stage = Stage::make("op-budget").await?;
    let budget = disruption_budget(stage.settings());
    let labels = budget.spec.and_then(|spec| spec.selector?.match_labels).context("no labels")?;
    let mut pod = shell_pod("silent", "exit 1");
    pod["metadata"]["labels"] = json!(labels);
    // no node runs it, so that what is said of it stays
    pod["spec"]["schedulerName"] = "nobody".into();
    let pods = stage.place.pods();
    pods.create(&PostParams::default(), &from(pod)?).await?;
    let now = Timestamp::now();
    let unready = json!({ "type": "Ready", "status": "False", "lastTransitionTime": now });
    say(&pods, "silent", json!({ "phase": "Running", "conditions": [unready] })).await?;
    let client = stage.place.client.clone();
    let budgets = Api::<PodDisruptionBudget>::namespaced(client, &stage.place.name);
    let counted = watched::one(budgets, NAME, "it is counted", |budget| {
        let status = budget.and_then(|budget| budget.status.as_ref());
        status.is_some_and(|status| (status.expected_pods, status.current_healthy) == (1, 0))
    });
    counted.await?;
    let client = stage.place.cluster.client_without_retries().await?;
    let strict = Api::<Pod>::namespaced(client, &stage.place.name);
    let refused = strict.evict("silent", &EvictParams::default()).await;
    let is_refused = matches!(&refused, Err(kube::Error::Api(status)) if status.code == 429);
    ensure!(is_refused, "{refused:?}");

    say(&pods, "silent", json!({ "phase": "Failed" })).await?;
    strict.evict("silent", &EvictParams::default()).await?;
    watched::one(pods, "silent", "it is gone", |pod| pod.is_none()).await?;
    stage.place.end().await
}
