//! Keys that are replaced while users call through two gateways, neither of which is restarted: those that sign tokens,
//! and Patchbay's own.

use crate::{
    identity::{identities, jwt, told},
    world::{World, shared},
};
use anyhow::ensure;
use http::StatusCode;
use kube::api::{Patch, PatchParams};
use patchbay_core::digest::Digest;
use patchbay_tests::{
    catalog::keys::SigningKey,
    controller::api_key,
    evidence::Evidence as _,
    issuer::{Issuer, claims},
    load::Load,
    mcp::McpClient,
    pods::Gateway,
};
use serde_json::json;

/// Whether both gateways know whose a token is.
async fn is_known_by(gateways: [&Gateway; 2], token: &str) -> anyhow::Result<[bool; 2]> {
    let [one, two] = gateways.map(|gateway| told(gateway, token));
    let (one, two) = tokio::try_join!(one, two)?;
    for told in [&one, &two] {
        ensure!(told.0 == 200 || *told == (401, "invalid_credential".into()), "{told:?}");
    }
    Ok([one.0 == 200, two.0 == 200])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signing_key_is_rolled_at_its_url_while_calls_run_through_two_gateways_and_none_fails()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let (old, new, stranger) =
        (SigningKey::generate()?, SigningKey::generate()?, SigningKey::generate()?);
    let issuer = Issuer::start(&old).await?;
    let world = World::make("key-roll", json!({}), &[]).await?;
    let jwks = json!({ "discovery": true, "caBundle": issuer.ca_pem() });
    world.provide("login", jwt(issuer.url(), &jwks, &json!({}))?).await?;
    world.warm().await?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let logs = || format!("{}\n{}", one.logs(), two.logs());
    let token = |key: &SigningKey| key.sign(&claims(issuer.url(), "alice"));
    let urls = [&one, &two].map(|gateway| format!("{}/mcp", gateway.url));
    let mut load = Load::begin(&token(&old)?, move |token| {
        let urls = urls.clone();
        async move {
            for url in &urls {
                let message = json!({ "text": "still here" });
                let answer = McpClient::bearer(url, &token).call("echo", message).await?;
                ensure!(answer.to_string().contains("still here"), "{answer}");
            }
            Ok(())
        }
    });
    let rolled = async {
        load.goes_on(1).await?;
        // the next key is published before it signs, and the old one until nothing that it signed is used
        issuer.publish(&[&old, &new]);
        while is_known_by([&one, &two], &token(&new)?).await? != [true, true] {
            load.goes_on(1).await?;
        }
        load.roll_to(&token(&new)?).await?;
        issuer.publish(&[&new]);
        while is_known_by([&one, &two], &token(&old)?).await? != [false, false] {
            // a key that nobody knows has the set looked at, once in half a minute
            ensure!(is_known_by([&one, &two], &token(&stranger)?).await? == [false, false]);
            load.goes_on(1).await?;
        }
        load.goes_on(3).await
    };
    rolled.await.with_logs(logs)?;
    println!("{} calls through both gateways while the key was rolled, 0 failed", load.answered());
    drop(load);
    ensure!(identities(&world).await? == [(issuer.url().to_owned(), "alice".to_owned())].into());
    world.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_patchbays_own_is_rolled_while_calls_run_through_two_gateways_and_none_fails()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("pb-roll", json!({}), &[]).await?;
    // both `alice` and `alicenext` are keys of hers
    let entry = |id: &str| {
        let digest = Digest::of(api_key(id).as_bytes());
        json!({ "id": id, "subject": "alice", "digest": format!("sha256:{digest}") })
    };
    let keys = |ids: &[&str]| {
        let entries: Vec<_> = ids.iter().map(|id| entry(id)).collect();
        json!({ "apiKeys": { "issuer": "urn:test:rolled", "keys": entries } })
    };
    world.provide("rolled", keys(&["alice"])).await?;
    world.warm().await?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let logs = || format!("{}\n{}", one.logs(), two.logs());
    let urls = [&one, &two].map(|gateway| format!("{}/mcp", gateway.url));
    let mut load = Load::begin(&api_key("alice"), move |key| {
        let urls = urls.clone();
        async move {
            for url in &urls {
                let client = McpClient::bearer(url, &key);
                let answer = client.modern_call("echo", json!({ "text": "x" })).await?;
                ensure!(answer.status == StatusCode::OK, "{} {}", answer.status, answer.text());
            }
            Ok(())
        }
    });
    let change = async |ids: &[&str]| {
        let patch = Patch::Merge(json!({ "spec": keys(ids) }));
        world.providers.patch("rolled", &PatchParams::default(), &patch).await.map(drop)
    };
    let is = async |id: &str, status: u16| -> anyhow::Result<bool> {
        let key = api_key(id);
        let (one, two) = tokio::try_join!(told(&one, &key), told(&two, &key))?;
        Ok(one.0 == status && two.0 == status)
    };
    let rolled = async {
        load.goes_on(1).await?;
        change(&["alice", "alicenext"]).await?;
        while !is("alicenext", 200).await? {
            load.goes_on(1).await?;
        }
        load.roll_to(&api_key("alicenext")).await?;
        change(&["alicenext"]).await?;
        while !is("alice", 401).await? {
            load.goes_on(1).await?;
        }
        load.goes_on(3).await
    };
    rolled.await.with_logs(logs)?;
    println!("{} calls through both gateways while the key was rolled, 0 failed", load.answered());
    drop(load);
    ensure!(identities(&world).await? == [("urn:test:rolled".into(), "alice".into())].into());
    world.end().await
}
