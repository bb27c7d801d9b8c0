//! The official conformance suite, asked of the conformance fixture itself and of the same server behind Patchbay: it
//! finds all that it asks for, and the same.

use anyhow::{Context, ensure};
use patchbay_tests::{
    bench::server::Server,
    binaries,
    conformance::{
        fault::Fault,
        front::Front,
        suite::{self, Report, Revision, all},
    },
    controller::{ControllerConfig, api_key, server_documents, stdio_documents},
};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

const SERVER: &str = "conformance-server";
const CLASS: &str = "conformance";
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the suite and prints the line of the table.
async fn measured(path: &str, url: &str, revision: Revision) -> anyhow::Result<Report> {
    let report = suite::run(url, revision).await?;
    println!("{path} {} {}", revision.name(), report.total);
    Ok(report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_patchbay_the_suite_finds_all_that_it_finds_in_the_server_itself()
-> anyhow::Result<()> {
    let server = Server::of(SERVER).await?;
    let documents = server_documents(SERVER, CLASS, 1, &["alice"], "")?;
    let controller = ControllerConfig::new(documents).start().await?;
    // the suite cannot send a credential
    let front = Front::to(controller.url(CLASS), &api_key("alice"), Fault::None).await?;
    let bridged = ControllerConfig::new(stdio_documents(SERVER, CLASS, 1, &["alice"], "")?);
    let bridged = bridged.start().await?;
    let front_of_bridge = Front::to(bridged.url(CLASS), &api_key("alice"), Fault::None).await?;
    let mut short = Vec::new();
    for revision in Revision::ALL {
        let direct = measured("direct", &server.url, revision).await?;
        if direct.total != all(revision) {
            short.push(format!("direct {}: {:#?}", revision.name(), direct.complaints));
        }
        for (path, url) in [("gateway", &front.url), ("stdio", &front_of_bridge.url)] {
            let through = measured(path, url, revision).await?;
            let differences = through.differences(&direct);
            if !differences.is_empty() {
                let why = &through.complaints;
                short.push(format!("{path} {}: {differences:#?} {why:#?}", revision.name()));
            }
        }
    }
    let logs = [controller.logs(), bridged.logs()].join("\n");
    ensure!(short.is_empty(), "{}\n{logs}", short.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_loses_a_header_falls_short_of_its_server() -> anyhow::Result<()> {
    let server = Server::of(SERVER).await?;
    let lossy = Front::to(&server.url, "anything", Fault::Drops("mcp-param-value")).await?;
    let report = suite::run(&lossy.url, Revision::Modern).await?;
    let (total, all) = (report.total, all(Revision::Modern));
    ensure!(total.failed > 0 && total.passed < all.passed, "{total} in {:#?}", report.scenarios);
    let scenario = "http-custom-header-server-validation";
    let blames_it = |complaint: &String| complaint.contains(scenario);
    ensure!(report.complaints.iter().all(blames_it), "{:#?}", report.complaints);
    ensure!(report.complaints.len() == total.failed as usize, "{:#?}", report.complaints);
    Ok(())
}

#[tokio::test]
async fn the_suites_server_speaks_over_standard_streams_too_in_both_eras() -> anyhow::Result<()> {
    let modern = json!({
        "io.modelcontextprotocol/protocolVersion": Revision::Modern.name(),
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let initialize = json!({
        "protocolVersion": Revision::Legacy.name(),
        "capabilities": {},
        "clientInfo": { "name": "patchbay-tests", "version": "0" },
    });
    let call = |further: Value| {
        let mut params = json!({ "name": "test_simple_text", "arguments": {} });
        params["_meta"] = further;
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params })
    };
    for (opening, call) in [
        (
            vec![
                json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize }),
                json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
            ],
            call(json!({})),
        ),
        (vec![], call(modern)),
    ] {
        let answer = over_stdio(opening.into_iter().chain([call])).await?;
        let said = answer.pointer("/result/content/0/text");
        let wanted = "This is a simple text response for testing.";
        ensure!(said.and_then(Value::as_str) == Some(wanted), "{answer}");
    }
    Ok(())
}

/// Says messages to a server of its own, and reads its answer to the one with the id 2. Its end is that of its input.
async fn over_stdio(messages: impl Iterator<Item = Value>) -> anyhow::Result<Value> {
    let mut process = Command::new(binaries::path(SERVER)?)
        .arg("--stdio")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = process.stdin.take().context("standard input is piped")?;
    for message in messages {
        stdin.write_all(format!("{message}\n").as_bytes()).await?;
    }
    let stdout = process.stdout.take().context("standard output is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let answer = loop {
        let line = timeout(PATIENCE, lines.next_line()).await??.context("it ended")?;
        let message: Value = serde_json::from_str(&line)?;
        if message["id"] == 2 {
            break message;
        }
    };
    drop(stdin);
    let status = timeout(PATIENCE, process.wait()).await.context("it does not end")??;
    ensure!(status.success(), "{status}");
    Ok(answer)
}
