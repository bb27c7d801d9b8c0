//! Just enough of an MCP client to say exactly what is on the wire, in both eras.
//!
//! Suites about clients use real SDKs; this one is for tests that need to see or break a single request.

use crate::{
    http::{Answer, Http},
    known,
};
use anyhow::{Context, bail, ensure};
use http::{Method, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

/// A client of one MCP endpoint, with one credential.
#[derive(Clone)]
pub struct McpClient {
    http: Http,
    url: String,
    credential: Vec<(String, String)>,
}

/// A legacy session.
pub struct Session<'a> {
    client: &'a McpClient,
    /// The id that the server gave.
    pub id: String,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The revision without sessions.
pub const MODERN: &str = "2026-07-28";
/// The last revision with sessions.
pub const LEGACY: &str = "2025-11-25";

impl McpClient {
    /// A client that sends `Authorization: Bearer <token>`.
    pub fn bearer(url: &str, token: &str) -> Self {
        Self::with_headers(url, &[("authorization", &format!("Bearer {token}"))])
    }

    /// A client that sends these headers with every request.
    pub fn with_headers(url: &str, headers: &[(&str, &str)]) -> Self {
        known::present_in(headers);
        Self {
            http: Http::default(),
            url: url.to_owned(),
            credential: headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        }
    }

    /// Sends one message with further headers and returns whatever comes back. An answer with a credential in it fails.
    pub async fn post(&self, headers: &[(&str, &str)], message: &Value) -> anyhow::Result<Answer> {
        let all = self.headers(headers);
        let all: Vec<_> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let answer = self.http.send(Method::POST, &self.url, &all, message.to_string()).await?;
        known::not_in_answer("an answer", &answer.text())?;
        known::not_in_answer("an answer's headers", &format!("{:?}", answer.headers))?;
        Ok(answer)
    }

    /// A request with further headers, on a connection of its own; its answer is read as it comes.
    pub async fn open(
        &self,
        method: Method,
        further: &[(&str, &str)],
        body: String,
    ) -> anyhow::Result<Response<Incoming>> {
        let headers = self.headers(further);
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Http::default().open(method, &self.url, &headers, body).await
    }

    /// The headers of a request: the credential, what MCP wants of every request, and `further`.
    pub fn headers(&self, further: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all = self.credential.clone();
        all.push(("content-type".into(), "application/json".into()));
        all.push(("accept".into(), "application/json, text/event-stream".into()));
        all.extend(further.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        all
    }

    /// A stateless request by its method and what it names, and its raw answer.
    pub async fn modern(
        &self,
        method: &str,
        name: &str,
        message: &Value,
    ) -> anyhow::Result<Answer> {
        let headers = modern_headers(method, name);
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        self.post(&headers, message).await
    }

    /// A stateless `tools/call`, and its raw answer.
    pub async fn modern_call(&self, tool: &str, arguments: Value) -> anyhow::Result<Answer> {
        self.modern("tools/call", tool, &modern_message("tools/call", tool, &arguments)).await
    }

    /// What there is of a kind, `tools` or `resources`, by its name.
    pub async fn list(&self, kind: &str) -> anyhow::Result<BTreeSet<String>> {
        let method = format!("{kind}/list");
        listed(&self.modern(&method, "", &modern_message(&method, "", &json!({}))).await?, kind)
    }

    /// A stateless `resources/read`, and its text or that of its refusal.
    pub async fn read(&self, uri: &str) -> anyhow::Result<String> {
        said(&self.modern("resources/read", uri, &reading(uri)).await?)
    }

    /// A stateless `tools/call`, and what the tool said.
    pub async fn call(&self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        tool_result(&self.modern_call(tool, arguments).await?)
    }

    /// Begins a legacy session.
    pub async fn initialize(&self) -> anyhow::Result<Session<'_>> {
        self.initialize_with(&json!({})).await
    }

    /// The same of a client with these capabilities.
    pub async fn initialize_with(&self, capabilities: &Value) -> anyhow::Result<Session<'_>> {
        let mut message = initialize();
        message["params"]["capabilities"].clone_from(capabilities);
        let answer = self.post(&[], &message).await?;
        ensure!(answer.status.is_success(), "initialize: {} {}", answer.status, answer.text());
        let id = answer
            .headers
            .get("mcp-session-id")
            .with_context(|| format!("initialize gave no session id: {}", answer.text()))?
            .to_str()?
            .to_owned();
        let session = Session { client: self, id };
        let answer = self.post(&session.headers(), &initialized()).await?;
        ensure!(answer.status.is_success(), "initialized: {} {}", answer.status, answer.text());
        Ok(session)
    }

    /// A session that another client of the same user began.
    pub fn resume(&self, id: &str) -> Session<'_> {
        Session { client: self, id: id.to_owned() }
    }
}

