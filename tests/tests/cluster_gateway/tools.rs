//! What a class says of tools and of how much, where gateways and workers are apart: judged in the pod, by what the
//! gateway says of the user.

use crate::world::{World, shared};
use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use patchbay_tests::{
    cluster::until,
    controller::api_key,
    http::{Answer, Http},
    issuer::{claims, hs256},
    mcp::{McpClient, modern_headers, modern_message},
    tool_policy::{denied, offered_in},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const KEY: &[u8] = b"only servers hold these 32 bytes";

/// A token of a user with these permissions, in Quilt's codes.
fn token(user: &str, permissions: &[&str]) -> anyhow::Result<String> {
    let mut claims = claims("quilt-frontend", user);
    claims["p"] = json!(permissions);
    claims["b"] = json!(["*"]);
    hs256(&claims, KEY)
}

#[tokio::test]
async fn what_a_class_denies_and_what_claims_lack_is_denied_in_the_pod() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let tools = json!({ "tools": {
        "deny": ["write_file"], "permissions": { "read_file": ["s3:GetObject"] },
    } });
    let world = World::make("tools", tools, &["carol"]).await?;
    world.secret("quilt", &[("hmac", KEY)]).await?;
    world.config.allow_secrets(&world.stage, &["quilt"]).await?;
    let way = json!({ "jwt": {
        "issuer": "quilt-frontend", "audiences": ["patchbay"], "format": "quiltEnhanced",
        "algorithms": ["HS256"], "jwks": { "secretRef": { "name": "quilt", "key": "hmac" } },
        "keyHeldByServersOnly": true,
    } });
    world.provide("enhanced", way).await?;
    tokio::try_join!(world.warm(), world.warm(), world.warm())?;
    let gateway = world.config.start().await?;
    let (alice, bob) = (token("alice", &["g"])?, token("bob", &["l"])?);
    let [alice, bob] = [alice, bob].map(|token| gateway.client(&token));
    // her key says nothing of permissions, and so she is asked for none
    let carol = gateway.client(&api_key("carol"));

    let write = json!({ "path": "/tmp/x", "text": "hunter2" });
    let read = json!({ "path": "/tmp/x" });
    for (user, client, may_read) in
        [("alice", &alice, true), ("bob", &bob, false), ("carol", &carol, true)]
    {
        let session = client.initialize().await?;
        let not_offered = "The tool write_file is not offered here";
        denied(&client.modern_call("write_file", write.clone()).await?, not_offered)?;
        denied(&session.raw_call("write_file", write.clone()).await?, not_offered)?;
        for answer in [
            client.modern_call("read_file", read.clone()).await?,
            session.raw_call("read_file", read.clone()).await?,
        ] {
            if may_read {
                ensure!(answer.status == StatusCode::OK, "{user}: {}", answer.text());
                ensure!(!answer.text().contains("-32009"), "{user}: {}", answer.text());
                ensure!(!answer.text().contains("hunter2"), "{user}: it was written");
            } else {
                denied(&answer, "Missing required permission(s): s3:GetObject")?;
            }
        }
        let (modern, legacy) = (client.list("tools").await?, offered_in(&session, client).await?);
        ensure!(modern == legacy, "{user}: {modern:?} {legacy:?}");
        ensure!(modern.contains("echo") && !modern.contains("write_file"), "{user}: {modern:?}");
        ensure!(modern.contains("read_file") == may_read, "{user}: {modern:?}");
        let echoed = client.call("echo", json!({ "text": "passed" })).await?;
        ensure!(echoed.to_string().contains("passed"), "{user}: {echoed}");
    }

    // a header that names another tool changes nothing
    let headers = modern_headers("tools/call", "echo");
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answer = bob.post(&headers, &modern_message("tools/call", "read_file", &read)).await?;
    ensure!(answer.status == StatusCode::BAD_REQUEST, "{} {}", answer.status, answer.text());
    ensure!(answer.json()?["error"]["code"] == -32020, "{}", answer.text());
    world.end().await
}

/// That somebody is told to come back, for this reason; after how many seconds.
fn come_back(answer: &Answer, reason: &str) -> anyhow::Result<u64> {
    ensure!(answer.status == StatusCode::TOO_MANY_REQUESTS, "{} {}", answer.status, answer.text());
    ensure!(answer.reason().as_deref() == Some(reason), "{}", answer.text());
    Ok(answer.headers.get("retry-after").context("no Retry-After")?.to_str()?.parse()?)
}

#[tokio::test]
async fn calls_at_one_time_are_counted_over_all_gateways_and_for_each_user_alone()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let limits = json!({ "limits": { "concurrentCalls": 1 } });
    let world = World::make("at-one-time", limits, &["alice", "bob"]).await?;
    tokio::try_join!(world.warm(), world.warm())?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let (http, client) = (Http::default(), one.client(&api_key("alice")));
    let mut running = begin_call(&http, &format!("{}/mcp", one.url), &client).await?;
    // it runs once it tells of its progress
    let first = timeout(Duration::from_secs(30), running.body_mut().frame()).await?;
    ensure!(first.is_some_and(|frame| frame.is_ok()), "{}", running.status());

    for gateway in [&one, &two] {
        let alice = gateway.client(&api_key("alice"));
        let again = alice.modern_call("echo", json!({ "text": "x" })).await?;
        ensure!(come_back(&again, "too_many_calls")? == 1);
        // another user's calls are their own
        gateway.client(&api_key("bob")).call("echo", json!({ "text": "x" })).await?;
    }
    drop((running, http));
    let alice = two.client(&api_key("alice"));
    until("a call that was given up is no call any more", async || {
        let answer = alice.modern_call("echo", json!({ "text": "x" })).await?;
        Ok(answer.status == StatusCode::OK)
    })
    .await?;
    world.end().await
}

/// A call that lasts until it is given up.
async fn begin_call(
    http: &Http,
    url: &str,
    client: &McpClient,
) -> anyhow::Result<http::Response<hyper::body::Incoming>> {
    let steps = json!({ "n": 1_000_000, "interval_ms": 10 });
    let mut message: Value = modern_message("tools/call", "progress", &steps);
    message["params"]["_meta"]["progressToken"] = json!("p");
    let headers = modern_headers("tools/call", "progress");
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let headers = client.headers(&headers);
    let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    http.open(Method::POST, url, &headers, message.to_string()).await
}

#[tokio::test]
async fn requests_of_a_second_are_counted_over_all_gateways_and_served_after_the_time_that_was_named()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let limits = json!({ "limits": { "requestsPerSecond": 1 } });
    let world = World::make("a-second", limits, &["alice", "bob"]).await?;
    tokio::try_join!(world.warm(), world.warm())?;
    let (one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
    let alice = [&one, &two].map(|gateway| gateway.client(&api_key("alice")));
    alice[0].call("echo", json!({ "text": "x" })).await?;
    let over = async {
        for client in alice.iter().cycle() {
            let answer = client.modern_call("echo", json!({ "text": "x" })).await?;
            if answer.status != StatusCode::OK {
                return Ok(answer);
            }
        }
        anyhow::bail!("nobody called")
    };
    let refused = timeout(Duration::from_secs(30), over).await??;
    let after = come_back(&refused, "too_many_requests")?;
    two.client(&api_key("bob")).call("echo", json!({ "text": "x" })).await?;
    // what is awaited is the time that was named
    sleep(Duration::from_secs(after)).await;
    alice[1].call("echo", json!({ "text": "x" })).await?;
    world.end().await
}
