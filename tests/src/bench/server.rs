//! A fixture as an ordinary process: what the way through the gateway is compared with.

use crate::binaries;
use anyhow::Context;
use std::{process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A running fixture; it ends when dropped.
#[derive(Debug)]
pub struct Server {
    /// Its MCP endpoint.
    pub url: String,
    _home: TempDir,
    _process: Child,
    // a server that writes to a closed pipe would fail
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the fixture server on a free port and waits until it listens.
    pub async fn start() -> anyhow::Result<Self> {
        Self::of("fixture-server").await
    }

    /// Starts one of this workspace's MCP servers on a free port and waits until it listens.
    pub async fn of(program: &str) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let mut process = Command::new(binaries::path(program)?)
            .args(["--port", "0"])
            .env_clear()
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().context("standard output is piped")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let read = timeout(START_LIMIT, stdout.read_line(&mut line));
        read.await.with_context(|| format!("{program} does not start"))??;
        let address = line.trim_end().strip_prefix("listening on ");
        let address =
            address.with_context(|| format!("{program} does not say where it listens"))?;
        let url = format!("http://{address}/mcp");
        Ok(Self { url, _home: home, _process: process, _stdout: stdout })
    }
}
