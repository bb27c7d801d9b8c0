//! A program behind the host, spoken to a line at a time.
//!
//! It turns messages into lines of the program's input, and lines of its output into texts. Lines are bounded in length,
//! and what waits to be written in number; dropping the lines ends the program, and so does its reading nothing. It must
//! not know what is said.

use super::held::HeldText;
use crate::{handover, json_lines, moment::until};
use patchbay_core::boot::Variable;
use std::{io, path::Path, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::pipe::{Receiver, Sender},
    },
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// A message of a program is at most this long, bytes: twice what a client may send.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Messages that wait until the program reads.
const MAX_WAITING: usize = 32;
/// How long a program may read nothing of what it is sent.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How long a message may wait behind others: longer, so that what a program that reads nothing is told is why.
const WAIT_LIMIT: Duration = Duration::from_secs(40);
/// How long the output of a program that has ended is read.
const LAST_WORD_LIMIT: Duration = Duration::from_secs(1);
/// Why a program did not start is told in at most so many bytes.
const MAX_WHY_BYTES: u64 = 4096;

/// A program that runs.
#[derive(Debug)]
pub(super) struct Child {
    input: mpsc::Sender<HeldText>,
    deaf: CancellationToken,
}

/// What a program says.
#[derive(Debug)]
pub(super) struct Lines {
    output: BufReader<Receiver>,
    /// What has come of the next line: kept here, so that waiting for it can be given up.
    partial: Vec<u8>,
    /// Open for as long as somebody listens: its end ends the program, and the program's end is its.
    held: UnixStream,
    /// Once the program has ended: what it said is read until then, whoever has its output still.
    last_word: Option<Instant>,
    /// The program reads nothing of what it is sent, which is its end: whoever waits would wait for ever.
    deaf: CancellationToken,
}

/// A program that did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStarted {
    #[error("the host cannot be asked")]
    Host(#[source] io::Error),
    #[error("{0}")]
    Program(String),
    #[error("the last ones ended early, and the next one may start in {0:?}")]
    Paused(Duration),
}

/// A message that the program did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotSaid {
    #[error("it has ended")]
    Ended,
    #[error("it did not read what it was sent, and is ended")]
    Deaf,
    #[error("it reads too slowly what it is sent")]
    Slow,
}

impl Child {
    /// Starts a program through the host's `socket`, with these variables besides its own.
    pub(super) async fn start(
        socket: &Path,
        variables: &[Variable],
    ) -> Result<(Self, Lines), NotStarted> {
        let asked = async {
            let mut host = UnixStream::connect(socket).await?;
            let word = Zeroizing::new(json_lines::line(&variables).map_err(io::Error::other)?);
            host.write_all(&word).await?;
            let pipes = handover::take_pipes(&host).await?;
            io::Result::Ok((host, pipes))
        };
        let (mut host, pipes) = asked.await.map_err(NotStarted::Host)?;
        let Some((input, output)) = pipes else {
            let mut why = String::new();
            let read = (&mut host).take(MAX_WHY_BYTES).read_to_string(&mut why).await;
            read.map_err(NotStarted::Host)?;
            let why = serde_json::from_str(&why).unwrap_or(why);
            return Err(NotStarted::Program(why));
        };
        let (sender, messages) = mpsc::channel(MAX_WAITING);
        let deaf = CancellationToken::new();
        tokio::spawn(write(messages, input, deaf.clone()));
        Ok((
            Self { input: sender, deaf: deaf.clone() },
            Lines {
                output: BufReader::new(output),
                partial: Vec::new(),
                held: host,
                last_word: None,
                deaf,
            },
        ))
    }

    /// Has the program read a message, soon.
    pub(super) async fn say(&self, message: HeldText) -> Result<(), NotSaid> {
        match timeout(WAIT_LIMIT, self.input.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if self.deaf.is_cancelled() => Err(NotSaid::Deaf),
            Ok(Err(_)) => Err(NotSaid::Ended),
            Err(_) => Err(NotSaid::Slow),
        }
    }

    /// Whether it reads no more.
    pub(super) fn is_over(&self) -> bool {
        self.input.is_closed()
    }

    /// The same of a short message that nobody waits for; it is dropped where the program does not read.
    pub(super) fn tell(&self, message: String) {
        if self.input.try_send(message.into()).is_err() {
            tracing::debug!("an MCP server was not told: it has ended, or does not read");
        }
    }
}

