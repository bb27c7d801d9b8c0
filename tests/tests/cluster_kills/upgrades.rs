//! Upgrades under load: of the chart, which rolls both programs, and of a class, which replaces its workers.

use crate::{
    installation::{CLASS, Installation},
    recovery::report,
};
use anyhow::{Context, ensure};
use kube::ResourceExt as _;
use patchbay_crds::marks::REVISION;
use patchbay_tests::cluster::until;
use serde_json::json;
use std::collections::BTreeSet;
use tokio::time::Instant;

#[tokio::test]
async fn an_upgrade_of_both_programs_fails_no_request() -> anyhow::Result<()> {
    let users = ["alice", "bob", "carol", "dave", "erin"];
    let mut installation = Installation::make("rolled", &users).await?;
    let load = installation.load(&users[..4]).await?;
    installation.until_whole().await?;
    let mut before = BTreeSet::new();
    for component in ["gateway", "operator"] {
        before.extend(installation.pods(component).await?.iter().map(kube::ResourceExt::name_any));
    }
    let begun = Instant::now();
    installation.upgrade(|values| values["log"] = json!("debug")).await?;
    // nobody new waits for an upgrade either
    installation.first_contact("erin").await?;
    installation.until_whole().await?;
    report("an upgrade of the chart", "all replicas are new, the old ones gone", begun.elapsed());
    for component in ["gateway", "operator"] {
        let now = installation.pods(component).await?;
        ensure!(now.iter().all(|pod| !before.contains(&pod.name_any())), "{component} is not new");
    }
    load.go_on(50).await?;
    for (user, tally) in load.end().await? {
        tally.ensure_undisturbed().with_context(|| user)?;
    }
    installation.end().await
}

#[tokio::test]
async fn an_upgrade_of_a_class_replaces_free_workers_and_moves_nobody_who_calls()
-> anyhow::Result<()> {
    let users = ["alice", "bob", "carol", "dave"];
    let mut installation =
        Installation::make_with("class", &users, json!({ "idleTimeout": "20s" })).await?;
    let load = installation.load(&["alice", "bob"]).await?;
    let [busy, idle] = ["carol", "dave"].map(|user| installation.client(user));
    installation.contact(&idle).await?;
    let session = idle.initialize().await?;
    let first_idle = installation.assignment("dave").await?;
    installation.until_whole().await?;
    let revisions = async |installation: &Installation| {
        let free = installation.free().await?;
        let revisions = free.iter().map(|pod| pod.labels().get(REVISION).cloned());
        anyhow::Ok(revisions.collect::<Vec<_>>())
    };
    let before = revisions(&installation).await?;
    ensure!(before.len() == 2 && before[0].is_some() && before[0] == before[1], "{before:?}");
    // as long as it takes
    let call = busy.call("await_value", json!({ "key": "upgraded" }));
    let upgrade = async {
        until("the call runs", async || {
            Ok(busy.call("counters", json!({})).await?["awaiting"] == 1)
        })
        .await?;
        let first = installation.assignment("carol").await?;
        let begun = Instant::now();
        installation
            .upgrade(|values| values["classes"][CLASS]["env"] = json!({ "NEW": "yes" }))
            .await?;
        until("all free workers are new", async || {
            let now = revisions(&installation).await?;
            Ok(now.len() == 2 && now.iter().all(|revision| *revision != before[0]))
        })
        .await?;
        report("an upgrade of a class", "all free workers are new", begun.elapsed());
        ensure!(installation.assignment("carol").await? == first);
        busy.call("remember", json!({ "key": "upgraded", "value": "yes" })).await
    };
    let (waited, upgraded) = tokio::join!(call, upgrade);
    upgraded?;
    ensure!(waited? == json!({ "value": "yes" }), "a busy user was interrupted");
    load.go_on(50).await?;
    for (user, tally) in load.end().await? {
        tally.ensure_undisturbed().with_context(|| user)?;
    }
    // who is idle leaves, and comes back to a new one, in the session that was begun in the old one
    until("dave sleeps", async || Ok(installation.assignment("dave").await?.worker.is_empty()))
        .await?;
    ensure!(session.call("whoami", json!({})).await?["env"]["NEW"] == "yes");
    ensure!(installation.assignment("dave").await?.epoch > first_idle.epoch);
    installation.end().await
}
