//! The source tree that the tests were built from, and its scripts.

use anyhow::{Context, ensure};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

/// The root of the source tree.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Runs a script that makes something at its first use and prints where it is. What it says of its progress is shown.
pub async fn made_by(script: &str, arguments: &[&str]) -> anyhow::Result<PathBuf> {
    let output = Command::new(repository().join("scripts").join(script))
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run scripts/{script}"))?;
    let arguments = arguments.join(" ");
    ensure!(output.status.success(), "scripts/{script} {arguments} failed");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}
