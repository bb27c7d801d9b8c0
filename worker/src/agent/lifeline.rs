//! The agent's end of the lifeline: turns what the host says on it, and its end, into a reason to
//! leave, and passes on files that the host is to place and the word to start the MCP server. One
//! command is under way at a time, so that each answer is the answer to the last. It must not know
//! what leaving means, or what files and variables say.

use super::departure::Departure;
use crate::{
    json_lines::{JsonLines, LineError, line},
    listen::accepted,
};
use patchbay_core::{
    boot::{LifelineCommand, LifelineEvent, Variable},
    link::LeaveReason,
    quilt::PlacedFile,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use zeroize::Zeroizing;

/// The host writes into memory, or starts a process: what takes longer has failed.
const ORDER_LIMIT: Duration = Duration::from_secs(5);

/// What the host has not done, as far as the agent knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("the host could not: {0}")]
    Refused(String),
    #[error("it cannot be said to the host")]
    Unsendable(#[source] LineError),
    #[error("the lifeline broke")]
    Broken(#[source] io::Error),
    #[error("the host is gone")]
    HostGone,
    #[error("the host did not answer within {ORDER_LIMIT:?}")]
    TimedOut,
}

type Outcome = Result<(), OrderError>;

/// Something for the host to do, and who waits for that.
#[derive(Debug)]
pub(crate) struct Order {
    command: LifelineCommand,
    done: oneshot::Sender<Outcome>,
}

#[cfg(test)]
impl Order {
    /// The files, once who asked has been told that they are in place.
    pub(crate) fn placed(self) -> Vec<PlacedFile> {
        answer(self.done, Ok(()));
        match self.command {
            LifelineCommand::Place(files) => files,
            LifelineCommand::Start(_) => unreachable!("no server was to be started"),
        }
    }
}

/// The way to give the host orders.
#[derive(Debug, Clone)]
pub(crate) struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// A way, and its other end for [`Lifeline::serve`].
    pub(crate) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (orders, other_end) = mpsc::channel(1);
        (Self(orders), other_end)
    }

    /// Has the host write these files below the MCP server's HOME.
    pub(crate) async fn place(&self, files: Vec<PlacedFile>) -> Outcome {
        self.give(LifelineCommand::Place(files)).await
    }

    /// Has the host start the MCP server with these variables. It need not answer yet.
    pub(crate) async fn start(&self, variables: Vec<Variable>) -> Outcome {
        self.give(LifelineCommand::Start(variables)).await
    }

    async fn give(&self, command: LifelineCommand) -> Outcome {
        let (done, outcome) = oneshot::channel();
        let giving = async {
            self.0.send(Order { command, done }).await.map_err(|_| OrderError::HostGone)?;
            outcome.await.map_err(|_| OrderError::HostGone)?
        };
        timeout(ORDER_LIMIT, giving).await.map_err(|_| OrderError::TimedOut)?
    }
}

/// An open lifeline.
#[derive(Debug)]
pub(crate) struct Lifeline<S = UnixStream> {
    events: JsonLines<ReadHalf<S>, LifelineEvent>,
    commands: WriteHalf<S>,
}

/// Takes the first connection on the control socket. The host makes it before the MCP server runs,
/// so nothing of the server can be first.
pub(crate) async fn accept(control_side: &UnixListener) -> Lifeline {
    loop {
        if let Some((stream, _)) = accepted(control_side.accept().await).await {
            return Lifeline::new(stream);
        }
    }
}

impl<S: AsyncRead + AsyncWrite> Lifeline<S> {
    fn new(stream: S) -> Self {
        let (events, commands) = split(stream);
        Self { events: JsonLines::new(events), commands }
    }

    /// Carries out orders until the end of the MCP server or of the host, which it returns.
    pub(crate) async fn serve(mut self, mut orders: mpsc::Receiver<Order>) -> Departure {
        let mut waiting = None;
        let detail = loop {
            tokio::select! {
                event = self.events.next() => match event {
                    Ok(Some(LifelineEvent::ServerExited(code))) => break describe(code),
                    Ok(Some(event)) => match (waiting.take(), event) {
                        (Some(done), LifelineEvent::Placed | LifelineEvent::Started) => {
                            answer(done, Ok(()));
                        }
                        (
                            Some(done),
                            LifelineEvent::NotPlaced(why) | LifelineEvent::NotStarted(why),
                        ) => answer(done, Err(OrderError::Refused(why))),
                        _ => break "the host answered what nobody asked".to_owned(),
                    },
                    Ok(None) => break "the host is gone".to_owned(),
                    Err(LineError::Broken(error)) => break format!("the lifeline broke: {error}"),
                    Err(_) => break "the host said something unknown".to_owned(),
                },
                Some(Order { command, done }) = orders.recv(), if waiting.is_none() => {
                    match self.command(&command).await {
                        Ok(()) => waiting = Some(done),
                        Err(error) => answer(done, Err(error)),
                    }
                }
            }
        };
        Departure::new(LeaveReason::ServerExited, detail)
    }

