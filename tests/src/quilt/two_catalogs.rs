//! A user of two catalogs with the real `quilt-mcp`: what she does at both, and what must come of it, wherever her two workers
//! run and however many gateways there are.

use super::{QuiltWorld, isolation::listing};
use crate::{mcp::Session, served::Served};
use anyhow::{Context, ensure};
use http::StatusCode;
use serde_json::json;
use std::collections::BTreeSet;

/// Where the other catalog's users have their workers.
pub const OTHER_REGION: &str = "eu-west-1";

/// alice with an API key of each catalog, at the class of each: what is hers is that catalog's, and neither is shown what is
/// meant for the other.
pub async fn are_told_apart(worlds: [&QuiltWorld; 2], classes: [&Served; 2]) -> anyhow::Result<()> {
    let keys = worlds.map(|world| world.api_key("alice"));
    let clients = [classes[0].client(&keys[0]), classes[1].client(&keys[1])];
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
    for (client, world) in [&here, &there].into_iter().zip(worlds) {
        let found = json!({ "query": "note", "scope": "file", "bucket": "b-alice" });
        let found = client.call("search_catalog", found).await?.to_string();
        ensure!(found.contains("notes/alice.txt"), "{}: {found}", world.catalog.url());
    }
    for (world, key) in worlds.into_iter().zip(&keys) {
        let bearers: BTreeSet<_> =
            world.catalog.record().all().into_iter().filter_map(|seen| seen.bearer).collect();
        ensure!(bearers == BTreeSet::from([key.clone()]), "{}: {bearers:?}", world.catalog.url());
    }

    // one catalog's key is nothing at the other's class
    for (class, key) in classes.into_iter().zip(keys.iter().rev()) {
        for client in class.clients(key) {
            let refused = client.modern_call("bucket_list", json!({})).await?;
            ensure!(refused.status == StatusCode::UNAUTHORIZED, "{}", refused.text());
        }
    }
    Ok(())
}

/// Whether what a worker's quilt3 is configured by is of this catalog and region, and of no other.
pub fn is_of(configuration: &str, world: &QuiltWorld, region: &str) -> anyhow::Result<()> {
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
