//! Asks an agent whether its worker is ready; what a pod's probes run beside it. It must not know what makes
//! a worker ready.

use crate::backoff::Backoff;
use clap::Args;
use patchbay_core::boot::WORKER_READY;
use std::{io, path::PathBuf, time::Duration};
use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    time::{sleep, timeout},
};

/// Where to ask, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The agent's probe socket.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Wait up to this many seconds for the worker to become ready.
    #[arg(long, value_name = "N", default_value_t = 1)]
    wait_seconds: u64,
}

/// A worker that is not ready, as far as can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    #[error("the agent cannot be asked")]
    Unreachable(#[source] io::Error),
    #[error("the worker leaves")]
    Leaving,
    #[error("the worker was not ready within {0:?}")]
    TimedOut(Duration),
}

impl Probe {
    /// Returns as soon as the worker is ready.
    pub(crate) async fn run(self) -> Result<(), NotReady> {
        let limit = Duration::from_secs(self.wait_seconds);
        timeout(limit, self.ask()).await.map_err(|_| NotReady::TimedOut(limit))?
    }

    async fn ask(&self) -> Result<(), NotReady> {
        let mut stream = self.connect().await.map_err(NotReady::Unreachable)?;
        match stream.read_u8().await {
            Ok(WORKER_READY) => Ok(()),
            Ok(_) | Err(_) => Err(NotReady::Leaving),
        }
    }

    /// Connects to the agent, which may only be starting.
    async fn connect(&self) -> io::Result<UnixStream> {
        let mut backoff = Backoff::new();
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if is_not_there_yet(&error) => sleep(backoff.step()).await,
                result => return result,
            }
        }
    }
}

fn is_not_there_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::AsyncWriteExt as _, net::UnixListener};

    #[tokio::test]
    async fn a_worker_is_ready_when_its_agent_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("probe");
        let probe = || Probe { socket: socket.clone(), wait_seconds: 10 };
        let asked_early = tokio::spawn(probe().run());
        tokio::task::yield_now().await;
        let listener = UnixListener::bind(&socket).unwrap();
        let (mut agent, _) = listener.accept().await.unwrap();
        agent.write_all(&[WORKER_READY]).await.unwrap();
        asked_early.await.unwrap().unwrap();

        let (answer, _) = tokio::join!(probe().run(), async { listener.accept().await.map(drop) });
        assert!(matches!(answer, Err(NotReady::Leaving)), "{answer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_agent_is_not_waited_for_longer_than_asked() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("probe");
        let _listener = UnixListener::bind(&socket).unwrap();
        let probe = Probe { socket, wait_seconds: 3 };
        let answer = probe.run().await;
        assert!(matches!(answer, Err(NotReady::TimedOut(_))), "{answer:?}");
    }
}
