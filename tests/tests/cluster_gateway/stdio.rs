//! A server that speaks on its standard streams, in a pod: reached through either gateway, one program for each session.

use crate::world::{World, shared};
use anyhow::{Context, ensure};
use http::StatusCode;
use patchbay_tests::controller::api_key;
use serde_json::{Value, json};

#[tokio::test]
async fn sessions_of_one_user_are_programs_of_one_pod_by_either_gateway() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let fields = json!({
        "command": ["/fixture-server", "--stdio"], "transport": "stdio", "server": null,
    });
    let world = World::make("stdio", fields, &["alice"]).await?;
    world.warm().await?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let [by_one, by_two] = [&one, &two].map(|gateway| gateway.client(&api_key("alice")));
    let first = by_one.initialize().await?;
    let second = by_two.initialize().await?;
    first.call("remember", json!({ "key": "k", "value": "first" })).await?;
    let of =
        async |answer: Value, name: &str| answer[name].as_u64().with_context(|| answer.to_string());
    let of_first = of(first.call("whoami", json!({})).await?, "pid").await?;
    let of_second = of(second.call("whoami", json!({})).await?, "pid").await?;
    let shared = of(by_two.call("whoami", json!({})).await?, "pid").await?;
    ensure!(of_first != of_second && of_first != shared && of_second != shared);
    // a session is of the user, not of a gateway
    let by_the_other = by_two.resume(&first.id);
    let recalled = by_the_other.call("recall", json!({ "key": "k" })).await?;
    ensure!(recalled["memory"] == "first", "{recalled}");
    // the pod outlives a program
    let ended = by_one.modern_call("exit", json!({ "code": 1 })).await?;
    ensure!(ended.status == StatusCode::BAD_GATEWAY, "{} {}", ended.status, ended.text());
    let another = of(by_two.call("whoami", json!({})).await?, "pid").await?;
    ensure!(another != shared);
    ensure!(of(by_the_other.call("whoami", json!({})).await?, "pid").await? == of_first);
    world.end().await
}
