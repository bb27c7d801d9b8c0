//! The host's end of the lifeline: the connection that says, by being open, that host and agent
//! live. The host writes events on it, and reads the agent's commands. It must not know what
//! follows from an event, or how a command is carried out.

use crate::{
    backoff::Backoff,
    json_lines::{JsonLines, line},
};
use patchbay_core::boot::{LifelineCommand, LifelineEvent};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep, timeout_at},
};

/// An open lifeline.
#[derive(Debug)]
pub(crate) struct Lifeline {
    commands: JsonLines<OwnedReadHalf, LifelineCommand>,
    events: OwnedWriteHalf,
}

/// A lifeline that did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LifelineError {
    #[error("nobody listened on `{}` within {limit:?}", path.display())]
    NobodyThere {
        path: PathBuf,
        limit: Duration,
        #[source]
        source: io::Error,
    },
    #[error("cannot connect to `{}`", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Lifeline {
    fn new(stream: UnixStream) -> Self {
        let (commands, events) = stream.into_split();
        Self { commands: JsonLines::new(commands), events }
    }

    /// Connects to the agent, which may come up to `limit` later.
    pub(crate) async fn connect(path: &Path, limit: Duration) -> Result<Self, LifelineError> {
        let deadline = Instant::now() + limit;
        let mut backoff = Backoff::new();
        loop {
            let source = match UnixStream::connect(path).await {
                Ok(stream) => return Ok(Self::new(stream)),
                Err(error) => error,
            };
            let path = path.to_owned();
            if !is_not_there_yet(&source) {
                return Err(LifelineError::Connect { path, source });
            }
            if timeout_at(deadline, sleep(backoff.step())).await.is_err() {
                return Err(LifelineError::NobodyThere { path, limit, source });
            }
        }
    }

    /// The agent's next command; none when it is gone, or speaks what is not understood, which is
    /// no less an end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<LifelineCommand> {
        self.commands
            .next()
            .await
            .inspect_err(|error| tracing::warn!(%error, "the lifeline failed"))
            .unwrap_or_default()
    }

    /// Tells the agent. If it is gone there is nobody to tell.
    pub(crate) async fn report(&mut self, event: &LifelineEvent) {
        let line = match line(event) {
            Ok(line) => line,
            Err(error) => return tracing::warn!(%error, "an event could not be put into words"),
        };
        if let Err(error) = self.events.write_all(&line).await {
            tracing::warn!(%error, "the agent could not be told");
        }
    }
}

fn is_not_there_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncBufReadExt as _, BufReader},
        net::UnixListener,
    };

    #[tokio::test]
    async fn a_host_that_starts_first_waits_for_its_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let connecting = tokio::spawn({
            let path = path.clone();
            async move { Lifeline::connect(&path, Duration::from_secs(10)).await }
        });
        tokio::task::yield_now().await;
        let listener = UnixListener::bind(&path).unwrap();
        let (agent, _) = listener.accept().await.unwrap();
        let mut lifeline = connecting.await.unwrap().unwrap();

        lifeline.report(&LifelineEvent::ServerExited(-9)).await;
        let mut agent = BufReader::new(agent);
        let mut line = String::new();
        agent.read_line(&mut line).await.unwrap();
        assert_eq!(line, "{\"serverExited\":-9}\n");
        let command = LifelineCommand::Place(Vec::new());
        agent.write_all(&crate::json_lines::line(&command).unwrap()).await.unwrap();
        assert_eq!(lifeline.next().await, Some(command));
        drop(agent);
        assert_eq!(lifeline.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_there_is_an_error_after_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let error = Lifeline::connect(&path, Duration::from_secs(30)).await.unwrap_err();
        assert!(matches!(error, LifelineError::NobodyThere { .. }), "{error:?}");
    }
}
