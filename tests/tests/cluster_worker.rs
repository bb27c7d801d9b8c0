//! A worker as a pod of a real cluster: what the operator's builders make runs, shows who it is, serves one
//! tenant, ends in order, and gives its MCP server nothing but itself. `make test-cluster`.
//!
//! There is no operator and no gateway here yet. The tests take their places, with the operator's own builders
//! and the gateway's own link.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewStatus},
    core::v1::Pod,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api,
    api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams},
};
use patchbay_core::{
    link::{
        BindOutcome, BindRefusal, DRAIN_PATH, ENROL_PATH, Farewell, LeaveReason, RETIRE_PATH,
        STATUS_PATH, User, WorkerPhase,
    },
    pin::Role,
};
use patchbay_gateway::bind::BindError;
use patchbay_operator::build::{AGENT, SERVER};
use patchbay_tests::{
    cluster::{from, until},
    pods::{
        Authority, Operator, PodWorker, Stage, Tenant,
        stage::{ended, phase},
    },
    secrets::Secrets,
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

async fn review(stage: &Stage, token: &str, audience: &str) -> anyhow::Result<TokenReviewStatus> {
    let reviews = Api::<TokenReview>::all(stage.place.client.clone());
    let review = json!({ "spec": { "token": token, "audiences": [audience] } });
    let review = reviews.create(&PostParams::default(), &from(review)?).await?;
    review.status.context("no status")
}

#[tokio::test]
async fn a_worker_becomes_ready_and_shows_its_operator_which_pod_it_is() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("enrol", json!({})).await?;
    println!("pod create -> Ready: {:?}", worker.took);
    let (enrolment, fingerprint) = stage.enrol(&worker).await?;
    ensure!(enrolment.phase == WorkerPhase::Anonymous, "{:?}", enrolment.phase);

    let token = enrolment.token.expose_secret();
    let own = review(&stage, token, "patchbay").await?;
    ensure!(own.authenticated == Some(true), "{own:?}");
    let user = own.user.context("no user")?;
    let account = format!("system:serviceaccount:{}:patchbay-worker", stage.place.name);
    ensure!(user.username.as_deref() == Some(&account), "{user:?}");
    let extra = user.extra.context("nothing about the pod")?;
    let said = |key: &str| extra.get(&format!("authentication.kubernetes.io/{key}")).cloned();
    ensure!(said("pod-name") == Some(vec![worker.name.clone()]), "{extra:?}");
    ensure!(said("pod-uid") == Some(vec![worker.uid.clone()]), "{extra:?}");
    // it is of use to nobody else: not even the API server, which would take it for its own
    for other in ["another", &stage.place.cluster.addresses()?.api_url()] {
        let refused = review(&stage, token, other).await?;
        ensure!(refused.authenticated != Some(true), "{other}: {refused:?}");
    }

    // the key that was recorded is the key that the gateway meets, and another worker's is another
    let link = stage.link(&worker, fingerprint)?;
    ensure!(Tenant::new(&link).bind().await? == BindOutcome::Bound);
    let class = stage.class("other", json!({})).await?;
    let other = stage.worker(&class).await?;
    let (_, others_key) = stage.enrol(&other).await?;
    ensure!(others_key != fingerprint);
    let link = stage.link(&other, fingerprint)?;
    let mistaken = Tenant::new(&link).bind().await;
    ensure!(matches!(mistaken, Err(BindError::Send(_))), "{mistaken:?}");
    ensure!(stage.status(&other).await?.phase == WorkerPhase::Anonymous);
    let secrets = Secrets::new(&[("the worker's own token", token)])?;
    secrets.not_in("its log", &stage.logs(&worker.name).await?)?;
    stage.place.end().await
}

#[tokio::test]
async fn each_role_has_its_own_paths_and_a_stranger_none() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("roles", json!({})).await?;
    let gateway = Operator::dial(worker.address, &stage.authority, Role::Gateway).await?;
    for (method, path) in [
        (Method::GET, ENROL_PATH),
        (Method::GET, STATUS_PATH),
        (Method::POST, DRAIN_PATH),
        (Method::POST, RETIRE_PATH),
    ] {
        let (status, body) = gateway.ask(method, path).await?;
        ensure!(status == StatusCode::FORBIDDEN && body.is_null(), "{path}: {status} {body}");
    }
    let operator = stage.operator(&worker).await?;
    for path in ["/v1/bind", "/mcp-server"] {
        let (status, _) = operator.ask(Method::POST, path).await?;
        ensure!(status == StatusCode::FORBIDDEN, "{path}: {status}");
    }

    let asked = async {
        let client = Operator::dial(worker.address, &Authority::new()?, Role::Operator).await?;
        client.ask(Method::GET, ENROL_PATH).await
    };
    ensure!(asked.await.is_err(), "a stranger was heard");
    ensure!(stage.status(&worker).await?.phase == WorkerPhase::Anonymous);
    stage.place.end().await
}

