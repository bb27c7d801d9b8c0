//! What the API server refuses although RBAC would allow it, tried with the rights of each account.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Binding, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use patchbay_core::{
    id::ClassName,
    tenant::{Authority, TenantKey},
};
use patchbay_crds::{Tenant, marks};
use patchbay_tests::{
    chart::Release,
    cluster::{Final, from, until},
};
use serde_json::{Value, json};

const KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const OTHER: &str = "1111111111111111111111111111111111111111111111111111111111111111";

/// A pod that waits for a node for ever, as a worker is marked, or as nobody is.
fn pod(name: &str, is_worker: bool) -> Value {
    let labels = if is_worker {
        json!({ marks::PART_OF: marks::PATCHBAY, marks::COMPONENT: marks::WORKER, marks::CLASS: "notes" })
    } else {
        json!({})
    };
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "schedulerName": "nobody",
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1000,
                "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{ "name": "main", "image": "patchbay.dev/pause:1", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
        },
    })
}

fn recorded(key: &Value) -> Patch<Value> {
    Patch::Merge(json!({ "metadata": { "annotations": { marks::FINGERPRINT: key } } }))
}

/// Checks that it was refused, with these words.
fn ensure_refused<T>(what: &str, result: kube::Result<T>, said: &str) -> anyhow::Result<()> {
    let error = result.err().with_context(|| format!("allowed: {what}"))?.to_string();
    ensure!(error.contains(said), "{what}: no `{said}` in {error}");
    Ok(())
}

/// A policy holds a moment after it is there. Asks for what it refuses, without doing it, until it is refused.
async fn wait_for_policy(release: &Release) -> anyhow::Result<()> {
    let pods = release.place.pods();
    let mut marked = pod("early", true);
    marked["metadata"]["annotations"] = json!({ marks::FINGERPRINT: KEY });
    let marked: Pod = from(marked)?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    until("the policy on pods holds", async || Ok(pods.create(&params, &marked).await.is_err()))
        .await?;
    let tenants = tenants(release.client_of("gateway").await?, release);
    let mut suspended = Tenant::for_key(&key("early")?);
    suspended.spec.suspended = true;
    until("the policy on tenants holds", async || {
        Ok(tenants.create(&params, &suspended).await.is_err())
    })
    .await
}

#[tokio::test]
async fn only_the_operator_records_a_fingerprint_and_only_once() -> anyhow::Result<()> {
    let release = Release::install("fingerprint", json!({})).await?;
    wait_for_policy(&release).await?;
    let administrator = release.place.pods();
    let params = PatchParams::default();
    let post = PostParams::default();
    administrator.create(&post, &from(pod("worker", true))?).await?;
    administrator.create(&post, &from(pod("stranger", false))?).await?;
    let operator =
        Api::<Pod>::namespaced(release.client_of("operator").await?, &release.place.name);

    let ours = "only Patchbay's operator records a worker's fingerprint";
    let result = administrator.patch("worker", &params, &recorded(&json!(KEY))).await;
    ensure_refused("an administrator's", result, ours)?;
    let result = administrator.patch_status("worker", &params, &recorded(&json!(KEY))).await;
    ensure_refused("by the way of the status", result, ours)?;
    let mut born = pod("born", true);
    born["metadata"]["annotations"] = json!({ marks::FINGERPRINT: KEY });
    ensure_refused("at birth", administrator.create(&post, &from(born.clone())?).await, ours)?;
    let binding: Binding = from(json!({
        "metadata": { "name": "worker", "annotations": { marks::FINGERPRINT: KEY } },
        "target": { "kind": "Node", "name": "nowhere" },
    }))?;
    let result: kube::Result<Value> =
        administrator.create_subresource("binding", "worker", &post, &binding).await;
    ensure_refused("by the way of a binding", result, ours)?;

    let form = "is recorded on a worker that is there";
    ensure_refused("at birth", operator.create(&post, &from(born)?).await, form)?;
    let result = operator.patch("stranger", &params, &recorded(&json!(KEY))).await;
    ensure_refused("on no worker", result, form)?;
    let result = operator.patch("worker", &params, &recorded(&json!("0000"))).await;
    ensure_refused("no fingerprint", result, form)?;

    operator.patch("worker", &params, &recorded(&json!(KEY))).await?;
    let once = "is recorded once, and stays";
    for (what, key) in [("another", json!(OTHER)), ("none", Value::Null), ("nothing", json!(""))] {
        ensure_refused(what, operator.patch("worker", &params, &recorded(&key)).await, once)?;
    }
    ensure_refused(
        "another's",
        administrator.patch("worker", &params, &recorded(&json!(OTHER))).await,
        ours,
    )?;
    // what else is written of the pod is nobody's concern
    let mark = Patch::Merge(json!({ "metadata": {
        "labels": { marks::BOUND: marks::TRUE }, "annotations": { "note": "a" } } }));
    operator.patch("worker", &params, &mark).await?;
    administrator.patch("stranger", &params, &mark).await?;
    let pod = administrator.get("worker").await?;
    ensure!(pod.metadata.annotations.context("none")?[marks::FINGERPRINT] == KEY);
    release.end().await
}

