//! Every tool and every resource of quilt-mcp in a pod, with a token and with an API key: the same checks as in a sandbox.

use super::{bound, fields};
use anyhow::Context;
use patchbay_tests::{
    figures,
    pods::{Stage, roots},
    quilt::{
        QuiltWorld,
        tools::{checks, judge},
    },
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_and_every_resource_works_with_a_token_and_with_an_api_key() -> anyhow::Result<()>
{
    let stage = Stage::make("quilt-tools").await?;
    let host = stage.place.cluster.addresses()?.host();
    let names = [
        stage.place.name_outside("catalog", host).await?,
        stage.place.name_outside("registry", host).await?,
    ];
    let (world, _aws) = QuiltWorld::start_strict_at(host, names).await?;
    let image = roots::quilt(&stage.place.cluster).await?;
    let mut fields = fields(&image, &world)?;
    fields["tools"] = json!({ "signedUrls": true });
    let class = stage.class("quilt", fields).await?;
    for (mode, credential) in [("jwt", world.token("alice")?), ("api key", world.api_key("alice"))]
    {
        let worker = stage.worker(&class).await?;
        let link = stage.gateway(&worker).await?;
        let tenant = bound(&link, &world, &credential, 1).await?;
        let checks = checks("alice", "bob");
        let mut said = Vec::new();
        for check in &checks {
            said.push(if let Some(uri) = check.call["resource"].as_str() {
                tenant.read(uri).await?
            } else {
                let tool = check.call["tool"].as_str().context("a tool's name")?;
                tenant.said(tool, check.call["arguments"].clone()).await?
            });
        }
        let counts = judge(&checks, &tenant.tools().await?, &tenant.resources().await?, &said)?;
        figures::tell("cluster_quilt", &format!("{counts} ({mode}, pod)"));
    }
    stage.place.end().await
}
