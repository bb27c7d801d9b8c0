//! The agent's end of the lifeline: turns what the host says on it, and its end, into a reason to
//! leave. It must not know what leaving means.

use super::departure::Departure;
use crate::listen::accepted;
use patchbay_core::{boot::LifelineEvent, link::LeaveReason};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

/// An event is one line of at most this many bytes.
const MAX_EVENT_BYTES: u64 = 4096;

/// An open lifeline.
#[derive(Debug)]
pub(crate) struct Lifeline<S = UnixStream>(S);

/// Takes the first connection on the control socket. The host makes it before the MCP server runs,
/// so nothing of the server can be first.
pub(crate) async fn accept(control_side: &UnixListener) -> Lifeline {
    loop {
        if let Some((stream, _)) = accepted(control_side.accept().await).await {
            return Lifeline(stream);
        }
    }
}

impl<S: AsyncRead + Unpin> Lifeline<S> {
    /// Waits for the end of the MCP server or of the host.
    pub(crate) async fn ended(self) -> Departure {
        let mut line = Vec::new();
        let mut bounded = BufReader::new(self.0).take(MAX_EVENT_BYTES);
        let detail = match bounded.read_until(b'\n', &mut line).await {
            Ok(0) => "the host is gone".to_owned(),
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(LifelineEvent::ServerExited(code)) => describe(code),
                Err(_) => "the host said something unknown".to_owned(),
            },
            Err(error) => format!("the lifeline broke: {error}"),
        };
        Departure::new(LeaveReason::ServerExited, detail)
    }
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

    async fn departure(said: &[u8]) -> Departure {
        Lifeline(said).ended().await
    }

    #[tokio::test]
    async fn every_end_of_a_lifeline_is_the_servers_end_and_says_how() {
        for (said, detail) in [
            (
                &b"{\"serverExited\":7}\n"[..],
                "the MCP server ended with exit code 7",
            ),
            (
                b"{\"serverExited\":-9}\n",
                "the MCP server was ended by signal 9",
            ),
            (b"", "the host is gone"),
            (b"{}\n", "the host said something unknown"),
        ] {
            let expected = Departure::new(LeaveReason::ServerExited, detail);
            assert_eq!(departure(said).await, expected);
        }
    }

    #[tokio::test]
    async fn an_endless_line_is_not_read_for_ever() {
        let endless = Lifeline(tokio::io::repeat(b'x'));
        let expected = Departure::new(LeaveReason::ServerExited, "the host said something unknown");
        assert_eq!(endless.ended().await, expected);
    }
}