#[tokio::test]
async fn no_other_namespace_is_held_to_it() -> anyhow::Result<()> {
    let release = Release::install("elsewhere", json!({})).await?;
    wait_for_policy(&release).await?;
    let other = patchbay_tests::cluster::Strict::make("other").await?;
    let mut marked = pod("worker", true);
    marked["metadata"]["annotations"] = json!({ marks::FINGERPRINT: KEY });
    let params = PostParams { dry_run: true, ..PostParams::default() };
    other.pods().create(&params, &from(marked)?).await?;
    other.end().await?;
    release.end().await
}

fn key(subject: &str) -> anyhow::Result<TenantKey> {
    Ok(TenantKey {
        issuer: "https://issuer.example".into(),
        subject: subject.into(),
        class: ClassName::parse("notes")?,
        authority: Authority::unrestricted(),
    })
}

fn tenants(client: Client, release: &Release) -> Api<Tenant> {
    Api::namespaced(client, &release.place.name)
}

#[tokio::test]
async fn the_gateway_makes_tenants_and_assigns_workers_and_changes_nothing_else()
-> anyhow::Result<()> {
    let release = Release::install("tenants", json!({})).await?;
    wait_for_policy(&release).await?;
    let gateway = tenants(release.client_of("gateway").await?, &release);
    let administrator = tenants(release.place.client.clone(), &release);
    let post = PostParams::default();
    let params = PatchParams::default();

    let tenant = Tenant::for_key(&key("alice")?);
    let name = tenant.metadata.name.clone().context("a name")?;
    let mut suspended = tenant.clone();
    suspended.spec.suspended = true;
    let result = gateway.create(&post, &suspended).await;
    ensure_refused("a suspended tenant", result, "makes no suspended tenant")?;
    for metadata in [
        json!({ "finalizers": ["example.com/stay"] }),
        json!({ "annotations": { "a": "b" } }),
        json!({ "labels": { "a": "b" } }),
        json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" }] }),
    ] {
        let mut odd = serde_json::to_value(&tenant)?;
        let all = odd["metadata"].as_object_mut().context("an object")?;
        all.extend(metadata.as_object().context("an object")?.clone());
        let result = gateway.create(&post, &from(odd)?).await;
        ensure_refused(
            &metadata.to_string(),
            result,
            "without annotations, finalizers and owners",
        )?;
    }
    // what the API server itself leaves out: a new tenant has no status, whoever says so
    let mut with_status = serde_json::to_value(&tenant)?;
    with_status["status"] = json!({ "phase": "Ready" });
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    ensure!(gateway.create(&dry, &from(with_status)?).await?.status.is_none());
    gateway.create(&post, &tenant).await?;

    let assignment = json!({ "worker": "w-1", "uid": "u-1", "epoch": 1 });
    let assign = Patch::Merge(json!({ "spec": { "assignment": assignment } }));
    gateway.patch(&name, &params, &assign).await?;
    let spec = "changes nothing of a tenant's spec but its assignment";
    let result = gateway
        .patch(&name, &params, &Patch::Merge(json!({ "spec": { "suspended": true } })))
        .await;
    ensure_refused("it shuts a user out", result, spec)?;
    let metadata = "changes nothing of a tenant's metadata";
    for change in [
        json!({ "labels": { "a": "b" } }),
        json!({ "annotations": { "a": "b" } }),
        json!({ "finalizers": ["example.com/stay"] }),
        json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u" }] }),
    ] {
        let result =
            gateway.patch(&name, &params, &Patch::Merge(json!({ "metadata": change }))).await;
        ensure_refused(&change.to_string(), result, metadata)?;
    }

    administrator
        .patch(&name, &params, &Patch::Merge(json!({ "spec": { "suspended": true } })))
        .await?;
    let result = gateway
        .patch(&name, &params, &Patch::Merge(json!({ "spec": { "suspended": false } })))
        .await;
    ensure_refused("it lets a user in again", result, spec)?;

    // RBAC's part, and what if it said otherwise
    let status = Patch::Merge(json!({ "status": { "phase": "Ready" } }));
    let result = gateway.patch_status(&name, &params, &status).await;
    ensure_refused("a status", result, "cannot patch resource \"tenants/status\"")?;
    release.grant("gateway", "tenants/status", "patch").await?;
    until("the right to it holds", async || {
        let refused = gateway.patch_status(&name, &params, &status).await.err();
        let error = refused.context("a status was written").map_err(Final)?.to_string();
        Ok(error.contains("does not write a tenant's status"))
    })
    .await?;
    ensure_refused("an end", gateway.delete(&name, &DeleteParams::default()).await, "forbidden")?;
    ensure_refused(
        "a replacement",
        gateway.replace(&name, &post, &administrator.get(&name).await?).await,
        "forbidden",
    )?;
    release.end().await
}

#[tokio::test]
async fn the_policy_knows_every_field_of_a_tenant() -> anyhow::Result<()> {
    let kinds = patchbay_crds::all();
    let tenant = kinds.iter().find(|it| it.spec.names.kind == "Tenant").context("no Tenant")?;
    let schema = serde_json::to_value(&tenant.spec.versions[0].schema)?;
    let spec = &schema["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let fields: Vec<_> = spec.as_object().context("no fields")?.keys().cloned().collect();
    // a field that is new belongs in charts/patchbay/templates/admission/tenants.yaml too
    ensure!(fields == ["assignment", "className", "identity", "suspended"], "{fields:?}");
    Ok(())
}
