//! Classes, providers and certificates that change while gateways serve.

use crate::world::{CLASS, World, provider, shared};
use anyhow::ensure;
use http::StatusCode;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use patchbay_crds::WorkerClass;
use patchbay_tests::{controller::api_key, mcp::McpClient};
use serde_json::json;

async fn reason(client: &McpClient) -> anyhow::Result<String> {
    let answer = client.modern_call("echo", json!({ "text": "x" })).await?;
    Ok(match answer.status {
        StatusCode::OK => "ok".to_owned(),
        _ => answer.reason().unwrap_or_default(),
    })
}

#[tokio::test]
async fn keys_and_providers_come_and_go_without_a_restart() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("live", json!({}), &["alice", "bob"]).await?;
    tokio::try_join!(world.warm(), world.warm(), world.warm())?;
    let gateway = world.config.start().await?;
    let client = |user: &str| gateway.client(&api_key(user));
    for user in ["alice", "bob"] {
        client(user).call("echo", json!({ "text": "x" })).await?;
    }
    // bob's key is revoked, alice's stays
    let keys = provider("keys", &["alice"], &json!({}))?.spec.api_keys;
    let patch = Patch::Merge(json!({ "spec": { "apiKeys": keys } }));
    world.providers.patch("keys", &PatchParams::default(), &patch).await?;
    let is = async |user: &str, wanted: &str| {
        gateway
            .until(
                &format!("{user}: {wanted}"),
                async || Ok(reason(&client(user)).await? == wanted),
            )
            .await
    };
    is("bob", "revoked_api_key").await?;
    ensure!(reason(&client("alice")).await? == "ok");
    // a provider comes, and with it carol
    let more = provider("more", &["carol"], &json!({}))?;
    world.providers.create(&PostParams::default(), &more).await?;
    is("carol", "ok").await?;
    // one that would judge what another does judges nothing
    let quarrel = provider("quarrel", &["alice", "dora"], &json!({}))?;
    world.providers.create(&PostParams::default(), &quarrel).await?;
    gateway
        .until("it says so", async || {
            let errors = gateway.metric("patchbay_gateway_configuration_errors").await?;
            Ok(errors == Some(1.0) && gateway.logs().contains("key ids must be unique"))
        })
        .await?;
    ensure!(reason(&client("dora")).await? == "invalid_api_key");
    ensure!(reason(&client("alice")).await? == "ok");
    // and whom a provider vouched for is nobody when it goes
    for name in ["quarrel", "keys"] {
        world.providers.delete(name, &DeleteParams::default()).await?;
    }
    is("alice", "invalid_api_key").await?;
    ensure!(reason(&client("carol")).await? == "ok");
    world.end().await
}

#[tokio::test]
async fn a_class_moves_to_another_path_and_goes_without_a_restart() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("moved", json!({}), &["alice"]).await?;
    world.warm().await?;
    let gateway = world.config.start().await?;
    let alice = gateway.client(&api_key("alice"));
    alice.call("remember", json!({ "key": "k", "value": "kept" })).await?;
    let place = &world.stage.place;
    let classes = Api::<WorkerClass>::namespaced(place.client.clone(), &place.name);
    let patch = Patch::Merge(json!({ "spec": { "path": "/moved" } }));
    classes.patch(CLASS, &PatchParams::default(), &patch).await?;
    gateway.until("the old path is gone", async || Ok(reason(&alice).await? == "no_route")).await?;
    let moved = McpClient::bearer(&format!("{}/moved", gateway.url), &api_key("alice"));
    let kept = moved.call("recall", json!({ "key": "k" })).await?;
    ensure!(kept.to_string().contains("kept"), "{kept}");
    classes.delete(CLASS, &DeleteParams::default()).await?;
    gateway.until("the class is gone", async || Ok(reason(&moved).await? == "no_route")).await?;
    world.end().await
}

#[tokio::test]
async fn a_gateway_is_not_ready_before_workers_would_listen_to_it() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("certificate", json!({}), &["alice"]).await?;
    let gateway = world.config.start_unready(false).await?;
    gateway
        .until("only the certificate is missing", async || {
            let waits_for = gateway.waits_for().await?;
            Ok(waits_for == "there is no certificate for workers (--link-cert)\n")
        })
        .await?;
    world.config.bring_certificate(&gateway)?;
    gateway.until("it is ready", async || gateway.is_ready().await).await?;
    world.end().await
}
