//! What administrators do to tenants, and what comes of hand-written ones.

use crate::world::{World, key, name, shared};
use anyhow::{Context, ensure};
use http::StatusCode;
use kube::api::{DeleteParams, PostParams};
use patchbay_crds::Tenant;
use patchbay_tests::{
    cluster::{Final, never, until},
    controller::api_key,
    evidence::Evidence as _,
    mcp::McpClient,
};
use serde_json::json;

#[tokio::test]
async fn a_tenant_that_is_assigned_anothers_worker_by_hand_is_refused_there_and_has_its_own()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("edited", json!({}), &["alice", "bob"]).await?;
    tokio::try_join!(world.warm(), world.warm())?;
    let gateway = world.config.start().await?;
    let (alice, bob) = (gateway.client(&api_key("alice")), gateway.client(&api_key("bob")));
    alice.call("remember", json!({ "key": "mine", "value": "alice's" })).await?;
    bob.call("remember", json!({ "key": "mine", "value": "bob's" })).await?;
    let hers = world.assignment("alice").await?;
    let before = world.assignment("bob").await?;

    let edited = json!({ "worker": hers.worker, "uid": hers.uid, "epoch": before.epoch + 1 });
    world.edit("bob", json!({ "spec": { "assignment": edited } })).await?;
    let spare = world.warm().await?;
    until("bob has left her worker", async || {
        // whatever the control plane says meanwhile, nobody sees what is hers
        let seen = bob.call("recall", json!({ "key": "mine" })).await.map_err(Final)?.to_string();
        never(seen.contains("alice"), &seen)?;
        Ok(world.assignment("bob").await?.uid == spare.uid)
    })
    .await
    .with_logs(|| gateway.logs())?;
    ensure!(world.assignment("bob").await?.epoch > before.epoch + 1);
    let log = gateway.logs();
    ensure!(log.contains("a worker refused its assigned tenant"), "{log}");
    let kept = alice.call("recall", json!({ "key": "mine" })).await?.to_string();
    ensure!(kept.contains("alice's"), "{kept}");
    world.end().await
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_at_once_and_gains_nothing() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("suspended", json!({}), &["alice"]).await?;
    world.warm().await?;
    let gateway = world.config.start().await?;
    let alice = gateway.client(&api_key("alice"));
    alice.call("echo", json!({ "text": "in" })).await?;
    world.edit("alice", json!({ "spec": { "suspended": true } })).await?;
    until("the gateway knows", async || {
        let answer = alice.modern_call("echo", json!({ "text": "x" })).await?;
        Ok(answer.reason().as_deref() == Some("tenant_suspended"))
    })
    .await?;
    let refused = alice.modern_call("echo", json!({ "text": "x" })).await?;
    ensure!(refused.status == StatusCode::FORBIDDEN, "{}", refused.text());
    let writes = world.writes("alice")?;
    ensure!(writes.len() == 1, "{writes:?}");

    world.edit("alice", json!({ "spec": { "suspended": false } })).await?;
    until("the gateway knows", async || {
        Ok(alice.modern_call("echo", json!({ "text": "x" })).await?.status == StatusCode::OK)
    })
    .await?;
    world.end().await
}

