//! Every tool and every resource of the real `quilt-mcp`, used through Patchbay by alice, who administers the catalog:
//! upstream's own test of its tools, with a token and with an API key.

use anyhow::ensure;
use patchbay_tests::{
    catalog::record::Seen,
    controller::ControllerConfig,
    figures,
    quilt::{
        CLASS, Era, QuiltWorld,
        alone::calls_without_patchbay,
        sdk_calls,
        tools::{checks, found, judge, searches_for},
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

/// The control of the three searches above: what each scope finds for its owner it finds for nobody else, administrator or
/// not, though the catalog is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_scope_of_search_finds_for_its_owner_and_nothing_for_who_lacks_the_right()
-> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(2).await?;
    let url = controller.url(CLASS);
    let searches = searches_for("bob");
    let results_of = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let report = sdk_calls(url, ("Authorization", &bearer), Era::Modern, &searches).await?;
        report.said().iter().map(|said| found(said)).collect::<anyhow::Result<Vec<usize>>>()
    };
    let (alice, bob) = (world.token("alice")?, world.token("bob")?);
    let (of_alice, of_bob) = tokio::try_join!(results_of(&alice), results_of(&bob))?;
    for ((search, of_bob), of_alice) in searches.iter().zip(of_bob).zip(of_alice) {
        ensure!(of_bob > 0, "bob finds nothing of his own: {search}");
        ensure!(of_alice == 0, "alice finds {of_alice} of bob's: {search}");
    }
    let asked = world.catalog.record().all();
    for token in [alice, bob] {
        let is_search = |it: &&Seen| it.path == "/api/search" && it.bearer.as_ref() == Some(&token);
        let count = asked.iter().filter(is_search).count();
        ensure!(count >= searches.len(), "the catalog was asked {count} times: {asked:?}");
    }
    Ok(())
}

/// The control of what is not shown: without Patchbay it is not there either, or a host lacks that no class of these lists,
/// and the log says which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_shown_of_search_is_the_servers_own_or_lacks_a_host_that_the_log_names()
-> anyhow::Result<()> {
    let lacking: Vec<_> = checks("alice", "bob")
        .into_iter()
        .filter_map(|check| Some((check.lacks()?, check.name, check.call)))
        .collect();
    let [(words, suggest, suggesting), (_, docs, reading)] = &lacking[..] else {
        anyhow::bail!("{lacking:?}")
    };
    ensure!((suggest.as_str(), docs.as_str()) == ("search_suggest", "search_docs_quilt_bio"));
    let alone = calls_without_patchbay(std::slice::from_ref(suggesting)).await?.said();
    ensure!(alone[0].contains(words), "alone, {suggest} says: {}", alone[0]);

    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let key = world.api_key("alice");
    let asked = [reading.clone()];
    sdk_calls(controller.url(CLASS), ("X-API-Key", &key), Era::Modern, &asked).await?;
    let is_refusal = |line: &str| {
        line.contains("refused an outbound request") && line.contains("docs.quilt.bio")
    };
    let told = async || Ok(controller.logs().lines().any(is_refusal));
    controller.eventually("the log says which host is not listed", told).await
}
