//! A crowd at the door: two hundred users whose first requests come at the same moment, through two replicas that
//! share nothing but the API server, to a pool that has workers for a quarter of them. `make test-cluster`.
//!
//! Everything is real: operator, gateways, and workers in containers. Who served whom is told by those who did: the
//! MCP servers, the workers' last words, and the API server's audit log.

#[path = "cluster_crowd/record.rs"]
mod record;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::PostParams};
use patchbay_core::link::{LeaveReason, WorkerPhase, WorkerStatus};
use patchbay_crds::{
    Tenant, WorkerClass,
    marks::{BOUND, FINGERPRINT},
    tenant::Phase,
};
use patchbay_tests::{
    cluster::is_ready,
    controller::api_key,
    evidence::Evidence as _,
    mcp::McpClient,
    pods::{
        Gateway, GatewayConfig, KeptOperator, Stage, audit,
        stage::phase,
        users::{CLASS, name, provider},
        watched,
    },
};
use record::Record;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

const USERS: usize = 200;
const WARM: usize = 50;
/// What a worker asks of the node, much more than it needs: some eighty are there at one time where there are 24 GB, and
/// the others start as those before them leave. Two cores that start two hundred pods at once start none.
const MEMORY: &str = "256Mi";
const IDLE: Duration = Duration::from_secs(30);
/// How long a first contact is held, by gateways and operator: two cores start three workers in a second at best, and
/// so long that nobody has to say a second time that they wait.
const HOLD: &str = "20m";
/// How long fifty workers may take to start on a machine with other things to do.
const FILLED: Duration = Duration::from_mins(10);
/// When the last user has gone, so long after the class's `idleTimeout` there is nothing left of them.
const A_MINUTE: Duration = Duration::from_mins(1);

