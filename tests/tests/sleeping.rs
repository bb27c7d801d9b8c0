//! Users whose worker left because they were idle: what keeps them asleep, and what wakes them.

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use patchbay_tests::{
    clients::{ALL, Asked, McpProgram, waiting_room},
    controller::{
        Controller, ControllerConfig, api_key, fixture_documents, stdio_documents, tenant_name,
    },
    mcp::McpClient,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};

const FIXTURE: &str = "fixture";
/// The same, spoken to on its standard streams.
const SPOKEN: &str = "spoken";
/// What comes at once, on a loaded machine.
const SOON: Duration = Duration::from_secs(20);

/// What a parked stream says.
const ASLEEP: &str = ": asleep\n\n";

/// A stream of events that a user opens; its body, whose first part comes soon.
async fn listen(user: &McpClient, session: Option<&str>) -> anyhow::Result<Incoming> {
    let session = session.map(|session| ("mcp-session-id", session));
    let headers: Vec<_> =
        session.into_iter().chain([("mcp-protocol-version", "2025-11-25")]).collect();
    let response = user.open(Method::GET, &headers, String::new()).await?;
    let kind = &response.headers()[header::CONTENT_TYPE];
    ensure!(response.status() == StatusCode::OK && kind == "text/event-stream", "{response:?}");
    Ok(response.into_body())
}

async fn first_of(body: &mut Incoming) -> anyhow::Result<String> {
    let frame = timeout(SOON, body.frame()).await?.context("it ended")??;
    let data = frame.into_data().ok().context("trailers")?;
    Ok(String::from_utf8(data.to_vec())?)
}

#[tokio::test]
async fn a_stream_that_is_opened_while_its_user_sleeps_wakes_nobody_and_ends_when_a_call_does()
-> anyhow::Result<()> {
    let documents = fixture_documents(FIXTURE, 1, &["alice", "bob"], "  idleTimeout: 1s\n")?;
    let controller = ControllerConfig::new(documents).start().await?;
    let user = |name| McpClient::bearer(controller.url(FIXTURE), &api_key(name));
    let (alice, bob) = (user("alice"), user("bob"));
    let session = alice.initialize().await?;
    let mut live = listen(&alice, Some(&session.id)).await?;
    session.call("echo", json!({ "text": "awake" })).await?;
    controller
        .eventually(
            "alice sleeps",
            async || Ok(controller.tenants().await?[0]["phase"] == "Asleep"),
        )
        .await?;
    // what was open ended with the worker, and the client comes back
    timeout(SOON, async { while live.frame().await.is_some_and(|frame| frame.is_ok()) {} }).await?;
    let mut parked = listen(&alice, Some(&session.id)).await?;
    ensure!(first_of(&mut parked).await? == ASLEEP);
    // who was never here is no tenant by that
    let mut strange = listen(&bob, None).await?;
    ensure!(first_of(&mut strange).await? == ASLEEP);
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 1, "{tenants:?}");
    ensure!(tenants[0]["phase"] == "Asleep" && tenants[0]["epoch"] == 1, "{tenants:?}");

    session.call("echo", json!({ "text": "woken" })).await?;
    let rest = timeout(SOON, parked.collect()).await??.to_bytes();
    ensure!(rest.is_empty(), "{rest:?}");
    ensure!(controller.tenants().await?[0]["epoch"] == 2);
    // bob has none still
    if let Ok(frame) = timeout(Duration::from_millis(300), strange.frame()).await {
        let data = frame.context("it ended")??.into_data().ok();
        ensure!(data.as_deref() == Some(ASLEEP.as_bytes()), "{data:?}");
    }
    let metrics = controller.metrics().await?;
    let parked =
        format!("patchbay_gateway_requests_total{{class=\"{FIXTURE}\",outcome=\"parked\"}} 2");
    ensure!(metrics.contains(&parked), "{metrics}");
    Ok(())
}

/// The workers that each tenant had so far.
async fn workers(controller: &Controller) -> anyhow::Result<BTreeMap<String, u64>> {
    let tenants = controller.tenants().await?;
    let of = |tenant: &Value| -> anyhow::Result<_> {
        let name = tenant["tenant"].as_str().context("its name")?;
        Ok((name.to_owned(), tenant["epoch"].as_u64().context("an epoch")?))
    };
    tenants.iter().map(of).collect()
}

const IDLE: Duration = Duration::from_secs(2);

/// The requests of a client until its first call is answered: one begins its session, one says that it has begun, one lists
/// the tools, and the call. On a loaded machine it may have been idle before each, and no request needs two workers.
const FIRST_WORDS: u64 = 4;

/// Idle periods for which clients say nothing.
const PERIODS: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_connected_and_silent_costs_no_worker() -> anyhow::Result<()> {
    let programs: Vec<McpProgram> = ALL.into_iter().filter(|program| program.stays()).collect();
    let users: Vec<String> = (0..programs.len()).map(|number| format!("user{number}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let idle = format!("  idleTimeout: {}s\n", IDLE.as_secs());
    let mut documents = fixture_documents(FIXTURE, 2, &users, &idle)?;
    documents.extend(stdio_documents("fixture-server", SPOKEN, 2, &users, &idle)?);
    let controller = ControllerConfig::new(documents).start().await?;
    let (between, mut who) = waiting_room().await?;
    let each = [FIXTURE, SPOKEN].into_iter().flat_map(|class| {
        programs.iter().zip(&users).map(move |(program, user)| (class, *program, *user))
    });
    let each: Vec<_> = each.collect();
    let running = each.iter().map(async |(class, program, user)| {
        let key = format!("Bearer {}", api_key(user));
        let credential = ("Authorization", &*key);
        let call = Asked::call(controller.url(class), credential, "whoami", json!({}));
        let asked = Asked { between: Some(&between), ..call };
        let seen = program.run(&asked).await.with_context(|| format!("{class} {user}"))?;
        let programs = seen.programs().with_context(|| format!("{class} {user}"))?;
        let [first, second] = programs[..] else { bail!("{class} {user}: {seen:?}") };
        // it slept between them, and was woken
        ensure!(first != second, "{class} {user}: {seen:?}");
        Ok(())
    });
    let silence = async {
        let mut waiting = Vec::new();
        while waiting.len() < each.len() {
            waiting.push(who.recv().await.context("the room is closed")?);
        }
        let all_sleep = async || {
            let tenants = controller.tenants().await?;
            let sleep = tenants.iter().filter(|tenant| tenant["phase"] == "Asleep");
            Ok(sleep.count() == each.len())
        };
        controller.eventually("all of them sleep", all_sleep).await?;
        let before = workers(&controller).await?;
        sleep(IDLE * PERIODS).await;
        let after = workers(&controller).await?;
        ensure!(before == after, "{before:?}, then {after:?}\n{}", controller.logs());
        for go in waiting {
            // it may have gone away
            let _ = go.send(());
        }
        Ok(before)
    };
    let (_, before) = tokio::try_join!(try_join_all(running), silence)?;
    let after = workers(&controller).await?;
    for (class, program, user) in each {
        let tenant = tenant_name(class, user)?;
        let had = |at: &BTreeMap<_, u64>| at.get(tenant.as_str()).copied();
        let (Some(before), Some(after)) = (had(&before), had(&after)) else {
            bail!("{class} {user}: {after:?}");
        };
        println!("{class}: {}: {before}, in silence 0, then {}", program.name(), after - before);
        ensure!((1..=FIRST_WORDS).contains(&before), "{class}: {}", program.name());
        ensure!(after - before == 1, "{class}: {}", program.name());
    }
    Ok(())
}
