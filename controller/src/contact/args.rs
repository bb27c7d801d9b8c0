//! Arguments of `patchbay contact`.
#![allow(clippy::doc_markdown, reason = "the help text is not Markdown")]

use std::path::PathBuf;

/// Arguments of `patchbay contact`.
#[derive(Debug, clap::Args)]
pub(crate) struct ContactArgs {
    /// The MCP endpoint: http(s)://HOST[:PORT]/PATH.
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) credential: CredentialArgs,
    /// PEM file of certificates to trust besides the public ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// HOST:PORT to connect to instead of the one of --url, whose name a certificate must still have: where that name
    /// leads elsewhere or nowhere from here.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) connect: Option<String>,
    /// How long any one step may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
}

/// Who makes the contact.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct CredentialArgs {
    /// File with a token; sent as `Authorization: Bearer`.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with an API key; sent as `X-API-Key`.
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
}
