//! The worker's program: two long-running parts, and short steps around them.
//!
//! `agent` holds one tenant's grant and admits its requests; `host` runs the MCP server and holds
//! no secret. `enter` puts itself under limits and becomes another program (a sandbox); `install`
//! prepares a container (a pod). Each is told what it is by one boot document or by flags. This file
//! turns arguments into one of them and outcomes into exit codes; it must not know what they do.

mod agent;
mod backoff;
mod boot;
mod enter;
mod handover;
mod harden;
mod host;
mod inherited;
mod install;
mod json_lines;
mod listen;
mod moment;

#[cfg(fuzzing)]
pub use agent::{fuzzing, fuzzing_of_events, fuzzing_of_headers, fuzzing_of_stdio};

use crate::boot::BootSource;
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

#[derive(Debug, Parser)]
#[command(name = "patchbay-worker", version, about = "The worker of one tenant's MCP server")]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Join control groups, set resource limits, and become a program.
    Enter(enter::Enter),
    /// Admit one tenant's requests and hold its grant.
    Agent(BootArgs),
    /// Run the MCP server, and give the agent connections to it.
    Host(BootArgs),
    /// Copy this program, and make directories, for a container that runs later.
    Install(install::Install),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct BootArgs {
    /// Read the boot document from this inherited descriptor.
    #[arg(long, value_name = "N")]
    boot_fd: Option<i32>,
    /// Read the boot document from this file.
    #[arg(long, value_name = "PATH")]
    boot_file: Option<PathBuf>,
}

impl BootArgs {
    fn source(self) -> anyhow::Result<BootSource> {
        match (self.boot_fd, self.boot_file) {
            (Some(fd), _) => Ok(BootSource::Fd(fd)),
            (None, Some(path)) => Ok(BootSource::File(path)),
            (None, None) => anyhow::bail!("one of --boot-fd and --boot-file is needed"),
        }
    }
}

/// Does what the program's arguments say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.part {
        Part::Enter(enter) => Err(enter.run().into()),
        Part::Agent(args) => run_agent(args),
        Part::Host(args) => run_host(args),
        Part::Install(install) => install.run().map(|()| ExitCode::SUCCESS).map_err(Into::into),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("patchbay-worker: {error:#}");
        ExitCode::FAILURE
    })
}

fn run_agent(args: BootArgs) -> anyhow::Result<ExitCode> {
    harden::harden()?;
    let boot = boot::read(args.source()?).context("the agent's boot document")?;
    log_to_stderr();
    let left = runtime()?.block_on(agent::run(boot))?;
    Ok(if left.is_expected() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_host(args: BootArgs) -> anyhow::Result<ExitCode> {
    harden::harden()?;
    let boot = boot::read(args.source()?).context("the host's boot document")?;
    log_to_stderr();
    runtime()?.block_on(host::run(boot))?;
    Ok(ExitCode::SUCCESS)
}

/// One thread: a worker serves one user, and a thread pool would cost more memory than it saves
/// time.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Logs are JSON lines on stderr; `PATCHBAY_LOG` narrows or widens them (`info` by default).
fn log_to_stderr() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("PATCHBAY_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
}
