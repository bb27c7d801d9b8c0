//! What goes wrong: lost and late answers, killed gateways, an API server that is away, and a gateway that is asked to
//! end.

use crate::world::{World, alone, shared};
use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use patchbay_tests::{
    cluster::{Component, Final, is_ready, until},
    controller::api_key,
    evidence::Evidence as _,
    http::Http,
    mcp::McpClient,
    pods::{Gateway, Lossy},
};
use serde_json::json;
use std::net::SocketAddr;

async fn lossy(world: &World) -> anyhow::Result<Lossy> {
    let api = world.stage.place.cluster.addresses()?.api();
    Lossy::to(SocketAddr::new(api.into(), 443)).await
}

/// Waits until a user's tenant is written, while the one who wrote it does not know.
async fn until_written(world: &World, user: &str) -> anyhow::Result<()> {
    until("it is written", async || Ok(world.tenant(user).await?.is_some())).await
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_read_back_and_not_repeated() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("lost-answer", json!({}), &["alice", "bob"]).await?;
    let way = lossy(&world).await?;
    tokio::try_join!(world.warm(), world.warm())?;
    let gateway = world.config.by_way_of(way.address).start().await?;
    // now there is a connection on which a request can arrive although no answer does
    gateway.client(&api_key("bob")).call("echo", json!({ "text": "x" })).await?;
    way.hold_answers();
    let alice = gateway.client(&api_key("alice"));
    let call = alice.call("echo", json!({ "text": "held" }));
    let losing = async {
        until_written(&world, "alice").await?;
        way.cut();
        anyhow::Ok(())
    };
    let (said, lost) = tokio::join!(call, losing);
    lost?;
    said.with_logs(|| gateway.logs())?;
    ensure!(world.assignment("alice").await?.epoch == 1);
    let writes = world.writes("alice")?;
    ensure!(writes.len() == 1, "{writes:?}");
    let unknown = r#"patchbay_orchestrator_writes_total{purpose="assign",outcome="unknown"}"#;
    ensure!(gateway.metric(unknown).await? == Some(1.0), "nothing was lost");
    world.end().await
}

#[tokio::test]
async fn what_a_killed_gateway_wrote_is_found_and_bound_by_another() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("killed-between", json!({}), &["alice", "bob"]).await?;
    let way = lossy(&world).await?;
    tokio::try_join!(world.warm(), world.warm(), world.warm())?;
    let mut dying = world.config.by_way_of(way.address).start().await?;
    let other = world.config.start().await?;
    dying.client(&api_key("bob")).call("remember", json!({ "key": "k", "value": "bob's" })).await?;
    way.hold_answers();
    let alice = dying.client(&api_key("alice"));
    let call = tokio::spawn(async move { alice.modern_call("echo", json!({ "text": "x" })).await });
    until_written(&world, "alice").await?;
    dying.kill().await?;
    ensure!(call.await?.is_err(), "a dead gateway answered");

    let written = world.assignment("alice").await?;
    other.client(&api_key("alice")).call("echo", json!({ "text": "again" })).await?;
    ensure!(world.assignment("alice").await? == written, "she was moved");
    let writes = world.writes("alice")?;
    ensure!(writes.len() == 1, "{writes:?}");
    // and whom the dead one served goes on where he was
    let kept = other.client(&api_key("bob")).call("recall", json!({ "key": "k" })).await?;
    ensure!(kept.to_string().contains("bob's"), "{kept}");
    world.end().await
}

/// Bound users go on, through all gateways, for as long as it takes a new one to be told that the control plane is in
/// the way. How many calls the bound ones made.
async fn go_on_until_refused(bound: &[McpClient], new: &McpClient) -> anyhow::Result<usize> {
    let mut refused = std::pin::pin!(new.modern_call("echo", json!({ "text": "x" })));
    let mut calls = 0;
    let told = loop {
        for client in bound {
            let kept = client.call("recall", json!({ "key": "k" })).await?;
            ensure!(kept.to_string().contains("kept"), "{kept}");
            calls += 1;
        }
        tokio::select! {
            biased;
            told = &mut refused => break told?,
            () = tokio::task::yield_now() => {}
        }
    };
    ensure!(told.status == StatusCode::SERVICE_UNAVAILABLE, "{}", told.text());
    ensure!(told.reason().as_deref() == Some("control_plane_unavailable"), "{}", told.text());
    ensure!(told.headers.contains_key("retry-after"));
    Ok(calls)
}

