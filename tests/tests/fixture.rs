//! The fixture server itself: both eras on one URL, what its tools report, and that its probes can
//! tell an open door from a closed one.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
    _home: tempfile::TempDir,
    _process: Child,
}

impl Server {
    async fn start() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let mut process = Command::new(env!("CARGO_BIN_EXE_fixture-server"))
            .env_clear()
            .env("PORT", "0")
            .env("HOME", home.path())
            .env("MARK", "seen from inside")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().context("standard output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line())
            .await??
            .context("the server ended before it was ready")?;
        let address = line
            .strip_prefix("listening on ")
            .with_context(|| format!("unexpected line {line:?}"))?;
        Ok(Self {
            url: format!("http://{address}"),
            client: Client::builder(TokioExecutor::new()).build_http(),
            _home: home,
            _process: process,
        })
    }

    async fn send(
        &self,
        version: Option<&str>,
        session: Option<&str>,
        message: &Value,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::post(format!("{}/mcp", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("x-twice", "one")
            .header("x-twice", "two");
        if let Some(version) = version {
            request = request.header("mcp-protocol-version", version);
        }
        if version == Some(MODERN) {
            request = request.header("mcp-method", text(&message["method"])?);
            if let Some(name) = message["params"]["name"].as_str() {
                request = request.header("mcp-name", name);
            }
        }
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let request = request.body(Full::from(message.to_string()))?;
        Ok(timeout(PATIENCE, self.client.request(request)).await??)
    }

    /// A modern request; every message of its response, the result last.
    async fn modern(&self, method: &str, params: Value) -> Result<Vec<Value>> {
        let response = self.send(Some(MODERN), None, &modern_request(method, params)).await?;
        messages(response).await
    }

    /// The JSON that a tool answers with, asked in the modern era.
    async fn tool(&self, name: &str, arguments: Value) -> Result<Value> {
        let messages =
            self.modern("tools/call", json!({ "name": name, "arguments": arguments })).await?;
        let answer = messages.last().context("an answer")?;
        let text = text(&answer["result"]["content"][0]["text"])
            .with_context(|| format!("no text in {answer}"))?;
        Ok(serde_json::from_str(text)?)
    }
}

fn modern_request(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "progressToken": "token-1",
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "suite", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("a string")
}

async fn messages(response: Response<Incoming>) -> Result<Vec<Value>> {
    let (parts, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect()).await??.to_bytes();
    let body = std::str::from_utf8(&body)?;
    if !parts.status.is_success() {
        bail!("{}: {body}", parts.status);
    }
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let streamed = content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event"));
    if !streamed {
        return Ok(vec![serde_json::from_str(body)?]);
    }
    body.lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(str::trim)
        .filter(|data| !data.is_empty())
        .map(|data| serde_json::from_str(data).context("an event's data is JSON"))
        .collect()
}

fn tool_names(answer: &Value) -> Result<Vec<String>> {
    answer["result"]["tools"]
        .as_array()
        .with_context(|| format!("no tools in {answer}"))?
        .iter()
        .map(|tool| Ok(text(&tool["name"])?.to_owned()))
        .collect()
}

#[tokio::test]
async fn both_eras_list_the_same_tools_on_one_url() -> Result<()> {
    let server = Server::start().await?;

    let modern = server.modern("tools/list", json!({})).await?;
    let modern = tool_names(modern.last().context("an answer")?)?;

    let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": LEGACY,
        "capabilities": {},
        "clientInfo": { "name": "suite", "version": "1" },
    }});
    let response = server.send(None, None, &initialize).await?;
    let session = response.headers()["mcp-session-id"].to_str()?.to_owned();
    let initialized = messages(response).await?;
    assert_eq!(initialized[0]["result"]["protocolVersion"], LEGACY);
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let accepted = server.send(Some(LEGACY), Some(&session), &ready).await?;
    assert_eq!(accepted.status(), 202);
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let legacy = messages(server.send(Some(LEGACY), Some(&session), &list).await?).await?;
    let legacy = tool_names(legacy.last().context("an answer")?)?;

    assert_eq!(modern, legacy);
    for expected in ["attack", "connect", "counters", "eat_memory", "recall", "whoami"] {
        assert!(modern.iter().any(|name| name == expected), "{modern:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_server_says_that_it_is_healthy() -> Result<()> {
    let server = Server::start().await?;
    let health = format!("{}/healthz", server.url).parse()?;
    assert_eq!(server.client.get(health).await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_server_reports_its_own_environment_and_the_headers_it_received() -> Result<()> {
    let server = Server::start().await?;
    let me = server.tool("whoami", json!({})).await?;
    assert_eq!(me["env"]["MARK"], "seen from inside");
    let received = server.tool("request_headers", json!({})).await?;
    let received = received["headers"].as_array().context("a list")?;
    let twice: Vec<&Value> =
        received.iter().filter(|header| header[0] == "x-twice").map(|header| &header[1]).collect();
    assert_eq!(twice, ["one", "two"]);
    Ok(())
}

#[tokio::test]
async fn what_one_request_remembers_another_recalls() -> Result<()> {
    let server = Server::start().await?;
    server.tool("remember", json!({ "key": "colour", "value": "green" })).await?;
    let recalled = server.tool("recall", json!({ "key": "colour" })).await?;
    assert_eq!(recalled, json!({ "memory": "green", "file": "green" }));
    Ok(())
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_sleep() -> Result<()> {
    let server = Server::start().await?;
    let call =
        modern_request("tools/call", json!({ "name": "sleep", "arguments": { "ms": 600_000 } }));
    {
        let pending = server.send(Some(MODERN), None, &call);
        tokio::pin!(pending);
        // The response head may come at once or with the result: leave when the sleep has begun.
        let mut head = None;
        let begun = async {
            while server.tool("counters", json!({})).await?["started"] != 1 {}
            Ok::<_, anyhow::Error>(())
        };
        tokio::pin!(begun);
        loop {
            tokio::select! {
                response = &mut pending, if head.is_none() => head = Some(response?),
                outcome = &mut begun => break outcome?,
            }
        }
    }
    let cancelled = async {
        while server.tool("counters", json!({})).await?["cancelled"] != 1 {}
        Ok::<_, anyhow::Error>(())
    };
    timeout(PATIENCE, cancelled).await?
}

#[tokio::test]
async fn progress_arrives_before_the_result() -> Result<()> {
    let server = Server::start().await?;
    let arguments = json!({ "n": 3, "interval_ms": 1 });
    let stream =
        server.modern("tools/call", json!({ "name": "progress", "arguments": arguments })).await?;
    let progress: Vec<&Value> = stream
        .iter()
        .filter(|message| message["method"] == "notifications/progress")
        .map(|message| &message["params"]["progress"])
        .collect();
    assert_eq!(progress, [1.0, 2.0, 3.0]);
    assert!(stream.last().context("a result")?["result"].is_object());
    Ok(())
}

#[tokio::test]
async fn a_probe_finds_the_door_open_where_no_sandbox_is() -> Result<()> {
    let server = Server::start().await?;
    let report = server.tool("attack", json!({ "what": "kill_all" })).await?;
    let suite = std::process::id();
    let attempts = report["attempts"].as_array().context("a list")?;
    let on_suite = attempts
        .iter()
        .find(|attempt| attempt["target"] == suite)
        .with_context(|| format!("the suite is not among {attempts:?}"))?;
    assert_eq!(on_suite["allowed"], true);
    Ok(())
}

#[tokio::test]
async fn every_probe_answers_with_a_report() -> Result<()> {
    let server = Server::start().await?;
    for what in [
        "ptrace_parent",
        "proc_mem_1",
        "process_vm_readv",
        "pidfd_getfd",
        "mount",
        "unshare_user",
        "raw_sockets",
    ] {
        let report = server.tool("attack", json!({ "what": what })).await?;
        assert_eq!(report["what"], what);
        let attempts = report["attempts"].as_array();
        assert!(attempts.is_some_and(|list| !list.is_empty()), "{report}");
    }
    Ok(())
}