/// Writes until there is nobody to write for, or the program reads no more. Its input ends with that.
async fn write(mut messages: mpsc::Receiver<HeldText>, mut input: Sender, deaf: CancellationToken) {
    while let Some(message) = messages.recv().await {
        let written = async {
            write_all(&mut input, message.text().as_bytes()).await?;
            write_all(&mut input, b"\n").await
        };
        match written.await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                tracing::error!(?READ_LIMIT, "an MCP server reads nothing; it is ended");
                return deaf.cancel();
            }
            Err(error) => return tracing::debug!(%error, "an MCP server reads no more"),
        }
    }
}

/// Writes all of it, as slowly as it is read.
async fn write_all(input: &mut Sender, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // for each part anew: whoever takes its time over a long message reads it still
        timeout(READ_LIMIT, input.write_buf(&mut bytes)).await??;
    }
    Ok(())
}

impl Lines {
    /// Whether the program has ended, for which the host closes the connection, or is to end.
    pub(super) fn is_over(&self) -> bool {
        self.deaf.is_cancelled() || matches!(self.held.try_read(&mut [0]), Ok(0))
    }

    /// Returns when the program has ended, or is to end.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = gone(&self.held) => {}
            () = self.deaf.cancelled() => {}
        }
    }

    /// The next line that says something; none at the end, which a line that is too long is too. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            let room = MAX_LINE_BYTES.saturating_sub(self.partial.len());
            let mut bounded = (&mut self.output).take(u64::try_from(room).unwrap_or(u64::MAX));
            let read = tokio::select! {
                read = bounded.read_until(b'\n', &mut self.partial) => read,
                () = gone(&self.held), if self.last_word.is_none() => {
                    self.last_word = Some(Instant::now() + LAST_WORD_LIMIT);
                    continue;
                }
                () = self.deaf.cancelled() => return None,
                // a process that it left behind holds its output open
                () = until(self.last_word) => return None,
            };
            if let Err(error) = read {
                tracing::warn!(%error, "an MCP server's output cannot be read");
                return None;
            }
            let mut line = std::mem::take(&mut self.partial);
            match line.last() {
                None => return None,
                Some(b'\n') => {}
                Some(_) if line.len() >= MAX_LINE_BYTES => {
                    tracing::error!(MAX_LINE_BYTES, "a message of an MCP server is too long");
                    return None;
                }
                // the last one may lack its end
                Some(_) => {}
            }
            line.truncate(line.trim_ascii_end().len());
            if !line.is_empty() {
                // what is no UTF-8 is no JSON either, and is told as that
                let text = String::from_utf8(line);
                return Some(text.unwrap_or_else(|error| {
                    String::from_utf8_lossy(error.as_bytes()).into_owned()
                }));
            }
        }
    }
}

