//! Every tool and every resource of the real `quilt-mcp`, used through Patchbay by alice, who administers the catalog:
//! upstream's own test of its tools, with a token and with an API key.

use patchbay_tests::{
    controller::ControllerConfig,
    figures,
    quilt::{
        CLASS, Era, QuiltWorld, sdk_calls,
        tools::{checks, judge},
    },
};
use serde_json::{Value, json};

async fn everything_works(mode: &str, header: &str) -> anyhow::Result<()> {
    let (world, _aws) = QuiltWorld::start_strict().await?;
    let mut documents = world.documents(1).await?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    class["spec"]["tools"] = json!({ "signedUrls": true });
    documents[0] = class.to_string();
    let controller = ControllerConfig::new(documents).start().await?;
    let credential = match header {
        "X-API-Key" => world.api_key("alice"),
        _ => format!("Bearer {}", world.token("alice")?),
    };
    let checks = checks("alice", "bob");
    let calls: Vec<Value> = checks.iter().map(|check| check.call.clone()).collect();
    let url = controller.url(CLASS);
    let report = sdk_calls(url, (header, &credential), Era::Modern, &calls).await?;
    let (tools, resources) =
        (report.tools.iter().cloned().collect(), report.resources.iter().cloned().collect());
    let counts = judge(&checks, &tools, &resources, &report.said())?;
    figures::tell("quilt_tools", &format!("{counts} ({mode}, sandbox)"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_and_every_resource_works_with_a_token() -> anyhow::Result<()> {
    everything_works("jwt", "Authorization").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_and_every_resource_works_with_an_api_key() -> anyhow::Result<()> {
    everything_works("api key", "X-API-Key").await
}
