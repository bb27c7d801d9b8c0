//! Checks of a server at the end of some way: each is made behind Patchbay, where it must hold, and behind a proxy that has
//! the fault which it is about, where it must fail. It must not know what a check looks at.

use super::{fault::Fault, front::Front};
use crate::{
    bench::server::Server,
    controller::{Controller, ControllerConfig, api_key, server_documents, stdio_documents},
    mcp::McpClient,
};
use anyhow::{Context, bail, ensure};
use http::{Method, Response};
use hyper::body::Incoming;
use serde_json::json;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const CLASS: &str = "seen-through";
/// Who may use it.
const USERS: [&str; 2] = ["alice", "bob"];

/// What is on its way for longer has been held back. Shorter than the 25 s after which the bridge's own keep-alive would
/// push it out.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// A server, at the end of some way.
pub struct Far {
    /// Its URL.
    pub url: String,
    /// alice, who needs no credential of her own where a proxy adds hers.
    pub client: McpClient,
}

impl Far {
    /// At the end of this URL, by a client with these headers.
    pub fn new(url: &str, headers: &[(&str, &str)]) -> Self {
        Self { url: url.to_owned(), client: McpClient::with_headers(url, headers) }
    }

    /// A user with a credential of their own, who says these headers too.
    pub fn user(&self, name: &str, further: &[(&str, &str)]) -> McpClient {
        let bearer = format!("Bearer {}", api_key(name));
        let headers = [&[("authorization", &*bearer)], further].concat();
        McpClient::with_headers(&self.url, &headers)
    }

    /// A request whose answer is read as it comes.
    pub async fn open(
        &self,
        method: Method,
        further: &[(&str, &str)],
        message: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let opened = self.client.open(method, further, message.to_owned());
        let answer = timeout(PATIENCE, opened).await.context("no headers came")??;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(answer)
    }

    /// One of the fixture's `counters`.
    pub async fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let counters = self.client.call("counters", json!({})).await?;
        counters[name].as_u64().with_context(|| format!("no {name} in {counters}"))
    }

    /// Waits until a counter of the server's has reached a number: another process's state, which it only tells when
    /// asked.
    pub async fn counted(&self, name: &str, number: u64) -> anyhow::Result<()> {
        let reached = async {
            while self.counter(name).await? < number {
                sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        timeout(PATIENCE, reached).await.with_context(|| format!("{name} is not {number}"))?
    }
}

/// Shows that `check` holds behind Patchbay, and that it fails where a proxy has the fault: the same proxy without it
/// changes nothing.
pub async fn found(
    program: &str,
    fault: Fault,
    check: impl AsyncFn(&Far) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    found_in_http(program, fault, &check).await?;
    // the bridge is not only to let pass what a server says, but to say it
    holds_in_stdio(program, check).await
}

/// The same of what only a server that speaks HTTP can see, or say.
pub async fn found_in_http(
    program: &str,
    fault: Fault,
    check: impl AsyncFn(&Far) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let controller = serving(program).await?;
    let (url, key) = (controller.url(CLASS), api_key("alice"));
    check(&alice(&controller)).await.context("behind Patchbay")?;
    let sound = Front::to(url, &key, Fault::None).await?;
    check(&Far::new(&sound.url, &[])).await.context("behind a proxy without a fault")?;
    let faulty = Front::to(url, &key, fault).await?;
    is_found(&format!("{fault:?}"), check(&Far::new(&faulty.url, &[])).await)
}

/// The same of what Patchbay does of its own: it is missed where there is only a proxy, which has no fault but that it lets
/// everything pass.
pub async fn missed_without_patchbay(
    program: &str,
    check: impl AsyncFn(&Far) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    holds_in_http(program, &check).await?;
    let server = Server::of(program).await?;
    let proxy = Front::to(&server.url, &api_key("alice"), Fault::None).await?;
    is_found("a proxy alone", check(&Far::new(&proxy.url, &[])).await)
}

/// Shows that `check` holds of a server behind Patchbay that speaks HTTP.
pub async fn holds_in_http(
    program: &str,
    check: impl AsyncFn(&Far) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    check(&alice(&serving(program).await?)).await.context("behind Patchbay")
}

/// The same of one that speaks on its standard streams.
pub async fn holds_in_stdio(
    program: &str,
    check: impl AsyncFn(&Far) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let documents = stdio_documents(program, CLASS, 1, &USERS, "")?;
    let controller = ControllerConfig::new(documents).start().await?;
    check(&alice(&controller)).await.context("of a server that speaks on its standard streams")
}

async fn serving(program: &str) -> anyhow::Result<Controller> {
    ControllerConfig::new(server_documents(program, CLASS, 1, &USERS, "")?).start().await
}

fn alice(controller: &Controller) -> Far {
    let bearer = format!("Bearer {}", api_key("alice"));
    Far::new(controller.url(CLASS), &[("authorization", &bearer)])
}

fn is_found(fault: &str, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
    match outcome {
        Ok(()) => bail!("{fault} is not found"),
        Err(error) => println!("{fault}: {error:#}"),
    }
    Ok(())
}
