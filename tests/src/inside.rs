//! What an MCP server may see of its surroundings, wherever its worker runs: sandbox and pod are held to the
//! same. It must not know how either is made.

use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::BTreeSet;

/// The environment is what a worker builds from nothing, and no more. `who` is the fixture's `whoami`.
pub fn ensure_environment_is_built(who: &Value) -> anyhow::Result<()> {
    let variables: BTreeSet<_> =
        who["env"].as_object().context("env")?.keys().map(String::as_str).collect();
    let expected = BTreeSet::from([
        "AWS_EC2_METADATA_DISABLED",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "PATH",
        "PORT",
        "TMPDIR",
        "http_proxy",
        "https_proxy",
    ]);
    ensure!(variables == expected, "{variables:?}");
    Ok(())
}
