//! First contacts through two replicas.

use crate::world::{CLASS, ISSUER, World, has_its_own, name, provider, shared};
use anyhow::{Context, ensure};
use futures_util::future::{join_all, try_join_all};
use http::StatusCode;
use kube::api::{DeleteParams, PostParams};
use patchbay_tests::{
    binaries,
    cluster::{Final, never, until},
    controller::api_key,
    evidence::Evidence as _,
};
use serde_json::json;
use std::collections::BTreeSet;
use tokio::process::Command;

#[tokio::test]
async fn two_users_come_through_two_replicas_and_see_their_own_data_through_both()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("two-users", json!({}), &["alice", "bob"]).await?;
    tokio::try_join!(world.warm(), world.warm())?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;

    let first = [(&one, "alice"), (&two, "bob")];
    try_join_all(first.map(|(gateway, user)| async move {
        let client = gateway.client(&api_key(user));
        client.call("remember", json!({ "key": "mine", "value": user })).await
    }))
    .await?;
    for gateway in [&one, &two] {
        for (user, other) in [("alice", "bob"), ("bob", "alice")] {
            let client = gateway.client(&api_key(user));
            let mine = client.call("recall", json!({ "key": "mine" })).await?.to_string();
            ensure!(mine.contains(user) && !mine.contains(other), "{user}: {mine}");
        }
    }
    let (alice, bob) = (world.assignment("alice").await?, world.assignment("bob").await?);
    ensure!(alice.uid != bob.uid, "{alice:?} {bob:?}");
    for user in ["alice", "bob"] {
        let writes = world.writes(user)?;
        ensure!(writes == [("create".to_owned(), 201)], "{user}: {writes:?}");
    }
    world.end().await
}

#[tokio::test]
async fn a_warm_first_contact_costs_one_write_and_the_claims_of_one_gateway_never_collide()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let users = ["alice", "bob", "carol", "dora"];
    let world = World::make("one-write", json!({}), &users).await?;
    try_join_all(users.map(|_| world.warm())).await?;
    let gateway = world.config.start().await?;
    try_join_all(users.map(|user| {
        let client = gateway.client(&api_key(user));
        async move { client.call("echo", json!({ "text": "x" })).await }
    }))
    .await?;
    for user in users {
        let writes = world.writes(user)?;
        ensure!(writes == [("create".to_owned(), 201)], "{user}: {writes:?}");
        ensure!(world.assignment(user).await?.epoch == 1);
        let tenant = world.tenant(user).await?.context("no tenant")?;
        let labels = tenant.metadata.labels.unwrap_or_default();
        ensure!(labels.get("patchbay.dev/provisioned-by").is_some_and(|by| by == "first-contact"));
    }
    world.end().await
}

#[tokio::test]
async fn many_first_contacts_of_one_user_through_both_replicas_make_one_worker()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("one-user", json!({}), &["alice"]).await?;
    tokio::try_join!(world.warm(), world.warm(), world.warm())?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let calls = (0..20).map(|n| {
        let client = if n % 2 == 0 { &one } else { &two }.client(&api_key("alice"));
        async move { client.call("whoami", json!({})).await }
    });
    let answers = try_join_all(calls).await?;
    let started: BTreeSet<_> = answers.iter().map(|who| who["started"].to_string()).collect();
    ensure!(started.len() == 1, "{started:?}");
    ensure!(world.assignment("alice").await?.epoch == 1);
    // one was faster; the other was told so, and wrote no more
    let writes = world.writes("alice")?;
    let done = writes.iter().filter(|(_, code)| *code < 300).count();
    ensure!(done == 1 && writes.len() <= 2, "{writes:?}");
    world.end().await
}

#[tokio::test]
async fn of_two_who_want_the_last_worker_one_waits_and_has_the_next() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("last-worker", json!({}), &["alice", "bob"]).await?;
    world.warm().await?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let calls = [(&one, "alice"), (&two, "bob")].map(|(gateway, user)| async move {
        let client = gateway.client(&api_key(user));
        client.call("remember", json!({ "key": "mine", "value": user })).await
    });
    let comes = async {
        let is_waiting = async |user| {
            let assignment = world.assignment(user).await;
            assignment.is_ok_and(|it| it.worker.is_empty() && it.requested_at.is_some())
        };
        until("one of them waits", async || {
            Ok(is_waiting("alice").await != is_waiting("bob").await)
        })
        .await?;
        world.warm().await
    };
    let (served, came) = tokio::join!(join_all(calls), comes);
    came?;
    for answer in served {
        answer.with_logs(|| format!("{}\n{}", one.logs(), two.logs()))?;
    }
    let (alice, bob) = (world.assignment("alice").await?, world.assignment("bob").await?);
    ensure!(alice.uid != bob.uid && !alice.uid.is_empty() && !bob.uid.is_empty());
    for user in ["alice", "bob"] {
        let writes = world.writes(user)?;
        ensure!(writes.len() <= 3, "{user}: {writes:?}");
    }
    world.end().await
}

