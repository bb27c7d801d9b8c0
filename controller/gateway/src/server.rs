//! Listens for clients: plain HTTP on loopback, or TLS; HTTP/1.1 and HTTP/2 on one port.
//!
//! It turns accepted connections into requests for [`Gateway::serve`], within the bounds on handshakes,
//! headers and connections, and drains on shutdown: no new connection, open requests go on for a while.
//! This module must not know what a request is for.

use crate::{config::Limits, service::Gateway};
use http::{HeaderValue, Version, header};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use rustls::ServerConfig;
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Of the drain, what is kept for streams to end cleanly that did not end before.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a gateway cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: choose another address (--listen) if it is taken")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Credentials would cross a network in the clear.
    #[error(
        "{0} is not a loopback address, and without TLS credentials would cross the network in the \
         clear: give --tls-cert and --tls-key, or --insecure-listen if TLS ends in front of the gateway"
    )]
    PlainListener(SocketAddr),
}

/// A bound listener.
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Binds `address`. A plain listener that is not loopback needs `insecure`.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<ServerConfig>,
        insecure: bool,
    ) -> Result<Self, ServeError> {
        if tls.is_none() && !insecure && !address.ip().is_loopback() {
            return Err(ServeError::PlainListener(address));
        }
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ServeError::Bind { address, source })?;
        let tls = tls.map(|mut config| {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        Ok(Self { socket, tls })
    }

    /// The address that was bound, with the port that was chosen where 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whether clients speak TLS.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `shutdown`, then lets open requests go on for the drain limit.
    pub async fn serve(self, gateway: Arc<Gateway>, shutdown: CancellationToken) {
        let limits = *gateway.limits();
        let graceful = GracefulShutdown::new();
        let connections = Arc::new(Semaphore::new(limits.connections));
        loop {
            let permit = tokio::select! {
                permit = connections.clone().acquire_owned() => permit,
                () = shutdown.cancelled() => break,
            };
            let Ok(permit) = permit else { break };
            let stream = tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // out of descriptors, most likely: others may be closed meanwhile
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = shutdown.cancelled() => break,
            };
            let watcher = graceful.watcher();
            let (gateway, tls) = (gateway.clone(), self.tls.clone());
            let counted = gateway.metrics().connection_opened();
            tokio::spawn(async move {
                serve_connection(stream, tls, gateway, limits, watcher).await;
                drop((permit, counted));
            });
        }
        drop(self.socket);
        gateway.drain().begin();
        let mut drained = std::pin::pin!(graceful.shutdown());
        let patience = limits.drain.saturating_sub(LAST_WORDS);
        if timeout(patience, drained.as_mut()).await.is_ok() {
            return;
        }
        gateway.drain().finish();
        if timeout(limits.drain.saturating_sub(patience), drained).await.is_err() {
            tracing::warn!(limit = ?limits.drain, "open requests were cut at the end of the drain");
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    gateway: Arc<Gateway>,
    limits: Limits,
    watcher: hyper_util::server::graceful::Watcher,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection went away at once");
        return;
    }
    let Some(acceptor) = tls else {
        // a connection that never says anything would otherwise keep its place for ever
        let spoke = timeout(limits.header_read, stream.peek(&mut [0])).await;
        if matches!(spoke, Ok(Ok(1..))) {
            serve_stream(stream, gateway, limits, watcher).await;
        }
        return;
    };
    match timeout(limits.header_read, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve_stream(stream, gateway, limits, watcher).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve_stream<S>(
    stream: S,
    gateway: Arc<Gateway>,
    limits: Limits,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes + 16 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let service = service_fn(move |request| {
        let gateway = gateway.clone();
        async move {
            // HTTP/2 has a frame for that, which does not lose a request
            let is_told_by_answers = request.version() < Version::HTTP_2;
            let mut response = gateway.serve(request).await;
            if is_told_by_answers && gateway.drain().is_announced() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a client connection ended");
    }
}
