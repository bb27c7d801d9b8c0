//! Programs that speak on their standard streams: each connection of the agent is one of them, from its start to its end.
//!
//! The agent says on the connection which variables the program is to have, and is given the ends of its pipes, so that
//! nothing that is said passes through the host. When the agent closes the connection the program is ended. It must not
//! know what the programs say.

use super::{
    Program,
    connections::Connections,
    server_process::{Piped, ServerProcess, SpawnError},
};
use crate::{
    handover,
    json_lines::{self, JsonLines, LineError},
};
use patchbay_core::{boot::Variable, chain::Chain};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Programs that run at one time; more wait in the listener's queue.
const MAX_PROGRAMS: usize = 128;
/// What an agent may take to say what the program is to be started with.
const WORD_LIMIT: Duration = Duration::from_secs(10);
/// What a program may take to end by itself once its input has ended (MCP, basic/transports/stdio, Shutdown).
const END_LIMIT: Duration = Duration::from_secs(2);
/// What it may take after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// What the last lines of an ended program's log may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Every program that runs, and whether there may be more.
#[derive(Debug, Clone)]
pub(crate) struct Programs(Connections);

/// Why the agent is given no program.
#[derive(Debug, thiserror::Error)]
enum NoProgram {
    #[error("the agent did not say what to start it with")]
    NoWord,
    #[error("the agent's word is none")]
    Word(#[from] LineError),
    #[error("the agent is gone")]
    Gone(#[from] io::Error),
    #[error("it did not start")]
    Spawn(#[from] SpawnError),
}

impl Programs {
    pub(crate) fn new() -> Self {
        Self(Connections::new())
    }

    /// Starts the program for each connection of the agent.
    pub(crate) async fn serve_agent(self, agent_side: UnixListener, program: Arc<Program>) {
        let start = |agent| {
            let (program, closing) = (Arc::clone(&program), self.0.closing.clone());
            async move {
                if let Err(error) = run(agent, &program, closing).await {
                    tracing::warn!(error = %Chain(&error), "no MCP server for the agent");
                }
            }
        };
        self.0.serve(MAX_PROGRAMS, || agent_side.accept(), start).await;
    }

    /// Takes no more connections, and returns when every program has ended.
    pub(crate) async fn stop(&self) {
        self.0.close();
        self.0.tasks.wait().await;
    }
}

async fn run(
    mut agent: UnixStream,
    program: &Program,
    closing: CancellationToken,
) -> Result<(), NoProgram> {
    let variables = {
        let mut words = JsonLines::<_, Vec<Variable>>::new(&mut agent);
        let word = timeout(WORD_LIMIT, words.next()).await.map_err(|_| NoProgram::NoWord)?;
        word?.ok_or(NoProgram::NoWord)?
    };
    let (mut process, Piped { stdin, stdout }) = match program.start_piped(&variables) {
        Ok(started) => started,
        Err(error) => {
            handover::give_nothing(&agent).await?;
            let why = Chain(&error).to_string();
            agent.write_all(&json_lines::line(&why)?).await?;
            return Err(error.into());
        }
    };
    drop(variables);
    let code = match handover::give_pipes(stdin, stdout, &agent).await {
        Ok(()) => tokio::select! {
            code = process.exited() => Some(code),
            // it says nothing more: whatever is read is the end
            _ = agent.read_u8() => None,
            () = closing.cancelled() => None,
        },
        Err(_) => None,
    };
    match code {
        Some(code) => tracing::info!(code, "an MCP server ended"),
        None => end(&mut process).await,
    }
    process.finish_logs(FLUSH_LIMIT).await;
    Ok(())
}

/// Ends a program whose input has ended.
async fn end(process: &mut ServerProcess) {
    match timeout(END_LIMIT, process.exited()).await {
        // by itself, perhaps, before its input ended: the agent may have heard of it first
        Ok(code) => tracing::info!(code, "an MCP server ended"),
        Err(_) => process.stop(STOP_LIMIT).await,
    }
}
