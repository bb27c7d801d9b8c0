//! `patchbay contact`: what a user's first contact comes to, told step by step.
//!
//! It is a client like any other and knows nothing of the gateway that it speaks to. A step that fails ends it,
//! with what the gateway said; the credential is read from a file and never shown.

mod args;
mod client;
mod connector;

pub(crate) use args::ContactArgs;

use anyhow::{Context, ensure};
use client::Client;
use connector::Connector;
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
use tokio::time::Instant;

/// A credential is at most this long: no gateway takes a longer one.
const MAX_CREDENTIAL_BYTES: u64 = 64 * 1024;
/// A list of tools has at most this many pages.
const MAX_PAGES: usize = 100;
const PROTOCOL: &str = "2025-11-25";

/// Makes the contact.
pub(crate) fn run(args: ContactArgs) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(contact(args))
}

async fn contact(args: ContactArgs) -> anyhow::Result<()> {
    let ContactArgs { url, credential, ca_file, connect, timeout } = args;
    let (header, value) = match (credential.token_file, credential.api_key_file) {
        (Some(file), _) => ("authorization", format!("Bearer {}", read(&file)?)),
        (None, Some(file)) => ("x-api-key", read(&file)?),
        (None, None) => anyhow::bail!("--token-file or --api-key-file is needed"),
    };
    let roots = ca_file
        .map(|file| fs::read(&file).with_context(|| format!("cannot read {}", file.display())))
        .transpose()?;
    let limit = Duration::from_secs(timeout);
    let connector = Connector::new(connect.as_deref())?;
    let mut client = Client::new(&url, (header, &value), roots.as_deref(), connector, limit)?;

    let begun = Instant::now();
    let initialized = client
        .request(
            "initialize",
            json!({
                "protocolVersion": PROTOCOL,
                "capabilities": {},
                "clientInfo": { "name": "patchbay", "version": env!("CARGO_PKG_VERSION") },
            }),
        )
        .await
        .context("initialize")?;
    let text = |pointer: &str| initialized.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    let (name, version) = (text("/serverInfo/name"), text("/serverInfo/version"));
    let protocol = text("/protocolVersion").to_owned();
    told("initialize", begun, &format!("{name} {version}, protocol {protocol}"));
    client.speak(protocol);
    client.notify("notifications/initialized").await.context("notifications/initialized")?;

    let begun = Instant::now();
    let tools = tools(&mut client).await.context("tools/list")?;
    told("tools/list", begun, &format!("{tools} tools"));
    // the worker would end the session by itself, with its tenant's idleness
    client.end().await.context("end of the session")
}

async fn tools(client: &mut Client) -> anyhow::Result<usize> {
    let mut count = 0;
    let mut parameters = json!({});
    for _ in 0..MAX_PAGES {
        let page = client.request("tools/list", parameters).await?;
        count += page["tools"].as_array().context("the answer has no list of tools")?.len();
        match page["nextCursor"].as_str() {
            Some(cursor) => parameters = json!({ "cursor": cursor }),
            None => return Ok(count),
        }
    }
    anyhow::bail!("the list of tools has more than {MAX_PAGES} pages")
}

fn told(step: &str, begun: Instant, what: &str) {
    // what a server says of itself may hold anything
    let what: String = what.chars().filter(|c| !c.is_control()).take(200).collect();
    println!("{step:<12} ok  {:>7.3} s  {what}", begun.elapsed().as_secs_f64());
}

fn read(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let size = fs::metadata(file).with_context(|| format!("cannot read {shown}"))?.len();
    ensure!(size <= MAX_CREDENTIAL_BYTES, "{shown} holds no credential: it is {size} bytes long");
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    let text = text.trim();
    ensure!(!text.is_empty(), "{shown} is empty: write the token or key into it");
    Ok(text.to_owned())
}
