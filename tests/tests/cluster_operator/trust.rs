//! Whose key is recorded: nobody's who cannot show that it is the pod's own.

use super::world::{World, is_warm};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_core::{pin::Role, session::SessionRoots};
use patchbay_crds::marks::{FINGERPRINT, LINK_PORT};
use patchbay_operator::session_roots::ENTRY;
use patchbay_tests::{
    cluster::from,
    evidence::Evidence as _,
    pods::{Authority, Operator, OperatorProcess, root_keys, watched},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::net::SocketAddr;

fn address(pod: &Pod) -> anyhow::Result<SocketAddr> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    Ok(SocketAddr::new(ip.context("no address")?.parse()?, LINK_PORT))
}

/// A pod as the operator makes them, to be changed.
fn another(pod: &Pod, name: &str) -> anyhow::Result<Value> {
    let mut spec = serde_json::to_value(pod.spec.as_ref().context("no spec")?)?;
    spec["nodeName"] = Value::Null;
    Ok(json!({
        "metadata": { "name": name, "labels": pod.labels(), "ownerReferences": pod.owner_references() },
        "spec": spec,
    }))
}

#[tokio::test]
async fn a_pod_that_shows_anothers_token_is_refused() -> anyhow::Result<()> {
    let world = World::make("op-liar").await?;
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    let honest = world.warm("tools", 1).await?[0].clone();
    let operator =
        Operator::dial(address(&honest)?, &world.stage.authority, Role::Operator).await?;
    let token = operator.connection.token().await?;
    let client = world.stage.place.client.clone();
    let secrets = Api::<Secret>::namespaced(client, &world.stage.place.name);
    let stolen = json!({ "metadata": { "name": "stolen" }, "stringData": { "token": token.expose_secret() } });
    secrets.create(&PostParams::default(), &from(stolen)?).await?;

    let mut liar = another(&honest, "liar")?;
    let volumes = liar["spec"]["volumes"].as_array_mut().context("no volumes")?;
    let shown = volumes
        .iter_mut()
        .find(|volume| volume["projected"]["sources"].to_string().contains("serviceAccountToken"));
    let shown = shown.context("no token")?;
    *shown = json!({ "name": shown["name"], "secret": { "secretName": "stolen" } });
    world.pods().create(&PostParams::default(), &from(liar)?).await?;
    world
        .operator
        .logged("refused to enrol", |line| {
            line["pod"] == "liar"
                && line["message"] == "refused to enrol"
                && line["refusal"].as_str().is_some_and(|why| why.contains("of another pod"))
        })
        .await?;
    let liar = world.pods().get("liar").await?;
    ensure!(!liar.annotations().contains_key(FINGERPRINT));
    world.end().await
}

#[tokio::test]
async fn whoever_took_over_an_address_is_neither_enrolled_nor_believed() -> anyhow::Result<()> {
    let world = World::make("op-address").await?;
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    let honest = world.warm("tools", 1).await?[0].clone();
    let ip = address(&honest)?.ip().to_string();
    // a pod that no node runs, of which the cluster says that it has the other one's address
    let taken = |name: &'static str, fingerprint: Option<String>| {
        let (world, honest, ip) = (&world, &honest, &ip);
        async move {
            let mut pod = another(honest, name)?;
            pod["spec"]["schedulerName"] = "nobody".into();
            if let Some(fingerprint) = fingerprint {
                pod["metadata"]["annotations"] = json!({ (FINGERPRINT): fingerprint });
            }
            world.pods().create(&PostParams::default(), &from(pod)?).await?;
            let running = json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } });
            let status = json!({ "status": {
                "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
                "conditions": [{ "type": "Ready", "status": "True",
                    "lastTransitionTime": "2026-01-01T00:00:00Z" }],
                "containerStatuses": [{ "name": "agent", "image": "i", "imageID": "i",
                    "ready": true, "restartCount": 0, "state": running }],
            } });
            let patch = Patch::Merge(status);
            world.pods().patch_status(name, &PatchParams::default(), &patch).await?;
            anyhow::Ok(())
        }
    };
    taken("unknown", None).await?;
    world
        .operator
        .logged("refused", |line| line["pod"] == "unknown" && line["message"] == "refused to enrol")
        .await?;
    let unknown = world.pods().get("unknown").await?;
    ensure!(!unknown.annotations().contains_key(FINGERPRINT));
    let key = patchbay_core::pin::Fingerprint::of_public_key(b"the key that it had").to_string();
    taken("known", Some(key)).await?;
    world
        .operator
        .logged("not believed", |line| {
            line["pod"] == "known"
                && line["error"].as_str().is_some_and(|error| error.contains("another key answers"))
        })
        .await?;
    ensure!(is_warm(&world.pods().get(&honest.name_any()).await?), "the honest one is untouched");
    world.end().await
}

#[tokio::test]
async fn an_operator_can_keep_the_authority_and_the_root_keys_of_sessions_itself()
-> anyhow::Result<()> {
    let stage = patchbay_tests::pods::Stage::bare("op-authority").await?;
    let secrets = Api::<Secret>::namespaced(stage.place.client.clone(), &stage.place.name);
    for name in ["roots", "gateway-link", "session-keys"] {
        let empty = json!({ "metadata": { "name": name } });
        secrets.create(&PostParams::default(), &from(empty)?).await?;
    }
    let operator = OperatorProcess::start_keeping(&stage, "roots", "gateway-link", "session-keys")?;
    let filled =
        watched::one(secrets.clone(), "gateway-link", "gateways have a certificate", |secret| {
            let data = secret.and_then(|secret| secret.data.as_ref());
            data.is_some_and(|data| data.contains_key("tls.crt") && data.contains_key("tls.key"))
        });
    filled.await.with_logs(|| operator.text())?;
    let text_of = |secret: Option<&Secret>| {
        let text = &secret.and_then(|secret| secret.data.as_ref())?.get(ENTRY)?.0;
        SessionRoots::parse(text).ok()?;
        String::from_utf8(text.clone()).ok()
    };
    let filled = watched::one(secrets.clone(), "session-keys", "there are root keys", |secret| {
        text_of(secret).is_some()
    });
    filled.await.with_logs(|| operator.text())?;
    let kept = secrets.get("session-keys").await?;
    for key in root_keys(&text_of(Some(&kept)).context("no root keys")?)? {
        ensure!(!operator.text().contains(&key), "a root key is in the operator's log");
    }
    let world = World { stage, operator };
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    world.warm("tools", 1).await?;
    world.end().await
}

#[tokio::test]
async fn an_operator_that_workers_do_not_trust_enrols_nobody_and_says_so() -> anyhow::Result<()> {
    let stage = patchbay_tests::pods::Stage::bare("op-stranger").await?;
    let operator = OperatorProcess::start_with(&stage, &Authority::new()?, &[])?;
    stage.declare("tools", json!({ "warm": 1 })).await?;
    operator
        .logged("could not enrol", |line| {
            line["message"].as_str().is_some_and(|text| text.starts_with("could not enrol"))
        })
        .await?;
    let pods = stage.place.pods();
    let all =
        watched::all(pods, "patchbay.dev/class=tools", "there is one", |pods| !pods.is_empty());
    ensure!(!all.await?[0].annotations().contains_key(FINGERPRINT));
    operator.terminate().await?;
    stage.place.end().await
}
