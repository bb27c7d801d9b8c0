//! What idle, busy, deleted and suspended users see, and an administrator of them.

use super::{
    fixtures::{User, class, provider},
    hunt::Hunt,
    world::{Installation, Seen},
};
use anyhow::{Context, ensure};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::DeleteParams};
use patchbay_crds::{Tenant, tenant::Phase};
use patchbay_operator::build::{AGENT, SERVER};
use patchbay_tests::{
    cluster::{Cluster, Strict, default_directory, until},
    inside,
    mcp::McpClient,
    pods::{audit, images, stage::ended, watched},
};
use serde_json::{Value, json};
use std::cell::Cell;
use tokio::{task::JoinHandle, time::Instant};

const CLASS: &str = "notes";
/// What a suspended or deleted tenant's worker may take to end, by the design.
const PROMISE: SignedDuration = SignedDuration::from_secs(5);

/// An installation with a class of these values and these users.
async fn installed(name: &str, class: Value, users: &[&User]) -> anyhow::Result<Installation> {
    let values = json!({
        "classes": { CLASS: class },
        "providers": { "users": provider(CLASS, users) },
        "log": "debug",
    });
    let at = Installation::make(Strict::make(name).await?, values).await?;
    Ok(at)
}

/// The images of the suite's cluster.
async fn fixture(idle: &str, edition: &str, warm: u32, memory: &str) -> anyhow::Result<Value> {
    let cluster = Cluster::up(&default_directory()?).await?;
    class(images::import(&cluster).await?, idle, edition, warm, memory)
}

/// A user's clients, by one gateway and by the other.
fn clients(at: &Installation, user: &User) -> anyhow::Result<[McpClient; 2]> {
    let bearer = format!("Bearer {}", user.key);
    let by = |replica| at.client(replica, "/notes", ("authorization", &bearer));
    Ok([by(0)?, by(1)?])
}

/// A call that lasts until its user remembers something under `go`, and its user's tenant meanwhile.
async fn lasting_call(
    at: &Installation,
    user: &str,
    client: &McpClient,
) -> anyhow::Result<(JoinHandle<anyhow::Result<Value>>, Seen)> {
    let own = client.clone();
    let call = tokio::spawn(async move { own.call("await_value", json!({ "key": "go" })).await });
    let runs = until("the call runs", async || {
        Ok(client.call("counters", json!({})).await?["awaiting"] == 1)
    });
    at.installed.or_told(runs.await).await?;
    Ok((call, at.tenant(user).await?))
}