/// What a user found.
struct Served {
    user: String,
    /// The pod in which its MCP server says that it is.
    pod: String,
    /// The user's tenant, as it was then.
    tenant: Tenant,
    /// From the first request to its answer.
    waited: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_users_at_once_have_a_worker_each_and_leave_nothing_behind()
-> anyhow::Result<()> {
    let stage = Stage::bare("crowd").await?;
    let mut operator = KeptOperator::start(&stage, &["--hold", HOLD])?;
    Box::pin(operator.during(crowd(&stage))).await?;
    operator.terminate().await?;
    stage.place.end().await
}

async fn crowd(stage: &Stage) -> anyhow::Result<()> {
    let class = json!({
        "warm": WARM, "idleTimeout": format!("{}s", IDLE.as_secs()),
        "resources": { "memory": MEMORY },
    });
    stage.declare(CLASS, class).await?;
    let users: Vec<String> = (0..USERS).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let client = &stage.place.client;
    let providers = Api::namespaced(client.clone(), &stage.place.name);
    providers.create(&PostParams::default(), &provider("keys", &names, &json!({}))?).await?;
    let begun = Instant::now();
    only_warm(stage).await?;
    println!("{WARM} workers are warm after {:?}", begun.elapsed());
    let record = Record::keep(&stage.place.pods());
    let config = GatewayConfig::make(stage).await?.args(&["--hold", HOLD]);
    let (one, two) = tokio::try_join!(config.start(), config.start())?;

    let begun = Instant::now();
    let crowd = users.iter().enumerate().map(|(n, user)| {
        let ways = if n % 2 == 0 { [&one, &two] } else { [&two, &one] };
        served(stage, ways, user)
    });
    let served = try_join_all(crowd).await;
    let served = served.with_logs(|| format!("{}\n{}", one.logs(), two.logs()))?;
    let last = Instant::now();
    println!("{USERS} users: all served after {:?}", begun.elapsed());
    tell_waits(&served);

    // no worker has two tenants
    let of_assignments: BTreeSet<_> =
        served.iter().filter_map(|one| Some(&one.tenant.spec.assignment.as_ref()?.uid)).collect();
    let of_servers: BTreeSet<_> = served.iter().map(|one| &one.pod).collect();
    ensure!((of_assignments.len(), of_servers.len()) == (USERS, USERS));

    tokio::try_join!(none_is_left(stage), all_sleep(stage))?;
    println!("nothing of them is left {:?} after the last call", last.elapsed());
    // those beyond the pool linger a while, for who comes back
    only_warm(stage).await?;

    each_had_one(&served, record)?;
    all_that_is_left_agrees(stage).await?;
    few_writes(stage, &config, &served)
}

/// A user's calls: what it keeps is its own and all that its worker's server has, and through the other gateway it
/// finds the same.
async fn served(stage: &Stage, ways: [&Gateway; 2], user: &str) -> anyhow::Result<Served> {
    let [first, other] = ways.map(|gateway| gateway.client(&api_key(user)));
    let begun = Instant::now();
    let kept = first.call("remember", json!({ "key": user, "value": user })).await;
    let kept = kept.with_context(|| user.to_owned())?;
    let waited = begun.elapsed();
    let file = json!({ "path": kept["file"] });
    let pod = place(&first).await?;
    for client in [&first, &other] {
        let all = client.call("read_file", file.clone()).await?;
        let text = all["text"].as_str().with_context(|| all.to_string())?;
        let all: Value = serde_json::from_str(text)?;
        ensure!(all == json!({ user: user }), "{user} finds {all}");
        let found = client.call("recall", json!({ "key": user })).await?;
        ensure!(found["memory"] == *user, "{user} finds {found}");
        ensure!(place(client).await? == pod, "{user} was moved");
    }
    let tenants = Api::<Tenant>::namespaced(stage.place.client.clone(), &stage.place.name);
    let tenant = tenants.get(name(user)?.as_str()).await?;
    let assignment = tenant.spec.assignment.as_ref().context("no assignment")?;
    ensure!(assignment.worker == pod, "{user} is served by {pod}, not {}", assignment.worker);
    Ok(Served { user: user.to_owned(), pod, tenant, waited })
}

/// The pod that an MCP server is in.
async fn place(client: &McpClient) -> anyhow::Result<String> {
    let told = client.call("whoami", json!({})).await?;
    Ok(told["hostname"].as_str().with_context(|| told.to_string())?.to_owned())
}

/// Waits until there are as many workers as the class keeps warm, and no other pod.
async fn only_warm(stage: &Stage) -> anyhow::Result<()> {
    let what = "all pods are warm workers";
    let all = watched::all_within(FILLED, stage.place.pods(), "", what, |pods| {
        let is_warm = |pod: &Pod| {
            let is_anonymous = !pod.labels().contains_key(BOUND);
            is_anonymous && pod.annotations().contains_key(FINGERPRINT) && is_ready(pod)
        };
        pods.len() == WARM && pods.iter().all(|pod| is_warm(pod))
    });
    all.await.map(drop)
}

/// Waits until no pod has, or had, a tenant.
async fn none_is_left(stage: &Stage) -> anyhow::Result<()> {
    let what = "no pod is a user's, or has ended";
    let all = watched::all_within(IDLE + A_MINUTE, stage.place.pods(), "", what, |pods| {
        let is_nobodys = |pod: &Pod| {
            !pod.labels().contains_key(BOUND) && ["Pending", "Running"].contains(&phase(pod))
        };
        pods.iter().all(|pod| is_nobodys(pod))
    });
    all.await.map(drop)
}

/// Waits until every tenant's status says that it sleeps, because it was idle.
async fn all_sleep(stage: &Stage) -> anyhow::Result<()> {
    let tenants = Api::<Tenant>::namespaced(stage.place.client.clone(), &stage.place.name);
    let all = watched::all_within(IDLE + A_MINUTE, tenants, "", "all tenants sleep", |tenants| {
        let sleeps = |tenant: &Tenant| {
            let assignment = tenant.spec.assignment.as_ref();
            let is_cleared = assignment.is_some_and(|it| it.worker.is_empty());
            let Some(status) = tenant.status.as_ref().filter(|_| is_cleared) else { return false };
            status.phase == Some(Phase::Asleep)
                && status.reason.as_deref() == Some("Idle")
                && status.last_activity.is_some()
        };
        tenants.len() == USERS && tenants.iter().all(|tenant| sleeps(tenant))
    });
    all.await.map(drop)
}

/// By the last words of all workers that ever had a tenant: each tenant had one, and each of them one tenant.
fn each_had_one(served: &[Served], record: Record) -> anyhow::Result<()> {
    let mut workers = BTreeMap::<String, Vec<String>>::new();
    for (pod, farewell) in record.farewells() {
        if let Some(tenant) = farewell.tenant {
            ensure!(farewell.reason == LeaveReason::Idle, "{pod}: {:?}", farewell.reason);
            workers.entry(tenant.to_string()).or_default().push(pod);
        }
    }
    ensure!(workers.len() == USERS, "{} tenants had a worker by its words", workers.len());
    for one in served {
        let tenant = one.tenant.uid().context("no UID")?;
        let had = workers.get(&tenant).map(Vec::as_slice).unwrap_or_default();
        ensure!(had == [one.pod.clone()], "{} had {had:?}, not {}", one.user, one.pod);
    }
    Ok(())
}

/// Every worker that is left says that it is nobody's, and the class counts the same.
async fn all_that_is_left_agrees(stage: &Stage) -> anyhow::Result<()> {
    for pod in stage.place.pods().list(&kube::api::ListParams::default()).await? {
        let status: WorkerStatus = stage.status_of(&pod).await?;
        let is_nobodys = status.phase == WorkerPhase::Anonymous && status.tenant.is_none();
        ensure!(is_nobodys, "{}: {status:?}", pod.name_any());
    }
    let classes = Api::<WorkerClass>::namespaced(stage.place.client.clone(), &stage.place.name);
    let counted = watched::one(classes, CLASS, "its status counts them", |class| {
        let status = class.and_then(|class| class.status.as_ref());
        status.is_some_and(|status| {
            let counts = (status.warm, status.bound, status.draining, status.waiting);
            counts == (i32::try_from(WARM).unwrap_or(0), 0, 0, 0)
                && status.tenants == i32::try_from(USERS).unwrap_or(0)
        })
    });
    counted.await.map(drop)
}

/// How many writes each claim took, by the audit log: by gateways, and by the operator up to the word that the tenant has
/// a worker. One that the API server had no time for (5xx) is done again, and is no part of what a claim costs: it is told,
/// as are those that lost a race.
fn few_writes(stage: &Stage, config: &GatewayConfig, served: &[Served]) -> anyhow::Result<()> {
    let log = audit::since(&stage.place.cluster, 0)?;
    let tenants: Vec<String> = served.iter().map(|one| one.tenant.name_any()).collect();
    let claims = audit::claims(&log, &stage.place.name, &config.user(), &tenants);
    let (mut from_pool, mut waited) = (BTreeMap::new(), BTreeMap::new());
    let (mut failed, mut lost) = (0, 0);
    for one in served {
        let claim = claims.get(&one.tenant.name_any()).context("no claim")?;
        ensure!(claim.is_over(), "the log does not tell all of {}: {claim:?}", one.user);
        // the hold is so long that nobody says it twice
        ensure!(claim.waits <= 1 && claim.in_all() <= claim.budget(), "{}: {claim:?}", one.user);
        let counts = if claim.waits == 0 { &mut from_pool } else { &mut waited };
        *counts.entry((claim.by_gateways, claim.by_operator)).or_insert(0_usize) += 1;
        failed += claim.failed;
        lost += claim.lost;
    }
    println!("claims by their writes, by gateways and by the operator:");
    println!(
        "from the pool {from_pool:?}, of those that waited {waited:?}; failed: {failed}, lost: {lost}"
    );
    ensure!(!from_pool.is_empty() && !waited.is_empty(), "there was no crowd");
    Ok(())
}

fn tell_waits(served: &[Served]) {
    let mut waits: Vec<_> = served.iter().map(|one| one.waited).collect();
    waits.sort_unstable();
    let at = |index: usize| waits.get(index).copied().unwrap_or_default();
    println!(
        "first answers after: first {:?}, 50th {:?}, 100th {:?}, last {:?}",
        at(0),
        at(WARM - 1),
        at(USERS / 2 - 1),
        at(USERS - 1)
    );
}
