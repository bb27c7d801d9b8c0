//! The link: accepts gateways and operators over mutual TLS and HTTP/2, and sends each request
//! where its path and its caller's role say. It must not know what becomes of a request there.

use super::{
    answer::{Body, bare, json},
    bind,
    clock::Moment,
    enrol, forward,
    lingering::Lingering,
    policy::Policy,
    reserve,
    route::{Route, route},
    server::Server,
    session_ids::SessionIds,
    sse_pair::Pairs,
    starting::Starter,
    state::Worker,
    tls::{ALPN, Rules},
};
use crate::listen::{Listener, Stream, accepted};
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use patchbay_core::{link::LeaveReason, pin::Role};
use std::{io, path::PathBuf, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::{io::InspectReader, task::TaskTracker};

/// Connections at one time: a gateway replica needs one, an operator one. More wait in the queue.
const MAX_CONNECTIONS: usize = 64;
/// A client has this long to finish its TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// HTTP/2's default, and no more: a gateway may have to replay a request that is refused, so it
/// must never have been allowed to send more of its body than its replay window holds.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const MAX_STREAMS: u32 = 1024;
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// What is buffered of one response for a slow reader, bytes.
const MAX_SEND_BUFFER: usize = 64 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The link and all of its connections.
#[derive(Clone)]
pub(crate) struct Link {
    worker: Arc<Worker>,
    server: Arc<Server>,
    ids: Arc<SessionIds>,
    pairs: Arc<Pairs>,
    /// What calls are held to; none = nothing is read of them.
    policy: Option<Arc<Policy>>,
    /// What starts the MCP server at bind; none = it runs already.
    starter: Option<Arc<Starter>>,
    tls: Arc<Rules>,
    /// The file of the token that is shown to operators.
    token: Option<Arc<PathBuf>>,
    connections: TaskTracker,
}

impl Link {
    pub(crate) fn new(
        worker: Arc<Worker>,
        server: Arc<Server>,
        policy: Option<Policy>,
        starter: Option<Starter>,
        tls: Rules,
        token: Option<PathBuf>,
    ) -> Self {
        let (policy, tls, token) = (policy.map(Arc::new), Arc::new(tls), token.map(Arc::new));
        let (starter, connections) = (starter.map(Arc::new), TaskTracker::new());
        let (ids, pairs) = (Arc::default(), Arc::default());
        Self { worker, server, ids, pairs, policy, starter, tls, token, connections }
    }

    /// Accepts connections until the worker closes. While it only leaves, it still accepts: a
    /// gateway that dials then must hear that the worker leaves, not silence.
    pub(crate) async fn serve(self, listener: Listener) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let result = tokio::select! {
                result = listener.accept() => result,
                () = self.worker.closing().cancelled() => return,
            };
            let Some(stream) = accepted(result).await else {
                continue;
            };
            let link = self.clone();
            self.connections.spawn(async move {
                link.connection(stream).await;
                drop(permit);
            });
        }
    }

    /// Waits up to `limit` for the connections, which close once the worker does.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.connections.close();
        if timeout(limit, self.connections.wait()).await.is_err() {
            tracing::debug!("connections were still open at the end");
        }
    }

    async fn connection(self, stream: Stream) {
        let handshake = tokio::select! {
            result = timeout(HANDSHAKE_LIMIT, self.accept(stream)) => result,
            () = self.worker.closing().cancelled() => return,
        };
        let tls = match handshake.map_err(io::Error::from).flatten() {
            Ok(tls) => tls,
            // a pod's probe, which connects and says nothing
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::trace!("a connection ended before it said anything");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "a TLS handshake failed");
                return;
            }
        };
        if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            tracing::warn!("a client did not ask for HTTP/2");
            return;
        }
        let role = role(&tls);
        if let Err(error) = self.http2(tls, role).await {
            tracing::debug!(%error, "a connection broke");
        }
    }

    async fn accept(&self, stream: Stream) -> io::Result<TlsStream<Stream>> {
        self.tls.acceptor().await.accept(stream).await
    }

    async fn http2(self, tls: TlsStream<Stream>, role: Option<Role>) -> hyper::Result<()> {
        let worker = Arc::clone(&self.worker);
        // a connection that is open when the worker begins to leave is told at once to move its
        // next requests elsewhere; one that is opened after that gets its refusals first
        let last_call =
            if worker.is_leaving() { worker.closing().clone() } else { worker.leaving_token() };
        let (heard, preface) = oneshot::channel();
        let mut heard = Some(heard);
        let stream = InspectReader::new(Lingering::new(tls), move |bytes| {
            if !bytes.is_empty()
                && let Some(heard) = heard.take()
            {
                // the other end is only waited for once the connection is to end
                let _ = heard.send(());
            }
        });
        // Before a client has said who speaks, a connection can only be cut, and a client that has our
        // first words takes that for a fault. A preface is one write, and so one read.
        let may_end = async move {
            last_call.cancelled().await;
            let _ = preface.await;
        };
        let service = service_fn(move |request| self.clone().respond(role, request));
        let mut connection = pin!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .adaptive_window(false)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEADER_BYTES)
                .max_send_buf_size(MAX_SEND_BUFFER)
                .keep_alive_interval(KEEP_ALIVE)
                .serve_connection(TokioIo::new(stream), service)
        );
        tokio::select! {
            result = &mut connection => return result,
            () = may_end => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }
}

/// The role that a verified certificate names.
fn role(tls: &TlsStream<Stream>) -> Option<Role> {
    tls.get_ref().1.peer_certificates()?.first().and_then(Role::of_certificate)
}

impl Link {
    async fn respond(
        self,
        role: Option<Role>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, h2::Error> {
        let Self { worker, server, ids, pairs, policy, starter, token, .. } = self;
        let (path, query) = (request.uri().path(), request.uri().query());
        Ok(match route(request.method(), path, query, role) {
            Route::Forward(_) => {
                return forward::forward(&worker, &server, &ids, &pairs, policy.as_ref(), request)
                    .await;
            }
            Route::Bind => bind::bind(&worker, starter.as_ref(), request).await,
            Route::Enrol => enrol::enrol(&worker, token.as_deref().map(PathBuf::as_path)).await,
            Route::Status => json(StatusCode::OK, &worker.status()),
            Route::Reserve => reserve::reserve(&worker, request).await,
            Route::Release => reserve::release(&worker, request).await,
            Route::Retire => match worker.retire(Moment::now()) {
                Ok(()) => bare(StatusCode::ACCEPTED),
                Err(reason) => bind::refused(reason),
            },
            Route::Drain => {
                worker.leave(LeaveReason::Drained.into());
                bare(StatusCode::ACCEPTED)
            }
            Route::DrainWhenIdle => {
                worker.leave_when_idle();
                bare(StatusCode::ACCEPTED)
            }
            Route::Refuse(status) => {
                tracing::warn!(?role, %status, "refused a request on the link");
                bare(status)
            }
        })
    }
}
