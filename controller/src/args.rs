//! The command line. Doc comments here are what `--help` prints.
#![allow(clippy::doc_markdown, reason = "the help text is not Markdown")]

use crate::{
    clients::ClientArgs, contact::ContactArgs, gateway::GatewayArgs, login::LoginArgs,
    operator::OperatorArgs, verify::VerifyArgs, why::WhyArgs,
};
use clap::{Args as ClapArgs, Parser, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// One isolated MCP worker per user.
///
/// Patchbay reads the API key or token of a user's first request, claims an isolated read-only worker for
/// that user and routes the user's MCP sessions to it.
#[derive(Debug, Parser)]
#[command(name = "patchbay", version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep the workers of a cluster: warm ones ready, bound ones safe, ended ones cleared away.
    Operator(OperatorArgs),
    /// Run gateway and workers on this machine, with workers as sandboxes.
    Local(LocalArgs),
    /// Run a gateway in a Kubernetes cluster, with workers as pods.
    Gateway(GatewayArgs),
    /// Check that this machine can run workers as sandboxes, and say what to fix.
    Doctor(DoctorArgs),
    /// Make an API key: prints the key once, and the entry for an IdentityProvider.
    ApiKey(ApiKeyArgs),
    /// Print the Tenant object of a user, to provision it by hand.
    Tenant(TenantArgs),
    /// Make a first contact as a user would, and tell what each step came to.
    Contact(ContactArgs),
    /// Exchange a Quilt catalog's login code for an API key of the catalog's, and print the key once.
    Login(LoginArgs),
    /// Check from a pod that the cluster gives an installation what its isolation needs.
    Verify(VerifyArgs),
    /// Tell what has become of a user of a cluster: how their tenant stands, what happened, and what to do.
    Why(WhyArgs),
}

/// Arguments of `patchbay local`.
#[derive(Debug, ClapArgs)]
pub(crate) struct LocalArgs {
    /// YAML documents (WorkerClass, IdentityProvider, Tenant): files, or folders of *.yaml and *.yml. Tenants are read again
    /// when they change.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", env = "PATCHBAY_LISTEN")]
    pub(crate) listen: SocketAddr,
    /// Where operators look: /livez, /readyz, /metrics, /tenants. Loopback only.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9090",
        env = "PATCHBAY_ADMIN_LISTEN"
    )]
    pub(crate) admin_listen: SocketAddr,
    /// Directory of what IdentityProviders name by `secretRef`: entry KEY of Secret NAME is the file NAME/KEY in
    /// it. Read again when it changes.
    #[arg(long, value_name = "DIR", env = "PATCHBAY_PROVIDER_SECRETS")]
    pub(crate) provider_secrets: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) clients: ClientArgs,
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
}

/// Where the sandboxes' parts are.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct SandboxArgs {
    /// The worker program [default: patchbay-worker beside this program].
    #[arg(long, value_name = "FILE", env = "PATCHBAY_WORKER")]
    pub(crate) worker: Option<PathBuf>,
    /// Directory for sockets [default: patchbay below $XDG_RUNTIME_DIR, else /run/patchbay for root].
    #[arg(long, value_name = "DIR", env = "PATCHBAY_RUN_DIR")]
    pub(crate) run_dir: Option<PathBuf>,
}

/// Arguments of `patchbay doctor`.
#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,
}

/// Arguments of `patchbay api-key`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ApiKeyArgs {
    /// The user that the key stands for.
    #[arg(long)]
    pub(crate) subject: String,
    /// The key's public id, 1 to 32 lower-case letters and digits [default: random].
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// When the key ends, such as 2027-01-01T00:00:00Z; a time to come [default: never].
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<Timestamp>,
}

/// Arguments of `patchbay tenant`.
#[derive(Debug, ClapArgs)]
pub(crate) struct TenantArgs {
    /// Who vouches for the user: a token's `iss`, a catalog's origin, or an API key provider's issuer.
    #[arg(long)]
    pub(crate) issuer: String,
    /// The user, in the issuer's words.
    #[arg(long)]
    pub(crate) subject: String,
    /// The WorkerClass.
    #[arg(long)]
    pub(crate) class: String,
    /// What the user's tokens say in the claims that the provider lists as authorityClaims, and nothing else,
    /// such as '{"role":"reader"}' [default: none of these claims, as with an API key].
    #[arg(long, value_name = "JSON", value_parser = crate::tenant::claims)]
    pub(crate) authority_claims: Option<Map<String, Value>>,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Operator(args) => crate::operator::run(args).map(|()| ExitCode::SUCCESS),
            Command::Local(args) => crate::local::run(args).map(|()| ExitCode::SUCCESS),
            Command::Gateway(args) => crate::gateway::run(args).map(|()| ExitCode::SUCCESS),
            Command::Doctor(args) => crate::doctor::run(args),
            Command::ApiKey(args) => {
                crate::api_key::run(&args, Timestamp::now()).map(|()| ExitCode::SUCCESS)
            }
            Command::Tenant(args) => crate::tenant::run(args).map(|()| ExitCode::SUCCESS),
            Command::Contact(args) => crate::contact::run(args).map(|()| ExitCode::SUCCESS),
            Command::Login(args) => crate::login::run(args).map(|()| ExitCode::SUCCESS),
            Command::Verify(args) => crate::verify::run(args),
            Command::Why(args) => crate::why::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