#[tokio::test]
async fn a_bound_worker_serves_its_tenant_alone_and_the_cluster_learns_nothing_of_it()
-> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("bound", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let (alice, bob) = (Tenant::new(&link), Tenant::new(&link));
    let early = alice.raw_call("echo", json!({ "text": "early" })).await?;
    ensure!(early.status == StatusCode::MISDIRECTED_REQUEST, "{}", early.text());

    ensure!(alice.bind().await? == BindOutcome::Bound);
    let text = format!("said by {}", alice.claim.tenant);
    let told = alice.call("echo", json!({ "text": text })).await?;
    ensure!(told == json!({ "text": text }), "{told}");
    alice.call("remember", json!({ "key": "mine", "value": text })).await?;

    let misdirected = bob.raw_call("echo", json!({ "text": "bob's" })).await?;
    ensure!(misdirected.status == StatusCode::MISDIRECTED_REQUEST, "{}", misdirected.text());
    let refused = bob.bind().await;
    let is_refused = matches!(refused, Err(BindError::Refused(BindRefusal::OtherTenant)));
    ensure!(is_refused, "{refused:?}");

    let name = &worker.name;
    let uid = alice.claim.tenant.as_str();
    for seen in [
        vec!["get", "pod", name, "-o", "yaml"],
        vec!["describe", "pod", name],
        vec![
            "get",
            "configmaps,events,serviceaccounts,networkpolicies,workerclasses",
            "-o",
            "yaml",
        ],
    ] {
        let seen_text = stage.place.kubectl(&seen).await?;
        ensure!(!seen_text.is_empty(), "{seen:?} shows nothing");
        // the bearer has it in it
        ensure!(!seen_text.contains(uid), "{seen:?} shows the tenant: {seen_text}");
    }
    // in its own log a worker may say whom it refused, but nothing of what it holds
    let logs = stage.logs(name).await?;
    ensure!(logs.contains("took a bind"), "{logs}");
    let secrets = Secrets::new(&[("alice's bearer", &format!("bearer-of-{uid}"))])?;
    secrets.not_in("a worker's log", &logs)?;
    let audit = std::fs::read_to_string(stage.place.cluster.audit_log())?;
    secrets.not_in("the audit log", &audit)?;
    ensure!(audit.contains(name.as_str()) && !audit.contains(uid), "the audit log has the tenant");
    stage.place.end().await
}

/// Keeps the pod's object until the test has read how it ended.
fn keep(pod: &mut Pod) {
    pod.metadata.finalizers = Some(vec!["patchbay.dev/test".to_owned()]);
}

