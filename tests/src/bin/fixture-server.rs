//! The fixture MCP server: `fixture-server` serves `/mcp` and `/healthz` on `127.0.0.1:$PORT`, and
//! `fixture-server --stdio` speaks on standard input and output, and
//! `fixture-server probe WHAT` is the short-lived child behind its `attack` tool.
//!
//! It says `listening on ADDRESS` on standard output when it is ready; port 0 picks a free one.

use anyhow::Context;
use clap::{Parser, Subcommand};
use patchbay_tests::{
    fixture::{self, probe, state::State},
    listening,
};
use std::{path::PathBuf, sync::Arc};

/// A small MCP server that does what a test tells it and reports what it sees.
#[derive(Debug, Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 picks a free one.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    port: u16,
    /// Speaks on standard input and output instead.
    #[arg(long)]
    stdio: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tries one kind of break-out on behalf of the parent process and prints a report.
    Probe {
        /// What to try.
        what: probe::Probe,
    },
}

fn main() -> anyhow::Result<()> {
    let Args { port, stdio, command } = Args::parse();
    match command {
        Some(Command::Probe { what }) => run_probe(what),
        None => serve(port, stdio),
    }
}

fn run_probe(what: probe::Probe) -> anyhow::Result<()> {
    let server = rustix::process::getppid()
        .context("a probe runs as a child of the server")?
        .as_raw_nonzero()
        .get();
    let report = probe::run(what, server, parent_of(server));
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// The parent's pid by `/proc`; none where it lies outside the PID namespace.
fn parent_of(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    (parent != 0).then_some(parent)
}

// One thread: the fixture is to weigh little, and what blocks runs on threads of its own.
#[tokio::main(flavor = "current_thread")]
async fn serve(port: u16, stdio: bool) -> anyhow::Result<()> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let state =
        Arc::new(State::new(jiff::Timestamp::now().as_millisecond(), home.join("remembered.json")));
    if stdio {
        return fixture::serve_stdio(state).await;
    }
    listening::serve(port, fixture::router(state)).await
}
