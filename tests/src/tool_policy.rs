//! What clients see of a class's tool policy. Answers in, verdicts out.

use crate::{
    http::Answer,
    mcp::{McpClient, Session, listed},
};
use anyhow::ensure;
use http::StatusCode;
use serde_json::json;
use std::collections::BTreeSet;

/// That a call was answered in its server's place, in words that begin so.
pub fn denied(answer: &Answer, text: &str) -> anyhow::Result<()> {
    ensure!(answer.status == StatusCode::OK, "{} {}", answer.status, answer.text());
    let error = &answer.json()?["error"];
    ensure!(error["code"] == -32009, "{error}");
    ensure!(error["message"].as_str().is_some_and(|it| it.starts_with(text)), "{error}");
    Ok(())
}

/// The tools that a client is offered in a session.
pub async fn offered_in(
    session: &Session<'_>,
    client: &McpClient,
) -> anyhow::Result<BTreeSet<String>> {
    let headers = [("mcp-session-id", session.id.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    listed(&client.post(&headers, &list).await?, "tools")
}
