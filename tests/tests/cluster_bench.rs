//! `make bench-cluster` measures everything that it names, with doubles that refuse what workers refuse. What it
//! measures is no condition here.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use kube::{ResourceExt as _, api::ListParams};
use patchbay_core::{
    link::{BindOutcome, BindRefusal, ENROL_PATH, RETIRE_PATH},
    pin::{Fingerprint, Role},
};
use patchbay_crds::marks::FINGERPRINT;
use patchbay_gateway::bind::BindError;
use patchbay_tests::{
    binaries,
    cluster::simulated,
    evidence::Evidence as _,
    pods::{
        Operator, OperatorProcess, PodWorker, Stage, Tenant, doubles::Doubles, stage::address,
        users::CLASS, watched,
    },
};
use serde_json::json;
use std::{process::Stdio, time::Duration};
use tokio::{process::Command, sync::Mutex, time::timeout};

/// Nodes are simulated for one test at a time.
static SIMULATION: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn every_figure_of_a_cluster_is_measured_and_printed_beside_its_budget() -> anyhow::Result<()>
{
    let _alone = SIMULATION.lock().await;
    let output = Command::new(binaries::path("bench")?)
        .args(["cluster", "--quick"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_mins(5), output).await.context("it does not end")??;
    let table = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for figure in [
        "warm first contact, p50",
        "warm first contact, p99",
        "6 at once: first contacts",
        "API writes per claim in all, mean",
        "last word about a claim after its assignment, longest",
        "operator, 40 tenants asleep: VmRSS",
        "operator, 40 asleep, 9 bound, 6 warm: VmRSS",
        "gateway, 40 asleep, 9 bound, 6 warm: VmRSS",
        "operator: from there to its first pass over everything",
        "gateway: from its start to ready",
    ] {
        let line = table.lines().find(|line| line.starts_with(&format!("| {figure} ")));
        let line = line.with_context(|| format!("{figure} is missing:\n{table}"))?;
        let verdict = line.split('|').nth(4).unwrap_or_default().trim();
        ensure!(["ok", "over", "n/a"].contains(&verdict), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_double_is_enrolled_and_latches_and_refuses_as_a_worker_does() -> anyhow::Result<()> {
    let _alone = SIMULATION.lock().await;
    let stage = Stage::simulated("doubles").await?;
    stage.place.cluster.simulate_node("doubles", "127.91.0.0/16").await?;
    let operator = OperatorProcess::start(&stage)?;
    let doubles = Doubles::play(&stage)?;
    let mut class = simulated::placement();
    class["warm"] = 2.into();
    stage.declare(CLASS, class).await?;
    let both_warm = doubles.until("both are warm", |counts| counts.warm == 2).await;
    both_warm.with_logs(|| operator.text())?;
    let workers: Vec<(PodWorker, Fingerprint)> = stage
        .place
        .pods()
        .list(&ListParams::default())
        .await?
        .into_iter()
        .map(|pod| {
            let fingerprint = pod.annotations().get(FINGERPRINT).context("no key")?;
            let (uid, address) = (pod.uid().context("no UID")?, address(&pod)?);
            let worker = PodWorker { name: pod.name_any(), uid, address, took: Duration::ZERO };
            Ok((worker, Fingerprint::parse(fingerprint)?))
        })
        .collect::<anyhow::Result<_>>()?;
    let [(first, of_first), (second, of_second)] = workers.as_slice() else {
        anyhow::bail!("not two pods");
    };

    let link = stage.link(first, *of_first)?;
    let (alice, bob) = (Tenant::new(&link), Tenant::new(&link));
    ensure!(bob.raw_call("echo", json!({})).await?.status == StatusCode::MISDIRECTED_REQUEST);
    ensure!(alice.bind().await? == BindOutcome::Bound && alice.bind().await? == BindOutcome::Kept);
    let refused = bob.bind().await;
    ensure!(matches!(refused, Err(BindError::Refused(BindRefusal::OtherTenant))), "{refused:?}");
    ensure!(bob.raw_call("echo", json!({})).await?.status == StatusCode::MISDIRECTED_REQUEST);
    ensure!(alice.call("echo", json!({ "text": "x" })).await? == json!({ "text": "x" }));
    // each has a key of its own
    ensure!(Tenant::new(&stage.link(second, *of_first)?).bind().await.is_err());

    let by_gateway = Operator::dial(second.address, &stage.authority, Role::Gateway).await?;
    ensure!(by_gateway.ask(Method::GET, ENROL_PATH).await?.0 == StatusCode::FORBIDDEN);
    let retire = async |worker| stage.operator(worker).await?.ask(Method::POST, RETIRE_PATH).await;
    ensure!(retire(first).await?.0 == StatusCode::CONFLICT);
    ensure!(retire(second).await?.0 == StatusCode::ACCEPTED);
    ensure!(Tenant::new(&stage.link(second, *of_second)?).bind().await.is_err());
    // its last words are heard, and it is replaced
    let gone = watched::one(stage.place.pods(), &*second.name, "it is gone", |pod| pod.is_none());
    gone.await.with_logs(|| operator.text())?;
    operator.terminate().await?;
    stage.place.cluster.end_simulation().await?;
    stage.place.end().await
}
