//! The relay: the MCP server's only way out, an HTTP forward proxy.
//!
//! A catalog's two plain-http names are the places where the user's bearer takes the stand-in's
//! place, over https; every other destination must be listed by the class and sees the server's own
//! bytes. What is refused is answered, so that the server can say why it failed. Nothing here
//! counts as activity: only a tenant's calls do. It must not know MCP, or which process of the
//! server asks.

mod config_json;
mod connect;
mod dial;
mod exchange;
#[cfg(fuzzing)]
pub mod fuzzing;
mod keys;
mod origin;
mod readable;
mod refusal;
mod request;
mod tunnel;

use self::{
    connect::{Connector, TrustError},
    dial::Dialler,
    exchange::RequestBody,
    origin::InvalidOrigin,
    refusal::refuse,
    request::{Authorization, Destinations, Route, decide},
};
use super::{answer::Body, state::Worker};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use jiff::Timestamp;
use patchbay_core::boot::RelayBoot;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// A client has this long to send the head of its request, and keeps an unused connection as long.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A head is at most this long, bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 100;
/// An unused connection to a host is kept for this long: less than the shortest keep-alive of
/// common servers (5 s), so that no request is written on one that is about to close.
const KEEP_FOR: Duration = Duration::from_secs(4);
/// Unused connections kept per host.
const KEEP_AT_MOST: usize = 16;

/// A relay that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the catalog has no usable origin")]
    Origin(#[from] InvalidOrigin),
    #[error("no trust in the catalog can be set up")]
    Trust(#[from] TrustError),
}

/// The relay of one worker.
pub(crate) struct Relay {
    worker: Arc<Worker>,
    destinations: Destinations,
    dialler: Dialler,
    client: Client<Connector, RequestBody>,
}

impl Relay {
    /// A relay that presents what `worker` holds.
    pub(crate) fn new(boot: RelayBoot, worker: Arc<Worker>) -> Result<Self, RelayError> {
        let destinations = Destinations::new(&boot)?;
        let RelayBoot { hosts: _, catalog, aws_keys: _, via } = boot;
        let dialler = Dialler::new(destinations.policy.clone(), via);
        let ca_bundle = catalog.and_then(|catalog| catalog.ca_bundle);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP_FOR)
            .pool_max_idle_per_host(KEEP_AT_MOST)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .set_host(false)
            .build(Connector::new(dialler.clone(), ca_bundle.as_deref())?);
        Ok(Self { worker, destinations, dialler, client })
    }

    /// Serves one connection of the MCP server; `place` is held for as long as it, or a tunnel in
    /// it, is open.
    pub(crate) async fn serve<S>(
        self: Arc<Self>,
        stream: S,
        place: impl Send + Sync + 'static,
    ) -> hyper::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let place = Arc::new(place);
        let service = service_fn(move |request| {
            let (relay, place) = (Arc::clone(&self), Arc::clone(&place));
            async move { Ok::<_, Infallible>(relay.respond(request, place).await) }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        place: impl Send + 'static,
    ) -> Response<Body> {
        // one look at the grant: the stand-in that is compared and the bearer that is sent are a
        // pair
        let session = self.worker.session();
        let stand_in = session.as_ref().map(|session| &session.stand_in);
        let (method, target) = (request.method(), request.uri());
        match decide(method, target, request.headers(), &self.destinations, stand_in) {
            Route::Keys(asker) => keys::answer(asker, session.as_deref(), Timestamp::now()),
            Route::Originate(origin, authorization) => {
                let swap = session.as_ref().filter(|_| authorization == Authorization::Swap);
                self.originate(origin, swap, request).await
            }
            Route::Plain(target) => self.pass(&target, request).await,
            Route::Tunnel(target) => self.tunnel(&target, request, place).await,
            Route::Refuse(reason) => refuse(reason, request.uri().host().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::credentials::Credentials;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn relay() -> Arc<Relay> {
        let worker = Arc::new(Worker::new(Credentials::Nothing));
        Arc::new(Relay::new(RelayBoot::default(), worker).unwrap())
    }

    /// What a relay of a class without egress answers.
    async fn answer(said: &str) -> String {
        let (mut client, agent) = tokio::io::duplex(256 * 1024);
        client.write_all(said.as_bytes()).await.unwrap();
        let serving = tokio::spawn(relay().serve(agent, ()));
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        drop(serving);
        got
    }

    #[tokio::test]
    async fn a_class_without_egress_reaches_nothing_and_says_so() {
        for (request, status, body) in [
            (
                "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n",
                "403 Forbidden",
                r#"{"reason":"hostNotAllowed","host":"example.com"}"#,
            ),
            (
                "GET http://169.254.169.254/ HTTP/1.1\r\nhost: x\r\n",
                "403 Forbidden",
                r#"{"reason":"hostNotAllowed","host":"169.254.169.254"}"#,
            ),
            (
                "GET / HTTP/1.1\r\nhost: x\r\n",
                "400 Bad Request",
                r#"{"reason":"invalidTarget","host":""}"#,
            ),
        ] {
            let got = answer(&format!("{request}connection: close\r\n\r\n")).await;
            assert!(got.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{got}");
            assert!(got.ends_with(body), "{got}");
        }
    }

    #[tokio::test]
    async fn a_head_is_bounded_in_bytes_and_headers() {
        let long = format!("GET http://a/{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
        assert!(!answer(&long).await.starts_with("HTTP/1.1 2"));
        let many = format!("GET http://a/ HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert!(answer(&many).await.starts_with("HTTP/1.1 431 "));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_asks_is_not_waited_for() {
        let (_client, agent) = tokio::io::duplex(64);
        let error = relay().serve(agent, ()).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
    }
}
