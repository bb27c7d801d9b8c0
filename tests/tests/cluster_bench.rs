//! `make bench-cluster` measures everything that it names. What it measures is no condition here.

use anyhow::{Context, ensure};
use patchbay_tests::binaries;
use std::{process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

#[tokio::test]
async fn every_figure_of_a_cluster_is_measured_and_printed_beside_its_budget() -> anyhow::Result<()>
{
    let output = Command::new(binaries::path("bench")?)
        .args(["cluster", "--quick"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_mins(5), output).await.context("it does not end")??;
    let table = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for figure in [
        "warm first contact, p50",
        "warm first contact, p99",
        "6 at once: first contacts",
        "API writes per claim in all, mean",
        "last word about a claim after its assignment, longest",
        "operator, 40 tenants asleep: VmRSS",
        "operator, 40 asleep, 9 bound, 6 warm: VmRSS",
        "gateway, 40 asleep, 9 bound, 6 warm: VmRSS",
        "operator: from there to its first pass over everything",
        "gateway: from its start to ready",
    ] {
        let line = table.lines().find(|line| line.starts_with(&format!("| {figure} ")));
        let line = line.with_context(|| format!("{figure} is missing:\n{table}"))?;
        let verdict = line.split('|').nth(4).unwrap_or_default().trim();
        ensure!(["ok", "over", "n/a"].contains(&verdict), "{line}");
    }
    Ok(())
}