impl Session<'_> {
    /// What each of its requests says of it.
    pub fn headers(&self) -> [(&'static str, &str); 2] {
        [("mcp-session-id", &self.id), ("mcp-protocol-version", LEGACY)]
    }

    /// A request without a message, on a connection of its own: its stream, or its end.
    pub async fn send(&self, method: Method) -> anyhow::Result<Response<Incoming>> {
        self.client.open(method, &self.headers(), String::new()).await
    }

    /// A message whose answer is read as it comes, on a connection of its own.
    pub async fn say(&self, message: &Value) -> anyhow::Result<Response<Incoming>> {
        self.client.open(Method::POST, &self.headers(), message.to_string()).await
    }

    /// A `tools/call` in this session, and its raw answer.
    pub async fn raw_call(&self, tool: &str, arguments: Value) -> anyhow::Result<Answer> {
        self.client.post(&self.headers(), &legacy_call(tool, &arguments)).await
    }

    /// A `tools/call` in this session, and what the tool said.
    pub async fn call(&self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        tool_result(&self.raw_call(tool, arguments).await?)
    }
}

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// The headers that repeat what a modern message says.
pub fn modern_headers(method: &str, name: &str) -> Vec<(&'static str, String)> {
    vec![
        ("mcp-protocol-version", MODERN.to_owned()),
        ("mcp-method", method.to_owned()),
        ("mcp-name", name.to_owned()),
    ]
}

/// A modern `tools/call` message.
pub fn modern_message(method: &str, name: &str, arguments: &Value) -> Value {
    json!({
        "jsonrpc": "2.0", "id": next_id(), "method": method,
        "params": {
            "name": name, "arguments": arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": { "name": "patchbay-tests", "version": "0" },
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    })
}

/// The message that begins a session.
pub fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0", "id": next_id(), "method": "initialize",
        "params": {
            "protocolVersion": LEGACY, "capabilities": {},
            "clientInfo": { "name": "patchbay-tests", "version": "0" },
        },
    })
}

/// The message after the answer to [`initialize`].
pub fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// The message of a `tools/call` in a session.
pub fn legacy_call(tool: &str, arguments: &Value) -> Value {
    json!({
        "jsonrpc": "2.0", "id": next_id(), "method": "tools/call",
        "params": { "name": tool, "arguments": arguments },
    })
}

/// The JSON-RPC response in an answer, whether it came as JSON or as an event stream.
pub fn rpc_response(answer: &Answer) -> anyhow::Result<Value> {
    let text = answer.text();
    let is_stream = answer
        .headers
        .get("content-type")
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream {
        return answer.json();
    }
    messages(&text)
        .find(|message| message.get("result").is_some() || message.get("error").is_some())
        .with_context(|| format!("no response in the stream: {text}"))
}

/// The messages in what has come of a stream.
pub fn messages(stream: &str) -> impl Iterator<Item = Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|data| serde_json::from_str(data.trim()).ok())
}

/// The message of a `resources/read`.
pub fn reading(uri: &str) -> Value {
    let mut message = modern_message("resources/read", uri, &json!({}));
    message["params"]["uri"] = json!(uri);
    message
}

/// All that a tool or a resource said, a failure too.
pub fn said(answer: &Answer) -> anyhow::Result<String> {
    ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    let response = rpc_response(answer)?;
    let parts = |at: &str| response.pointer(at).and_then(Value::as_array).into_iter().flatten();
    let texts = parts("/result/content").chain(parts("/result/contents"));
    let texts = texts.filter_map(|part| part["text"].as_str());
    Ok(texts.chain(response.pointer("/error/message").and_then(Value::as_str)).collect())
}

/// The names of all `tools` that an answer lists, or the URIs of all `resources`.
pub fn listed(answer: &Answer, kind: &str) -> anyhow::Result<BTreeSet<String>> {
    ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    let response = rpc_response(answer)?;
    let all = response["result"][kind].as_array().with_context(|| response.to_string())?;
    let name = if kind == "resources" { "uri" } else { "name" };
    Ok(all.iter().filter_map(|it| Some(it[name].as_str()?.to_owned())).collect())
}

/// What a tool said: its text, read as JSON where it is JSON.
pub fn tool_result(answer: &Answer) -> anyhow::Result<Value> {
    ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    let response = rpc_response(answer)?;
    if let Some(error) = response.get("error") {
        bail!("the tool failed: {error}");
    }
    let text = response
        .pointer("/result/content/0/text")
        .and_then(Value::as_str)
        .with_context(|| format!("no text in {response}"))?;
    Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
}
