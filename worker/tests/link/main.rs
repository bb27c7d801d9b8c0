//! A real agent and a real host, as child processes without a sandbox, between a gateway's mutual
//! TLS client and a small MCP server.
//!
//! What is proven here is what only the whole can show: that bytes reach the MCP server only for
//! the tenant that is bound, that leaving loses nothing that was admitted, and that every end is
//! reported.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lint's exception for tests does not cover what test functions share"
)]

mod client;
mod doubles;
mod leaving;
mod mcp_server;
mod pairs;
mod policing;
mod relaying;
// the suites' own, whose crate has all of the controller in it
#[path = "../../../tests/src/secrets.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "some of it is for files and processes, and all for a library"
)]
mod secrets;
mod serving;
mod sessioned;
mod sessions;
mod standalone;
mod starting;
mod worker;

use std::time::Duration;

/// Fails if one of these is in a text, in whatever form.
fn hidden(text: &str, secrets: &[&str]) {
    let secrets: Vec<_> = secrets.iter().map(|secret| ("what was granted", *secret)).collect();
    secrets::Secrets::new(&secrets).unwrap().not_in("what anybody may read", text).unwrap();
}

/// Bounds a step that waits for an event, so that a missing event fails the test instead of hanging
/// it.
async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), step).await.expect("the awaited event came")
}
