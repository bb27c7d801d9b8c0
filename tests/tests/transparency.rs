//! What the official conformance suite does not see of a proxy (docs/conformance.md): each check holds behind Patchbay,
//! and finds the fault that it is about in a proxy that has it.

use anyhow::{Context, bail, ensure};
use http::{Method, Response};
use hyper::body::Incoming;
use patchbay_tests::{
    conformance::{fault::Fault, front::Front},
    controller::{ControllerConfig, api_key, server_documents, stdio_documents},
    http::{Http, read_until},
    mcp::{McpClient, modern_headers, modern_message, tool_result},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const CLASS: &str = "seen-through";
const FIXTURE: &str = "fixture-server";

/// What is on its way for longer has been held back. Shorter than the 15 s after which the server's own keep-alive would
/// push it out.
const PATIENCE: Duration = Duration::from_secs(8);
/// A call of this length ends by itself where nobody cancels it.
const NAP_MS: u64 = 5_000;

/// A server, at the end of some way.
struct Far {
    url: String,
    client: McpClient,
}

impl Far {
    fn new(url: &str, headers: &[(&str, &str)]) -> Self {
        Self { url: url.to_owned(), client: McpClient::with_headers(url, headers) }
    }

    /// A request whose answer is read as it comes.
    async fn open(
        &self,
        method: Method,
        further: &[(&str, &str)],
        message: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let headers = self.client.headers(further);
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let (http, message) = (Http::default(), message.to_owned());
        let opened = http.open(method, &self.url, &headers, message);
        let answer = timeout(PATIENCE, opened).await.context("no headers came")??;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(answer)
    }

    async fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let counters = self.client.call("counters", json!({})).await?;
        counters[name].as_u64().with_context(|| format!("no {name} in {counters}"))
    }

    /// Waits until a counter of the server's has reached a number: another process's state, which it only tells when
    /// asked.
    async fn counted(&self, name: &str, number: u64) -> anyhow::Result<()> {
        let reached = async {
            while self.counter(name).await? < number {
                sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        timeout(PATIENCE, reached).await.with_context(|| format!("{name} is not {number}"))?
    }
}

/// Shows that `check` holds behind Patchbay, and that it fails where a proxy has the fault: the same proxy without it
/// changes nothing.
async fn found(
    program: &str,
    fault: Fault,
    check: impl AsyncFn(&Far) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    found_in_http(program, fault, &check).await?;
    // the bridge is not only to let pass what a server says, but to say it
    let documents = stdio_documents(program, CLASS, 1, &["alice"], "")?;
    let controller = ControllerConfig::new(documents).start().await?;
    let bearer = format!("Bearer {}", api_key("alice"));
    let far = Far::new(controller.url(CLASS), &[("authorization", &bearer)]);
    check(&far).await.context("of a server that speaks on its standard streams")
}

/// The same of what only a server that speaks HTTP can see, or say.
async fn found_in_http(
    program: &str,
    fault: Fault,
    check: impl AsyncFn(&Far) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let documents = server_documents(program, CLASS, 1, &["alice"], "")?;
    let controller = ControllerConfig::new(documents).start().await?;
    let (url, key) = (controller.url(CLASS), api_key("alice"));
    let bearer = format!("Bearer {key}");
    check(&Far::new(url, &[("authorization", &bearer)])).await.context("behind Patchbay")?;
    let sound = Front::to(url, &key, Fault::None).await?;
    check(&Far::new(&sound.url, &[])).await.context("behind a proxy without a fault")?;
    let faulty = Front::to(url, &key, fault).await?;
    match check(&Far::new(&faulty.url, &[])).await {
        Ok(()) => bail!("{fault:?} is not found"),
        Err(error) => println!("{fault:?}: {error:#}"),
    }
    Ok(())
}

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
    found_in_http("conformance-server", Fault::Unpacks, async |far| {
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
