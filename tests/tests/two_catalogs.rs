//! A user of two catalogs with the real `quilt-mcp`: two tenants, each with a worker that knows one catalog, its AWS and
//! its region, and neither's credential gets to the other (AWS-3).

use anyhow::{Context, ensure};
use http::StatusCode;
use patchbay_tests::{
    controller::{Controller, ControllerConfig},
    mcp::{McpClient, Session},
    quilt::{CLASS, QuiltWorld, isolation::listing, stateless::DATA},
    sandbox::{self, HOME},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The other catalog's class, below a path of its own.
const OTHER: &str = "quilt-eu";
const OTHER_REGION: &str = "eu-west-1";

/// A world's documents under other names, for a class in another region.
fn renamed(document: &str) -> anyhow::Result<String> {
    let mut document: Value = serde_json::from_str(document)?;
    let name = document["metadata"]["name"].as_str().context("no name")?.to_owned();
    document["metadata"]["name"] = json!(format!("{name}-eu"));
    if document["kind"] == "WorkerClass" {
        document["spec"]["path"] = json!("/eu/mcp");
        document["spec"]["credentials"]["catalog"]["region"] = json!(OTHER_REGION);
    } else {
        document["spec"]["classes"] = json!([OTHER]);
    }
    Ok(document.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_two_catalogs_is_two_tenants_and_each_has_one_catalogs_account_and_region()
-> anyhow::Result<()> {
    let (one, other) = tokio::try_join!(QuiltWorld::start(), QuiltWorld::start_beside())?;
    let mut documents = one.documents(1).await?;
    for document in other.documents(1).await? {
        documents.push(renamed(&document)?);
    }
    let controller = ControllerConfig::new(documents).start().await?;
    let keys = [one.api_key("alice"), other.api_key("alice")];
    let client =
        |class, key: &str| McpClient::with_headers(controller.url(class), &[("x-api-key", key)]);
    let clients = [client(CLASS, &keys[0]), client(OTHER, &keys[1])];
    let (here, there) = (clients[0].initialize().await?, clients[1].initialize().await?);

    // the same bucket's name is another bucket of another account
    let item = json!({ "bucket": "b-alice", "items": [{ "key": "here.txt", "text": "here" }] });
    let put = here.call("bucket_objects_put", item).await?.to_string();
    ensure!(put.contains("here.txt") && !put.to_lowercase().contains("denied"), "{put}");
    let listed = async |session: &Session<'_>| {
        let listed = session.call("bucket_objects_list", listing("b-alice")).await?;
        anyhow::Ok(listed.to_string())
    };
    let (at_one, at_other) = (listed(&here).await?, listed(&there).await?);
    ensure!(at_one.contains("here.txt") && at_one.contains("notes/alice.txt"), "{at_one}");
    ensure!(!at_other.contains("here.txt") && at_other.contains("notes/alice.txt"), "{at_other}");
    for (client, catalog) in [(&here, &one.catalog), (&there, &other.catalog)] {
        let found = json!({ "query": "note", "scope": "file", "bucket": "b-alice" });
        let found = client.call("search_catalog", found).await?.to_string();
        ensure!(found.contains("notes/alice.txt"), "{}: {found}", catalog.url());
    }

    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 2, "{tenants:?}");
    let names: BTreeSet<_> = tenants.iter().map(|tenant| tenant["tenant"].to_string()).collect();
    ensure!(names.len() == 2, "{tenants:?}");
    for (class, world, region) in [(CLASS, &one, "us-east-1"), (OTHER, &other, OTHER_REGION)] {
        let of_class = tenants.iter().find(|tenant| tenant["class"] == class);
        let worker = of_class.and_then(|tenant| tenant["worker"].as_str());
        let worker = worker.with_context(|| format!("{class}: {tenants:?}"))?;
        knows(&controller, worker, world, region)?;
    }
    for (world, key) in [(&one, &keys[0]), (&other, &keys[1])] {
        let bearers: BTreeSet<_> =
            world.catalog.record().all().into_iter().filter_map(|seen| seen.bearer).collect();
        ensure!(bearers == BTreeSet::from([key.clone()]), "{}: {bearers:?}", world.catalog.url());
    }

    // one catalog's key is nothing at the other's class
    for (class, key) in [(CLASS, &keys[1]), (OTHER, &keys[0])] {
        let refused = client(class, key).modern_call("bucket_list", json!({})).await?;
        ensure!(refused.status == StatusCode::UNAUTHORIZED, "{class}: {}", refused.text());
    }
    ensure!(controller.tenants().await?.len() == 2);
    Ok(())
}

/// Whether a worker's quilt3 is configured for this catalog and region, and for no other.
fn knows(
    controller: &Controller,
    worker: &str,
    world: &QuiltWorld,
    region: &str,
) -> anyhow::Result<()> {
    let server = sandbox::server(controller, worker)?;
    let path = sandbox::path_in(server.pid, &format!("{HOME}/{DATA}/config.yml"));
    let configuration = std::fs::read_to_string(path)?;
    let host =
        |url: &str| url.parse::<http::Uri>().ok().and_then(|url| url.host().map(str::to_owned));
    for known in
        [host(world.catalog.url()), host(world.catalog.registry_url()), Some(region.into())]
    {
        let known = known.context("no host")?;
        ensure!(configuration.contains(&known), "{known} is not in {configuration}");
    }
    Ok(())
}
