//! Every tool and every resource of the real `quilt-mcp`, used through Patchbay by alice, who administers the catalog:
//! upstream's own test of its tools, with a token and with an API key.

use anyhow::{Context as _, ensure};
use patchbay_tests::{
    catalog::{record::Seen, tls::TestCa},
    controller::ControllerConfig,
    figures,
    moto::python_environment,
    own_network,
    quilt::{
        CLASS, Era, QuiltWorld,
        alone::{calls_without_patchbay, contexts_of_suggest},
        docs_site::{DOCS, DocsSite},
        sdk_calls,
        tools::{checks, checks_with_docs, found, judge, searches_for},
    },
};
use serde_json::{Value, json};

/// Every check, by the test of this name, in a network in which `docs.quilt.bio` is a documentation site.
async fn everything_works(test: &str, mode: &str, header: &str) -> anyhow::Result<()> {
    for environment in ["quilt", "moto"] {
        // nothing can be installed in there
        python_environment(environment).await?;
    }
    if !own_network::is_inside(test, &[DOCS]).await? {
        return Ok(());
    }
    let ca = TestCa::generate()?;
    let docs = DocsSite::open(&ca).await?;
    let trusted = tempfile::NamedTempFile::new()?;
    std::fs::write(trusted.path(), ca.pem())?;
    let (world, _aws) = QuiltWorld::start_strict().await?;
    let mut documents = world.documents(1).await?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    let spec = &mut class["spec"];
    spec["tools"] = json!({ "signedUrls": true });
    spec["env"]["REQUESTS_CA_BUNDLE"] = json!(trusted.path());
    spec["egress"]["hosts"].as_array_mut().context("hosts")?.push(json!({ "host": DOCS }));
    let shown = spec["local"]["readOnlyPaths"].as_array_mut().context("paths")?;
    shown.push(json!(trusted.path()));
    documents[0] = class.to_string();
    let controller = ControllerConfig::new(documents).start().await?;
    let credential = match header {
        "X-API-Key" => world.api_key("alice"),
        _ => format!("Bearer {}", world.token("alice")?),
    };
    let checks = checks_with_docs("alice", "bob");
    let calls: Vec<Value> = checks.iter().map(|check| check.call.clone()).collect();
    let url = controller.url(CLASS);
    let report = sdk_calls(url, (header, &credential), Era::Modern, &calls).await?;
    let (tools, resources) =
        (report.tools.iter().cloned().collect(), report.resources.iter().cloned().collect());
    let counts = judge(&checks, &tools, &resources, &report.said())?;
    ensure!(docs.asked() == ["/sitemap.xml", "/sitemap-pages.xml", "/guides/readme"]);
    figures::tell("quilt_tools", &format!("{counts} ({mode}, sandbox)"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_and_every_resource_works_with_a_token() -> anyhow::Result<()> {
    let this = "every_tool_and_every_resource_works_with_a_token";
    everything_works(this, "jwt", "Authorization").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tool_and_every_resource_works_with_an_api_key() -> anyhow::Result<()> {
    let this = "every_tool_and_every_resource_works_with_an_api_key";
    everything_works(this, "api key", "X-API-Key").await
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

/// The control of what is not shown: without Patchbay it is not there either. And of the documentation: where the class does
/// not list its host, it is not reached, and the log says which one that is.
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
    // the function would answer with what its user said; the server has it answer with the context of the request
    let contexts = contexts_of_suggest().await?;
    let expected = json!({ "function": "the user's", "server": "the request's own" });
    ensure!(contexts == expected, "{contexts}");

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
