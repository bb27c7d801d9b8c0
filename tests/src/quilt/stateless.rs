//! What upstream's checks of a stateless container ask of a user's `quilt-mcp`, wherever its worker runs.

use super::isolation::listing;
use crate::{
    mcp::{McpClient, rpc_response},
    sandbox::{self, HOME},
};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// quilt3's directory below HOME.
pub const DATA: &str = ".local/share/Quilt";

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
    let listed = session.call("bucket_objects_list", listing("b-alice")).await?;
    ensure!(listed.to_string().contains("notes/alice.txt"), "{listed}");
    Ok(())
}

/// The files of a server's HOME, without the index of the machine's fonts, which a library of the server makes for
/// itself at start.
pub fn home(server: u32) -> anyhow::Result<Vec<String>> {
    let names = sandbox::names_in(server, HOME)?;
    Ok(names.into_iter().filter(|name| !name.starts_with(".cache/fontconfig/")).collect())
}

/// A text in one of quilt3's files.
pub fn in_file(server: u32, file: &str, pointer: &str) -> anyhow::Result<String> {
    let path = sandbox::path_in(server, &format!("{HOME}/{DATA}/{file}"));
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let text = json.pointer(pointer).and_then(Value::as_str);
    Ok(text.with_context(|| format!("{file} has no {pointer}"))?.to_owned())
}

/// What quilt3 calls a registry: its host alone, and no TLS, which the relay adds.
pub fn known_as(registry: &str) -> anyhow::Result<String> {
    let registry: http::Uri = registry.parse()?;
    Ok(format!("http://{}", registry.host().context("no host")?))
}

/// Where the stand-in for a user's bearer is in quilt3's session with a registry of this name.
pub fn stand_in_of(known_as: &str) -> String {
    format!("/{}/access_token", known_as.replace('~', "~0").replace('/', "~1"))
}
