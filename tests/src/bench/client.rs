//! One kept-alive HTTP/1.1 connection that makes the same tool call again and again, and times it.
//!
//! It does as little as a client can, since its own work is part of every figure: what can be is prepared once, and an
//! answer is only checked for the text that the tool was to say. It must not know whether a gateway or a server is at the
//! other end.

use super::{
    message::{Calls, Era, TOOL},
    rounds::{Caller, Timing},
};
use crate::mcp::{McpClient, modern_headers};
use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// An MCP endpoint, and how it is called.
#[derive(Clone)]
pub struct Endpoint {
    client: McpClient,
    era: Era,
    authority: String,
    path: Uri,
}

/// A connection to an [`Endpoint`]; in the legacy era it has a session of its own.
#[derive(Debug)]
pub struct Connection {
    open: Open,
    authority: String,
    path: Uri,
    headers: HeaderMap,
    calls: Calls,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the connection's bytes; ends with it.
    _driver: AbortOnDropHandle<()>,
}

impl Endpoint {
    /// The endpoint at a plain `http` URL, called without a credential.
    pub fn open(url: &str, era: Era) -> anyhow::Result<Self> {
        Self::called_by(url, McpClient::with_headers(url, &[]), era)
    }

    /// The endpoint at a plain `http` URL, called with this API key.
    pub fn with_key(url: &str, key: &str, era: Era) -> anyhow::Result<Self> {
        Self::called_by(url, McpClient::bearer(url, key), era)
    }

    fn called_by(url: &str, client: McpClient, era: Era) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
        let authority = uri.authority().context("the URL names no host")?.to_string();
        Ok(Self { client, era, authority, path: uri.path().parse()? })
    }

    /// Who calls it.
    pub const fn client(&self) -> &McpClient {
        &self.client
    }

    /// Opens a connection, and in the legacy era begins a session; nothing is sent on the connection yet.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let headers = match self.era {
            Era::Modern => {
                let modern = modern_headers("tools/call", TOOL);
                let modern: Vec<_> = modern.iter().map(|(name, it)| (*name, it.as_str())).collect();
                self.headers(&modern)?
            }
            Era::Legacy => self.headers(&self.client.initialize().await?.headers())?,
        };
        Ok(Connection {
            open: Open::to(&self.authority).await?,
            authority: self.authority.clone(),
            path: self.path.clone(),
            headers,
            calls: Calls::of(self.era),
        })
    }

    fn headers(&self, further: &[(&str, &str)]) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.client.headers(further) {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        headers.insert(header::HOST, HeaderValue::try_from(&self.authority)?);
        Ok(headers)
    }
}

impl Open {
    async fn to(authority: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // a broken connection is seen by the request that is on it
            let _ = connection.await;
        });
        Ok(Self { sender, _driver: AbortOnDropHandle::new(driver) })
    }
}

impl Connection {
    /// Ends its session, if it has one.
    pub async fn end(mut self) -> anyhow::Result<()> {
        if self.headers.contains_key("mcp-session-id") {
            let (head, _) = self.send(Method::DELETE, Bytes::new()).await?.into_parts();
            ensure!(head.status.is_success(), "the session does not end: {}", head.status);
        }
        Ok(())
    }

    async fn send(
        &mut self,
        method: Method,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() = self.path.clone();
        request.headers_mut().clone_from(&self.headers);
        // servers end connections between two requests, after so many or so long; any client opens another one
        if self.open.sender.ready().await.is_err() {
            self.open = Open::to(&self.authority).await?;
            self.open.sender.ready().await?;
        }
        Ok(self.open.sender.send_request(request).await?)
    }
}

impl Caller for Connection {
    async fn call(&mut self) -> anyhow::Result<Timing> {
        let message = self.calls.next_message();
        let begun = Instant::now();
        let (head, mut body) = self.send(Method::POST, message).await?.into_parts();
        let mut received = BytesMut::new();
        let mut first_byte = None;
        while let Some(frame) = body.frame().await {
            if let Ok(bytes) = frame?.into_data()
                && !bytes.is_empty()
            {
                first_byte.get_or_insert_with(|| begun.elapsed());
                received.extend_from_slice(&bytes);
            }
        }
        let complete = begun.elapsed();
        let text = String::from_utf8_lossy(&received);
        ensure!(head.status.is_success() && self.calls.is_answer(&text), "{}: {text}", head.status);
        Ok(Timing { first_byte: first_byte.context("the answer has no body")?, complete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::post};
    use tokio::net::TcpListener;

    async fn endpoint(
        answer: impl Fn(String) -> String + Clone + Send + Sync + 'static,
    ) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let app = Router::new().route(
            "/mcp",
            post(async move |headers: HeaderMap, message: String| {
                assert_eq!(headers["authorization"], "Bearer pb_key");
                answer(message)
            }),
        );
        tokio::spawn(axum::serve(listener, app).into_future());
        Endpoint::with_key(&url, "pb_key", Era::Modern).unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_its_times_are_in_order() {
        let mut connection = endpoint(|message| message).await.connect().await.unwrap();
        for _ in 0..2 {
            let timing = connection.call().await.unwrap();
            assert!(timing.first_byte <= timing.complete, "{timing:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_the_text_is_no_measurement() {
        let endpoint = endpoint(|_| "something else".to_owned()).await;
        let error = endpoint.connect().await.unwrap().call().await.unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
    }
}
