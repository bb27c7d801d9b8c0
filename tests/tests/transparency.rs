//! What the official conformance suite does not see of a proxy (docs/conformance.md): each check holds behind Patchbay,
//! and finds the fault that it is about in a proxy that has it.

use anyhow::{Context, bail, ensure};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use patchbay_tests::{
    conformance::{
        fault::Fault,
        through::{
            Far, PATIENCE, found, found_in_http, holds_in_http, holds_in_stdio,
            missed_without_patchbay,
        },
    },
    http::{Http, read_until},
    mcp::{modern_headers, modern_message, tool_result},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

const FIXTURE: &str = "fixture-server";
const CONFORMANCE: &str = "conformance-server";

/// For so long nothing is said on a stream: longer than what keeps connections and links alive takes to find out that
/// one is dead (20 s and 10 s more, 30 s), and than the bridge leaves a stream silent (25 s).
const SILENCE: Duration = Duration::from_secs(40);
/// A proxy that cuts streams does so after this, compressed from the minute of common ones.
const CUT: Duration = Duration::from_secs(3);
/// A call of this length ends by itself where nobody cancels it.
const NAP_MS: u64 = 5_000;

/// Reads until what has come is `enough`, and returns it.
async fn read(
    answer: &mut Response<Incoming>,
    enough: impl Fn(&str) -> bool,
) -> anyhow::Result<String> {
    read_until(answer, PATIENCE, enough).await
}

/// The id of the first event that has one.
fn event_id(came: &str) -> Option<&str> {
    // a line that has not come whole may be part of an id
    let (lines, _) = came.rsplit_once('\n')?;
    let id = lines.lines().find_map(|line| line.strip_prefix("id:"))?.trim();
    (!id.is_empty()).then_some(id)
}

fn await_value(id: u32, key: &str) -> String {
    json!({
        "jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": { "name": "await_value", "arguments": { "key": key } },
    })
    .to_string()
}

/// A key that no other check has used.
fn new_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn of_session(id: &str) -> [(&str, &str); 2] {
    [("mcp-session-id", id), ("mcp-protocol-version", "2025-11-25")]
}

#[tokio::test]
async fn a_modern_client_that_goes_away_has_cancelled_its_call() -> anyhow::Result<()> {
    found(FIXTURE, Fault::Deaf, async |far| {
        let (started, ended) = (far.counter("started").await?, async || {
            anyhow::Ok((far.counter("cancelled").await?, far.counter("completed").await?))
        });
        let (cancelled, completed) = ended().await?;
        tokio::select! {
            answer = far.client.modern_call("sleep", json!({ "ms": NAP_MS })) => {
                bail!("it ended by itself: {:?}", answer?.text());
            }
            begun = far.counted("started", started + 1) => begun?,
        }
        loop {
            match ended().await? {
                (now, _) if now > cancelled => return Ok(()),
                (_, now) if now > completed => bail!("the call went on to its end"),
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_client_that_comes_back_hears_the_end_of_its_call() -> anyhow::Result<()> {
    found(FIXTURE, Fault::Drops("last-event-id"), async |far| {
        let session = far.client.initialize().await?;
        let (key, headers) = (new_key(), of_session(&session.id));
        let mut call = far.open(Method::POST, &headers, &await_value(7, &key)).await?;
        let begun = read(&mut call, |came| event_id(came).is_some()).await?;
        drop(call);
        let last = event_id(&begun).context("no event")?;
        let back = [headers.as_slice(), &[("last-event-id", last)]].concat();
        let mut stream = far.open(Method::GET, &back, "").await?;
        // of a call that has ended since, the fixture's rmcp replays nothing
        session.call("remember", json!({ "key": key, "value": "missed" })).await?;
        read(&mut stream, |came| came.contains("missed")).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn what_a_server_says_first_arrives_while_it_has_nothing_more_to_say() -> anyhow::Result<()> {
    found(FIXTURE, Fault::Behind, async |far| {
        let session = far.client.initialize().await?;
        let key = new_key();
        let message = await_value(7, &key);
        let mut call = far.open(Method::POST, &of_session(&session.id), &message).await?;
        read(&mut call, |came| event_id(came).is_some()).await?;
        session.call("remember", json!({ "key": key, "value": "at last" })).await?;
        read(&mut call, |came| came.contains("at last")).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn what_a_call_says_of_its_progress_arrives_before_its_end() -> anyhow::Result<()> {
    found(FIXTURE, Fault::Hoards, async |far| {
        let endless = json!({ "n": 1_000_000, "interval_ms": 10 });
        let mut message = modern_message("tools/call", "progress", &endless);
        message["params"]["_meta"]["progressToken"] = json!("how far");
        let headers = modern_headers("tools/call", "progress");
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut call = far.open(Method::POST, &headers, &message.to_string()).await?;
        read(&mut call, |came| came.contains("notifications/progress")).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn calls_of_two_sessions_may_have_the_same_id() -> anyhow::Result<()> {
    // on standard streams a session has a program of its own, and no other's ids
    found_in_http(FIXTURE, Fault::ByIdAlone, async |far| {
        let (one, other) = (far.client.initialize().await?, far.client.initialize().await?);
        let (first, second) = (new_key(), new_key());
        let call = async |session: &str, key: &str| {
            let message: Value = serde_json::from_str(&await_value(7, key))?;
            tool_result(&far.client.post(&of_session(session), &message).await?)
        };
        let answer = async || {
            // both are under way before either is answered
            far.counted("awaiting", 2).await?;
            for (key, value) in [(&second, "for the other"), (&first, "for the one")] {
                far.client.call("remember", json!({ "key": key, "value": value })).await?;
            }
            anyhow::Ok(())
        };
        let (one, other, ()) =
            tokio::try_join!(call(&one.id, &first), call(&other.id, &second), answer())?;
        ensure!(one["value"] == "for the one", "{one}");
        ensure!(other["value"] == "for the other", "{other}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_batch_arrives_as_it_was_sent() -> anyhow::Result<()> {
    found_in_http(CONFORMANCE, Fault::Unpacks, async |far| {
        // 2025-03-26 has batches; the SDKs do not read them any more, but a server may
        let batch = "[ {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"},\n  {\"id\": 2,  \"jsonrpc\": \
                     \"2.0\", \"method\": \"ping\" } ]\n";
        let url = format!("{}/raw", far.url);
        let headers = far.client.headers(&[("mcp-protocol-version", "2025-03-26")]);
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let answer = Http::default().send(Method::POST, &url, &headers, batch).await?;
        ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
        ensure!(answer.text() == batch, "{}", answer.text());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn headers_that_repeat_arguments_arrive() -> anyhow::Result<()> {
    found_in_http(FIXTURE, Fault::Drops("mcp-param-region"), async |far| {
        let mut headers = modern_headers("tools/call", "request_headers");
        headers.push(("mcp-param-region", "eu-central-1".to_owned()));
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let message = modern_message("tools/call", "request_headers", &json!({}));
        let seen = tool_result(&far.client.post(&headers, &message).await?)?;
        let seen = seen["headers"].as_array().context("no headers")?;
        ensure!(seen.contains(&json!(["mcp-param-region", "eu-central-1"])), "{seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_session_id_of_another_user_is_worth_nothing() -> anyhow::Result<()> {
    found(FIXTURE, Fault::BySession, async |far| {
        let (alice, bob) = (far.user("alice", &[]), far.user("bob", &[]));
        let session = alice.initialize().await?;
        let stolen = bob.resume(&session.id).raw_call("sleep", json!({ "ms": 1 })).await?;
        ensure!(stolen.status == StatusCode::NOT_FOUND, "{} {}", stolen.status, stolen.text());
        // and the worker whose session it is heard nothing of it
        let heard = session.call("counters", json!({})).await?;
        ensure!(heard["started"] == 0, "{heard}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nobody_is_the_user_whom_a_header_names() -> anyhow::Result<()> {
    found(FIXTURE, Fault::Believes("x-patchbay-user"), async |far| {
        for name in ["alice", "bob"] {
            let user = far.user(name, &[]);
            user.call("remember", json!({ "key": "who", "value": name })).await?;
        }
        for header in ["patchbay-tenant", "x-patchbay-user", "x-forwarded-user", "x-remote-user"] {
            let forging = far.user("alice", &[(header, "bob")]);
            let who = forging.call("recall", json!({ "key": "who" })).await?;
            ensure!(who["memory"] == "alice", "{header}: {who}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_server_sees_neither_credentials_nor_our_headers_nor_forged_ones() -> anyhow::Result<()>
{
    missed_without_patchbay(FIXTURE, async |far| {
        let forging = [
            ("cookie", "forged=1"),
            ("patchbay-tenant", "forged"),
            ("patchbay-epoch", "9"),
            ("x-patchbay-user", "forged"),
            ("mcp-param-region", "kept"),
            ("traceparent", "00-kept"),
        ];
        let forging = far.user("alice", &forging);
        let headers = forging.call("request_headers", json!({})).await?.to_string().to_lowercase();
        for absent in ["forged", "authorization", "x-api-key", "cookie", "patchbay", "pb_alice"] {
            ensure!(!headers.contains(absent), "{absent} in {headers}");
        }
        for present in ["mcp-param-region", "00-kept", "mcp-protocol-version"] {
            ensure!(headers.contains(present), "{present} not in {headers}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rebound_host_or_a_foreign_page_is_refused() -> anyhow::Result<()> {
    found_in_http(FIXTURE, Fault::RewritesHost, async |far| {
        for foreign in [("host", "evil.example"), ("origin", "https://evil.example")] {
            let foreign = [foreign];
            let answer = far.user("alice", &foreign);
            let answer = answer.modern_call("echo", json!({ "text": "x" })).await?;
            let (status, name) = (answer.status, foreign[0].0);
            ensure!(status == StatusCode::FORBIDDEN, "{name}: {status} {}", answer.text());
        }
        let local = far.user("alice", &[("origin", "http://localhost:6274")]);
        local.call("echo", json!({ "text": "x" })).await?;
        Ok(())
    })
    .await
}

/// What comes on a session's own stream on which nothing came for so long.
async fn heard_of_a_session(far: &Far, silence: Duration) -> anyhow::Result<()> {
    let session = far.client.initialize().await?;
    let mut own = far.open(Method::GET, &of_session(&session.id), "").await?;
    sleep(silence).await;
    session.call("announce_later", json!({})).await?;
    read(&mut own, |came| came.contains("notifications/tools/list_changed")).await.map(drop)
}

/// The same of a subscription.
async fn heard_of_a_subscription(far: &Far, silence: Duration) -> anyhow::Result<()> {
    let mut message = modern_message("subscriptions/listen", "", &json!({}));
    message["params"]["notifications"] = json!({ "toolsListChanged": true });
    let headers = modern_headers("subscriptions/listen", "");
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let mut listening = far.open(Method::POST, &headers, &message.to_string()).await?;
    read(&mut listening, |came| came.contains("subscriptions/acknowledged")).await?;
    sleep(silence).await;
    far.client.call("test_trigger_tool_change", json!({})).await?;
    read(&mut listening, |came| came.contains("notifications/tools/list_changed")).await.map(drop)
}

#[tokio::test]
async fn a_stream_on_which_nothing_came_for_long_is_there_for_what_comes() -> anyhow::Result<()> {
    let cuts = Fault::CutsIdle(CUT);
    tokio::try_join!(
        holds_in_http(FIXTURE, async |far| heard_of_a_session(far, SILENCE).await),
        holds_in_stdio(FIXTURE, async |far| heard_of_a_session(far, SILENCE).await),
        found_in_http(FIXTURE, cuts, async |far| heard_of_a_session(far, 2 * CUT).await),
        holds_in_http(CONFORMANCE, async |far| heard_of_a_subscription(far, SILENCE).await),
        holds_in_stdio(CONFORMANCE, async |far| heard_of_a_subscription(far, SILENCE).await),
        found_in_http(CONFORMANCE, cuts, async |far| heard_of_a_subscription(far, 2 * CUT).await),
    )?;
    Ok(())
}
