//! Runs a program to its end with something on its standard input, where nobody sees it as they see arguments. It must not
//! know which program.

use anyhow::Context;
use std::{
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// What `command` said when it had read `input` and ended.
///
/// # Errors
///
/// If it does not start, or does not end within `limit`. How it ended is in the output.
pub async fn fed(mut command: Command, input: &str, limit: Duration) -> anyhow::Result<Output> {
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = process.stdin.take().context("standard input is piped")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    Ok(timeout(limit, process.wait_with_output()).await.context("it does not end")??)
}
