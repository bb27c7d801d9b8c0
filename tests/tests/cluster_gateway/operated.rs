//! Gateways and the real operator: what one writes, the other acts on.

use crate::world::{World, has_its_own, name, shared};
use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use http::StatusCode;
use kube::api::DeleteParams;
use patchbay_tests::{
    binaries, cluster::until, controller::api_key, evidence::Evidence as _, pods::audit::Claim,
};
use serde_json::json;
use std::{collections::BTreeSet, process::Stdio};
use tokio::process::Command;

#[tokio::test]
async fn who_finds_no_worker_is_brought_one_and_who_slept_is_woken() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let class = json!({ "warm": 0, "idleTimeout": "6s" });
    let world = World::operated("woken", class, &["alice"]).await?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let called = one.client(&api_key("alice")).call("echo", json!({ "text": "first" })).await;
    called.with_logs(|| format!("{}\n{}", one.logs(), world.operators_log()))?;
    // the wait and the assignment
    let writes = world.writes("alice")?;
    ensure!(writes == [("create".to_owned(), 201), ("patch".to_owned(), 200)], "{writes:?}");
    let first = world.assignment("alice").await?;
    let mut claims = Vec::new();
    until("the operator has followed up", async || {
        claims = world.claims(&["alice"])?;
        Ok(claims.iter().all(Claim::is_over))
    })
    .await
    .with_logs(|| world.operators_log())?;
    // of a short wait nobody is told: four writes
    let claim = claims.first().context("no claim")?;
    println!(
        "a claim that waited: {} writes, {} of them a word of it",
        claim.in_all(),
        claim.waits_told
    );
    ensure!(claim.waits == 1 && claim.in_all() <= 4 + claim.waits_told, "{claim:?}");
    until("she sleeps", async || {
        let assignment = world.assignment("alice").await?;
        Ok(assignment.worker.is_empty() && assignment.requested_at.is_none())
    })
    .await
    .with_logs(|| world.operators_log())?;
    let called = two.client(&api_key("alice")).call("echo", json!({ "text": "again" })).await;
    called.with_logs(|| format!("{}\n{}", two.logs(), world.operators_log()))?;
    let second = world.assignment("alice").await?;
    ensure!(second.epoch > first.epoch && second.uid != first.uid, "{first:?} {second:?}");
    world.end().await
}

#[tokio::test]
async fn a_crowd_through_two_replicas_has_a_worker_each_for_three_writes_and_one_more_where_it_waits_two_where_for_long()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let users: Vec<String> = (0..10).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let world = World::operated("op-crowd", json!({ "warm": 3 }), &names).await?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let calls = names.iter().enumerate().map(|(n, user)| {
        let client = if n % 2 == 0 { &one } else { &two }.client(&api_key(user));
        async move { has_its_own(&client, user).await }
    });
    let begun = tokio::time::Instant::now();
    let served = try_join_all(calls).await;
    served.with_logs(|| format!("{}\n{}\n{}", one.logs(), two.logs(), world.operators_log()))?;
    println!("10 users, 3 warm workers: all served after {:?}", begun.elapsed());
    let mut workers = BTreeSet::new();
    for user in &names {
        workers.insert(world.assignment(user).await?.uid);
    }
    ensure!(workers.len() == users.len());
    let mut claims = Vec::new();
    until("the operator has followed up", async || {
        claims = world.claims(&names)?;
        Ok(claims.iter().all(Claim::is_over))
    })
    .await
    .with_logs(|| world.operators_log())?;
    let counts: Vec<_> =
        claims.iter().map(|claim| (claim.waits, claim.by_gateways, claim.by_operator)).collect();
    println!("waits, and writes by gateways and by the operator, per claim: {counts:?}");
    for claim in &claims {
        ensure!(claim.by_gateways <= 3 && claim.in_all() <= claim.budget(), "{claim:?}");
    }
    world.end().await
}

#[tokio::test]
async fn who_is_suspended_or_deleted_loses_the_worker_and_may_come_back_to_another()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::operated("ended", json!({ "warm": 1 }), &["alice"]).await?;
    let gateway = world.config.start().await?;
    let alice = gateway.client(&api_key("alice"));
    alice.call("remember", json!({ "key": "k", "value": "secret" })).await?;
    let tenant = world.tenant("alice").await?.context("alice")?;
    let first = world.assignment("alice").await?;
    world.edit("alice", json!({ "spec": { "suspended": true } })).await?;
    let pods = world.stage.place.pods();
    until("her worker is gone", async || Ok(pods.get_opt(&first.worker).await?.is_none()))
        .await
        .with_logs(|| world.operators_log())?;
    let refused = alice.modern_call("echo", json!({ "text": "x" })).await?;
    ensure!(refused.status == StatusCode::FORBIDDEN, "{}", refused.text());
    is_told_why(&world, "alice").await.with_logs(|| world.operators_log())?;
    world.edit("alice", json!({ "spec": { "suspended": false } })).await?;
    gateway
        .until("she is served", async || {
            Ok(alice.modern_call("echo", json!({ "text": "x" })).await?.status == StatusCode::OK)
        })
        .await?;

    let second = world.assignment("alice").await?;
    ensure!(second.uid != first.uid);
    world.tenants.delete(name("alice")?.as_str(), &DeleteParams::default()).await?;
    until("her second worker is gone", async || Ok(pods.get_opt(&second.worker).await?.is_none()))
        .await
        .with_logs(|| world.operators_log())?;
    let said = alice.call("recall", json!({ "key": "k" })).await?.to_string();
    ensure!(!said.contains("secret"), "{said}");
    let anew = world.tenant("alice").await?.context("alice")?;
    ensure!(anew.metadata.uid != tenant.metadata.uid);
    world.end().await
}

/// What `patchbay why` tells of a user who was shut out after they had a worker.
async fn is_told_why(world: &World, user: &str) -> anyhow::Result<()> {
    until("the operator has cleared up", async || {
        let assignment = world.assignment(user).await?;
        Ok(assignment.worker.is_empty())
    })
    .await?;
    let place = &world.stage.place;
    let program = Command::new(binaries::path("patchbay")?)
        .args(["why", name(user)?.as_str(), "--namespace", &place.name])
        .env("KUBECONFIG", place.cluster.kubeconfig())
        .stdin(Stdio::null())
        .output()
        .await?;
    let told = String::from_utf8_lossy(&program.stdout);
    ensure!(program.status.success(), "{}", String::from_utf8_lossy(&program.stderr));
    for line in [
        "state    Suspended (Suspended): the user is shut out; not ready for ",
        "worker   none; it had or waited for one ",
        "The user is shut out. To let them in: kubectl patch tenant ",
    ] {
        ensure!(told.lines().any(|it| it.starts_with(line)), "not told: {line}\n{told}");
    }
    for what in [" made, by the user's first call", " Suspended: the user is shut out"] {
        ensure!(told.lines().any(|it| it.ends_with(what)), "not told: {what}\n{told}");
    }
    let nobody = Command::new(binaries::path("patchbay")?)
        .args(["why", "t-aaaaaaaaaaaaaaaaaaaa", "--namespace", &place.name])
        .env("KUBECONFIG", place.cluster.kubeconfig())
        .output()
        .await?;
    let refused = String::from_utf8_lossy(&nobody.stderr);
    ensure!(!nobody.status.success() && refused.contains("there is no tenant"), "{refused}");
    Ok(())
}