#[tokio::test]
async fn a_tenant_that_is_made_anew_never_meets_the_worker_of_the_old_one() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("anew", json!({}), &["alice"]).await?;
    world.warm().await?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let through = [one.client(&api_key("alice")), two.client(&api_key("alice"))];
    for client in &through {
        client.call("remember", json!({ "key": "old", "value": "secret" })).await?;
    }
    let old = world.assignment("alice").await?;
    let old_tenant = world.tenant("alice").await?.context("alice")?.metadata.uid;
    world.tenants.delete(name("alice")?.as_str(), &DeleteParams::default()).await?;
    // as it was, by hand, worker and all: the worst that an administrator can do
    let mut anew = Tenant::for_key(&key("alice")?);
    anew.spec.assignment = Some(old.clone());
    world.tenants.create(&PostParams::default(), &anew).await?;
    let fresh = world.warm().await?;
    // until a gateway has heard of it, the old worker answers, and from then on never again
    let mut calls = through.iter().map(Forgetful::of).collect::<Vec<_>>();
    until("both replicas know, and she has a new worker", async || {
        let mut all_know = true;
        for calls in &mut calls {
            all_know &= calls.has_forgotten().await?;
        }
        Ok(all_know && world.assignment("alice").await?.uid == fresh.uid)
    })
    .await
    .with_logs(|| format!("{}\n{}", one.logs(), two.logs()))?;
    ensure!(world.tenant("alice").await?.context("alice")?.metadata.uid != old_tenant);
    for _ in 0..20 {
        for calls in &mut calls {
            calls.has_forgotten().await?;
        }
    }
    ensure!(world.assignment("alice").await?.uid == fresh.uid, "she was moved again");
    world.end().await
}

/// The calls of a user through one gateway, who once kept a secret under `old`, and is somebody new by now.
struct Forgetful<'a> {
    client: &'a McpClient,
    has_forgotten: bool,
}

impl<'a> Forgetful<'a> {
    fn of(client: &'a McpClient) -> Self {
        Self { client, has_forgotten: false }
    }

    /// Whether the worker that answers knows nothing of the secret. Where one did not, none may know it afterwards.
    async fn has_forgotten(&mut self) -> Result<bool, Final> {
        let said = self.client.call("recall", json!({ "key": "old" })).await;
        let said = said.map_err(Final)?.to_string();
        let knows = said.contains("secret");
        never(knows && self.has_forgotten, &said)?;
        self.has_forgotten = !knows;
        Ok(self.has_forgotten)
    }
}

#[tokio::test]
async fn a_deleted_tenants_next_contact_makes_another_tenant() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("deleted", json!({}), &["alice"]).await?;
    world.warm().await?;
    let gateway = world.config.start().await?;
    let alice = gateway.client(&api_key("alice"));
    alice.call("remember", json!({ "key": "old", "value": "secret" })).await?;
    let old = world.tenant("alice").await?.context("alice")?;
    world.tenants.delete(name("alice")?.as_str(), &DeleteParams::default()).await?;
    // as the operator does; what is bound to the old tenant never goes back to the pool
    let worker = old.spec.assignment.clone().context("an assignment")?.worker;
    let bound = json!({ "metadata": { "labels": { "patchbay.dev/bound": "true" } } });
    let patch = kube::api::Patch::Merge(bound);
    world.stage.place.pods().patch(&worker, &kube::api::PatchParams::default(), &patch).await?;
    world.warm().await?;
    let mut calls = Forgetful::of(&alice);
    until("there is a new tenant", async || {
        Ok(calls.has_forgotten().await? && world.tenant("alice").await?.is_some())
    })
    .await
    .with_logs(|| gateway.logs())?;
    let new = world.tenant("alice").await?.context("alice")?;
    ensure!(new.metadata.uid != old.metadata.uid);
    calls.has_forgotten().await?;
    world.end().await
}

#[tokio::test]
async fn an_object_under_a_name_that_is_not_its_identitys_is_never_used() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("misnamed", json!({}), &["alice", "bob"]).await?;
    world.warm().await?;
    let gateway = world.config.start().await?;
    let mut wrong = Tenant::for_key(&key("bob")?);
    wrong.metadata.name = Some(name("alice")?.to_string());
    world.tenants.create(&PostParams::default(), &wrong).await?;
    let alice = gateway.client(&api_key("alice"));
    let refused = alice.modern_call("echo", json!({ "text": "x" })).await?;
    ensure!(refused.status == StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text());
    ensure!(refused.reason().as_deref() == Some("tenant_name_mismatch"), "{}", refused.text());
    ensure!(world.tenant("alice").await?.context("it")?.spec.assignment.is_none());
    gateway.client(&api_key("bob")).call("echo", json!({ "text": "x" })).await?;
    world.end().await
}