#[tokio::test]
async fn while_the_api_server_is_away_bound_users_go_on_and_new_ones_wait() -> anyhow::Result<()> {
    let _cluster = alone().await;
    let users = ["alice", "bob", "carol"];
    let world = World::make("away", json!({}), &users).await?;
    tokio::try_join!(world.warm(), world.warm(), world.warm())?;
    let patient = world.config.start().await?;
    let impatient = world.config.args(&["--hold", "3s"]).start().await?;
    let alice = [patient.client(&api_key("alice")), impatient.client(&api_key("alice"))];
    for client in &alice {
        client.call("remember", json!({ "key": "k", "value": "kept" })).await?;
    }
    let cluster = &world.stage.place.cluster;
    cluster.kill(Component::Apiserver)?;

    let bob = patient.client(&api_key("bob"));
    let waits = bob.call("echo", json!({ "text": "waits" }));
    let away = async {
        let carol = impatient.client(&api_key("carol"));
        let calls = go_on_until_refused(&alice, &carol).await?;
        println!("{calls} calls while the API server was away");
        cluster.start(Component::Apiserver).await?;
        cluster.ready().await
    };
    let (waited, away) = tokio::join!(waits, away);
    away?;
    waited.with_logs(|| patient.logs())?;
    ensure!(world.assignment("bob").await?.epoch == 1);
    let writes = world.writes("bob")?;
    ensure!(writes.len() <= 3, "{writes:?}");
    for gateway in [&patient, &impatient] {
        ensure!(gateway.is_ready().await?, "an outage of the API server is no gateway's end");
    }
    world.end().await
}

#[tokio::test]
async fn while_the_api_server_is_slow_bound_users_go_on_and_new_ones_are_given_one_worker_each()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("slow", json!({}), &["alice", "bob", "carol", "dora"]).await?;
    let way = lossy(&world).await?;
    // one more than users
    let workers = try_join_all((0..5).map(|_| world.warm())).await?;
    let slow = world.config.by_way_of(way.address);
    let patient = slow.start().await?;
    // longer than a write and the read after it may take, so that the user is told what was in the way
    let impatient = slow.args(&["--hold", "15s"]).start().await?;
    let bound = [patient.client(&api_key("alice")), impatient.client(&api_key("dora"))];
    // so each gateway has a connection on which a request can arrive although no answer does
    for client in &bound {
        client.call("remember", json!({ "key": "k", "value": "kept" })).await?;
    }
    way.hold_answers();
    let (bob, carol) = (patient.client(&api_key("bob")), impatient.client(&api_key("carol")));
    let waits = bob.call("remember", json!({ "key": "me", "value": "bob" }));
    let held = async {
        let calls = go_on_until_refused(&bound, &carol).await?;
        println!("{calls} calls while the API server was slow");
        // both writes arrived, and who wrote them does not know
        for user in ["bob", "carol"] {
            until_written(&world, user).await?;
        }
        way.release();
        anyhow::Ok(())
    };
    let logs = || format!("{}\n{}", patient.logs(), impatient.logs());
    let (waited, held) = tokio::join!(waits, held);
    held.with_logs(logs)?;
    waited.with_logs(logs)?;
    carol.call("remember", json!({ "key": "me", "value": "carol" })).await.with_logs(logs)?;

    for gateway in [&patient, &impatient] {
        for user in ["bob", "carol"] {
            let client = gateway.client(&api_key(user));
            let me = client.call("recall", json!({ "key": "me" })).await.with_logs(logs)?;
            ensure!(me.to_string().contains(user), "{user}: {me}");
        }
        let unknown = r#"patchbay_orchestrator_writes_total{purpose="assign",outcome="unknown"}"#;
        ensure!(gateway.metric(unknown).await? == Some(1.0), "no answer was late\n{}", logs());
        ensure!(gateway.is_ready().await?, "a slow API server is no gateway's end");
    }
    let mut serving = Vec::new();
    for worker in workers {
        if let Some(tenant) = world.stage.status(&worker).await?.tenant {
            serving.push((tenant.to_string(), worker.uid));
        }
    }
    ensure!(serving.len() == 4, "{serving:?}");
    for user in ["bob", "carol"] {
        let tenant = world.tenant(user).await?.with_context(|| user.to_owned())?;
        let assignment = world.assignment(user).await?;
        let its = (tenant.metadata.uid.context("no UID")?, assignment.uid.clone());
        ensure!(serving.contains(&its), "{user}: {its:?} {serving:?}");
        ensure!(assignment.epoch == 1, "{user}: {assignment:?}");
        let writes = world.writes(user)?;
        ensure!(writes == [("create".to_owned(), 201)], "{user}: {writes:?}");
    }
    world.end().await
}

