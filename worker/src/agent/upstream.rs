//! The MCP server as an HTTP client's other end: requests over connections to the server's port, which
//! the host makes and hands over. Connections are kept and reused; one whose request was dropped is
//! closed. It must not know tenants, or who asks.

use super::{location, policy::body::Held, sse_pair::Endpoint};
use crate::handover;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, uri::InvalidUri};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

/// An unused connection is kept for this long: less than the shortest keep-alive of common servers
/// (5 s), so that no call is written on a connection that the server is about to close.
const KEEP_FOR: Duration = Duration::from_secs(2);
/// Unused connections kept.
const KEEP_AT_MOST: usize = 32;

/// The body of a request to the MCP server: as it comes, or read already.
pub(crate) type RequestBody = Either<Incoming, Held>;

/// A client of the MCP server.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: Client<Connector, RequestBody>,
    port: u16,
    path: String,
    ready_path: Option<String>,
    host: HeaderValue,
}

/// Why the server counts as not answering.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("it took no connection, or broke it")]
    Broken(#[from] Error),
    #[error("its ready path was answered with {0}")]
    Status(StatusCode),
    #[error("its path makes no URL")]
    Path(#[from] InvalidUri),
}

impl Upstream {
    /// A client of the server behind the host's `socket`.
    pub(crate) fn new(
        socket: PathBuf,
        port: u16,
        path: String,
        ready_path: Option<String>,
    ) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_FOR)
            .pool_max_idle_per_host(KEEP_AT_MOST)
            .set_host(false)
            .build(Connector { socket: socket.into() });
        Self { client, port, path, ready_path, host: host(port) }
    }

    /// The server's URL for a forwarded path: `rest` is empty or starts with `/`.
    pub(crate) fn url(&self, rest: &str, query: Option<&str>) -> Result<Uri, InvalidUri> {
        let path = if rest.is_empty() { &self.path } else { self.path.trim_end_matches('/') };
        let (mark, query) = query.map_or(("", ""), |query| ("?", query));
        format!("http://127.0.0.1:{}{path}{rest}{mark}{query}", self.port).parse()
    }

    /// Lets a response's `Location` lead to the server's endpoint alone; whether it led elsewhere.
    pub(crate) fn confine_location(&self, headers: &mut HeaderMap) -> bool {
        location::confine(headers, &self.host, &self.path)
    }

    /// Where the server has `named` that it be sent messages; none if that is not its own endpoint.
    pub(crate) fn endpoint(&self, named: &str, asked: &str) -> Option<Endpoint> {
        Endpoint::of(named, asked, &self.host, &self.path)
    }

    /// Sends a request; its URL is one of [`Self::url`]. Dropping the future, or the response's
    /// body, closes the connection.
    pub(crate) async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Error> {
        request.headers_mut().insert(header::HOST, self.host.clone());
        self.client.request(request).await
    }

    /// Whether the server answers: with success on its ready path, or, where it has none, at all.
    pub(crate) async fn answers(&self) -> Result<(), NoAnswer> {
        let path = self.ready_path.as_ref().unwrap_or(&self.path);
        let mut request = Request::new(Either::Right(Held::default()));
        *request.uri_mut() = format!("http://127.0.0.1:{}{path}", self.port).parse()?;
        let status = self.send(request).await?.status();
        if self.ready_path.is_none() || status.is_success() {
            Ok(())
        } else {
            Err(NoAnswer::Status(status))
        }
    }
}

fn host(port: u16) -> HeaderValue {
    // digits, dots and a colon are always valid in a header; the type does not know it
    HeaderValue::from_str(&format!("127.0.0.1:{port}"))
        .unwrap_or_else(|_| HeaderValue::from_static("127.0.0.1"))
}

/// Asks the host's socket for a connection to the server, whatever the URL.
#[derive(Debug, Clone)]
struct Connector {
    socket: Arc<Path>,
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Connecting {
        let socket = Arc::clone(&self.socket);
        Box::pin(async move {
            let host = UnixStream::connect(socket).await?;
            handover::take(&host).await.map(TokioIo::new)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(path: &str) -> Upstream {
        Upstream::new("/nowhere".into(), 8000, path.into(), None)
    }

    #[tokio::test]
    async fn a_forwarded_path_is_appended_as_it_is() {
        for (server, rest, query, expected) in [
            ("/mcp", "", None, "http://127.0.0.1:8000/mcp"),
            ("/mcp", "/x", Some("a=b?c"), "http://127.0.0.1:8000/mcp/x?a=b?c"),
            ("/mcp", "/../v1/bind", None, "http://127.0.0.1:8000/mcp/../v1/bind"),
            ("/mcp", "//evil.example/", None, "http://127.0.0.1:8000/mcp//evil.example/"),
            ("/mcp", "/@evil.example", None, "http://127.0.0.1:8000/mcp/@evil.example"),
            ("/", "/x", None, "http://127.0.0.1:8000/x"),
            ("/", "", None, "http://127.0.0.1:8000/"),
        ] {
            let url = upstream(server).url(rest, query).unwrap();
            assert_eq!(url.to_string(), expected);
            assert_eq!(url.authority().unwrap(), "127.0.0.1:8000");
        }
    }

    #[tokio::test]
    async fn a_host_that_is_not_there_is_no_answer() {
        assert!(upstream("/mcp").answers().await.is_err());
    }
}
