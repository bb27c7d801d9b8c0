//! Waits until the MCP server answers. It must not know what follows from that.

use super::upstream::Upstream;
use crate::backoff::Backoff;
use patchbay_core::chain::Chain;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// A server that took a connection while it started may never answer on it: then it is asked anew.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Returns when the server answers, or at `deadline` with what the last try met, for people.
pub(crate) async fn wait(upstream: &Upstream, deadline: Instant) -> Result<(), String> {
    let mut met = "it was not asked to the end".to_owned();
    let asking = async {
        let mut backoff = Backoff::new();
        loop {
            met = match timeout(ANSWER_LIMIT, upstream.answers()).await {
                Ok(Ok(())) => return,
                Ok(Err(why)) => Chain(&why).to_string(),
                Err(_) => format!("it said nothing for {ANSWER_LIMIT:?}"),
            };
            tracing::debug!(met, "the MCP server does not answer yet");
            sleep(backoff.step()).await;
        }
    };
    let answered = timeout_at(deadline, asking).await;
    answered.map_err(|_| met)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream, UnixListener},
    };

    /// Answers each connection with the next of `answers`, then listens no more.
    async fn answered_by(answers: &[&'static str], ready_path: Option<&str>) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server");
        let listener = UnixListener::bind(&path).unwrap();
        let upstream = Upstream::new(path, 1, "/mcp".into(), ready_path.map(Into::into));
        let mcp_server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = mcp_server.local_addr().unwrap();
        let server = async {
            for answer in answers {
                let (agent, _) = listener.accept().await.unwrap();
                let connection = TcpStream::connect(address).await.unwrap();
                handover::give(connection, &agent).await.unwrap();
                let (mut stream, _) = mcp_server.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                assert!(length > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let deadline = Instant::now() + Duration::from_secs(2);
        tokio::select! {
            answers = wait(&upstream, deadline) => answers,
            () = server => unreachable!(),
        }
    }

    const NOT_ALLOWED: &str =
        "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const OK: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn any_answer_will_do_where_no_ready_path_is_named() {
        answered_by(&["", NOT_ALLOWED], None).await.unwrap();
    }

    #[tokio::test]
    async fn a_ready_path_must_answer_with_success() {
        answered_by(&[NOT_ALLOWED, OK], Some("/ready")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_last_try_met_is_told() {
        let met = answered_by(&[], None).await.unwrap_err();
        assert!(met.starts_with("it said nothing") || met.contains("not asked"), "{met}");
        let nobody = Upstream::new("/nowhere".into(), 1, "/mcp".into(), None);
        let met = wait(&nobody, Instant::now() + Duration::from_secs(1)).await.unwrap_err();
        assert!(met.contains("took no connection") && met.contains("No such file"), "{met}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_kept_with_a_server_that_never_answers() {
        assert!(answered_by(&[], None).await.is_err());
    }
}
