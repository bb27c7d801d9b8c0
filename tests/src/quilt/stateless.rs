//! What upstream's checks of a stateless container ask of a user's `quilt-mcp`, wherever its worker runs.

use crate::mcp::{McpClient, rpc_response};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// The files that quilt3 has in HOME once a user has used it.
pub const FILES: [&str; 3] = [
    ".local/share/Quilt/auth.json",
    ".local/share/Quilt/config.yml",
    ".local/share/Quilt/credentials.json",
];

/// The handshake of a session, its list of tools, and one of them used, for alice.
pub async fn check_tools(client: &McpClient) -> anyhow::Result<()> {
    let session = client.initialize().await?;
    let headers = [("mcp-session-id", session.id.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let asked = json!({ "jsonrpc": "2.0", "id": "tools", "method": "tools/list" });
    let answer = rpc_response(&client.post(&headers, &asked).await?)?;
    let tools = answer.pointer("/result/tools").and_then(Value::as_array).context("no tools")?;
    ensure!(tools.len() >= 50, "{} tools", tools.len());
    let listed = session.call("bucket_objects_list", json!({ "bucket": "b-alice" })).await?;
    ensure!(listed.to_string().contains("notes/alice.txt"), "{listed}");
    Ok(())
}
