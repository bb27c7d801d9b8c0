//! alice and bob with the real `quilt-mcp`: each acts as themselves, and as nobody else.

use anyhow::{Context, ensure};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use patchbay_tests::{
    catalog::fault::Fault,
    controller::{Controller, ControllerConfig},
    http::Http,
    mcp::McpClient,
    processes,
    quilt::{
        CLASS, Era, PATH, QuiltWorld, call,
        isolation::{calls_of, check, check_bearers, listing},
        sdk_calls,
    },
    secrets::Secrets,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;

fn url(controller: &Controller) -> String {
    controller.url(CLASS).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alice_and_bob_at_once_each_act_as_themselves_in_both_eras() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(2).await?;
    let url = url(&controller);
    let (alice, bob) = (world.token("alice")?, world.token("bob")?);
    for era in [Era::Modern, Era::Legacy] {
        world.catalog.record().clear();
        let (alice_bearer, bob_bearer) = (format!("Bearer {alice}"), format!("Bearer {bob}"));
        let (alice_calls, bob_calls) = (calls_of("alice", "bob"), calls_of("bob", "alice"));
        let (alice_report, bob_report) = tokio::try_join!(
            sdk_calls(&url, ("Authorization", &alice_bearer), era, &alice_calls),
            sdk_calls(&url, ("Authorization", &bob_bearer), era, &bob_calls),
        )?;
        let protocol = match era {
            Era::Modern => "2026-07-28",
            Era::Legacy => "2025-11-25",
        };
        ensure!(alice_report.protocol == protocol, "{}", alice_report.protocol);
        for tool in ["package_browse", "package_create", "package_delete", "search_catalog"] {
            ensure!(alice_report.tools.iter().any(|name| name == tool), "no {tool}");
        }
        check("alice", "bob", &alice_report.said())?;
        check("bob", "alice", &bob_report.said())?;
        check_bearers(&world.catalog.record().all(), &[&alice, &bob])?;
    }
    ensure!(controller.tenants().await?.len() == 2, "two users are two tenants");

    // alice's API key is alice: the same tenant, the same worker
    let key = world.api_key("alice");
    let notes = [call("bucket_objects_list", listing("b-alice"))];
    let by_key = sdk_calls(&url, ("X-API-Key", &key), Era::Modern, &notes).await?;
    ensure!(by_key.results[0].text.contains("notes/alice.txt"), "{by_key:?}");
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 2, "the key made another tenant: {tenants:?}");
    let epochs: BTreeSet<_> = tenants.iter().map(|tenant| tenant["epoch"].to_string()).collect();
    ensure!(epochs == BTreeSet::from(["1".to_owned()]), "a worker was replaced: {tenants:?}");

    // no secret of alice's is anywhere but in her requests
    let secrets =
        Secrets::new(&[("alice's token", &alice), ("bob's token", &bob), ("alice's key", &key)])?;
    secrets.not_in("the log", &controller.logs())?;
    for process in processes::descendants(controller.pid().context("pid")?) {
        secrets.not_in(&format!("the arguments of {}", process.pid), &process.argv)?;
        secrets.not_in(&format!("the environment of {}", process.pid), &process.environ)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_alone_works_and_a_revoked_or_unprovable_one_does_not() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let url = url(&controller);
    let refused = async |credential: &str| {
        let bearer = format!("Bearer {credential}");
        let answer = McpClient::with_headers(&url, &[("authorization", &bearer)])
            .modern_call("bucket_list", json!({}))
            .await?;
        anyhow::Ok((answer.status, answer.reason().unwrap_or_default()))
    };

    let credentials = world.catalog.credentials();
    let now = jiff::Timestamp::now();
    let good = credentials.claims("alice", now, jiff::SignedDuration::from_hours(1));
    let with = |changes: Value| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let key = credentials.key();
    let sign = |claims: &Value| key.sign(claims);
    let second = now.as_second();
    let mut no_audience = good.clone();
    no_audience.as_object_mut().context("claims")?.remove("aud");
    let tokens = [
        (sign(&with(json!({ "exp": second - 3600 })))?, "expired_credential"),
        (sign(&with(json!({ "nbf": second + 3600 })))?, "credential_not_yet_valid"),
        (sign(&with(json!({ "aud": "https://other.example" })))?, "wrong_audience"),
        (sign(&no_audience)?, "missing_claim"),
        (key.forge_unsigned(&good), "invalid_credential"),
        (key.forge_with_public_key(&good)?, "invalid_credential"),
        (sign(&good)? + "x", "invalid_credential"),
    ];
    world.catalog.record().clear();
    for (token, reason) in &tokens {
        ensure!(
            refused(token).await? == (StatusCode::UNAUTHORIZED, (*reason).to_owned()),
            "{reason}: {:?}",
            refused(token).await?
        );
    }
    // a token of the catalog's was judged by its keys alone: nothing was asked
    let asked: Vec<_> =
        world.catalog.record().all().into_iter().filter(|r| r.bearer.is_some()).collect();
    ensure!(asked.is_empty(), "{asked:?}");

    // what is nobody's token is the catalog's to judge: one question per credential, and one answer
    let unknown_issuer = sign(&with(json!({ "iss": "https://other.example" })))?;
    for (credential, expected) in [
        (unknown_issuer.as_str(), "invalid_credential"),
        ("qk_nobody", "invalid_api_key"),
        ("opaque", "invalid_credential"),
    ] {
        for _ in 0..3 {
            let (status, reason) = refused(credential).await?;
            ensure!(status == StatusCode::UNAUTHORIZED && reason == expected, "{reason}");
        }
    }
    let asked: Vec<_> =
        world.catalog.record().all().into_iter().filter(|r| r.bearer.is_some()).collect();
    ensure!(asked.len() == 3, "{asked:?}");
    ensure!(asked.iter().all(|r| r.operation.as_deref() == Some("me")), "{asked:?}");
    ensure!(controller.tenants().await?.is_empty(), "a worker was claimed");

    // a catalog that cannot be asked is no verdict
    world.catalog.faults().set(Fault::Down);
    let alice = world.api_key("alice");
    let (status, reason) = refused(&alice).await?;
    ensure!(
        status == StatusCode::SERVICE_UNAVAILABLE && reason == "provider_unavailable",
        "{reason}"
    );
    world.catalog.faults().clear();

    // the key alone: the catalog, AWS and search
    let calls = [
        call("bucket_object_text", json!({ "s3_uri": "s3://b-alice/notes/alice.txt" })),
        call("search_catalog", json!({ "query": "note", "scope": "global" })),
        call("search_catalog", json!({ "query": "note", "scope": "file" })),
        call("search_catalog", json!({ "query": "demo", "scope": "package" })),
    ];
    let report = sdk_calls(&url, ("X-API-Key", &alice), Era::Modern, &calls).await?;
    for result in &report.results {
        ensure!(result.text.contains("alice"), "{result:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_stays_at_the_gateway() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let bearer = format!("Bearer {}", world.token("alice")?);
    // the server knows one spelling of its path, and redirects the other to the address that it is given
    let with_slash = format!("{}/", url(&controller));
    let answer = Http::default().get(&with_slash, &[("authorization", &bearer)]).await?;
    ensure!(answer.status == StatusCode::TEMPORARY_REDIRECT, "{} {}", answer.status, answer.text());
    let location = answer.headers.get("location").context("no location")?;
    ensure!(location == PATH, "{location:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pointing_the_server_at_a_hostile_catalog_leaks_nothing() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    // it passes for alice's own registry's catalog, and the operator even offers the tool and lets workers reach it
    let hostile = HostileCatalog::start(world.catalog.registry_url()).await?;
    let mut documents = world.documents(1).await?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    let hosts = class["spec"]["egress"]["hosts"].as_array_mut().context("no hosts")?;
    let address = hostile.address;
    hosts.push(json!({ "host": address.ip(), "port": address.port(), "plainHttp": true }));
    let tools = ["bucket_list", "catalog_configure", "search_catalog", "bucket_object_text"];
    class["spec"]["tools"] = json!({ "allow": tools });
    documents[0] = class.to_string();
    let controller = ControllerConfig::new(documents).start().await?;

    let token = world.token("alice")?;
    let calls = [
        call("bucket_list", json!({})),
        call("catalog_configure", json!({ "catalog_url": format!("http://{address}") })),
        call("bucket_list", json!({})),
        call("search_catalog", json!({ "query": "note", "scope": "global" })),
        call("bucket_object_text", json!({ "s3_uri": "s3://b-alice/notes/alice.txt" })),
    ];
    let bearer = format!("Bearer {token}");
    let url = url(&controller);
    let report = sdk_calls(&url, ("Authorization", &bearer), Era::Modern, &calls).await?;
    let asked = hostile.asked.lock().clone();
    ensure!(!asked.is_empty(), "the server never went there: {report:?}");
    for headers in &asked {
        ensure!(!headers.contains_key("authorization"), "it was shown a bearer: {headers:?}");
        ensure!(!headers.contains_key("cookie"), "{headers:?}");
    }
    let [before, configured, buckets, search, text] = &report.results[..] else {
        anyhow::bail!("{report:?}")
    };
    ensure!(before.text.contains("b-alice"), "{before:?}");
    ensure!(configured.said().to_lowercase().contains("error"), "it took it: {configured:?}");
    for after in [buckets, search, text] {
        ensure!(after.text.contains("alice"), "{after:?}");
    }
    check_bearers(&world.catalog.record().all(), &[&token])
}

/// A catalog that names somebody else's registry as its own, and remembers what it is shown.
struct HostileCatalog {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<HeaderMap>>>,
}

impl HostileCatalog {
    async fn start(registry: &str) -> anyhow::Result<Self> {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.4:0").await?;
        let address = listener.local_addr()?;
        let record = asked.clone();
        let config = json!({ "registryUrl": registry, "region": "us-east-1" });
        let answer = async move |headers: HeaderMap| {
            record.lock().push(headers);
            Json(config.clone())
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
        Ok(Self { address, asked })
    }
}
