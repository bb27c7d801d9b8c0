//! `make run`: Patchbay on this machine with the real `quilt-mcp`, for two users of a demo catalog.
//!
//! It starts an AWS with IAM enforcement, a catalog and `patchbay local`, waits for two warm workers,
//! writes `demo.json` last, and says what to try. Ctrl-C ends all of it. Another demo that runs already is left alone.

use anyhow::{Context, anyhow, ensure};
use clap::Parser;
use patchbay_tests::{
    binaries,
    controller::{Controller, ControllerConfig},
    quilt::{CLASS, PATH, QuiltWorld},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// Patchbay with two users, a demo catalog and an AWS stand-in.
#[derive(Debug, Parser)]
struct Args {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where operators look.
    #[arg(long, default_value = "127.0.0.1:9090")]
    admin_listen: SocketAddr,
    /// Directory for demo.json and the log.
    #[arg(long, default_value = "target/demo")]
    directory: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(Args { listen, admin_listen, directory }: Args) -> anyhow::Result<()> {
    // before anything in the directory is touched, since it may be that of a demo that runs
    ensure_free(listen, admin_listen)?;
    fs::create_dir_all(&directory)?;
    let summary = directory.join("demo.json");
    remove(&summary)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut asked_to_end = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    // dropping what runs ends it
    let started = tokio::select! {
        started = start(listen, admin_listen, &directory, &summary) => started.map(Some),
        () = asked_to_end() => Ok(None),
    };
    if let Ok(Some(_)) = started {
        asked_to_end().await;
    }
    eprintln!("\nending the demo");
    remove(&summary)?;
    if let Some(mut demo) = started? {
        // the workers first: they leave nothing behind when they are asked to go
        tokio::select! {
            ended = demo.controller.terminate() => ensure!(ended?, "Patchbay failed at its end"),
            () = asked_to_end() => {}
        }
    }
    Ok(())
}

/// Takes both addresses and lets go of them.
fn ensure_free(listen: SocketAddr, admin_listen: SocketAddr) -> anyhow::Result<()> {
    let take = |option: &str, address: SocketAddr| {
        TcpListener::bind(address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => anyhow!(
                "something listens on {address} already, another `make run` perhaps: end it, or start this one beside it, \
                 with `{} --listen ADDRESS --admin-listen ADDRESS --directory DIR`",
                program()
            ),
            _ => anyhow!(error).context(format!("cannot listen on {address} ({option})")),
        })
    };
    // both at once: they may be the same
    let _taken = (take("--listen", listen)?, take("--admin-listen", admin_listen)?);
    Ok(())
}

/// How this program was started.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "demo".to_owned())
}

/// What runs until it is dropped.
struct Demo {
    controller: Controller,
    _world: QuiltWorld,
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

async fn start(
    listen: SocketAddr,
    admin_listen: SocketAddr,
    directory: &Path,
    summary: &Path,
) -> anyhow::Result<Demo> {
    eprintln!("1/3  AWS stand-in and demo catalog (the first time, Python packages are installed)");
    let world = QuiltWorld::start_for(&format!("http://{listen}{PATH}"), &["alice", "bob"]).await?;
    eprintln!("2/3  Patchbay on {listen}");
    let log = directory.join("patchbay.log");
    let controller = ControllerConfig::new(world.documents(2).await?)
        .listen(listen, admin_listen)
        .log_file(log.clone())
        .start_unfilled()
        .await?;
    eprintln!("3/3  waiting for two warm workers (each loads quilt-mcp: some seconds)");
    controller.wait_ready().await?;
    let demo = json!({
        "url": controller.url(CLASS),
        "adminUrl": controller.admin,
        "tokens": { "alice": world.token("alice")?, "bob": world.token("bob")? },
        "apiKeys": { "alice": world.api_key("alice") },
        "catalogUrl": world.catalog.url(),
        "awsEndpoint": world.moto.endpoint(),
        "buckets": { "alice": "b-alice", "bob": "b-bob" },
        "documents": controller.documents(),
    });
    write_private(summary, &demo)?;
    println!("{}", guide(&demo, &binaries::path("patchbay")?, summary, &log));
    Ok(Demo { controller, _world: world })
}

/// Written beside its place and moved there, so that whoever finds it finds all of it.
fn write_private(path: &Path, demo: &Value) -> anyhow::Result<()> {
    let unfinished = path.with_extension("json.new");
    remove(&unfinished)?;
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{demo:#}")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    Ok(())
}

fn guide(demo: &Value, patchbay: &Path, summary: &Path, log: &Path) -> String {
    let text = |pointer: &str| demo.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (url, admin, alice, bob) =
        (text("/url"), text("/adminUrl"), text("/tokens/alice"), text("/tokens/bob"));
    let (key, documents) = (text("/apiKeys/alice"), text("/documents"));
    let (patchbay, summary, log) = (patchbay.display(), summary.display(), log.display());
    let buckets = curl(url, key, "bucket_list", &json!({}));
    let note = json!({ "s3_uri": "s3://b-bob/notes/bob.txt" });
    let note = curl(url, key, "bucket_object_text", &note);
    format!(
        r#"
Patchbay serves {url}

alice's token    {alice}

alice's API key  {key}

bob's token      {bob}

Ask for alice's buckets:

{buckets}

Read a note of bob's as alice, which AWS denies, and then hers, s3://b-alice/notes/alice.txt:

{note}

Any other tool: its name in both places, and its arguments, such as search_catalog and {{"query":"note","scope":"global"}}.

Claude Code:

  claude mcp add --transport http patchbay {url} --header "X-API-Key: {key}"

mcp-remote (for clients that start a local process):

  npx mcp-remote {url} --allow-http --transport http-only --header 'X-API-Key:{key}'

Inspector:

  npx @modelcontextprotocol/inspector --cli --server-url {url} --transport http \
    --header "X-API-Key: {key}" --method tools/list

A token goes where the key is: --header "Authorization: Bearer TOKEN". Tokens are good for an hour; tokens
and keys are new at every start.

What Patchbay was told: {documents}
What a token gets by that, and why:

  echo TOKEN | {patchbay} why --token-file - --file {documents}

Who has which worker: {admin}/tenants     Metrics: {admin}/metrics     Log: {log}
All of this for scripts: {summary}

Ctrl-C ends everything."#
    )
}

/// A stateless call of a tool, for a shell.
fn curl(url: &str, key: &str, tool: &str, arguments: &Value) -> String {
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": tool, "arguments": arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "curl", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    });
    format!(
        r"  curl -s {url} -H 'X-API-Key: {key}' \
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H 'Mcp-Name: {tool}' \
    -d '{message}'"
    )
}
