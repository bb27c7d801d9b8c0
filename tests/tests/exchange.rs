//! alice and bob with the real `quilt-mcp` and tokens that are meant for Patchbay alone: each is exchanged for one that the
//! catalog takes, and the catalog never sees the first (RFC 8693).

use anyhow::{Context, ensure};
use http::StatusCode;
use jiff::SignedDuration;
use patchbay_tests::{
    authorization_server::{self as login, AuthorizationServer, Fault},
    catalog::{self, Catalog},
    controller::{Controller, ControllerConfig},
    load::Load,
    mcp::McpClient,
    quilt::{CLASS, Era, QuiltWorld, exchanged, sdk_calls},
    secrets::Secrets,
};
use serde_json::{Value, json};
use std::{fs, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;

/// The provider of their tokens.
const STAFF: &str = "staff";

struct Scene {
    catalog: Arc<Catalog>,
    login: AuthorizationServer,
    controller: Controller,
    /// Keys and secrets, in files.
    secrets: TempDir,
    world: QuiltWorld,
}

/// A controller whose users log in elsewhere.
async fn start(warm: u32) -> anyhow::Result<Scene> {
    let world = QuiltWorld::start().await?;
    let catalog = world.catalog.clone();
    let login = AuthorizationServer::start(catalog.clone()).await?;
    let mut documents = world.documents(warm).await?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    let source = class["spec"]["credentials"]["catalog"].as_object_mut().context("no catalog")?;
    source.extend(exchanged::source(&world, &login).as_object().context("no source")?.clone());
    documents[0] = class.to_string();
    let staff = json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": { "name": STAFF }, "spec": exchanged::provider(CLASS),
    });
    documents.push(staff.to_string());
    let secrets = tempfile::tempdir()?;
    let at = secrets.path().join(exchanged::SECRET);
    fs::create_dir(&at)?;
    for (name, entry) in exchanged::secret() {
        fs::write(at.join(name), entry)?;
    }
    let below = secrets.path().display().to_string();
    let controller =
        ControllerConfig::new(documents).args(&["--provider-secrets", &below]).start().await?;
    Ok(Scene { catalog, login, controller, secrets, world })
}