async fn let_go(stage: &Stage, worker: &PodWorker) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    stage.place.pods().patch(&worker.name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Waits until both containers have ended, without fault, and the agent's last words.
async fn farewell(stage: &Stage, worker: &PodWorker) -> anyhow::Result<(Pod, Farewell)> {
    let pod = stage
        .until(&worker.name, "both containers have ended", |pod| {
            ended(pod, AGENT).is_some() && ended(pod, SERVER).is_some()
        })
        .await?;
    for container in [AGENT, SERVER] {
        let end = ended(&pod, container).context("it has ended")?;
        let logs = stage.logs(&worker.name).await.unwrap_or_default();
        ensure!(end.exit_code == 0, "{container}: {end:?}\n{logs}");
    }
    let server = ended(&pod, SERVER).and_then(|end| end.message.as_ref());
    ensure!(server.is_none(), "the MCP server's container says {server:?}");
    let message = ended(&pod, AGENT).and_then(|end| end.message.as_deref());
    let farewell = serde_json::from_str(message.context("no termination message")?)?;
    Ok((pod, farewell))
}

#[tokio::test]
async fn a_pod_that_is_deleted_finishes_the_call_that_runs_and_says_why_it_left()
-> anyhow::Result<()> {
    let stage = Stage::make("deleted").await?;
    let class = stage.class("tools", json!({})).await?;
    let worker = stage.changed_worker(&class, keep).await?;
    let link = stage.gateway(&worker).await?;
    let alice = Tenant::new(&link);
    alice.bind().await?;

    let call = alice.call("sleep", json!({ "ms": 3000 }));
    let delete = async {
        until("the call runs", async || Ok(stage.status(&worker).await?.in_flight == 1)).await?;
        stage.place.pods().delete(&worker.name, &DeleteParams::default()).await?;
        until("the worker leaves", async || {
            Ok(stage.status(&worker).await?.phase == WorkerPhase::Leaving)
        })
        .await?;
        // what is new goes elsewhere, and the gateway may replay it
        let mut late = Tenant::new(&link);
        late.claim = alice.claim.clone();
        let refused = late.raw_call("echo", json!({ "text": "late" })).await;
        ensure!(refused.is_err(), "a leaving worker took a new call");
        anyhow::Ok(())
    };
    let (slept, deleted) = tokio::join!(call, delete);
    deleted?;
    ensure!(slept? == json!({ "slept": true }));

    let (_, last) = farewell(&stage, &worker).await?;
    ensure!(last.reason == LeaveReason::Drained, "{last:?}");
    ensure!(last.last_activity.is_some(), "{last:?}");
    let_go(&stage, &worker).await?;
    stage.place.end().await
}

#[tokio::test]
async fn an_idle_worker_leaves_by_itself_and_its_pod_has_succeeded() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("idle", json!({ "idleTimeout": "1s" })).await?;
    let link = stage.gateway(&worker).await?;
    let alice = Tenant::new(&link);
    alice.bind().await?;
    alice.call("echo", json!({ "text": "only" })).await?;
    let (_, last) = farewell(&stage, &worker).await?;
    ensure!(last.reason == LeaveReason::Idle && last.last_activity.is_some(), "{last:?}");
    stage.until(&worker.name, "it has succeeded", |pod| phase(pod) == "Succeeded").await?;
    stage.place.end().await
}

