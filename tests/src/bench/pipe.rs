//! An MCP server's program on its standard streams, as a client that starts it has it: what a bridge's way is compared
//! with. It must not know of HTTP.

use super::{
    message::{Calls, Era},
    rounds::{Caller, Timing},
};
use crate::mcp;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{path::Path, process::Stdio};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::Instant,
};

/// A program of its own, with one request at a time; it ends when dropped.
#[derive(Debug)]
pub struct Pipe {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    calls: Calls,
    _home: TempDir,
    _process: Child,
}

impl Pipe {
    /// Starts the program, and in the legacy era the session that it has.
    pub async fn to(program: &Path, era: Era) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let mut process = Command::new(program)
            .arg("--stdio")
            .env_clear()
            .env("HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().context("standard input is piped")?;
        let output = BufReader::new(process.stdout.take().context("standard output is piped")?);
        let mut pipe =
            Self { input, output, calls: Calls::of(era), _home: home, _process: process };
        if era == Era::Legacy {
            let answer = pipe.ask(&mcp::initialize().to_string()).await?;
            let answer: Value = serde_json::from_str(&answer)?;
            ensure!(answer.get("result").is_some(), "{answer}");
            pipe.write(&mcp::initialized().to_string()).await?;
        }
        Ok(pipe)
    }

    async fn write(&mut self, message: &str) -> anyhow::Result<()> {
        self.input.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    /// Writes a message and reads the next one.
    async fn ask(&mut self, message: &str) -> anyhow::Result<String> {
        self.write(message).await?;
        let mut line = String::new();
        let read = self.output.read_line(&mut line).await?;
        ensure!(read > 0, "the program ended");
        Ok(line)
    }
}

impl Caller for Pipe {
    async fn call(&mut self) -> anyhow::Result<Timing> {
        let message = self.calls.next_message();
        let begun = Instant::now();
        let answer = self.ask(&message).await?;
        let complete = begun.elapsed();
        ensure!(self.calls.is_answer(&answer), "{answer}");
        Ok(Timing { first_byte: complete, complete })
    }
}