    async fn command(&mut self, command: &LifelineCommand) -> Outcome {
        let line = line(command).map(Zeroizing::new).map_err(OrderError::Unsendable)?;
        self.commands.write_all(&line).await.map_err(OrderError::Broken)
    }
}

/// Who waited may have given up, and has then told its own caller.
fn answer(done: oneshot::Sender<Outcome>, outcome: Outcome) {
    let _ = done.send(outcome);
}

fn describe(code: i32) -> String {
    if code < 0 {
        format!("the MCP server was ended by signal {}", code.unsigned_abs())
    } else {
        format!("the MCP server ended with exit code {code}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, BufReader, DuplexStream};

    fn lifeline() -> (Lifeline<DuplexStream>, BufReader<DuplexStream>) {
        let (agent, host) = tokio::io::duplex(64 * 1024);
        (Lifeline::new(agent), BufReader::new(host))
    }

    async fn departure(said: &[u8]) -> Departure {
        let (lifeline, mut host) = lifeline();
        host.write_all(said).await.unwrap();
        drop(host);
        lifeline.serve(Orders::new().1).await
    }

    #[tokio::test]
    async fn every_end_of_a_lifeline_is_the_servers_end_and_says_how() {
        for (said, detail) in [
            (&b"{\"serverExited\":7}\n"[..], "the MCP server ended with exit code 7"),
            (b"{\"serverExited\":-9}\n", "the MCP server was ended by signal 9"),
            (b"", "the host is gone"),
            (b"{}\n", "the host said something unknown"),
            (b"\"placed\"\n", "the host answered what nobody asked"),
        ] {
            let expected = Departure::new(LeaveReason::ServerExited, detail);
            assert_eq!(departure(said).await, expected);
        }
    }

    fn file() -> PlacedFile {
        PlacedFile { path: "/home/x".into(), text: "text".into(), mode: 0o600 }
    }

    #[tokio::test]
    async fn each_order_gets_the_answer_that_follows_it() {
        let (lifeline, mut host) = lifeline();
        let (giving, orders) = Orders::new();
        let serving = tokio::spawn(lifeline.serve(orders));
        for (said, is_placed) in [("\"placed\"\n", true), ("{\"notPlaced\":\"full\"}\n", false)] {
            let asked = tokio::spawn({
                let giving = giving.clone();
                async move { giving.place(vec![file()]).await }
            });
            let mut line = String::new();
            host.read_line(&mut line).await.unwrap();
            let command: LifelineCommand = serde_json::from_str(&line).unwrap();
            assert_eq!(command, LifelineCommand::Place(vec![file()]));
            host.write_all(said.as_bytes()).await.unwrap();
            assert_eq!(asked.await.unwrap().is_ok(), is_placed);
        }
        drop(host);
        serving.await.unwrap();
        assert!(matches!(giving.place(vec![file()]).await, Err(OrderError::HostGone)));
    }

    #[tokio::test]
    async fn the_word_to_start_carries_its_variables_and_hears_how_that_went() {
        let (lifeline, mut host) = lifeline();
        let (giving, orders) = Orders::new();
        tokio::spawn(lifeline.serve(orders));
        let variables = [Variable { name: "KEY".into(), value: "the-value".into() }];
        assert!(!format!("{variables:?}").contains("the-value"));
        for (said, is_started) in [("\"started\"\n", true), ("{\"notStarted\":\"no\"}\n", false)] {
            let asked = tokio::spawn({
                let (giving, variables) = (giving.clone(), variables.to_vec());
                async move { giving.start(variables).await }
            });
            let mut line = String::new();
            host.read_line(&mut line).await.unwrap();
            assert_eq!(line, "{\"start\":[{\"name\":\"KEY\",\"value\":\"the-value\"}]}\n");
            host.write_all(said.as_bytes()).await.unwrap();
            assert_eq!(asked.await.unwrap().is_ok(), is_started);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_does_not_answer_is_not_waited_for() {
        let (lifeline, _host) = lifeline();
        let (giving, orders) = Orders::new();
        tokio::spawn(lifeline.serve(orders));
        assert!(matches!(giving.place(vec![file()]).await, Err(OrderError::TimedOut)));
    }

    #[tokio::test]
    async fn files_too_long_for_a_line_are_not_sent() {
        let (lifeline, _host) = lifeline();
        let (giving, orders) = Orders::new();
        tokio::spawn(lifeline.serve(orders));
        let long = PlacedFile { text: "x".repeat(300_000).into(), ..file() };
        assert!(matches!(giving.place(vec![long]).await, Err(OrderError::Unsendable(_))));
    }
}
