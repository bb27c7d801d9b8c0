//! The relay: the MCP server's only way out, an HTTP forward proxy.
//!
//! Every request is refused, as for a class without egress: with an answer that an HTTP client
//! shows to its user, instead of a broken connection. It must not know which process of the server
//! asks.

use std::{io, time::Duration};
use tokio::{
    io::{
        AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
        AsyncWriteExt as _, BufReader,
    },
    time::timeout,
};

/// A request's head is at most this long, bytes.
const MAX_HEAD_BYTES: u64 = 16 * 1024;
/// A client has this long to send the head of its request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

const REFUSAL: &str = "the class of this MCP server allows no connection to this host\n";

/// Answers one proxy connection.
pub(crate) async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    // a client that is answered before it has asked may take the answer for a broken connection
    timeout(HEAD_LIMIT, read_head(&mut stream))
        .await
        .map_err(io::Error::from)??;
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{REFUSAL}",
        REFUSAL.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Reads up to the empty line that ends a head, the end of the stream or the limit.
async fn read_head(stream: impl AsyncBufRead + Unpin) -> io::Result<()> {
    let mut bounded = stream.take(MAX_HEAD_BYTES);
    let mut line = Vec::new();
    loop {
        line.clear();
        bounded.read_until(b'\n', &mut line).await?;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_request_is_refused_in_http() {
        for request in [
            "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n".to_owned(),
            "GET http://169.254.169.254/ HTTP/1.1\r\n\r\n".to_owned(),
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000)),
        ] {
            let (mut client, agent) = tokio::io::duplex(64 * 1024);
            client.write_all(request.as_bytes()).await.unwrap();
            answer(agent).await.unwrap();
            let mut got = String::new();
            client.read_to_string(&mut got).await.unwrap();
            assert!(got.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{got}");
            assert!(got.ends_with(REFUSAL), "{got}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_asks_is_not_waited_for() {
        let (_client, agent) = tokio::io::duplex(64);
        let error = answer(agent).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
