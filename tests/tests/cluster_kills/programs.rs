//! Patchbay's own programs, killed: a gateway, the operator that leads, a worker's agent; and a worker that is
//! deleted.

use crate::{
    installation::{Installation, client},
    load::Load,
    recovery::report,
};
use anyhow::{Context, ensure};
use kube::{ResourceExt as _, api::DeleteParams};
use patchbay_crds::tenant::Phase;
use patchbay_operator::build::AGENT;
use patchbay_tests::{cluster::until, installation::Replica};
use serde_json::json;
use tokio::time::Instant;

#[tokio::test]
async fn a_killed_gateway_costs_its_own_users_one_connection_and_others_nothing()
-> anyhow::Result<()> {
    let installation = Installation::make("gateway", &["alice", "bob", "carol", "dave"]).await?;
    let [dying, other] = installation.replicas("gateway").await?;
    let ways = |user, replicas: &[&Replica]| {
        let ways = replicas.iter().map(|replica| client(&replica.url(), user)).collect();
        (user, ways)
    };
    let load = Load::begin(vec![
        ways("alice", &[&dying, &other]),
        ways("bob", &[&dying, &other]),
        ways("carol", &[&other]),
        ways("dave", &[&other]),
    ])
    .await?;
    load.go_on(50).await?;
    let killed = installation.kill(&dying).await?;
    load.go_on(50).await?;
    let took = installation.until_restarted(&dying, killed).await?;
    report("a gateway", "two gateways again", took);
    installation.until_whole().await?;
    let tallies = load.end().await?;
    for (user, tally) in &tallies {
        if ["alice", "bob"].contains(&user.as_str()) {
            // the worker is as it was, and the other gateway finds it
            ensure!(tally.failed.len() <= 1 && tally.anew == 0, "{user}: {tally:?}");
        } else {
            tally.ensure_undisturbed().with_context(|| user.clone())?;
        }
    }
    installation.end().await
}

#[tokio::test]
async fn nobody_notices_that_the_leader_is_killed_and_new_users_come_in_meanwhile()
-> anyhow::Result<()> {
    let installation = Installation::make("leader", &["alice", "bob", "carol", "dave"]).await?;
    let load = installation.load(&["alice", "bob", "carol"]).await?;
    installation.until_whole().await?;
    let (leader, process) = (installation.leader().await?, installation.leading_process().await?);
    let replicas: [_; 2] = installation.replicas("operator").await?;
    let dying = replicas.iter().find(|replica| replica.pod == leader).context("no such pod")?;
    let killed = installation.kill(dying).await?;
    installation.first_contact("dave").await?;
    let used = installation.assignment("dave").await?;
    let took = installation.until_refilled(&used, killed).await?;
    // whoever took the dead one's Lease, it may be the process that the kubelet started in its place
    ensure!(installation.leading_process().await? != process, "the dead one leads");
    report("the leading operator", "a used warm worker is replaced", took);
    installation.until_whole().await?;
    for (user, tally) in load.end().await? {
        tally.ensure_undisturbed().with_context(|| user)?;
    }
    installation.end().await
}

#[tokio::test]
async fn a_killed_agent_costs_its_own_user_a_call_and_the_next_one_finds_another_worker()
-> anyhow::Result<()> {
    let users = ["alice", "bob", "carol", "dave", "silent"];
    let installation = Installation::make("agent", &users).await?;
    let load = installation.load(&users[..4]).await?;
    let silent = installation.client("silent");
    installation.contact(&silent).await?;
    installation.until_whole().await?;
    let first = installation.assignment("alice").await?;
    let killed = installation.kill_container(&first.worker, AGENT).await?;
    load.until("alice", |tally| tally.anew > 0).await?;
    report("a worker's agent", "its user is served by another worker", killed.elapsed());
    load.go_on(50).await?;
    let second = installation.assignment("alice").await?;
    ensure!(second.uid != first.uid && second.epoch > first.epoch, "{first:?} {second:?}");
    installation.until_refilled(&second, killed).await?;
    until("the dead worker's pod is gone", async || {
        Ok(installation.place().pods().get_opt(&first.worker).await?.is_none())
    })
    .await?;
    let tallies = load.end().await?;
    for (user, tally) in &tallies {
        if user == "alice" {
            ensure!(tally.failed.len() <= 1 && tally.anew == 1, "{tally:?}");
        } else {
            tally.ensure_undisturbed().with_context(|| user.clone())?;
        }
    }
    let tenant = installation.tenant("alice").await?;
    let status = tenant.status.clone().context("no status")?;
    ensure!(status.phase == Some(Phase::Ready), "{status:?}");
    // her status is of the worker that she has; of the other one, an Event tells
    let told = installation.place().kubectl(&["describe", "tenant", &tenant.name_any()]).await?;
    let why = format!("the user's worker {} ended: container `agent` ended with", first.worker);
    ensure!(told.contains(&why), "{told}");

    // and of one who does not call just then, both do
    let worker = installation.assignment("silent").await?.worker;
    installation.kill_container(&worker, AGENT).await?;
    until("the user sleeps, and why is told", async || {
        let status = installation.tenant("silent").await?.status.context("no status")?;
        Ok(status.phase == Some(Phase::Asleep) && status.reason.as_deref() == Some("Error"))
    })
    .await?;
    let name = installation.tenant("silent").await?.name_any();
    let told = installation.place().kubectl(&["describe", "tenant", &name]).await?;
    let why = "container `agent` ended with exit code 137; the next request brings another worker";
    ensure!(told.matches(why).count() > 1, "{told}");
    installation.contact(&silent).await?;
    installation.end().await
}

#[tokio::test]
async fn a_deleted_worker_finishes_the_call_that_runs_and_another_takes_what_comes_then()
-> anyhow::Result<()> {
    let installation = Installation::make("deleted", &["alice", "bob"]).await?;
    let load = installation.load(&["bob"]).await?;
    let alice = installation.client("alice");
    installation.contact(&alice).await?;
    installation.until_whole().await?;
    let first = installation.assignment("alice").await?;
    let call = async {
        let slept = alice.call("sleep", json!({ "ms": 10_000 })).await;
        (slept, Instant::now())
    };
    let delete = async {
        until("the call runs", async || {
            let counters = alice.call("counters", json!({})).await?;
            Ok(counters == json!({ "started": 1, "completed": 0, "cancelled": 0, "awaiting": 0 }))
        })
        .await?;
        installation.place().pods().delete(&first.worker, &DeleteParams::default()).await?;
        let asked = Instant::now();
        // both containers are told to end at once; until they have heard of it, they take what comes
        let mut failed = Vec::new();
        until("another worker answers", async || {
            let told = alice.call("counters", json!({})).await;
            Ok(told.map_err(|error| failed.push(error)).is_ok_and(|told| told["started"] == 0))
        })
        .await?;
        ensure!(failed.is_empty(), "{failed:?}");
        report("a deleted worker", "its user is served by another worker", asked.elapsed());
        anyhow::Ok(asked)
    };
    let ((slept, ended), deleted) = tokio::join!(call, delete);
    if deleted.is_err() || slept.is_err() {
        println!("{}", installation.installed.release.told().await?);
    }
    ensure!(deleted? < ended, "the call had ended before its worker was deleted");
    ensure!(slept? == json!({ "slept": true }));
    ensure!(installation.assignment("alice").await?.epoch > first.epoch);
    for (user, tally) in load.end().await? {
        tally.ensure_undisturbed().with_context(|| user)?;
    }
    installation.end().await
}
