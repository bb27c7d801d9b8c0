//! `make run` as a script sees it: `demo.json` is complete when it is there, works, and is gone at the
//! end, and so is every process. One that finds its place taken changes nothing there.

use anyhow::{Context, ensure};
use patchbay_tests::{binaries, mcp::McpClient, processes};
use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};
use tokio::{
    net::TcpListener,
    process::Command,
    time::{Instant, sleep, timeout},
};

const PATIENCE: Duration = Duration::from_mins(4);

#[tokio::test]
async fn the_demo_serves_two_users_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let summary = directory.path().join("demo.json");
    std::fs::write(&summary, "left by an earlier run")?;
    let mut demo = Command::new(binaries::path("demo")?)
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--directory")
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    let pid = demo.id().context("it ended at once")?;
    let written = complete(&summary).await?;
    ensure!(std::fs::metadata(&summary)?.permissions().mode() & 0o777 == 0o600);

    let text = |pointer: &str| written.pointer(pointer).and_then(Value::as_str).context("a field");
    let url = text("/url")?;
    for (credential, own, other) in [
        (text("/tokens/alice")?, text("/buckets/alice")?, text("/buckets/bob")?),
        (text("/tokens/bob")?, text("/buckets/bob")?, text("/buckets/alice")?),
        (text("/apiKeys/alice")?, text("/buckets/alice")?, text("/buckets/bob")?),
    ] {
        let buckets = McpClient::bearer(url, credential).call("bucket_list", json!({})).await?;
        let buckets = buckets.to_string();
        ensure!(buckets.contains(own) && !buckets.contains(other), "{buckets}");
    }
    for field in ["/adminUrl", "/catalogUrl", "/awsEndpoint"] {
        ensure!(text(field)?.starts_with("http"), "{field}: {written}");
    }
    let documents = std::fs::read_to_string(text("/documents")?)?;
    ensure!(documents.contains("WorkerClass"), "{documents}");

    let children: Vec<u32> = processes::descendants(pid).iter().map(|child| child.pid).collect();
    ensure!(children.len() > 6, "catalog, AWS, controller and two workers: {children:?}");
    let signal = rustix::process::Signal::INT;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("pid")?;
    rustix::process::kill_process(pid, signal)?;
    let status = timeout(PATIENCE, demo.wait()).await.context("it does not end")??;
    ensure!(status.success(), "{status}");
    ensure!(!summary.exists(), "demo.json is left");
    let end = Instant::now() + PATIENCE;
    while processes::any_alive(&children) {
        ensure!(Instant::now() < end, "processes are left: {children:?}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_demo_that_finds_an_address_taken_says_so_and_touches_nothing() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let of_the_first = ["demo.json", "patchbay.log"].map(|name| directory.path().join(name));
    for file in &of_the_first {
        std::fs::write(file, "of the first")?;
    }
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let taken = taken.local_addr()?.to_string();
    for addresses in [[&*taken, "127.0.0.1:0"], ["127.0.0.1:0", &*taken]] {
        let [listen, admin_listen] = addresses;
        let second = Command::new(binaries::path("demo")?)
            .args(["--listen", listen, "--admin-listen", admin_listen])
            .arg("--directory")
            .arg(directory.path())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let second = timeout(PATIENCE, second).await.context("it goes on")??;
        ensure!(second.status.code() == Some(1), "{}", second.status);
        let said = String::from_utf8(second.stderr)?;
        ensure!(said.contains(&format!("something listens on {taken} already")), "{said}");
        ensure!(said.contains("--directory DIR") && said.lines().count() == 1, "{said}");
    }
    for file in &of_the_first {
        ensure!(std::fs::read_to_string(file)? == "of the first", "{} is touched", file.display());
    }
    Ok(())
}

/// The file is there only when all of it is.
async fn complete(path: &Path) -> anyhow::Result<Value> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Ok(text) = std::fs::read_to_string(path)
            && text.starts_with('{')
        {
            return serde_json::from_str(&text).context("demo.json is not complete");
        }
        sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no demo.json")
}
