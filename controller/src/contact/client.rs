//! One MCP session over HTTP (2025-11-25 and before): requests and their answers, as JSON or as an event stream.
//!
//! Bounded in time and bytes. It must not know what is asked.

use super::connector::Connector;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy, rt::TokioExecutor};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// An answer is at most this long.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Of an answer that is shown.
const MAX_SHOWN: usize = 500;

/// A client of one endpoint with one credential.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<Connector>, Full<Bytes>>,
    endpoint: Uri,
    credential: (&'static str, HeaderValue),
    limit: Duration,
    session: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    last_id: u64,
}

impl Client {
    pub(super) fn new(
        url: &str,
        credential: (&'static str, &str),
        roots: Option<&[u8]>,
        connector: Connector,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let endpoint: Uri = url.parse().ok().filter(is_endpoint).with_context(|| {
            format!("--url {url} is no endpoint: write http(s)://HOST[:PORT]/PATH")
        })?;
        let mut value = HeaderValue::from_str(credential.1)
            .ok()
            .context("the credential has characters that no token or key has")?;
        value.set_sensitive(true);
        let mut trusted = RootCertStore::empty();
        trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in CertificateDer::pem_slice_iter(roots.unwrap_or_default()) {
            let certificate = certificate.ok().context("--ca-file is not PEM")?;
            trusted.add(certificate).context("--ca-file has a certificate that cannot be used")?;
        }
        let tls = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            endpoint,
            credential: (credential.0, value),
            limit,
            session: None,
            protocol: None,
            last_id: 0,
        })
    }

    /// What was agreed on: sent with every further message.
    pub(super) fn speak(&mut self, protocol: String) {
        self.protocol = HeaderValue::from_maybe_shared(Bytes::from(protocol)).ok();
    }

    /// Sends a request. Its result, or what was said instead.
    pub(super) async fn request(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let limit = self.limit;
        let answered = async {
            let response = self.send(Method::POST, Some(&message)).await?;
            if let Some(session) = response.headers().get("mcp-session-id") {
                self.session = Some(session.clone());
            }
            let is_stream = response
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
            if is_stream { streamed(response, id).await } else { whole(response, id).await }
        };
        let mut response = timeout(limit, answered)
            .await
            .with_context(|| format!("no answer within {limit:?}"))??;
        if let Some(error) = response.get("error") {
            bail!("the server refused: {}", shown(&error.to_string()));
        }
        response.get_mut("result").map(Value::take).context("the answer has no result")
    }

    /// Sends a notification.
    pub(super) async fn notify(&self, method: &str) -> anyhow::Result<()> {
        let message = json!({ "jsonrpc": "2.0", "method": method });
        timeout(self.limit, self.send(Method::POST, Some(&message))).await??;
        Ok(())
    }

    /// Ends the session, if there is one and the server lets clients end theirs.
    pub(super) async fn end(&self) -> anyhow::Result<()> {
        if self.session.is_none() {
            return Ok(());
        }
        let response = timeout(self.limit, self.http.request(self.compose(Method::DELETE, None)?));
        let status = response.await??.status();
        let is_over = status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED;
        ensure!(is_over, "the gateway answered {status}");
        Ok(())
    }

    fn compose(
        &self,
        method: Method,
        message: Option<&Value>,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.endpoint.clone())
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(header::CONTENT_TYPE, "application/json")
            .header(self.credential.0, self.credential.1.clone());
        let further = [("mcp-session-id", &self.session), ("mcp-protocol-version", &self.protocol)];
        for (name, value) in further {
            if let Some(value) = value {
                request = request.header(name, value.clone());
            }
        }
        let body = message.map(Value::to_string).unwrap_or_default();
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }

    /// Sends a message; an answer that is none of success is an error with what it says.
    async fn send(
        &self,
        method: Method,
        message: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = self.compose(method, message)?;
        let response = self.http.request(request).await.context("the gateway cannot be reached")?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let said = said.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        bail!("the gateway answered {status}: {}", shown(&String::from_utf8_lossy(&said)))
    }
}

fn is_endpoint(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
}

fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHOWN).collect()
}

async fn whole(response: Response<Incoming>, id: u64) -> anyhow::Result<Value> {
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|_| anyhow::anyhow!("the answer broke off, or is too long"))?;
    let answer: Value =
        serde_json::from_slice(&body.to_bytes()).context("the answer is no JSON")?;
    ensure!(answer["id"] == id, "the answer is to another request");
    Ok(answer)
}

/// Reads a stream as far as the answer to `id`: what else is in it is not ours to answer.
async fn streamed(response: Response<Incoming>, id: u64) -> anyhow::Result<Value> {
    let mut body = response.into_body();
    let mut events = Events::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the answer broke off")?.into_data() else { continue };
        events.push(&data)?;
        while let Some(message) = events.next() {
            if message["id"] == id && message.get("method").is_none() {
                return Ok(message);
            }
        }
    }
    bail!("the stream ended without an answer")
}

/// Messages of an event stream (the `data` of each event), whatever pieces it arrives in.
#[derive(Default)]
struct Events {
    pending: Vec<u8>,
    seen: usize,
    data: String,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.seen += bytes.len();
        ensure!(
            self.seen <= MAX_ANSWER_BYTES,
            "the answer is longer than {MAX_ANSWER_BYTES} bytes"
        );
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn next(&mut self) -> Option<Value> {
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                self.data.push('\n');
            } else if line.is_empty()
                && let Ok(message) = serde_json::from_str(&std::mem::take(&mut self.data))
            {
                return Some(message);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_from_a_stream_in_any_pieces() {
        let stream = b": hello\r\nevent: message\r\ndata: {\"id\":\r\ndata: 1}\r\n\r\ndata:\n\ndata: {\"id\":2}\n\n";
        for size in 1..stream.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for piece in stream.chunks(size) {
                events.push(piece).unwrap();
                while let Some(message) = events.next() {
                    seen.push(message["id"].as_u64().unwrap());
                }
            }
            assert_eq!(seen, [1, 2], "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_before_anything_is_sent() {
        for url in ["", "mcp", "/mcp", "ftp://host/mcp", "http://"] {
            let connector = Connector::new(None).unwrap();
            let client =
                Client::new(url, ("x-api-key", "k"), None, connector, Duration::from_secs(1));
            assert!(client.is_err(), "{url}");
        }
    }
}
