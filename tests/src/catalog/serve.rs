//! Connections of the double: accepts, speaks TLS, records each request, applies the fault that is
//! on, and only then lets a router answer.

use super::{
    Shared,
    fault::Fault,
    graphql::{self, syntax},
    record::{Origin, Seen},
};
use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use http::{Request, header, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::Service};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// No body that a client of the registry sends comes near it.
const MAX_BODY: usize = 1024 * 1024;
const HANDSHAKE_CAP: Duration = Duration::from_secs(10);

/// One origin of the double.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) origin: Origin,
    pub(super) shared: Arc<Shared>,
    pub(super) app: Router,
    pub(super) tls: TlsAcceptor,
    pub(super) stop: CancellationToken,
}

/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct Closed;

impl Front {
    /// Serves until stopped.
    pub(super) async fn serve(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            // An error is of that one connection: the listener itself stays good.
            let Ok((stream, _)) = accepted else { continue };
            if self.is_down() {
                continue;
            }
            tokio::spawn(self.clone().connection(stream));
        }
    }

    async fn connection(self, stream: TcpStream) {
        let stop = self.stop.clone();
        let serve = async {
            let Ok(Ok(stream)) = timeout(HANDSHAKE_CAP, self.tls.accept(stream)).await else {
                return;
            };
            let service = hyper::service::service_fn(|request| self.answer(request));
            // An error is a client that went away, or `Closed`: nobody is left to tell.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = serve => {}
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response, Closed> {
        if self.is_down() {
            return Err(Closed);
        }
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|_| Closed)?.to_bytes();
        self.shared.record.push(self.describe(&parts, &body));
        if let Some(fault) = self.shared.faults.current() {
            if let Some(answer) = fault.answer() {
                return Ok(answer);
            }
            if let Fault::Slow(delay) = fault {
                sleep(delay).await;
            }
        }
        let request = Request::from_parts(parts, Body::new(Full::new(body)));
        match TowerToHyperService::new(self.app.clone()).call(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }

    fn is_down(&self) -> bool {
        self.shared.faults.current() == Some(Fault::Down)
    }

    fn describe(&self, parts: &Parts, body: &Bytes) -> Seen {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).map(|value| {
            let bearer = value.strip_prefix("Bearer ").unwrap_or(value);
            self.shared.record.bearer(bearer)
        });
        Seen {
            at: Timestamp::now(),
            origin: self.origin,
            method: parts.method.to_string(),
            host: text(header::HOST).unwrap_or_default().to_owned(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            operation: (parts.uri.path() == "/graphql").then(|| operation(body)).flatten(),
            bearer,
        }
    }
}

/// The root fields that a GraphQL body asks for.
fn operation(body: &[u8]) -> Option<String> {
    let request: graphql::Request = serde_json::from_slice(body).ok()?;
    let fields = syntax::parse(&request.query).ok()?;
    Some(syntax::paths(&fields).join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graphql_body_is_recorded_by_its_root_fields() {
        let body = br#"{"query": "query { me { name } }", "variables": null}"#;
        assert_eq!(operation(body).as_deref(), Some("me"));
        assert_eq!(operation(b"no json"), None);
    }
}