fn search() -> Value {
    json!({ "query": "note", "scope": "global" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_patchbay_alone_is_exchanged_and_the_catalog_never_sees_it()
-> anyhow::Result<()> {
    let scene = start(2).await?;
    let url = scene.controller.url(CLASS);
    let mut presented = Vec::new();
    for user in ["alice", "bob"] {
        let token = scene.login.token(user)?;
        let bearer = format!("Bearer {token}");
        for era in [Era::Modern, Era::Legacy] {
            let calls = exchanged::calls(user);
            let report = sdk_calls(url, ("Authorization", &bearer), era, &calls).await?;
            exchanged::check(user, &report.said())?;
        }
        presented.push(token);
    }
    ensure!(scene.login.exchanged() == ["alice", "bob"], "{:?}", scene.login.exchanged());

    // one that is meant for the catalog needs none, nor does a key of the catalog's
    let own = scene.world.token("alice")?;
    let key = scene.world.api_key("bob");
    for (user, bearer) in [("alice", own), ("bob", key)] {
        let client = McpClient::bearer(url, &bearer);
        let result =
            client.call("search_catalog", json!({ "query": "note", "scope": "global" })).await?;
        ensure!(result.to_string().contains(user), "{user}: {result}");
    }
    ensure!(scene.login.exchanged().len() == 2, "{:?}", scene.login.exchanged());

    let bearers = exchanged::never_shown(&scene.world, &presented)?;
    ensure!(bearers.len() >= 4, "{}", bearers.len());
    let logs = scene.controller.logs();
    let told = exchanged::told(&scene.login, STAFF, &logs)?;
    ensure!(told == 2, "{told}");
    let mut secrets = Secrets::new(&[("the client's secret", login::SECRET)])?;
    for token in presented.iter().chain(&bearers) {
        secrets.add("a token", token)?;
    }
    secrets.not_in("the log", &logs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchanged_token_is_renewed_under_load_and_no_call_fails() -> anyhow::Result<()> {
    /// Short, so that several generations are seen, and long enough for renewals to begin before calls would wait for them.
    const LIFETIME: SignedDuration = SignedDuration::from_secs(90);
    const CAP: Duration = Duration::from_mins(4);
    let scene = start(1).await?;
    scene.login.tokens_live_for(LIFETIME);
    let token = scene.login.token("alice")?;
    let client = McpClient::bearer(scene.controller.url(CLASS), &token);
    let begun = Instant::now();
    let searching = client.clone();
    let mut load = Load::begin(&token, move |_| {
        let client = searching.clone();
        async move {
            let result = client.call("search_catalog", search()).await?;
            ensure!(result.to_string().contains("alice"), "{result}");
            Ok(())
        }
    });
    // the first token, and two that took its place
    while scene.login.exchanged().len() < 3 {
        ensure!(begun.elapsed() < CAP, "{:?}", scene.login.exchanged());
        load.goes_on(1).await?;
    }
    load.goes_on(2).await?;
    let result = client.call("bucket_list", json!({})).await?;
    ensure!(result.to_string().contains("b-alice"), "by the third: {result}");
    // each was good for half of its life before another was asked for
    ensure!(begun.elapsed() >= LIFETIME.unsigned_abs(), "after {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchanged_token_is_renewed_during_one_call_that_outlasts_it() -> anyhow::Result<()> {
    const LIFETIME: SignedDuration = SignedDuration::from_secs(20);
    /// Of each answer of the catalog's, which looks at a token when it answers. A search asks it several things in a row.
    const SLOW: Duration = Duration::from_secs(8);
    let scene = start(1).await?;
    scene.login.tokens_live_for(LIFETIME);
    let client = McpClient::bearer(scene.controller.url(CLASS), &scene.login.token("alice")?);
    scene.catalog.faults().set(catalog::fault::Fault::Slow(SLOW));
    let begun = Instant::now();
    let result = client.call("search_catalog", search()).await?;
    ensure!(begun.elapsed() > LIFETIME.unsigned_abs(), "it took {:?} alone", begun.elapsed());
    ensure!(result.to_string().contains("alice"), "{result}");
    let presented: Vec<_> =
        scene.catalog.record().all().into_iter().filter_map(|seen| seen.bearer).collect();
    ensure!(presented.first() != presented.last(), "{} requests by one token", presented.len());
    ensure!(scene.login.exchanged().len() >= 2, "{:?}", scene.login.exchanged());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gets_no_token_is_told_why_and_who_has_one_goes_on() -> anyhow::Result<()> {
    let scene = start(2).await?;
    let url = scene.controller.url(CLASS);
    let alice = McpClient::bearer(url, &scene.login.token("alice")?);
    alice.call("search_catalog", search()).await?;

    let bob = McpClient::bearer(url, &scene.login.token("bob")?);
    let told = async || {
        let answer = bob.modern_call("search_catalog", search()).await?;
        anyhow::Ok((answer.status, answer.reason().unwrap_or_default()))
    };
    scene.login.set_fault(Some(Fault::Failing));
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, "grant_unavailable".to_owned());
    ensure!(told().await? == unavailable, "{:?}", told().await?);
    ensure!(alice.call("search_catalog", search()).await?.to_string().contains("alice"));

    scene.login.set_fault(Some(Fault::Busy));
    let answer = bob.modern_call("search_catalog", search()).await?;
    ensure!(answer.reason().as_deref() == Some("grant_unavailable"), "{}", answer.text());
    let after = answer.headers.get("retry-after").context("no Retry-After")?;
    ensure!(*after == login::RETRY_AFTER.to_string(), "{after:?}");

    scene.login.set_fault(Some(Fault::Denying));
    let refused = (StatusCode::FORBIDDEN, "grant_refused".to_owned());
    ensure!(told().await? == refused, "{:?}", told().await?);
    ensure!(alice.call("search_catalog", search()).await?.to_string().contains("alice"));

    // Patchbay's own client is refused: that is nobody's fault but the operator's, and needs no restart
    scene.login.set_fault(None);
    let secret = scene.secrets.path().join("login/client");
    let right = fs::read(&secret).context("the secret")?;
    fs::write(&secret, "another")?;
    ensure!(told().await? == unavailable, "{:?}", told().await?);
    ensure!(scene.login.refused().last().is_some_and(|it| it == "invalid_client"));
    fs::write(&secret, right)?;
    ensure!(bob.call("search_catalog", search()).await?.to_string().contains("bob"));
    Ok(())
}
