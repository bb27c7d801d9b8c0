//! Memory beyond what the class gives: the kernel ends the MCP server, and nobody but its own user notices.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_core::link::{Farewell, LeaveReason};
use patchbay_crds::{
    IdentityProvider, Tenant as TenantObject,
    tenant::{Phase, TenantAssignment},
};
use patchbay_operator::build::{AGENT, SERVER};
use patchbay_tests::{
    cluster::until,
    controller::api_key,
    evidence::Evidence as _,
    pods::{
        Gateway, GatewayConfig, OperatorProcess, Stage,
        stage::{ended, phase},
        users::{CLASS, name, provider},
    },
};
use serde_json::json;

/// What the kernel's end of a container is called.
const BY_THE_KERNEL: &str = "OOMKilled";

/// A user's assignment.
async fn assignment(stage: &Stage, user: &str) -> anyhow::Result<TenantAssignment> {
    let spec = tenant(stage, user).await?.spec;
    spec.assignment.with_context(|| format!("{user} has no worker"))
}

async fn tenant(stage: &Stage, user: &str) -> anyhow::Result<TenantObject> {
    let tenants = Api::namespaced(stage.place.client.clone(), &stage.place.name);
    Ok(tenants.get(name(user)?.as_str()).await?)
}

/// Keeps a pod's object, or lets it go.
async fn keep(stage: &Stage, pod: &str, is_kept: bool) -> anyhow::Result<()> {
    let finalizers = is_kept.then_some(["patchbay.dev/test"]);
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    stage.place.pods().patch(pod, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Alice's server takes too much while a call of bob's runs.
async fn exceed(stage: &Stage, gateway: &Gateway) -> anyhow::Result<()> {
    let [alice, bob] = ["alice", "bob"].map(|user| gateway.client(&api_key(user)));
    let within = alice.call("eat_memory", json!({ "mib": 16 })).await?;
    ensure!(within == json!({ "touchedMib": 16, "refused": false }), "{within}");
    bob.call("remember", json!({ "key": "own", "value": "bob's" })).await?;
    let (hers, his) = (assignment(stage, "alice").await?, assignment(stage, "bob").await?);
    ensure!(hers.uid != his.uid, "{hers:?} {his:?}");
    keep(stage, &hers.worker, true).await?;

    let waiting = bob.clone();
    let call =
        tokio::spawn(async move { waiting.call("await_value", json!({ "key": "go" })).await });
    until("his call runs", async || Ok(bob.call("counters", json!({})).await?["awaiting"] == 1))
        .await?;
    let beyond = alice.modern_call("eat_memory", json!({ "mib": 256 })).await;
    let text = beyond.map(|answer| answer.text()).unwrap_or_default();
    ensure!(!text.contains("touchedMib"), "it lives: {text}");

    let is_over = |pod: &Pod| phase(pod) == "Failed" && ended(pod, SERVER).is_some();
    let pod = stage.until(&hers.worker, "it has failed", is_over).await?;
    let end = ended(&pod, SERVER).context("it has ended")?;
    ensure!(end.reason.as_deref() == Some(BY_THE_KERNEL), "{end:?}");
    let said = ended(&pod, AGENT).and_then(|end| end.message.as_deref());
    let said: Farewell = serde_json::from_str(said.context("no termination message")?)?;
    ensure!(said.reason == LeaveReason::ServerExited, "{said:?}");
    ensure!(said.detail.as_deref() == Some("the MCP server was ended by signal 9"), "{said:?}");

    let mut told = None;
    until("she sleeps, and is told why", async || {
        told = tenant(stage, "alice").await?.status;
        Ok(told.as_ref().is_some_and(|status| status.phase == Some(Phase::Asleep)))
    })
    .await?;
    // in the node's word: the agent knows the signal only
    let reason = told.and_then(|status| status.reason);
    ensure!(reason.as_deref() == Some(BY_THE_KERNEL), "{reason:?}");

    // her next request has another worker, which knows nothing
    let recalled = alice.call("recall", json!({ "key": "own" })).await?;
    ensure!(recalled == json!({ "memory": null, "file": null }), "{recalled}");
    let next = assignment(stage, "alice").await?;
    ensure!(next.uid != hers.uid && next.epoch > hers.epoch, "{hers:?} {next:?}");
    keep(stage, &hers.worker, false).await?;
    // and he has what he had
    ensure!(!call.is_finished(), "his call was ended");
    let recalled = bob.call("recall", json!({ "key": "own" })).await?;
    ensure!(recalled == json!({ "memory": "bob's", "file": "bob's" }), "{recalled}");
    bob.call("remember", json!({ "key": "go", "value": "on" })).await?;
    ensure!(call.await?? == json!({ "value": "on" }));
    ensure!(assignment(stage, "bob").await? == his, "he has another worker");
    Ok(())
}

#[tokio::test]
async fn a_server_beyond_its_memory_limit_is_ended_and_its_user_alone_has_another()
-> anyhow::Result<()> {
    let stage = Stage::bare("greedy").await?;
    let operator = OperatorProcess::start(&stage)?;
    operator.leads().await?;
    let class = json!({ "warm": 2, "resources": { "memory": "64Mi" } });
    stage.declare(CLASS, class).await?;
    let config = GatewayConfig::make(&stage).await?;
    let providers =
        Api::<IdentityProvider>::namespaced(stage.place.client.clone(), &stage.place.name);
    let users = provider("users", &["alice", "bob"], &json!({}))?;
    providers.create(&PostParams::default(), &users).await?;
    let gateway = config.start().await?;
    let told = || format!("{}\n{}", gateway.logs(), operator.text());
    exceed(&stage, &gateway).await.with_logs(told)?;
    operator.terminate().await?;
    stage.place.end().await
}

#[tokio::test]
async fn what_lies_in_a_servers_files_counts_as_its_memory() -> anyhow::Result<()> {
    let stage = Stage::make("fills").await?;
    let script = "/bin/busybox head -c 100000000 /dev/zero > /tmp/x && exec /fixture-server";
    let fields = json!({
        "command": ["/bin/sh", "-c", script],
        "resources": { "memory": "64Mi" },
        "tmpfs": { "home": "4Mi", "tmp": "128Mi", "run": "1Mi" },
    });
    let class = stage.class("fills", fields).await?;
    let error = stage.worker(&class).await.err().context("it became ready")?;
    let said = format!("{error:#}");
    ensure!(said.contains(BY_THE_KERNEL), "{said}");
    stage.place.end().await
}
