//! Every tool and every resource of quilt-mcp from nothing but a credential: upstream's own test of its tools, by a signed
//! token and by an API key, each through a replica of the gateway that judges it.

use super::{
    quilt::{CLASS, values},
    world::Installation,
};
use anyhow::{Context, ensure};
use kube::api::DeleteParams;
use patchbay_tests::{
    cluster::Strict,
    figures,
    mcp::{self, McpClient},
    pods::{roots, watched},
    quilt::{
        QuiltWorld,
        tools::{Check, checks, judge},
    },
};
use serde_json::{Value, json};

/// The provider of the catalog's tokens, beside the chart's own, which asks the catalog.
const TOKENS: &str = "quilt-tokens";

/// What each check was told.
async fn asked(client: &McpClient, checks: &[Check]) -> anyhow::Result<Vec<String>> {
    let mut said = Vec::new();
    for check in checks {
        said.push(if let Some(uri) = check.call["resource"].as_str() {
            client.read(uri).await?
        } else {
            let tool = check.call["tool"].as_str().context("a tool's name")?;
            let answer = client.modern_call(tool, check.call["arguments"].clone()).await?;
            mcp::said(&answer).context(tool.to_owned())?
        });
    }
    Ok(said)
}

/// Who judged the credentials that a replica of the gateway has met, and as what.
async fn judged(at: &Installation, replica: usize) -> anyhow::Result<Vec<(String, String)>> {
    let logs = at.logs(replica).await?;
    let lines = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = lines.filter(|line| line["message"] == "authenticated");
    let word = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    Ok(told.map(|line| (word(&line, "provider"), word(&line, "mode"))).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_and_every_resource_works_by_a_signed_token_and_by_an_api_key()
-> anyhow::Result<()> {
    let place = Strict::make("tools").await?;
    let host = place.cluster.addresses()?.host();
    let names =
        [place.name_outside("catalog", host).await?, place.name_outside("registry", host).await?];
    let (world, _aws) = QuiltWorld::start_strict_at(host, names).await?;
    let image = roots::quilt(&place.cluster).await?;
    let mut values = values(&image, &world)?;
    values["log"] = json!("info");
    values["quilt"]["warm"] = json!(1);
    values["quilt"]["extraSpec"]["tools"] = json!({ "signedUrls": true });
    values["providers"] = json!({ TOKENS: world.tokens(&[]) });
    let at = Installation::make(place, values).await?;
    let bearer = format!("Bearer {}", world.token("alice")?);
    let key = world.api_key("alice");
    let mut workers = Vec::new();
    for (replica, mode, credential, judge_of_it) in [
        (0, "jwt", ("authorization", bearer.as_str()), TOKENS),
        (1, "api_key", ("x-api-key", key.as_str()), CLASS),
    ] {
        at.warm(CLASS, 1).await?;
        world.catalog.record().clear();
        let client = at.client(replica, "/mcp", credential)?;
        let checks = checks("alice", "bob");
        let said = at.installed.or_told(asked(&client, &checks).await).await?;
        let (tools, resources) = tokio::try_join!(client.list("tools"), client.list("resources"))?;
        let counts = judge(&checks, &tools, &resources, &said)?;
        figures::tell("cluster_installed", &format!("{counts} ({mode}, pod, through a gateway)"));

        let told = judged(&at, replica).await?;
        ensure!(told == [(judge_of_it.to_owned(), mode.to_owned())], "{told:?}");
        // what the worker had for her was this credential and no other
        let own = credential.1.trim_start_matches("Bearer ");
        let seen = world.catalog.record().all().into_iter().filter_map(|seen| seen.bearer);
        let (own, others): (Vec<_>, Vec<_>) = seen.partition(|bearer| bearer == own);
        ensure!(!own.is_empty() && others.is_empty(), "{} others of {}", others.len(), own.len());

        // to whom the next credential belongs is the same user: she comes back as somebody new, to another worker
        let alice = at.tenant("alice").await?;
        workers.push(alice.assignment.uid);
        at.tenants().delete(&alice.name, &DeleteParams::default()).await?;
        let gone = watched::one(at.tenants(), alice.name, "it is gone", |it| it.is_none());
        at.installed.or_told(gone.await).await?;
        at.gone(&alice.assignment.worker).await?;
    }
    ensure!(workers[0] != workers[1], "one worker for both");
    at.installed.end().await
}