#[tokio::test]
async fn a_crowd_of_users_meets_a_few_workers_and_each_has_its_own() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let users: Vec<String> = (0..8).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let world = World::make("crowd", json!({}), &names).await?;
    try_join_all((0..3).map(|_| world.warm())).await?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let calls = names.iter().enumerate().map(|(n, user)| {
        let client = if n % 2 == 0 { &one } else { &two }.client(&api_key(user));
        async move { has_its_own(&client, user).await }
    });
    let further = async {
        for _ in 3..users.len() {
            world.warm().await?;
        }
        anyhow::Ok(())
    };
    let (served, came) = tokio::join!(try_join_all(calls), further);
    came?;
    served.with_logs(|| format!("{}\n{}", one.logs(), two.logs()))?;
    let mut workers = BTreeSet::new();
    for user in &names {
        workers.insert(world.assignment(user).await?.uid);
        let writes = world.writes(user)?;
        println!("{user}: {writes:?}");
        // one that it waits, perhaps one that it still does, and one that it has a worker: no pick is lost
        ensure!(writes.len() <= 3, "{user}: {writes:?}");
    }
    ensure!(workers.len() == users.len());
    world.end().await
}

#[tokio::test]
async fn only_who_is_provisioned_is_served_where_an_operator_decides() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("provisioned", json!({}), &["nobody"]).await?;
    let decided = json!({ "provisioning": "Preprovisioned" });
    let chosen = provider("chosen", &["alice", "bob"], &decided)?;
    world.providers.create(&PostParams::default(), &chosen).await?;
    world.warm().await?;
    let gateway = world.config.start().await?;
    let refused =
        gateway.client(&api_key("bob")).modern_call("echo", json!({ "text": "x" })).await?;
    ensure!(refused.status == StatusCode::FORBIDDEN, "{}", refused.text());
    ensure!(refused.reason().as_deref() == Some("not_provisioned"), "{}", refused.text());
    ensure!(world.tenant("bob").await?.is_none(), "a tenant was made");

    let printed = tenant_manifest("alice").await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), printed)?;
    let file = file.path().to_str().context("a path of text")?;
    world.stage.place.kubectl(&["apply", "-f", file]).await?;
    let client = gateway.client(&api_key("alice"));
    until("alice is known", async || {
        let answer = client.modern_call("echo", json!({ "text": "x" })).await?;
        Ok(answer.status == StatusCode::OK)
    })
    .await?;
    let assignment = world.assignment("alice").await?;
    ensure!(assignment.epoch == 1, "{assignment:?}");
    let writes = world.writes("alice")?;
    ensure!(writes == [("patch".to_owned(), 200)], "{writes:?}");

    // and is served no more when the operator has changed their mind
    world.warm().await?;
    world.tenants.delete(name("alice")?.as_str(), &DeleteParams::default()).await?;
    until("the gateway knows", async || {
        let answer = client.modern_call("echo", json!({ "text": "x" })).await.map_err(Final)?;
        let is_refused = answer.reason().as_deref() == Some("not_provisioned");
        never(!is_refused && answer.status != StatusCode::OK, answer.text())?;
        Ok(is_refused)
    })
    .await?;
    let refused = client.modern_call("echo", json!({ "text": "x" })).await?;
    ensure!(refused.status == StatusCode::FORBIDDEN, "{}", refused.text());
    ensure!(refused.reason().as_deref() == Some("not_provisioned"), "{}", refused.text());
    ensure!(world.tenant("alice").await?.is_none(), "a tenant was made");
    let writes = world.writes("alice")?;
    ensure!(writes == [("patch".to_owned(), 200)], "{writes:?}");
    world.end().await
}

/// What `patchbay tenant` prints of a user.
async fn tenant_manifest(user: &str) -> anyhow::Result<Vec<u8>> {
    let program = Command::new(binaries::path("patchbay")?)
        .args(["tenant", "--issuer", ISSUER, "--subject", user, "--class", CLASS])
        .output()
        .await?;
    ensure!(program.status.success(), "{}", String::from_utf8_lossy(&program.stderr));
    Ok(program.stdout)
}

#[tokio::test]
async fn a_class_that_has_its_tenants_takes_no_other() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let limits = json!({ "limits": { "tenants": 1 } });
    let world = World::make("full", limits, &["alice", "bob"]).await?;
    world.warm().await?;
    let gateway = world.config.start().await?;
    gateway.client(&api_key("alice")).call("echo", json!({ "text": "in" })).await?;
    let refused =
        gateway.client(&api_key("bob")).modern_call("echo", json!({ "text": "x" })).await?;
    ensure!(refused.reason().as_deref() == Some("class_full"), "{}", refused.text());
    ensure!(world.tenant("bob").await?.is_none(), "a wait was noted for whom there is no room");
    world.end().await
}
