//! Tokens, API keys and signing keys that are replaced while calls run: the new one is used from then on, nothing fails,
//! and the worker stays.

use anyhow::ensure;
use patchbay_tests::{
    catalog::keys::SigningKey,
    controller::{Controller, ControllerConfig, fixture_documents},
    load::Load,
    mcp::McpClient,
    quilt::{CLASS, QuiltWorld, rolls},
    served::Served,
};
use serde_json::json;
use std::fs;

const FIXTURE: &str = "fixture";

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
    let (first, second) = (rolls::token(&world, 1)?, rolls::token(&world, 2)?);
    for (token, used) in
        [(&first, &first), (&second, &second), (&first, &second), (&second, &second)]
    {
        world.catalog.record().clear();
        rolls::list_buckets(&McpClient::bearer(controller.url(CLASS), token)).await?;
        ensure!(rolls::shown(&world).last() == Some(used), "another bearer was used");
    }
    ensure_one_worker(&controller).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_rotated_while_calls_run_and_none_of_them_fails() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    rolls::of_a_token(&world, &Served::by_one(controller.url(CLASS))).await?;
    ensure_one_worker(&controller).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_rolled_while_calls_run_and_none_of_them_fails() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    rolls::of_an_api_key(&world, &Served::by_one(controller.url(CLASS))).await?;
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
