//! Operators that die, several at one time, and classes and namespaces that go.

use super::world::{World, is_marked_bound, of};
use anyhow::{Context, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PropagationPolicy},
};
use patchbay_crds::tenant::Phase;
use patchbay_tests::{
    evidence::Evidence as _,
    pods::{OperatorProcess, Tenant, stage::phase, watched},
};
use serde_json::json;

#[tokio::test]
async fn nothing_is_lost_while_no_operator_runs() -> anyhow::Result<()> {
    let mut world = World::make("op-killed").await?;
    world.stage.declare("tools", json!({ "warm": 2, "idleTimeout": "3s" })).await?;
    world.stage.declare("long", json!({ "warm": 1 })).await?;
    let pods = world.warm("tools", 2).await?;
    let (pod, spare) = (pods[0].clone(), pods[1].clone());
    let other = world.warm("long", 1).await?[0].clone();
    let alice = world.contact("tools", "alice", Some(&*pod)).await?;
    let bob = world.contact("long", "bob", Some(&*other)).await?;
    let (link, long_link) = (world.link(&pod)?, world.link(&other)?);
    let at_alices = Tenant::assigned(&link, &alice.uid().context("no UID")?, 1)?;
    let at_bobs = Tenant::assigned(&long_link, &bob.uid().context("no UID")?, 1)?;
    at_alices.bind().await?;
    at_bobs.bind().await?;
    at_alices.call("echo", json!({ "text": "hello" })).await?;

    let killed = std::mem::replace(&mut world.operator, OperatorProcess::start(&world.stage)?);
    killed.kill().await?;
    // alice's worker leaves while nobody looks; another operator may lead once the Lease has run out
    let left = watched::one(world.pods(), pod.name_any(), "it has ended or is gone", |pod| {
        pod.is_none_or(|pod| phase(pod) == "Succeeded")
    });
    left.await?;
    world.operator.leads().await?;
    let asleep = world
        .tenant(&alice.name_any(), "her worker's end is known", |it| {
            let status = it.status.as_ref();
            status.is_some_and(|it| it.phase == Some(Phase::Asleep) && it.last_activity.is_some())
        })
        .await?;
    ensure!(asleep.status.and_then(|it| it.reason).as_deref() == Some("Idle"));
    world.gone(&pod.name_any()).await?;
    let marked = watched::one(world.pods(), other.name_any(), "bob's is marked", |pod| {
        pod.is_some_and(is_marked_bound)
    });
    marked.await?;
    at_bobs.call("echo", json!({ "text": "still here" })).await?;
    let pool = world.warm("tools", 2).await?;
    ensure!(pool.iter().any(|it| it.name_any() == spare.name_any()), "the spare one was kept");
    world.end().await
}

#[tokio::test]
async fn of_two_operators_one_works_and_the_other_takes_over() -> anyhow::Result<()> {
    let world = World::make("op-two").await?;
    world.operator.leads().await?;
    let mut second = OperatorProcess::start(&world.stage)?;
    second
        .logged("is a candidate", |line| line["message"] == "a candidate for the leadership")
        .await?;
    ensure!(second.page("/readyz").await?.status.is_success(), "one that waits is ready to");
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    world.warm("tools", 1).await?;
    ensure!(!second.has_logged(|line| line["message"] == "leads"), "{}", second.text());

    let World { stage, operator } = world;
    let begun = tokio::time::Instant::now();
    operator.terminate().await?;
    second.leads().await?;
    println!("another operator leads {:?} after the SIGTERM of the first", begun.elapsed());
    let stage = {
        let world = World { stage, operator: second };
        world.stage.declare("more", json!({ "warm": 1 })).await?;
        world.warm("more", 1).await?;
        second = world.operator;
        world.stage
    };
    // whoever finds the Lease in other hands stops at once, and says so
    let client = stage.place.client.clone();
    let leases = Api::<Lease>::namespaced(client, &stage.place.name);
    let theirs = Patch::Merge(json!({ "spec": { "holderIdentity": "somebody-else" } }));
    leases.patch("patchbay-operator", &PatchParams::default(), &theirs).await?;
    ensure!(!second.ended().await?, "a lost leadership is an error");
    ensure!(second.text().contains("the leadership was lost"), "{}", second.text());
    stage.place.end().await
}

#[tokio::test]
async fn what_a_class_was_told_to_leave_behind_is_swept() -> anyhow::Result<()> {
    let world = World::make("op-orphans").await?;
    world.stage.declare("tools", json!({ "warm": 2 })).await?;
    let pods = world.warm("tools", 2).await?;
    let alice = world.contact("tools", "alice", Some(&*pods[0])).await?;
    let link = world.link(&pods[0])?;
    let at_alices = Tenant::assigned(&link, &alice.uid().context("no UID")?, 1)?;
    at_alices.bind().await?;
    let orphan = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    world.classes().delete("tools", &orphan).await?;
    let swept = watched::all(world.pods(), of("tools"), "no worker is left", <[_]>::is_empty);
    swept.await.with_logs(|| world.operator.text())?;
    world
        .tenant(&alice.name_any(), "nothing is assigned", |it| {
            it.spec.assignment.as_ref().is_some_and(|it| it.worker.is_empty() && it.epoch == 1)
        })
        .await?;
    world.end().await
}

#[tokio::test]
async fn deleting_a_class_or_the_namespace_hangs_nothing() -> anyhow::Result<()> {
    let world = World::make("op-gone").await?;
    for class in ["tools", "more"] {
        world.stage.declare(class, json!({ "warm": 1 })).await?;
        world.warm(class, 1).await?;
    }
    world.classes().delete("tools", &DeleteParams::default()).await?;
    let gone = watched::all(world.pods(), of("tools"), "no worker is left", <[_]>::is_empty);
    gone.await.with_logs(|| world.operator.text())?;

    let name = world.stage.place.name.clone();
    let namespaces = Api::<Namespace>::all(world.stage.place.client.clone());
    namespaces.delete(&name, &DeleteParams::default()).await?;
    let gone = watched::one(namespaces, &name, "the namespace is gone", |it| it.is_none());
    gone.await.with_logs(|| world.operator.text())?;
    Ok(())
}
