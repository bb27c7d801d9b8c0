//! The next program, started before it is needed. It must not know what a program is used for.

use super::{
    child::{Child, Lines, NotStarted},
    restarts::Restarts,
};
use parking_lot::Mutex;
use patchbay_core::boot::Variable;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep},
};

/// Whoever needs a program now waits at most so long for one to be started: longer pauses are told, since many may come in
/// one, and each of them would wait for its own program.
const PATIENCE: Duration = Duration::from_secs(2);

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
        self.pause().await;
        self.start_now().await
    }

    async fn pause(&self) {
        let wait = self.wait();
        if !wait.is_zero() {
            tracing::warn!(?wait, "programs of the MCP server end early; the next one waits");
            sleep(wait).await;
        }
    }

    fn wait(&self) -> Duration {
        self.restarts.lock().wait(Instant::now())
    }

    async fn start_now(&self) -> Result<Program, NotStarted> {
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

    /// The one that is ready, or another, soon. The next is made ready.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Program, NotStarted> {
        // not held on to while another is started
        let ready = self.ready.lock().await.take();
        let program = match ready {
            Some((child, lines)) if !child.is_over() && !lines.is_over() => (child, lines),
            Some(_) => {
                self.failed();
                self.start_soon().await?
            }
            None => self.start_soon().await?,
        };
        self.prepare();
        Ok(program)
    }

    async fn start_soon(&self) -> Result<Program, NotStarted> {
        match self.wait() {
            wait if wait > PATIENCE => Err(NotStarted::Paused(wait)),
            _ => self.start().await,
        }
    }

    /// Makes one ready, if none is.
    pub(super) fn prepare(self: &Arc<Self>) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // before it holds what whoever needs a program now takes it from
            this.pause().await;
            let mut ready = this.ready.lock().await;
            if ready.is_none() {
                match this.start_now().await {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixListener,
    };

    /// A host whose program does not start.
    async fn start_nothing(listener: UnixListener) {
        while let Ok((mut agent, _)) = listener.accept().await {
            agent.read_exact(&mut [0; 3]).await.unwrap();
            handover::give_nothing(&agent).await.unwrap();
            agent.write_all(b"\"no such file\"\n").await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_needs_a_program_in_a_long_pause_is_told_so_and_waits_for_none_that_is_ahead() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        tokio::spawn(start_nothing(UnixListener::bind(&path).unwrap()));
        let spare = Arc::new(Spare::new(path));
        let begin = Instant::now();
        let mut started = 0;
        let wait = loop {
            match spare.take().await {
                Err(NotStarted::Program(_)) => started += 1,
                Err(NotStarted::Paused(wait)) => break wait,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((started, wait.as_millis()), (6, 3200));
        assert_eq!(begin.elapsed().as_millis(), 3100);

        // it waits for the whole pause
        spare.prepare();
        sleep(Duration::from_millis(1)).await;
        let since = Instant::now();
        assert!(matches!(spare.take().await, Err(NotStarted::Paused(_))));
        assert_eq!(since.elapsed(), Duration::ZERO);
        // one that is short enough is waited for
        sleep(wait.saturating_sub(PATIENCE)).await;
        assert!(matches!(spare.take().await, Err(NotStarted::Program(_))));
    }
}
