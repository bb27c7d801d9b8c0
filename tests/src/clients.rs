//! The official MCP clients, each as a program that the test runs: what one is told, and what it reports. They are
//! installed from locks with hashes (`scripts/python-env quilt`, `scripts/node-env`). It must not know what serves them.

mod between;
mod login;

pub use between::waiting_room;
pub use login::{LOGGING_IN, LogIn};

use crate::{
    fed::fed,
    known,
    moto::python_environment,
    repository::{made_by, repository},
};
use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tokio::process::Command;

/// A client starts, connects and makes a few calls on a loaded machine.
const LIMIT: Duration = Duration::from_mins(3);

/// A client and the way in which it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum McpProgram {
    /// The Python SDK as it comes: stateless where the server can.
    PythonAuto,
    /// The Python SDK with a session.
    PythonLegacy,
    /// fastmcp's client.
    FastMcp,
    /// `@modelcontextprotocol/sdk`, which knows sessions alone.
    Sdk,
    /// `@modelcontextprotocol/client` as it comes: with a session.
    Client,
    /// The same, negotiating.
    ClientAuto,
    /// `mcp-remote`, behind a client that speaks stdio.
    McpRemote,
    /// The Inspector's command line, with a session.
    Inspector,
    /// The same, negotiating.
    InspectorAuto,
    /// The Python SDK by the transport of 2024.
    PythonSse,
    /// `@modelcontextprotocol/sdk` by the same.
    SdkSse,
    /// `@modelcontextprotocol/client` by the same.
    ClientSse,
}

/// All that speak streamable HTTP.
pub const ALL: [McpProgram; 9] = [
    McpProgram::PythonAuto,
    McpProgram::PythonLegacy,
    McpProgram::FastMcp,
    McpProgram::Sdk,
    McpProgram::Client,
    McpProgram::ClientAuto,
    McpProgram::McpRemote,
    McpProgram::Inspector,
    McpProgram::InspectorAuto,
];

/// All that speak the transport of 2024.
pub const ALL_SSE: [McpProgram; 3] =
    [McpProgram::PythonSse, McpProgram::SdkSse, McpProgram::ClientSse];

/// What a client is to do.
pub struct Asked<'a> {
    /// Where.
    pub url: &'a str,
    /// The header that it presents, and its value.
    pub credential: (&'a str, &'a str),
    /// The tool that it calls.
    pub tool: &'a str,
    /// With what.
    pub arguments: Value,
    /// A URL that it gets when the tool has answered; then it calls the tool again.
    pub between: Option<&'a str>,
    /// A tool that tells of its progress and never answers, and its arguments: it is given up at the first word.
    pub endless: Option<(&'a str, Value)>,
    /// A tool that speaks beside its answer until it is cancelled.
    pub announce: Option<&'a str>,
}

/// What a client saw.
#[derive(Debug, Deserialize)]
pub struct Seen {
    /// The protocol's version, where the client tells.
    #[serde(default)]
    pub protocol: String,
    /// The names of the tools.
    pub tools: Vec<String>,
    results: Vec<Text>,
    /// Whether the endless call told of its progress.
    #[serde(default)]
    pub progressed: bool,
    /// Whether what was said beside every answer came.
    #[serde(default)]
    pub announced: bool,
}

#[derive(Debug, Deserialize)]
struct Text {
    /// Or why there was no result.
    #[serde(alias = "exception")]
    text: String,
}

impl Seen {
    /// What the tool said.
    pub fn said(&self) -> &str {
        self.results.first().map_or("", |result| &result.text)
    }

    /// What it said each time.
    pub fn all_said(&self) -> Vec<&str> {
        self.results.iter().map(|result| &*result.text).collect()
    }

    /// When each program that answered a call of the fixture's `whoami` was started, which tells it from any other. A
    /// call that failed is an error.
    pub fn programs(&self) -> anyhow::Result<Vec<u64>> {
        let started = |said: &str| serde_json::from_str::<Value>(said).ok()?["started"].as_u64();
        let each = self.all_said().into_iter();
        each.map(|said| started(said).with_context(|| format!("no program says {said}"))).collect()
    }
}

impl McpProgram {
    /// As its users know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PythonAuto => "mcp (Python), auto",
            Self::PythonLegacy => "mcp (Python), legacy",
            Self::FastMcp => "fastmcp",
            Self::Sdk => "@modelcontextprotocol/sdk",
            Self::Client => "@modelcontextprotocol/client",
            Self::ClientAuto => "@modelcontextprotocol/client, auto",
            Self::McpRemote => "mcp-remote",
            Self::Inspector => "Inspector CLI",
            Self::InspectorAuto => "Inspector CLI, auto",
            Self::PythonSse => "mcp (Python), SSE",
            Self::SdkSse => "@modelcontextprotocol/sdk, SSE",
            Self::ClientSse => "@modelcontextprotocol/client, SSE",
        }
    }

    /// The version of the protocol that it comes to with a server that knows both eras, where it tells.
    pub const fn protocol(self) -> Option<&'static str> {
        match self {
            Self::PythonAuto | Self::FastMcp | Self::ClientAuto => Some("2026-07-28"),
            Self::PythonLegacy | Self::Sdk | Self::Client | Self::PythonSse | Self::ClientSse => {
                Some("2025-11-25")
            }
            Self::McpRemote | Self::Inspector | Self::InspectorAuto | Self::SdkSse => None,
        }
    }

    /// Whether it can be told to listen to progress.
    pub const fn hears_progress(self) -> bool {
        !matches!(self, Self::Inspector | Self::InspectorAuto)
    }

    /// Whether it makes more than one call in one connection.
    pub const fn stays(self) -> bool {
        !matches!(self, Self::Inspector | Self::InspectorAuto)
    }

    /// Whether it keeps the stream of its session open, and tells what comes on it.
    pub const fn hears_announcements(self) -> bool {
        matches!(self, Self::PythonLegacy | Self::Sdk | Self::Client | Self::McpRemote)
    }

    /// Runs it.
    pub async fn run(self, asked: &Asked<'_>) -> anyhow::Result<Seen> {
        known::present_in(&[asked.credential]);
        let seen = match self {
            Self::PythonAuto => python("mcp_calls.py", &asked.with("mode", "auto")).await,
            Self::PythonLegacy => python("mcp_calls.py", &asked.with("mode", "legacy")).await,
            Self::FastMcp => python("fastmcp_calls.py", &asked.with("mode", "auto")).await,
            Self::Sdk => node(&asked.with("client", "sdk")).await,
            Self::Client => node(&asked.with("client", "client")).await,
            Self::ClientAuto => node(&asked.with("client", "client-auto")).await,
            Self::McpRemote => node(&asked.with("client", "mcp-remote")).await,
            Self::Inspector => inspector("legacy", asked).await,
            Self::InspectorAuto => inspector("auto", asked).await,
            Self::PythonSse => python("mcp_calls.py", &asked.with("mode", "sse")).await,
            Self::SdkSse => node(&asked.with("client", "sdk-sse")).await,
            Self::ClientSse => node(&asked.with("client", "client-sse")).await,
        };
        seen.with_context(|| self.name())
    }
}

