//! Lives of workers and what tenants are told of them.

use super::world::{World, is_marked_bound};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use patchbay_crds::tenant::Phase;
use patchbay_operator::build::AGENT;
use patchbay_tests::{
    evidence::Evidence as _,
    pods::{Tenant, stage::ended, watched},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// What a suspended or deleted tenant's worker may take to end, by the design. Printed beside what it took; a busy
/// machine is no failure.
const PROMISE: Duration = Duration::from_secs(5);

struct Claimed {
    object: patchbay_crds::Tenant,
    pod: Arc<Pod>,
}

/// A tenant whose worker is bound, and has been called once.
async fn claimed(world: &World, class: &str, user: &str) -> anyhow::Result<Claimed> {
    let pod = world.warm(class, 1).await?[0].clone();
    let object = world.contact(class, user, Some(&*pod)).await?;
    let link = world.link(&pod)?;
    let tenant = Tenant::assigned(&link, &object.uid().context("no UID")?, 1)?;
    tenant.bind().await?;
    tenant.call("echo", json!({ "text": "hello" })).await?;
    Ok(Claimed { object, pod })
}

fn has_phase(tenant: &patchbay_crds::Tenant, phase: Phase) -> bool {
    tenant.status.as_ref().is_some_and(|status| status.phase == Some(phase))
}

async fn marked(world: &World, pod: &Pod) -> anyhow::Result<()> {
    let marked = watched::one(world.pods(), pod.name_any(), "it is marked as bound", |pod| {
        pod.is_some_and(is_marked_bound)
    });
    marked.await.with_logs(|| world.operator.text())?;
    Ok(())
}

/// Waits until a worker's agent has ended.
async fn over(world: &World, pod: &Pod, begun: Instant) -> anyhow::Result<()> {
    let over = watched::one(world.pods(), pod.name_any(), "its worker has ended", |pod| {
        pod.is_none_or(|pod| ended(pod, AGENT).is_some())
    });
    over.await.with_logs(|| world.operator.text())?;
    println!("its worker has ended after {:?} (promised: {PROMISE:?})", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_claimed_worker_is_marked_replaced_and_left_alone() -> anyhow::Result<()> {
    let world = World::make("op-claimed").await?;
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    let Claimed { object, pod } = claimed(&world, "tools", "alice").await?;
    marked(&world, &pod).await?;
    world.tenant(&object.name_any(), "it is ready", |it| has_phase(it, Phase::Ready)).await?;
    let next = world.warm("tools", 1).await?;
    ensure!(next[0].name_any() != pod.name_any());
    let counted = watched::one(world.classes(), "tools", "both are counted", |class| {
        let status = class.and_then(|class| class.status.as_ref());
        status.is_some_and(|status| (status.warm, status.bound, status.tenants) == (1, 1, 1))
    });
    counted.await.with_logs(|| world.operator.text())?;
    // a retirement would have been refused, and none was tried
    let name = pod.name_any();
    ensure!(
        !world.operator.has_logged(|line| line["pod"] == name.as_str() && line["why"].is_string())
    );
    world.end().await
}

#[tokio::test]
async fn a_user_who_waits_is_given_one_more_worker() -> anyhow::Result<()> {
    let world = World::make("op-waits").await?;
    world.stage.declare("tools", json!({ "warm": 0 })).await?;
    let object = world.contact("tools", "alice", None).await?;
    world.tenant(&object.name_any(), "it waits", |it| has_phase(it, Phase::Waiting)).await?;
    world.warm("tools", 1).await?;
    world.end().await
}

#[tokio::test]
async fn an_idle_worker_leaves_and_its_last_words_are_kept() -> anyhow::Result<()> {
    let world = World::make("op-idle").await?;
    world.stage.declare("tools", json!({ "warm": 1, "idleTimeout": "1s" })).await?;
    let Claimed { object, pod } = claimed(&world, "tools", "alice").await?;
    let asleep =
        world.tenant(&object.name_any(), "it sleeps", |it| has_phase(it, Phase::Asleep)).await?;
    let status = asleep.status.context("no status")?;
    ensure!(status.reason.as_deref() == Some("Idle"), "{status:?}");
    ensure!(status.last_activity.is_some(), "{status:?}");
    let left = asleep.spec.assignment.context("the epoch is forgotten")?;
    ensure!((left.worker.as_str(), left.uid.as_str(), left.epoch) == ("", "", 1), "{left:?}");
    world.gone(&pod.name_any()).await?;
    let events = world.stage.place.kubectl(&["get", "events"]).await?;
    ensure!(events.lines().filter(|line| line.contains("Idle")).count() == 1, "{events}");
    world.end().await
}

#[tokio::test]
async fn a_suspended_or_deleted_tenants_worker_ends_at_once() -> anyhow::Result<()> {
    let world = World::make("op-suspended").await?;
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    let alice = claimed(&world, "tools", "alice").await?;
    marked(&world, &alice.pod).await?;
    let name = alice.object.name_any();
    let begun = Instant::now();
    let suspend = Patch::Merge(json!({ "spec": { "suspended": true } }));
    world.tenants().patch(&name, &PatchParams::default(), &suspend).await?;
    over(&world, &alice.pod, begun).await?;
    let suspended = world
        .tenant(&name, "it is suspended and has nothing", |it| {
            let assignment = it.spec.assignment.as_ref();
            has_phase(it, Phase::Suspended) && assignment.is_some_and(|it| it.worker.is_empty())
        })
        .await?;
    ensure!(suspended.spec.assignment.is_some_and(|left| left.epoch == 1));
    world.gone(&alice.pod.name_any()).await?;

    let bob = claimed(&world, "tools", "bob").await?;
    marked(&world, &bob.pod).await?;
    let begun = Instant::now();
    world.tenants().delete(&bob.object.name_any(), &DeleteParams::default()).await?;
    over(&world, &bob.pod, begun).await?;
    world.gone(&bob.pod.name_any()).await?;

    // one that comes and goes before anybody has asked its worker
    let carol = claimed(&world, "tools", "carol").await?;
    let begun = Instant::now();
    world.tenants().delete(&carol.object.name_any(), &DeleteParams::default()).await?;
    over(&world, &carol.pod, begun).await?;
    world.gone(&carol.pod.name_any()).await?;
    world.end().await
}
