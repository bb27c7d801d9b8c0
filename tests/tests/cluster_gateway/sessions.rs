//! Sessions that outlive their pod, and the gateway by which they came.

use crate::world::{World, shared};
use anyhow::ensure;
use http::StatusCode;
use kube::api::DeleteParams;
use patchbay_tests::{cluster::until, controller::api_key};
use serde_json::{Value, json};

#[tokio::test]
async fn a_session_goes_on_in_another_pod_and_by_another_gateway_and_nobody_else_has_it()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let of_stdio = json!({
        "command": ["/fixture-server", "--stdio"], "transport": "stdio", "server": null,
    });
    for (name, fields) in [("sessions", json!({})), ("sessions-stdio", of_stdio)] {
        Box::pin(goes_on(name, fields)).await?;
    }
    Ok(())
}

async fn goes_on(name: &str, fields: Value) -> anyhow::Result<()> {
    let world = World::make(name, fields, &["alice", "bob"]).await?;
    tokio::try_join!(world.warm(), world.warm(), world.warm())?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let [alice, by_two, bob] = [(&one, "alice"), (&two, "alice"), (&two, "bob")]
        .map(|(gateway, user)| gateway.client(&api_key(user)));
    let session = alice.initialize().await?;
    let before = session.call("whoami", json!({})).await?;
    let by_the_other = by_two.resume(&session.id);
    let same = by_the_other.call("whoami", json!({})).await?;
    ensure!(same["started"] == before["started"], "{name}: {before} {same}");

    // the pod ends, and with it all that knew the session
    let (worker, pods) = (world.assignment("alice").await?.worker, world.stage.place.pods());
    pods.delete(&worker, &DeleteParams::default()).await?;
    until("the pod is gone", async || Ok(pods.get_opt(&worker).await?.is_none())).await?;
    let after = by_the_other.call("whoami", json!({})).await?;
    ensure!(after["started"] != before["started"], "{name}: {before} {after}");
    let again = session.call("whoami", json!({})).await?;
    ensure!(again["started"] == after["started"], "{name}: {after} {again}");

    bob.call("echo", json!({ "text": "x" })).await?;
    let stolen = bob.resume(&session.id).raw_call("echo", json!({ "text": "x" })).await?;
    ensure!(stolen.status == StatusCode::NOT_FOUND, "{name}: {} {}", stolen.status, stolen.text());
    world.end().await
}