/// Returns when the host has closed a connection, on which it says nothing.
async fn gone(host: &UnixStream) {
    while host.readable().await.is_ok() {
        match host.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(read) if read > 0 => {}
            Ok(_) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{PipeReader, PipeWriter, Read as _, Write as _, pipe},
        path::PathBuf,
    };
    use tokio::{net::UnixListener, task::spawn_blocking, time::sleep};

    /// A host's socket.
    fn host() -> (tempfile::TempDir, PathBuf, UnixListener) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        let listener = UnixListener::bind(&path).unwrap();
        (directory, path, listener)
    }

    /// A program's own ends of its streams, and the connection that it lives by.
    type Program = (PipeReader, PipeWriter, UnixStream);

    async fn started() -> (Child, Lines, Program) {
        let (_directory, path, listener) = host();
        let starting = tokio::spawn(async move { Child::start(&path, &[]).await });
        let (mut agent, _) = listener.accept().await.unwrap();
        let mut word = [0; 3];
        agent.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"[]\n");
        let ((child_in, stdin), (stdout, child_out)) = (pipe().unwrap(), pipe().unwrap());
        handover::give_pipes(stdin.into(), stdout.into(), &agent).await.unwrap();
        let (child, lines) = starting.await.unwrap().unwrap();
        (child, lines, (child_in, child_out, agent))
    }

    #[tokio::test]
    async fn messages_are_lines_and_dropping_a_child_ends_its_input_and_its_life() {
        let (child, lines, (mut child_in, _child_out, mut agent)) = started().await;
        child.say("{\"a\":1}".to_owned().into()).await.unwrap();
        child.tell("{}".into());
        drop(child);
        let read = spawn_blocking(move || {
            let mut said = String::new();
            child_in.read_to_string(&mut said).unwrap();
            said
        });
        assert_eq!(read.await.unwrap(), "{\"a\":1}\n{}\n");
        drop(lines);
        assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn lines_are_read_to_the_last_and_one_that_is_too_long_is_the_end() {
        let (_child, mut lines, (_child_in, mut child_out, _agent)) = started().await;
        child_out.write_all(b"{\"half\":").unwrap();
        // given up, and come back to
        tokio::select! {
            biased;
            line = lines.next() => panic!("{line:?}"),
            () = tokio::task::yield_now() => {}
        }
        let writing = spawn_blocking(move || {
            child_out.write_all(b"1}\n\n  \r\nlast").unwrap();
        });
        assert_eq!(lines.next().await.unwrap(), "{\"half\":1}");
        assert_eq!(lines.next().await.unwrap(), "last");
        assert_eq!(lines.next().await, None);
        writing.await.unwrap();

        let (_child, mut lines, (_child_in, mut child_out, _agent)) = started().await;
        let writing = spawn_blocking(move || {
            // the reader may go away before all of it is written
            let _ = child_out.write_all(&vec![b'x'; MAX_LINE_BYTES + 1]);
        });
        assert_eq!(lines.next().await, None);
        drop(lines);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_ended_says_no_more_whoever_has_its_output() {
        let (_child, mut lines, (_child_in, mut left_behind, agent)) = started().await;
        left_behind.write_all(b"{}\n").unwrap();
        assert!(!lines.is_over());
        drop(agent);
        lines.ended().await;
        assert!(lines.is_over());
        assert_eq!(lines.next().await.unwrap(), "{}");
        assert_eq!(lines.next().await, None);
        drop(left_behind);
    }

    #[tokio::test]
    async fn a_program_that_does_not_start_says_why() {
        let (_directory, path, listener) = host();
        let starting = tokio::spawn(async move { Child::start(&path, &[]).await });
        let (mut agent, _) = listener.accept().await.unwrap();
        agent.read_exact(&mut [0; 3]).await.unwrap();
        handover::give_nothing(&agent).await.unwrap();
        agent.write_all(b"\"no such file\"\n").await.unwrap();
        drop(agent);
        let error = starting.await.unwrap().unwrap_err();
        assert!(matches!(&error, NotStarted::Program(why) if why == "no such file"), "{error:?}");
        let nobody = Child::start(Path::new("/nowhere"), &[]).await.unwrap_err();
        assert!(matches!(nobody, NotStarted::Host(_)), "{nobody:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_reads_nothing_is_told_only_so_much_and_is_ended() {
        let (child, mut lines, (_child_in, _child_out, mut agent)) = started().await;
        let since = Instant::now();
        let waiting = tokio::spawn(async move {
            let line = lines.next().await;
            (line, lines.is_over())
        });
        let full = async {
            loop {
                if let Err(error) = child.say("x".repeat(64 * 1024).into()).await {
                    return error;
                }
            }
        };
        assert_eq!(full.await, NotSaid::Deaf);
        assert!(since.elapsed() < 2 * READ_LIMIT, "{:?}", since.elapsed());
        assert!(child.is_over());
        assert_eq!(child.say("x".to_owned().into()).await, Err(NotSaid::Deaf));
        // whoever waits for it is told, and the host
        assert_eq!(waiting.await.unwrap(), (None, true));
        assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_reads_slowly_is_not_ended_but_keeps_nobody_waiting_for_long() {
        const PART: usize = 8 * 1024;
        let (child, lines, (child_in, _child_out, _agent)) = started().await;
        let mut child_in = Receiver::from_owned_fd(child_in.into()).unwrap();
        let long = 512 * 1024;
        child.say("x".repeat(long).into()).await.unwrap();
        for _ in 0..MAX_WAITING {
            child.say("{}".to_owned().into()).await.unwrap();
        }
        let since = Instant::now();
        let reading = async {
            let mut read = 0;
            while read < long {
                sleep(READ_LIMIT / 2).await;
                read += child_in.read(&mut [0; PART]).await.unwrap();
            }
        };
        let one_more = child.say("{}".to_owned().into());
        let ((), said) = tokio::join!(reading, one_more);
        assert!(since.elapsed() > 10 * READ_LIMIT);
        assert_eq!(said, Err(NotSaid::Slow));
        assert!(!child.is_over() && !lines.is_over());
    }

    #[tokio::test]
    async fn a_program_whose_input_is_closed_has_ended() {
        let (child, _lines, (child_in, _child_out, _agent)) = started().await;
        drop(child_in);
        while child.say("x".to_owned().into()).await != Err(NotSaid::Ended) {
            tokio::task::yield_now().await;
        }
        assert!(child.is_over());
    }
}