fn sleeps(tenant: &Tenant) -> bool {
    let worker = tenant.spec.assignment.as_ref().map(|assignment| assignment.worker.as_str());
    worker == Some("")
        && tenant.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Asleep))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_idle_sleeps_and_is_woken_in_another_worker_by_either_gateway() -> anyhow::Result<()>
{
    let alice = User::new("alice");
    let at = installed("idle", fixture("2s", "only", 1, "128Mi").await?, &[&alice]).await?;
    at.warm(CLASS, 1).await?;
    let mut hunt = Hunt::new()?;
    hunt.add("alice's key", &alice.key)?;
    let mut last = None;
    for client in clients(&at, &alice)? {
        let woken =
            at.installed.or_told(client.call("recall", json!({ "key": "go" })).await).await?;
        ensure!(woken == json!({ "memory": null, "file": null }), "{woken}");
        // who is busy does not fall asleep while she is looked at
        let (call, awake) = lasting_call(&at, "alice", &client).await?;
        if let Some((epoch, uid)) = last {
            ensure!(awake.assignment.epoch > epoch, "{awake:?}");
            ensure!(awake.assignment.uid != uid, "the worker of before: {awake:?}");
        }
        let logs = hunt.keep(&at).await?;
        ensure!(logs.contains(&awake.assignment.worker), "{logs:?}");
        client.call("remember", json!({ "key": "go", "value": "a note" })).await?;
        ensure!(call.await??["value"] == "a note");
        let asleep = at.until(&awake.name, "she sleeps", sleeps).await?;
        let status = asleep.status.context("no status")?;
        ensure!(status.reason.as_deref() == Some("Idle"), "{status:?}");
        ensure!(status.last_activity.is_some(), "{status:?}");
        at.gone(&awake.assignment.worker).await?;
        let shown = at.installed.release.place.kubectl(&["get", "tenants", "--no-headers"]).await?;
        ensure!(shown.contains("alice") && shown.contains("Asleep"), "{shown}");
        last = Some((awake.assignment.epoch, awake.assignment.uid));
    }
    hunt.end(&at).await?;
    at.installed.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_busy_is_spared_by_a_class_that_changes_and_a_pool_that_is_emptied()
-> anyhow::Result<()> {
    let (bob, carol) = (User::new("bob"), User::new("carol"));
    let before = fixture("2s", "first", 1, "128Mi").await?;
    let mut at = installed("busy", before, &[&bob, &carol]).await?;
    at.warm(CLASS, 1).await?;
    let mut hunt = Hunt::new()?;
    hunt.add("bob's key", &bob.key)?;
    hunt.add("carol's key", &carol.key)?;

    let [by_one, by_other] = clients(&at, &bob)?;
    let (call, busy) = lasting_call(&at, "bob", &by_one).await?;
    // its successor too, so that there is somebody for the upgrade to retire
    at.warm(CLASS, 1).await?;

    let begun = Instant::now();
    let after = fixture("2s", "second", 0, "144Mi").await?;
    at.installed.upgrade(|values| values["classes"] = json!({ CLASS: after })).await?;
    at.warm(CLASS, 0).await?;
    println!("helm upgrade -> the old pool is gone: {:?}", begun.elapsed());
    // who comes now has what the class is now
    let [first, _] = clients(&at, &carol)?;
    let who = at.installed.or_told(first.call("whoami", json!({})).await).await?;
    ensure!(who["env"]["EDITION"] == "second", "{who}");

    // and he has what he had, however he comes
    let who = at.installed.or_told(by_other.call("whoami", json!({})).await).await?;
    ensure!(who["env"]["EDITION"] == "first", "{who}");
    ensure!(!call.is_finished(), "his call was ended");
    let still = at.tenant("bob").await?;
    ensure!(still.assignment == busy.assignment, "{busy:?} {still:?}");
    let pod = at.pods().get(&busy.assignment.worker).await?;
    ensure!(pod.uid().as_ref() == Some(&busy.assignment.uid), "another pod of this name");
    ensure!(pod.metadata.deletion_timestamp.is_none(), "his worker is being ended");
    let logs = hunt.keep(&at).await?;
    ensure!(logs.contains(&busy.assignment.worker), "{logs:?}");
    by_other.call("remember", json!({ "key": "go", "value": "unharmed" })).await?;
    ensure!(call.await??["value"] == "unharmed");

    // idle at last, his worker leaves, and the next is of the class as it is
    let asleep = at.until(&busy.name, "he sleeps", sleeps).await?;
    let reason = asleep.status.and_then(|status| status.reason);
    ensure!(reason.as_deref() == Some("Idle"), "{reason:?}");
    at.gone(&busy.assignment.worker).await?;
    let who = at.installed.or_told(by_other.call("whoami", json!({})).await).await?;
    ensure!(who["env"]["EDITION"] == "second", "{who}");
    let anew = at.tenant("bob").await?;
    ensure!(anew.uid == busy.uid && anew.assignment.epoch > busy.assignment.epoch, "{anew:?}");
    hunt.end(&at).await?;
    at.installed.end().await
}

/// When the API server answered the request that did this to a tenant; `mark` is where its audit log ended before.
async fn answered(
    at: &Installation,
    mark: u64,
    verb: &str,
    tenant: &str,
) -> anyhow::Result<Timestamp> {
    let cluster = &at.installed.release.place.cluster;
    let is_it = |entry: &Value| {
        let (object, groups) = (&entry["objectRef"], &entry["user"]["groups"]);
        entry["verb"] == verb
            && entry["stage"] == "ResponseComplete"
            && object["name"] == tenant
            && object["namespace"] == at.installed.release.place.name.as_str()
            // an administrator's: the programs write of it too
            && groups.as_array().is_some_and(|all| all.contains(&json!("system:masters")))
            && entry["responseStatus"]["code"] == 200
    };
    let mut first = None;
    until("the request is in the audit log", async || {
        first =
            audit::since(cluster, mark)?.iter().find(|entry| is_it(entry)).and_then(audit::time);
        Ok(first.is_some())
    })
    .await?;
    first.context("no time")
}

/// Waits until both of a worker's containers have ended, within what was promised from then on.
async fn over(at: &Installation, worker: &str, begun: Timestamp) -> anyhow::Result<()> {
    let last = Cell::new(None);
    let over = watched::one(at.pods(), worker, "it has ended", |pod: Option<&Pod>| {
        let end = |container| {
            let end = pod.map(|pod| ended(pod, container).and_then(|end| end.finished_at.clone()));
            // one that nobody saw end was there until now at the latest
            end.map_or_else(|| Some(Timestamp::now()), |end| end.map(|end| end.0))
        };
        last.set(end(AGENT).zip(end(SERVER)).map(|(agent, server)| agent.max(server)));
        last.get().is_some()
    });
    at.installed.or_told(over.await).await?;
    let took = last.get().context("it has not ended")?.duration_since(begun);
    // the kubelet tells whole seconds
    println!("its worker has ended within {:#}", took + SignedDuration::from_secs(1));
    ensure!(took <= PROMISE, "{took:#}");
    at.gone(worker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_deleted_comes_back_as_somebody_new_and_who_is_suspended_is_told_so()
-> anyhow::Result<()> {
    let (carol, dave) = (User::new("carol"), User::new("dave"));
    let class = fixture("15m", "only", 2, "128Mi").await?;
    let at = installed("ended", class, &[&carol, &dave]).await?;
    at.warm(CLASS, 2).await?;
    let mut hunt = Hunt::new()?;
    hunt.add("carol's key", &carol.key)?;
    hunt.add("dave's key", &dave.key)?;
    let (carols, daves) = (clients(&at, &carol)?, clients(&at, &dave)?);
    for client in [&carols[0], &carols[1], &daves[0], &daves[1]] {
        let kept = client.call("remember", json!({ "key": "old", "value": "a note" })).await;
        at.installed.or_told(kept).await?;
    }
    hunt.keep(&at).await?;

    // inside, it is as in any pod that the operator's builders make
    let call = &async |tool: &str, given| daves[0].call(tool, given).await;
    inside::ensure_it_has_no_right(call).await?;
    inside::ensure_the_agents_things_are_not_there(call).await?;
    inside::ensure_no_other_process_is_in_reach(call).await?;
    inside::ensure_what_it_writes_is_memory(call).await?;

    // a call that runs is no reason to stay
    let (call, old) = lasting_call(&at, "carol", &carols[0]).await?;
    let mark = audit::end(&at.installed.release.place.cluster)?;
    at.tenants().delete(&old.name, &DeleteParams::default()).await?;
    let begun = answered(&at, mark, "delete", &old.name).await?;
    over(&at, &old.assignment.worker, begun).await?;
    let cut = call.await?;
    ensure!(cut.is_err(), "a call of who was deleted ended well: {cut:?}");
    ensure!(at.tenants().get_opt(&old.name).await?.is_none());
    // all but what happened, which names the object
    let kinds = "all,tenants,workerclasses,identityproviders,configmaps,secrets,leases";
    let left = at.installed.release.place.kubectl(&["get", kinds, "--output", "yaml"]).await?;
    ensure!(left.contains(&at.tenant("dave").await?.uid), "nothing is found: {left}");
    for gone in [&old.uid, &old.name, &old.assignment.uid] {
        ensure!(!left.contains(gone.as_str()), "{gone} is left: {left}");
    }
    for client in &carols {
        let told =
            at.installed.or_told(client.call("recall", json!({ "key": "old" })).await).await?;
        ensure!(told == json!({ "memory": null, "file": null }), "{told}");
    }
    let new = at.tenant("carol").await?;
    ensure!(new.name == old.name && new.uid != old.uid, "{old:?} {new:?}");
    ensure!(new.assignment.uid != old.assignment.uid, "{old:?} {new:?}");

    let (call, shut_out) = lasting_call(&at, "dave", &daves[0]).await?;
    let mark = audit::end(&at.installed.release.place.cluster)?;
    at.edit(&shut_out.name, json!({ "spec": { "suspended": true } })).await?;
    let begun = answered(&at, mark, "patch", &shut_out.name).await?;
    over(&at, &shut_out.assignment.worker, begun).await?;
    let cut = call.await?;
    ensure!(cut.is_err(), "a call of who is suspended ended well: {cut:?}");
    for client in &daves {
        let answer = client.modern_call("echo", json!({ "text": "x" })).await?;
        ensure!(answer.status == StatusCode::FORBIDDEN, "{} {}", answer.status, answer.text());
        ensure!(answer.reason().as_deref() == Some("tenant_suspended"), "{}", answer.text());
    }
    let told = at.until(&shut_out.name, "it is told", |tenant| {
        tenant.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Suspended))
    });
    let told = told.await?.spec.assignment.context("the epoch is forgotten")?;
    ensure!(told.worker.is_empty(), "{told:?}");
    hunt.end(&at).await?;
    at.installed.end().await
}
