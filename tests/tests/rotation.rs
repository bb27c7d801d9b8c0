//! Tokens, API keys and signing keys that are replaced while calls run: the new one is used from then on, nothing fails,
//! and the worker stays.

use anyhow::ensure;
use patchbay_tests::{
    catalog::keys::SigningKey,
    controller::{Controller, ControllerConfig, fixture_documents},
    load::Load,
    mcp::McpClient,
    quilt::{CLASS, QuiltWorld},
};
use serde_json::json;
use std::fs;

const FIXTURE: &str = "fixture";

/// A token of alice's that is good for so many hours.
fn token(world: &QuiltWorld, hours: i64) -> anyhow::Result<String> {
    let credentials = world.catalog.credentials();
    let lifetime = jiff::SignedDuration::from_hours(hours);
    credentials.key().sign(&credentials.claims("alice", jiff::Timestamp::now(), lifetime))
}

async fn list_buckets(url: &str, token: &str) -> anyhow::Result<()> {
    let answer = McpClient::bearer(url, token).call("bucket_list", json!({})).await?;
    ensure!(answer.to_string().contains("b-alice"), "{answer}");
    Ok(())
}

/// Callers who list buckets with the credential of the moment.
fn listing_buckets(controller: &Controller, credential: &str) -> Load {
    let url = controller.url(CLASS).to_owned();
    Load::begin(credential, move |credential| {
        let url = url.clone();
        async move { list_buckets(&url, &credential).await }
    })
}

/// The bearers that the catalog's registry was shown since the record was cleared.
fn shown(world: &QuiltWorld) -> Vec<String> {
    let seen = world.catalog.record().all();
    seen.into_iter().filter(|one| one.operation.is_some()).filter_map(|one| one.bearer).collect()
}

async fn ensure_one_worker(controller: &Controller) -> anyhow::Result<()> {
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 1 && tenants[0]["epoch"] == 1, "{tenants:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_is_used_from_then_on_and_two_live_ones_do_not_flap() -> anyhow::Result<()>
{
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let (first, second) = (token(&world, 1)?, token(&world, 2)?);
    for (token, used) in
        [(&first, &first), (&second, &second), (&first, &second), (&second, &second)]
    {
        world.catalog.record().clear();
        list_buckets(controller.url(CLASS), token).await?;
        ensure!(shown(&world).last() == Some(used), "another bearer was used");
    }
    ensure_one_worker(&controller).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_rotated_while_calls_run_and_none_of_them_fails() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let mut load = listing_buckets(&controller, &token(&world, 1)?);
    load.goes_on(1).await?;
    for hours in 2..=5 {
        let next = token(&world, hours)?;
        load.roll_to(&next).await?;
        world.catalog.record().clear();
        load.goes_on(3).await?;
        let shown = shown(&world);
        ensure!(shown.len() >= load.callers(), "the catalog was asked only {} times", shown.len());
        ensure!(shown.iter().all(|bearer| *bearer == next), "an old bearer was used");
    }
    ensure_one_worker(&controller).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_rolled_while_calls_run_and_none_of_them_fails() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let mut key = world.api_key("alice");
    let mut load = listing_buckets(&controller, &key);
    load.goes_on(1).await?;
    for _ in 0..3 {
        let next = world.api_key("alice");
        load.roll_to(&next).await?;
        // she is on the new one: from now on the old one is worth nothing, at the catalog either
        world.catalog.credentials().revoke(&key.into());
        load.goes_on(3).await?;
        key = next;
    }
    ensure_one_worker(&controller).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signing_key_is_rolled_while_calls_run_and_none_of_them_fails() -> anyhow::Result<()> {
    const ISSUER: &str = "https://login.example";
    let keys = [SigningKey::generate()?, SigningKey::generate()?, SigningKey::generate()?];
    let directory = tempfile::tempdir()?;
    let published = directory.path().join("login/keys.json");
    fs::create_dir(directory.path().join("login"))?;
    let publish = |keys: &[&SigningKey]| {
        let all: Vec<_> = keys.iter().map(|key| key.jwks()["keys"][0].clone()).collect();
        // as a whole: a reader never sees half of a set
        let next = published.with_extension("next");
        fs::write(&next, json!({ "keys": all }).to_string())?;
        fs::rename(&next, &published)
    };
    publish(&[&keys[0]])?;
    let mut documents = fixture_documents(FIXTURE, 1, &[], "")?;
    let provider = json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": { "name": "login" },
        "spec": { "classes": [FIXTURE], "jwt": {
            "issuer": ISSUER, "audiences": ["patchbay"],
            "jwks": { "secretRef": { "name": "login", "key": "keys.json" } },
        } },
    });
    documents[1] = provider.to_string();
    let below = directory.path().display().to_string();
    let controller =
        ControllerConfig::new(documents).args(&["--provider-secrets", &below]).start().await?;
    let token = |key: &SigningKey| {
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        key.sign(&json!({
            "iss": ISSUER, "aud": "patchbay", "sub": "alice", "exp": end.as_second(),
        }))
    };
    let url = controller.url(FIXTURE).to_owned();
    let mut load = Load::begin(&token(&keys[0])?, move |token| {
        let url = url.clone();
        async move {
            let message = json!({ "text": "still here" });
            let answer = McpClient::bearer(&url, &token).call("echo", message).await?;
            ensure!(answer.to_string().contains("still here"), "{answer}");
            Ok(())
        }
    });
    load.goes_on(1).await?;
    for pair in keys.windows(2) {
        let [old, new] = pair else { continue };
        // the next key is published before it signs, and the old one until nothing that it signed is used
        publish(&[old, new])?;
        while !is_known(&controller, &token(new)?).await? {
            load.goes_on(1).await?;
        }
        load.roll_to(&token(new)?).await?;
        publish(&[new])?;
        while is_known(&controller, &token(old)?).await? {
            load.goes_on(1).await?;
        }
        load.goes_on(3).await?;
    }
    ensure_one_worker(&controller).await
}

/// Whether a token is of a key that the gateway has.
async fn is_known(controller: &Controller, token: &str) -> anyhow::Result<bool> {
    let client = McpClient::bearer(controller.url(FIXTURE), token);
    let answer = client.modern_call("echo", json!({ "text": "?" })).await?;
    Ok(answer.status.is_success())
}