impl<'a> Asked<'a> {
    /// To call a tool once, and nothing else.
    pub const fn call(
        url: &'a str,
        credential: (&'a str, &'a str),
        tool: &'a str,
        arguments: Value,
    ) -> Self {
        let (between, endless, announce) = (None, None, None);
        Self { url, credential, tool, arguments, between, endless, announce }
    }
}

impl Asked<'_> {
    fn with(&self, name: &str, value: &str) -> Value {
        let (header, credential) = self.credential;
        let mut asked = json!({
            "url": self.url,
            "headers": { header: credential },
            "calls": [{ "tool": self.tool, "arguments": self.arguments }],
            name: value,
        });
        if let Some(url) = self.between {
            let call = asked["calls"][0].clone();
            asked["calls"] = json!([call, call]);
            asked["between"] = json!(url);
        }
        if let Some((tool, arguments)) = &self.endless {
            asked["endless"] = json!({ "name": tool, "arguments": arguments });
        }
        if let Some(tool) = self.announce {
            asked["announce"] = json!(tool);
        }
        asked
    }
}

async fn python(script: &str, asked: &Value) -> anyhow::Result<Seen> {
    let said = run(python_command(script).await?, &asked.to_string()).await?;
    serde_json::from_str(&said).with_context(|| format!("it reported {said}"))
}

async fn python_command(script: &str) -> anyhow::Result<Command> {
    let environment = python_environment("quilt").await?;
    let mut command = Command::new(environment.join("bin/python"));
    command.arg(repository().join("tests/python").join(script)).env_clear();
    Ok(command)
}

async fn node(asked: &Value) -> anyhow::Result<Seen> {
    let environment = made_by("node-env", &["clients"]).await?;
    let home = tempfile::tempdir()?;
    let mut command = node_command(&environment, home.path());
    command.arg(repository().join("tests/node/clients/calls.mjs"));
    let said = run(command, &asked.to_string()).await?;
    serde_json::from_str(&said).with_context(|| format!("it reported {said}"))
}

/// The Inspector makes one request per run: the list of tools, then the call.
async fn inspector(era: &str, asked: &Asked<'_>) -> anyhow::Result<Seen> {
    let environment = made_by("node-env", &["clients"]).await?;
    let home = tempfile::tempdir()?;
    let (name, value) = asked.credential;
    let method = async |further: &[String]| -> anyhow::Result<Value> {
        let mut command = node_command(&environment, home.path());
        command
            .arg("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js")
            .args(["--cli", "--server-url", asked.url, "--transport", "http"])
            .args(["--header", &format!("{name}: {value}"), "--protocol-era", era])
            .args(["--connect-timeout", "60000", "--format", "json"])
            .args(further);
        let said = run(command, "").await?;
        let mut reported: Value =
            serde_json::from_str(&said).with_context(|| format!("it reported {said}"))?;
        Ok(reported["result"].take())
    };
    let mut call =
        ["--method", "tools/call", "--tool-name", asked.tool].map(str::to_owned).to_vec();
    for (name, value) in asked.arguments.as_object().context("no arguments")? {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        call.extend(["--tool-arg".to_owned(), format!("{name}={value}")]);
    }
    let listed = method(&["--method", "tools/list"].map(str::to_owned)).await?;
    let called = method(&call).await?;
    let tools = listed["tools"].as_array().with_context(|| listed.to_string())?;
    let tools = tools.iter().filter_map(|tool| Some(tool["name"].as_str()?.to_owned()));
    let content = called["content"].as_array().with_context(|| called.to_string())?;
    let text = content.iter().filter_map(|part| part["text"].as_str()).collect();
    Ok(Seen {
        protocol: String::new(),
        tools: tools.collect(),
        results: vec![Text { text }],
        progressed: false,
        announced: false,
    })
}

/// In the folder of the clients, with a HOME of its own: some keep what they learn of a server there.
fn node_command(environment: &Path, home: &Path) -> Command {
    let mut command = Command::new(environment.join("node"));
    command.current_dir(environment).env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin");
    command
}

async fn run(command: Command, asked: &str) -> anyhow::Result<String> {
    let output = fed(command, asked, LIMIT).await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "it failed with {}: {complaint} {said}", output.status);
    known::not_in_answer("what a client saw", &said)?;
    Ok(said)
}
