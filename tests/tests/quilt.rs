//! alice and bob with the real `quilt-mcp`: each acts as themselves, and as nobody else.

use anyhow::{Context, ensure};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use patchbay_tests::{
    catalog::{fault::Fault, record::Seen},
    controller::{Controller, ControllerConfig},
    http::Http,
    mcp::McpClient,
    processes,
    quilt::{CLASS, CallResult, Era, PATH, QuiltWorld, Report, call, sdk_calls},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;

/// Every class of tool that a shared server would mix up, on one's own things and on the other's.
fn calls_of(own: &str, other: &str) -> Vec<Value> {
    let (mine, theirs) = (format!("b-{own}"), format!("b-{other}"));
    let note = |user: &str| format!("s3://b-{user}/notes/{user}.txt");
    vec![
        call("bucket_objects_list", json!({ "bucket": mine })),
        call("bucket_objects_list", json!({ "bucket": theirs })),
        call("bucket_object_info", json!({ "s3_uri": note(own) })),
        call("bucket_object_text", json!({ "s3_uri": note(own) })),
        call("bucket_object_text", json!({ "s3_uri": note(other) })),
        call(
            "bucket_objects_put",
            json!({
                "bucket": mine, "items": [{ "key": "new.txt", "text": format!("by {own}") }],
            }),
        ),
        call(
            "bucket_objects_put",
            json!({
                "bucket": theirs, "items": [{ "key": "new.txt", "text": format!("by {own}") }],
            }),
        ),
        call(
            "package_browse",
            json!({
                "package_name": format!("{own}/demo"), "registry": format!("s3://{mine}"),
            }),
        ),
        call(
            "package_browse",
            json!({
                "package_name": format!("{other}/demo"), "registry": format!("s3://{theirs}"),
            }),
        ),
        call(
            "package_create",
            json!({
                "package_name": format!("{own}/made"), "s3_uris": [note(own)],
                "registry": format!("s3://{mine}"),
            }),
        ),
        call("search_catalog", json!({ "query": "note", "scope": "file", "bucket": mine })),
        call("search_catalog", json!({ "query": "note", "scope": "global" })),
        call("search_catalog", json!({ "query": "demo", "scope": "package" })),
        call("bucket_list", json!({})),
        call("tabulator_tables_list", json!({ "bucket": mine })),
        call("admin_user_get", json!({ "name": "bob" })),
    ]
}

/// What must be so of the results of [`calls_of`], as pairs of a promise and whether it holds.
fn check(own: &str, other: &str, report: &Report) -> anyhow::Result<()> {
    let said: Vec<String> = report.results.iter().map(CallResult::said).collect();
    let is_denied = |text: &str| {
        let text = text.to_lowercase();
        text.contains("accessdenied") || text.contains("access denied") || text.contains("403")
    };
    let [
        list_own,
        list_other,
        info,
        text_own,
        text_other,
        put_own,
        put_other,
        browse_own,
        browse_other,
        create,
        search_bucket,
        search_global,
        search_packages,
        buckets,
        tables,
        users,
    ] = &said[..]
    else {
        anyhow::bail!("{} results", said.len())
    };
    let note = format!("notes/{own}.txt");
    let promises = [
        ("lists its own bucket", list_own.contains(&note), list_own),
        ("is denied the other's bucket", is_denied(list_other), list_other),
        ("sees its own object", info.contains(&note) && !is_denied(info), info),
        ("reads its own object", text_own.contains(&format!("only {own} may read")), text_own),
        ("is denied the other's object", is_denied(text_other), text_other),
        ("writes to its own bucket", !is_denied(put_own) && put_own.contains("new.txt"), put_own),
        ("is denied writing to the other's", is_denied(put_other), put_other),
        ("browses its own package", browse_own.contains("measurements.csv"), browse_own),
        ("is denied the other's package", !browse_other.contains("measurements.csv"), browse_other),
        ("creates a package", create.contains(&format!("{own}/made")), create),
        ("finds its own file", search_bucket.contains(&note), search_bucket),
        ("finds its own globally", search_global.contains(&format!("b-{own}")), search_global),
        (
            "finds its own package",
            search_packages.contains(&format!("{own}/demo")),
            search_packages,
        ),
        ("sees its own bucket alone", buckets.contains(&format!("b-{own}")), buckets),
        ("lists tabulator tables", !tables.to_lowercase().contains("unauthorized"), tables),
        (
            // alice administers the catalog and bob does not: the catalog's answer to each
            "administers as itself",
            users.contains("bob@example.com") == (own == "alice"),
            users,
        ),
    ];
    for (promise, holds, text) in promises {
        ensure!(holds, "{own}: {promise}: {text}");
    }
    for text in [list_own, info, text_own, browse_own, search_global, search_packages, buckets] {
        ensure!(!text.contains(&format!("b-{other}")), "{own} sees {other}'s: {text}");
    }
    Ok(())
}

/// Everything that the catalog and the registry saw carried one of these users' real credentials; only
/// what needs none was asked without.
fn check_bearers(seen: &[Seen], real: &[&str]) -> anyhow::Result<()> {
    ensure!(seen.len() > 10, "the catalog saw next to nothing: {seen:?}");
    for request in seen {
        match &request.bearer {
            Some(bearer) => {
                ensure!(real.contains(&bearer.as_str()), "a strange bearer: {request:?}");
            }
            None => ensure!(
                request.path == "/config.json" || request.path == "/.well-known/jwks.json",
                "asked without a credential: {request:?}"
            ),
        }
    }
    Ok(())
}

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
        check("alice", "bob", &alice_report)?;
        check("bob", "alice", &bob_report)?;
        check_bearers(&world.catalog.record().all(), &[&alice, &bob])?;
    }
    ensure!(controller.tenants().await?.len() == 2, "two users are two tenants");

    // alice's API key is alice: the same tenant, the same worker
    let key = world.api_key("alice");
    let notes = [call("bucket_objects_list", json!({ "bucket": "b-alice" }))];
    let by_key = sdk_calls(&url, ("X-API-Key", &key), Era::Modern, &notes).await?;
    ensure!(by_key.results[0].text.contains("notes/alice.txt"), "{by_key:?}");
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 2, "the key made another tenant: {tenants:?}");
    let epochs: BTreeSet<_> = tenants.iter().map(|tenant| tenant["epoch"].to_string()).collect();
    ensure!(epochs == BTreeSet::from(["1".to_owned()]), "a worker was replaced: {tenants:?}");

    // no secret of alice's is anywhere but in her requests
    let secrets = [alice.as_str(), bob.as_str(), key.as_str()];
    let logs = controller.logs();
    for secret in secrets {
        ensure!(!logs.contains(secret), "in the log");
        for process in processes::descendants(controller.pid().context("pid")?) {
            ensure!(!process.argv.contains(secret), "in an argument list: {}", process.pid);
            ensure!(!process.environ.contains(secret), "in an environment: {}", process.pid);
        }
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
        (sign(&no_audience)?, "invalid_credential"),
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
    for credential in [unknown_issuer.as_str(), "qk_nobody", "opaque"] {
        for _ in 0..3 {
            let (status, reason) = refused(credential).await?;
            ensure!(
                status == StatusCode::UNAUTHORIZED && reason == "invalid_credential",
                "{reason}"
            );
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
    // it passes for alice's own registry's catalog, and the operator even lets workers reach it
    let hostile = HostileCatalog::start(world.catalog.registry_url()).await?;
    let mut documents = world.documents(1).await?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    let hosts = class["spec"]["egress"]["hosts"].as_array_mut().context("no hosts")?;
    let address = hostile.address;
    hosts.push(json!({ "host": address.ip(), "port": address.port(), "plainHttp": true }));
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