#[tokio::test]
async fn a_worker_that_goes_is_replaced_and_only_on_the_clusters_word() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("replaced", json!({}), &["alice"]).await?;
    world.warm().await?;
    let gateway = world.config.start().await?;
    let alice = gateway.client(&api_key("alice"));
    alice.call("echo", json!({ "text": "first" })).await?;
    let first = world.assignment("alice").await?;
    let next = world.warm().await?;
    let params = kube::api::DeleteParams::default().grace_period(0);
    world.stage.place.pods().delete(&first.worker, &params).await?;
    until("she has the next one", async || {
        let answer = alice.modern_call("echo", json!({ "text": "x" })).await?;
        Ok(answer.status == StatusCode::OK && world.assignment("alice").await?.uid == next.uid)
    })
    .await
    .with_logs(|| gateway.logs())?;
    ensure!(world.assignment("alice").await?.epoch == first.epoch + 1);
    let pod = world.stage.place.pods().get(&next.name).await?;
    ensure!(is_ready(&pod));
    world.end().await
}

/// The events that a client listens to, and one call that takes a while.
async fn listen(client: &McpClient, gateway: &Gateway) -> anyhow::Result<(String, Listening)> {
    let session = client.initialize().await?.id;
    let headers = [
        ("authorization", format!("Bearer {}", api_key("alice"))),
        ("accept", "text/event-stream".to_owned()),
        ("mcp-session-id", session.clone()),
        ("mcp-protocol-version", "2025-11-25".to_owned()),
    ];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let http = Http::default();
    let stream = http.open(Method::GET, &format!("{}/mcp", gateway.url), &headers, "").await?;
    ensure!(stream.status() == StatusCode::OK, "{}", stream.status());
    Ok((session, Listening { stream, _http: http }))
}

struct Listening {
    stream: http::Response<hyper::body::Incoming>,
    _http: Http,
}

#[tokio::test]
async fn a_gateway_that_ends_finishes_calls_ends_streams_and_its_clients_go_on_elsewhere()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let world = World::make("drained", json!({}), &["alice"]).await?;
    world.warm().await?;
    let mut ending = world.config.args(&["--lame-duck", "1s", "--drain", "20s"]).start().await?;
    let other = world.config.start().await?;
    let alice = ending.client(&api_key("alice"));
    let (session, listening) = listen(&alice, &ending).await?;
    let call = alice.call("sleep", json!({ "ms": 3000 }));
    let end = async {
        until("the call runs", async || {
            let counters = other.client(&api_key("alice")).call("counters", json!({})).await;
            // one that has ended already would prove nothing
            let runs = json!({ "started": 1, "completed": 0, "cancelled": 0, "awaiting": 0 });
            Ok(counters.map_err(Final)? == runs)
        })
        .await?;
        ending.terminate()?;
        ending.until("it says so", async || Ok(!ending.is_ready().await?)).await?;
        // it is still there for those who have not heard of it
        let late =
            ending.client(&api_key("alice")).modern_call("echo", json!({ "text": "x" })).await?;
        ensure!(late.status == StatusCode::OK, "{}", late.text());
        // on a connection that is closed by it, so that nobody sends the next one into its end
        ensure!(late.headers.get("connection").is_some_and(|it| it == "close"), "{late:?}");
        let rest = listening.stream.into_body().collect().await;
        rest.context("the stream broke off")?;
        anyhow::Ok(())
    };
    let (slept, ended) = tokio::join!(call, end);
    ended.with_logs(|| ending.logs())?;
    ensure!(slept? == json!({ "slept": true }));
    ending.ended().await?;

    // the same session, through the other one
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let message = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/list" });
    let listed = other.client(&api_key("alice")).post(&headers, &message).await?;
    ensure!(listed.status == StatusCode::OK, "{} {}", listed.status, listed.text());
    ensure!(world.assignment("alice").await?.epoch == 1);
    world.end().await
}
