//! `make bench` measures everything that it names. What it measures is no condition here.

use anyhow::{Context, ensure};
use patchbay_tests::binaries;
use std::{process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

#[tokio::test]
async fn every_figure_is_measured_and_printed_beside_its_budget() -> anyhow::Result<()> {
    let output = Command::new(binaries::path("bench")?)
        .arg("--quick")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_mins(4), output).await.context("it does not end")??;
    let table = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for figure in [
        "warm first contact, p50",
        "warm first contact, p99",
        "the same user's next request, p50",
        "1 conn: added p50",
        "1 conn: added p99",
        "4 conn: gateway throughput",
        "4 conn: requests per CPU second of the gateway",
        "gateway, idle: VmRSS",
        "agent, idle: RssAnon",
        "agent and host, after load: VmRSS",
        "gateway with 3 tenants: VmRSS",
    ] {
        let line = table.lines().find(|line| line.starts_with(&format!("| {figure} ")));
        let line = line.with_context(|| format!("{figure} is missing:\n{table}"))?;
        let verdict = line.split('|').nth(4).unwrap_or_default().trim();
        ensure!(["ok", "over", "n/a"].contains(&verdict), "{line}");
    }
    for way in [
        "HTTP, 2025-11-25, 1: direct",
        "HTTP, 2025-11-25, 2: Patchbay",
        "HTTP, 2026-07-28, 1: nginx",
        "HTTP, 2026-07-28, 2: configurable-http-proxy",
        "stdio, 2025-11-25, 1: direct",
        "stdio, 2025-11-25, 2: supergateway",
        "stdio, 2026-07-28, 1: mcp-proxy (npm)",
        "stdio, 2026-07-28, 2: Patchbay",
        "HTTP: Patchbay",
        "HTTP: nginx",
        "HTTP: configurable-http-proxy",
        "stdio: Patchbay",
        "stdio: supergateway",
        "stdio: mcp-proxy (npm)",
    ] {
        let is_there = table.lines().any(|line| line.starts_with(&format!("| {way} ")));
        ensure!(is_there, "{way} is missing:\n{table}");
    }
    Ok(())
}
