//! One kept-alive HTTP/1.1 connection that asks for the same tool call again and again, and times
//! it.
//!
//! It does as little as a client can, since its own work is part of every figure: the request is
//! prepared once, and an answer is only checked for the text that the tool was to say. It must not
//! know whether a gateway or a server is at the other end.

use crate::mcp::{McpClient, modern_headers, modern_message};
use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::time::Duration;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::task::AbortOnDropHandle;

const TOOL: &str = "echo";
const TEXT: &str = "what the bench says";

/// An MCP endpoint, and the headers that a call of it takes.
#[derive(Debug, Clone)]
pub struct Endpoint {
    authority: String,
    path: Uri,
    headers: HeaderMap,
}

/// A connection to an [`Endpoint`].
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    path: Uri,
    headers: HeaderMap,
    body: Bytes,
    /// Moves the connection's bytes; ends with it.
    _driver: AbortOnDropHandle<()>,
}

/// When the parts of an answer were there, counted from before the request was sent.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The first bytes of the body.
    pub first_byte: Duration,
    /// All of it.
    pub complete: Duration,
}

impl Endpoint {
    /// The endpoint at a plain `http` URL, called without a credential.
    pub fn open(url: &str) -> anyhow::Result<Self> {
        Self::called_by(url, &McpClient::with_headers(url, &[]))
    }

    /// The endpoint at a plain `http` URL, called with this API key.
    pub fn with_key(url: &str, key: &str) -> anyhow::Result<Self> {
        Self::called_by(url, &McpClient::bearer(url, key))
    }

    fn called_by(url: &str, client: &McpClient) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
        let authority = uri.authority().context("the URL names no host")?.to_string();
        let mut headers = HeaderMap::new();
        let modern = modern_headers("tools/call", TOOL);
        let modern: Vec<_> = modern.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for (name, value) in client.headers(&modern) {
            let name = HeaderName::try_from(name)?;
            headers.insert(name, HeaderValue::try_from(value)?);
        }
        headers.insert(header::HOST, HeaderValue::try_from(&authority)?);
        Ok(Self { authority, path: uri.path().parse()?, headers })
    }

    /// Opens a connection; nothing is sent on it yet.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // a broken connection is seen by the request that is on it
            let _ = connection.await;
        });
        let message = modern_message("tools/call", TOOL, &json!({ "text": TEXT }));
        Ok(Connection {
            sender,
            path: self.path.clone(),
            headers: self.headers.clone(),
            body: message.to_string().into(),
            _driver: AbortOnDropHandle::new(driver),
        })
    }
}

impl Connection {
    /// Calls the tool once. An answer that does not hold what the tool was to say is an error.
    pub async fn call(&mut self) -> anyhow::Result<Timing> {
        let mut request = Request::post(self.path.clone()).body(Full::new(self.body.clone()))?;
        request.headers_mut().clone_from(&self.headers);
        let begun = Instant::now();
        self.sender.ready().await?;
        let (head, mut body) = self.sender.send_request(request).await?.into_parts();
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
        ensure!(head.status.is_success() && text.contains(TEXT), "{}: {text}", head.status);
        Ok(Timing { first_byte: first_byte.context("the answer has no body")?, complete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::post};
    use tokio::net::TcpListener;

    async fn endpoint(answer: &'static str) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let app = Router::new().route(
            "/mcp",
            post(async move |headers: HeaderMap| {
                assert_eq!(headers["authorization"], "Bearer pb_key");
                answer
            }),
        );
        tokio::spawn(axum::serve(listener, app).into_future());
        Endpoint::with_key(&url, "pb_key").unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_its_times_are_in_order() {
        let mut connection = endpoint(TEXT).await.connect().await.unwrap();
        for _ in 0..2 {
            let timing = connection.call().await.unwrap();
            assert!(timing.first_byte <= timing.complete, "{timing:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_the_text_is_no_measurement() {
        let mut connection = endpoint("something else").await.connect().await.unwrap();
        let error = connection.call().await.unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
    }
}
