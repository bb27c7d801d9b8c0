//! The host: runs the MCP server and pipes bytes between it and the agent.
//!
//! It turns one boot document into one child process, connections to the agent's socket into
//! connections to the server's port, and the server's proxy connections into connections to the
//! agent. It ends with the server, or ends the server with the agent. A server that speaks on its standard streams is
//! started anew for each connection of the agent, which is given its pipes. It holds no secret (what its
//! server is given passes through and is not kept) and must not know tenants, HTTP or MCP.

mod connections;
mod lifeline;
mod log_lines;
mod pipe;
mod place;
mod reap;
mod server_process;
mod stdio;

use self::{
    lifeline::{Lifeline, LifelineError},
    pipe::Piping,
    place::{Home, PlaceError},
    reap::Reaper,
    server_process::{Piped, ServerProcess, SpawnError, Surroundings},
    stdio::Programs,
};
use crate::{
    listen::{self, ListenError},
    moment::until,
};
use patchbay_core::{
    boot::{HostBoot, LifelineCommand, LifelineEvent, Variable},
    chain::Chain,
    class::{Start, Transport},
    quilt::PlacedFile,
};
use secrecy::ExposeSecret as _;
use std::{collections::BTreeMap, io, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::Instant,
};

/// In a pod the agent's container may start later than the host's.
const AGENT_LIMIT: Duration = Duration::from_secs(30);
/// What a server may take to end by itself after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// What the last bytes of an ended server may take to reach the agent.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Why a host could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("cannot watch signals")]
    Signals(#[source] io::Error),
    #[error("no lifeline to the agent")]
    Lifeline(#[from] LifelineError),
    #[error("no way in for the agent")]
    Listen(#[from] ListenError),
    #[error("cannot listen on the proxy port {port}")]
    ProxyPort {
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("the MCP server's files are not in place")]
    Place(#[from] PlaceError),
    #[error("cannot collect ended processes")]
    Reap(#[source] io::Error),
    #[error("the MCP server did not start")]
    Spawn(#[from] SpawnError),
}

/// Why a running host ends.
enum End {
    ServerExited(i32),
    AgentGone,
    Terminated,
}

/// Runs the host until its server, its agent or its supervisor ends it.
pub(crate) async fn run(boot: HostBoot) -> Result<(), HostError> {
    let HostBoot {
        command,
        env,
        start,
        files,
        workdir,
        server,
        control,
        transport,
        proxy_port,
        agent_leaves_seconds,
    } = boot;
    let agent_leaves = agent_leaves_seconds.map(Duration::from_secs);
    let mut terminate = signal(SignalKind::terminate()).map_err(HostError::Signals)?;
    // the agent takes the first connection for the lifeline, so nothing of the server may run
    // before it
    let mut lifeline = tokio::select! {
        lifeline = Lifeline::connect(&control, AGENT_LIMIT) => lifeline?,
        _ = terminate.recv() => return Ok(()),
    };
    let agent_side = listen::unix(&server)?;
    let proxy_side = TcpListener::bind((Ipv4Addr::LOCALHOST, proxy_port))
        .await
        .map_err(|source| HostError::ProxyPort { port: proxy_port, source })?;
    place::before_start(&files)?;
    let home = env.get("HOME").and_then(|home| {
        Home::open(home.as_ref())
            .inspect_err(|error| tracing::warn!(error = %Chain(error), "no file can be placed"))
            .ok()
    });
    let reaper = Reaper::start().map_err(HostError::Reap)?;
    let program = Arc::new(Program { command, env, workdir, reaper });
    let piping = Piping::new();
    let programs = Programs::new();
    let mut process = match transport {
        Transport::Http { port, .. } => {
            let process = match start {
                Start::Warm => Some(program.start(&[])?),
                Start::OnBind => None,
            };
            tokio::spawn(piping.clone().serve_agent(agent_side, port));
            process
        }
        Transport::Stdio => {
            tokio::spawn(programs.clone().serve_agent(agent_side, Arc::clone(&program)));
            None
        }
    };
    tokio::spawn(piping.clone().serve_proxy(proxy_side, control));

    // set once this host is asked to end, where the agent is asked too and leaves first
    let mut agent_must_be_gone: Option<Instant> = None;
    let end = loop {
        tokio::select! {
            code = exited(&mut process) => break End::ServerExited(code),
            command = lifeline.next() => match command {
                Some(LifelineCommand::Place(files)) => {
                    lifeline.report(&place_in(home.as_ref(), &files)).await;
                }
                Some(LifelineCommand::Start(variables)) => {
                    lifeline.report(&program.start_once(&mut process, &variables)).await;
                }
                None => break End::AgentGone,
            },
            _ = terminate.recv() => match (agent_leaves, agent_must_be_gone) {
                // the calls in flight are the agent's to finish, and need the MCP server: the lifeline's
                // end says that they have
                (Some(limit), None) => {
                    tracing::info!("asked to end; waiting for the agent to leave");
                    agent_must_be_gone = Some(Instant::now() + limit);
                }
                _ => break End::Terminated,
            },
            () = until(agent_must_be_gone) => {
                tracing::warn!("the agent did not leave in time");
                break End::Terminated;
            }
        }
    };
    match end {
        End::ServerExited(code) => {
            tracing::info!(code, "the MCP server ended");
            // first the news, so that the agent refuses what comes now; then the server's last
            // bytes
            lifeline.report(&LifelineEvent::ServerExited(code)).await;
            piping.finish(FLUSH_LIMIT).await;
        }
        End::AgentGone => {
            tracing::info!("the agent is gone; ending the MCP server");
            tokio::join!(stop(&mut process), programs.stop());
        }
        End::Terminated => {
            tracing::info!("asked to end; ending the MCP server");
            tokio::join!(stop(&mut process), programs.stop());
        }
    }
    if let Some(process) = process {
        process.finish_logs(FLUSH_LIMIT).await;
    }
    Ok(())
}

/// What the MCP server is started from.
struct Program {
    command: Vec<String>,
    env: BTreeMap<String, String>,
    workdir: PathBuf,
    reaper: Arc<Reaper>,
}

impl Program {
    /// Starts it with these variables too. Its process alone keeps them.
    fn start(&self, variables: &[Variable]) -> Result<ServerProcess, SpawnError> {
        ServerProcess::spawn(&self.command, self.surroundings(variables))
    }

    /// The same of one that is spoken to on its standard streams.
    fn start_piped(&self, variables: &[Variable]) -> Result<(ServerProcess, Piped), SpawnError> {
        ServerProcess::spawn_piped(&self.command, self.surroundings(variables))
    }

    fn surroundings<'a>(
        &'a self,
        variables: &'a [Variable],
    ) -> Surroundings<'a, impl Iterator<Item = (&'a str, &'a str)>> {
        let own = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let added = variables.iter().map(|it| (it.name.as_str(), it.value.expose_secret()));
        Surroundings { env: own.chain(added), workdir: &self.workdir, reaper: &self.reaper }
    }

    /// Starts it if it never was.
    fn start_once(
        &self,
        process: &mut Option<ServerProcess>,
        variables: &[Variable],
    ) -> LifelineEvent {
        if process.is_some() {
            return LifelineEvent::NotStarted("it runs already".to_owned());
        }
        match self.start(variables) {
            Ok(started) => {
                *process = Some(started);
                LifelineEvent::Started
            }
            Err(error) => {
                let why = Chain(&error).to_string();
                tracing::error!(why, "the MCP server did not start");
                LifelineEvent::NotStarted(why)
            }
        }
    }
}

/// Waits for the end of a server that runs; for ever where none does.
async fn exited(process: &mut Option<ServerProcess>) -> i32 {
    match process {
        Some(process) => process.exited().await,
        None => std::future::pending().await,
    }
}

async fn stop(process: &mut Option<ServerProcess>) {
    if let Some(process) = process {
        process.stop(STOP_LIMIT).await;
    }
}

/// Places files in HOME, if the MCP server has one, and says how that went.
fn place_in(home: Option<&Home>, files: &[PlacedFile]) -> LifelineEvent {
    let placed = home.ok_or(PlaceError::NoHome).and_then(|home| home.place(files));
    match placed {
        Ok(()) => LifelineEvent::Placed,
        Err(error) => {
            let why = Chain(&error).to_string();
            tracing::warn!(why, "files of the agent are not in place");
            LifelineEvent::NotPlaced(why)
        }
    }
}
