//! Credentials of a catalog that are replaced while a user of `quilt-mcp` calls: the new one is used from then on, and nothing
//! fails, wherever the worker runs and however many gateways there are.

use super::QuiltWorld;
use crate::{load::Load, mcp::McpClient, served::Served};
use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// A token of alice's that is good for so many hours.
pub fn token(world: &QuiltWorld, hours: i64) -> anyhow::Result<String> {
    let credentials = world.catalog.credentials();
    let lifetime = SignedDuration::from_hours(hours);
    credentials.key().sign(&credentials.claims("alice", Timestamp::now(), lifetime))
}

/// alice lists her buckets.
pub async fn list_buckets(client: &McpClient) -> anyhow::Result<()> {
    let answer = client.call("bucket_list", json!({})).await?;
    ensure!(answer.to_string().contains("b-alice"), "{answer}");
    Ok(())
}

/// The bearers that the catalog's registry was shown since the record was cleared.
pub fn shown(world: &QuiltWorld) -> Vec<String> {
    let seen = world.catalog.record().all();
    seen.into_iter().filter(|one| one.operation.is_some()).filter_map(|one| one.bearer).collect()
}

/// Callers who list buckets with the credential of the moment, each time by every gateway.
fn listing_buckets(served: &Served, credential: &str) -> Load {
    let served = served.clone();
    Load::begin(credential, move |credential| {
        let clients = served.clients(&credential);
        async move {
            for client in clients {
                list_buckets(&client).await?;
            }
            Ok(())
        }
    })
}

/// Her token is rotated four times. How many calls were answered.
pub async fn of_a_token(world: &QuiltWorld, served: &Served) -> anyhow::Result<usize> {
    let mut load = listing_buckets(served, &token(world, 1)?);
    load.goes_on(1).await?;
    for hours in 2..=5 {
        let next = token(world, hours)?;
        load.roll_to(&next).await?;
        world.catalog.record().clear();
        load.goes_on(3).await?;
        let shown = shown(world);
        ensure!(shown.len() >= load.callers(), "the catalog was asked only {} times", shown.len());
        ensure!(shown.iter().all(|bearer| *bearer == next), "an old bearer was used");
    }
    Ok(load.answered() * served.gateways())
}

/// Her API key is rolled three times, and the old one revoked each time. How many calls were answered.
pub async fn of_an_api_key(world: &QuiltWorld, served: &Served) -> anyhow::Result<usize> {
    let mut key = world.api_key("alice");
    let mut load = listing_buckets(served, &key);
    load.goes_on(1).await?;
    for _ in 0..3 {
        let next = world.api_key("alice");
        load.roll_to(&next).await?;
        // she is on the new one: from now on the old one is worth nothing, at the catalog either
        world.catalog.credentials().revoke(&key.into());
        load.goes_on(3).await?;
        key = next;
    }
    Ok(load.answered() * served.gateways())
}
