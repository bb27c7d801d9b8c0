//! The next program, started before it is needed. It must not know what a program is used for.

use super::{
    child::{Child, Lines, NotStarted},
    restarts::Restarts,
};
use parking_lot::Mutex;
use patchbay_core::boot::Variable;
use std::{path::PathBuf, sync::Arc};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep},
};

/// A program, and what it says.
pub(super) type Program = (Child, Lines);

/// Starts programs, and keeps one ready.
#[derive(Debug)]
pub(super) struct Spare {
    socket: PathBuf,
    variables: Mutex<Arc<Vec<Variable>>>,
    ready: AsyncMutex<Option<Program>>,
    restarts: Mutex<Restarts>,
}

impl Spare {
    /// Of the programs that the host starts behind its `socket`.
    pub(super) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            variables: Mutex::default(),
            ready: AsyncMutex::default(),
            restarts: Mutex::default(),
        }
    }

    /// Programs that are started from now on have these variables; one that is ready without them is ended.
    pub(super) async fn set_variables(&self, variables: Vec<Variable>) {
        *self.variables.lock() = Arc::new(variables);
        self.ready.lock().await.take();
    }

    /// A program that nobody has spoken to. Those that end early are started more and more slowly.
    pub(super) async fn start(&self) -> Result<Program, NotStarted> {
        let wait = self.restarts.lock().wait(Instant::now());
        if !wait.is_zero() {
            tracing::warn!(?wait, "programs of the MCP server end early; the next one waits");
            sleep(wait).await;
        }
        let variables = Arc::clone(&self.variables.lock());
        let started = Child::start(&self.socket, &variables).await;
        if let Err(NotStarted::Program(_)) = &started {
            self.failed();
        }
        started
    }

    /// Learns that a program ended before it was of use: the next one may have to wait.
    pub(super) fn failed(&self) {
        self.restarts.lock().failed(Instant::now());
    }

    /// Learns that a program was of use, so that the next may start at once.
    pub(super) fn was_of_use(&self) {
        self.restarts.lock().was_of_use();
    }

    /// The one that is ready, or another. The next is made ready.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Program, NotStarted> {
        // not held on to while another is started
        let ready = self.ready.lock().await.take();
        let program = match ready {
            Some((child, lines)) if !child.is_over() && !lines.is_over() => (child, lines),
            Some(_) => {
                self.failed();
                self.start().await?
            }
            None => self.start().await?,
        };
        self.prepare();
        Ok(program)
    }

    /// Makes one ready, if none is.
    pub(super) fn prepare(self: &Arc<Self>) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let mut ready = this.ready.lock().await;
            if ready.is_none() {
                match this.start().await {
                    Ok(program) => *ready = Some(program),
                    Err(error) => tracing::warn!(%error, "no program is ready ahead"),
                }
            }
        });
    }

    /// Keeps this one ready.
    pub(super) async fn put(&self, program: Program) {
        *self.ready.lock().await = Some(program);
    }
}
