//! The official clients that have no credential and let their users log in. It must not know who authorizes.

use super::{McpProgram, Seen, node_command, python_command, run};
use crate::repository::{made_by, repository};
use anyhow::{Context, bail};
use serde_json::{Value, json};

/// Those whose login a program can be driven through: a browser is all that has to be played.
pub const LOGGING_IN: [McpProgram; 4] =
    [McpProgram::PythonAuto, McpProgram::PythonLegacy, McpProgram::Sdk, McpProgram::ClientAuto];

/// What a client without a credential is to do.
pub struct LogIn<'a> {
    /// Where.
    pub url: &'a str,
    /// The certificates that it trusts, in PEM.
    pub ca_pem: &'a str,
    /// The cookie that the user's browser has at the authorization server.
    pub cookie: &'a str,
    /// The tool that it calls then.
    pub tool: &'a str,
    /// With what.
    pub arguments: Value,
}

impl McpProgram {
    /// Runs it without a credential.
    pub async fn log_in(self, asked: &LogIn<'_>) -> anyhow::Result<Seen> {
        let seen = match self {
            Self::PythonAuto => python(asked, "auto").await,
            Self::PythonLegacy => python(asked, "legacy").await,
            Self::Sdk => node(asked, "sdk").await,
            Self::ClientAuto => node(asked, "client-auto").await,
            _ => bail!("{} is not driven through a login", self.name()),
        };
        seen.with_context(|| self.name())
    }
}

async fn python(asked: &LogIn<'_>, mode: &str) -> anyhow::Result<Seen> {
    let told = told(asked, "mode", mode);
    let said = run(python_command("mcp_login.py").await?, &told.to_string()).await?;
    serde_json::from_str(&said).with_context(|| format!("it reported {said}"))
}

async fn node(asked: &LogIn<'_>, client: &str) -> anyhow::Result<Seen> {
    let environment = made_by("node-env", &["clients"]).await?;
    let home = tempfile::tempdir()?;
    let trusted = home.path().join("ca.pem");
    std::fs::write(&trusted, asked.ca_pem)?;
    let mut command = node_command(&environment, home.path());
    command
        .env("NODE_EXTRA_CA_CERTS", trusted)
        .arg(repository().join("tests/node/clients/login.mjs"));
    let said = run(command, &told(asked, "client", client).to_string()).await?;
    serde_json::from_str(&said).with_context(|| format!("it reported {said}"))
}

fn told(asked: &LogIn<'_>, name: &str, value: &str) -> Value {
    json!({
        "url": asked.url, "ca": asked.ca_pem, "cookie": asked.cookie, "tool": asked.tool,
        "arguments": asked.arguments, name: value,
    })
}