#[tokio::test]
async fn a_server_that_is_started_at_bind_finds_its_users_values_and_the_cluster_learns_none()
-> anyhow::Result<()> {
    let fields = json!({
        "start": "onBind",
        "credentials": {
            "env": { "WHO": "${json:user.subject}" },
            "files": [{ "path": ".config/server.json", "template": r#"{"who": "${json:user.subject}"}"# }],
        },
    });
    let (stage, worker) = Stage::with_worker("on-bind", fields).await?;
    ensure!(!stage.logs(&worker.name).await?.contains("listening on"), "its server runs already");
    let link = stage.gateway(&worker).await?;
    let mut alice = Tenant::new(&link);
    let subject = format!("somebody {}", uuid::Uuid::new_v4());
    alice.user = Some(User { issuer: "https://issuer.example".into(), subject: subject.clone() });
    ensure!(alice.bind().await? == BindOutcome::Bound);
    let told = alice.call("whoami", json!({})).await?;
    ensure!(told["env"]["WHO"] == *subject, "{told}");
    let path = json!({ "path": "/home/worker/.config/server.json" });
    let told = alice.call("read_file", path).await?;
    ensure!(told["text"] == json!({ "who": subject }).to_string().replace(':', ": "), "{told}");
    for seen in [
        vec!["get", "pod", &worker.name, "-o", "yaml"],
        vec!["get", "configmaps,events,workerclasses", "-o", "yaml"],
    ] {
        let text = stage.place.kubectl(&seen).await?;
        ensure!(!text.is_empty() && !text.contains(&subject), "{seen:?} shows the user: {text}");
    }
    ensure!(!stage.logs(&worker.name).await?.contains(&subject), "the user is in a log");
    stage.place.end().await
}

#[tokio::test]
async fn a_server_that_does_not_start_for_its_user_refuses_the_bind_and_its_pod_says_why()
-> anyhow::Result<()> {
    let stage = Stage::make("on-bind-failed").await?;
    let fields = json!({ "start": "onBind", "command": ["/bin/sh", "-c", "exit 7"] });
    let class = stage.class("broken", fields).await?;
    let worker = stage.changed_worker(&class, keep).await?;
    let link = stage.gateway(&worker).await?;
    let refused = Tenant::new(&link).bind().await;
    let is_refused = matches!(refused, Err(BindError::Refused(BindRefusal::ServerFailed)));
    ensure!(is_refused, "{refused:?}");
    let pod = stage.until(&worker.name, "the agent has ended", |pod| ended(pod, AGENT).is_some());
    let pod = pod.await?;
    let message = ended(&pod, AGENT).and_then(|end| end.message.as_deref());
    let last: Farewell = serde_json::from_str(message.context("no termination message")?)?;
    ensure!(last.reason == LeaveReason::ServerExited && last.tenant.is_some(), "{last:?}");
    let_go(&stage, &worker).await?;
    stage.place.end().await
}

#[tokio::test]
async fn an_anonymous_worker_is_retired_and_a_bound_one_is_not() -> anyhow::Result<()> {
    let stage = Stage::make("retired").await?;
    let class = stage.class("tools", json!({})).await?;
    let (bound, spare) = (stage.worker(&class).await?, stage.worker(&class).await?);
    let link = stage.gateway(&bound).await?;
    let alice = Tenant::new(&link);
    alice.bind().await?;
    let operator = stage.operator(&bound).await?;
    let (status, body) = operator.ask(Method::POST, RETIRE_PATH).await?;
    ensure!(status == StatusCode::CONFLICT, "{status} {body}");
    alice.call("echo", json!({ "text": "still here" })).await?;

    let operator = stage.operator(&spare).await?;
    let (status, _) = operator.ask(Method::POST, RETIRE_PATH).await?;
    ensure!(status == StatusCode::ACCEPTED, "{status}");
    let (_, last) = farewell(&stage, &spare).await?;
    ensure!(last.reason == LeaveReason::Retired && last.last_activity.is_none(), "{last:?}");
    stage.place.end().await
}

#[tokio::test]
async fn a_pod_whose_server_ends_has_failed_and_says_with_what() -> anyhow::Result<()> {
    let stage = Stage::make("failed").await?;
    let command = json!({ "command": ["/bin/sh", "-c", "exit 7"] });
    let class = stage.class("broken", command).await?;
    let error = stage.worker(&class).await.err().context("it became ready")?;
    let said = format!("{error:#}");
    ensure!(said.contains("the MCP server ended with exit code 7"), "{said}");
    stage.place.end().await
}

#[tokio::test]
async fn a_bound_worker_is_not_evicted_and_an_anonymous_one_is() -> anyhow::Result<()> {
    let stage = Stage::make("evicted").await?;
    // more bound workers than the class has replicas, in the words of its scale subresource
    let class = stage.class("tools", json!({ "warm": 1 })).await?;
    let workers = [stage.worker(&class).await?, stage.worker(&class).await?];
    let spare = stage.worker(&class).await?;
    let pods = stage.place.pods();
    for worker in &workers {
        let patch =
            Patch::Merge(json!({ "metadata": { "labels": { "patchbay.dev/bound": "true" } } }));
        pods.patch(&worker.name, &PatchParams::default(), &patch).await?;
    }
    let client = stage.place.client.clone();
    let budgets = Api::<PodDisruptionBudget>::namespaced(client, &stage.place.name);
    until("the budget has counted both", async || {
        let status = budgets.get("patchbay-bound-workers").await?.status;
        Ok(status.is_some_and(|status| status.current_healthy == 2))
    })
    .await?;
    let client = stage.place.cluster.client_without_retries().await?;
    let strict = Api::<Pod>::namespaced(client, &stage.place.name);
    for worker in &workers {
        let refused = strict.evict(&worker.name, &EvictParams::default()).await;
        let is_refused = matches!(&refused, Err(kube::Error::Api(status)) if status.code == 429);
        ensure!(is_refused, "{refused:?}");
    }
    pods.evict(&spare.name, &EvictParams::default()).await?;
    until("the spare one is gone", async || Ok(pods.get_opt(&spare.name).await?.is_none())).await?;
    stage.place.end().await
}

#[tokio::test]
async fn a_crowd_of_workers_becomes_ready() -> anyhow::Result<()> {
    let stage = Stage::make("crowd").await?;
    let class = stage.class("tools", json!({})).await?;
    let begun = tokio::time::Instant::now();
    let made = futures_util::future::try_join_all((0..10).map(|_| stage.worker(&class))).await?;
    let mut took: Vec<Duration> = made.iter().map(|worker| worker.took).collect();
    took.sort();
    println!("10 pods at once: all Ready after {:?}, each {took:?}", begun.elapsed());
    let addresses: BTreeSet<_> = made.iter().map(|worker| worker.address).collect();
    ensure!(addresses.len() == made.len());
    stage.place.end().await
}
