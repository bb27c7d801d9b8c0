//! `quilt-mcp` as anybody starts it, with no Patchbay and no credential: what it says there is its own. It turns calls into
//! what it answers.

use super::{Era, Report, sdk_calls};
use crate::{moto::python_environment, repository::repository};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

/// It imports for long on a loaded machine.
const START_LIMIT: Duration = Duration::from_mins(2);

/// The `context` in the answer of `search_suggest`: of the function itself, which is told one, and of the server.
pub async fn contexts_of_suggest() -> anyhow::Result<Value> {
    let python = python_environment("quilt").await?.join("bin/python");
    let mut command = Command::new(python);
    command.arg(repository().join("tests/python/suggests.py"));
    let home = tempfile::tempdir()?;
    command.env_clear().env("HOME", home.path()).env("QUILT_DEPLOYMENT", "legacy");
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let last = output.stdout.trim_ascii().rsplit(|byte| *byte == b'\n').next();
    Ok(serde_json::from_slice(last.context("it says nothing")?)?)
}

/// What it answers to these calls.
pub async fn calls_without_patchbay(calls: &[Value]) -> anyhow::Result<Report> {
    let environment = python_environment("quilt").await?;
    let home = tempfile::tempdir()?;
    let mut process = Command::new(environment.join("bin/quilt-mcp"))
        .arg("--skip-banner")
        .env_clear()
        .env("HOME", home.path())
        .env("QUILT_DEPLOYMENT", "legacy")
        .env("FASTMCP_TRANSPORT", "http")
        .env("FASTMCP_PORT", "0")
        .env("QUILT_DISABLE_USAGE_METRICS", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start quilt-mcp")?;
    let stderr = process.stderr.take().context("standard error is piped")?;
    let mut lines = BufReader::new(stderr).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            if let Some(rest) = line.split_once("running on ").map(|(_, rest)| rest) {
                return Ok(rest.split(' ').next().unwrap_or(rest).to_owned());
            }
        }
        bail!("quilt-mcp ended before it listened")
    };
    let url = timeout(START_LIMIT, ready).await.context("quilt-mcp does not start")??;
    // somebody has to read what it logs, or it stops when the pipe is full
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let nothing = ("x-nothing", "presented");
    sdk_calls(&format!("{url}/mcp"), nothing, Era::Modern, calls).await
}
