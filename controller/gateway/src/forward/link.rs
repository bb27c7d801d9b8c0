//! One multiplexed HTTP/2 connection to one life of one worker.
//!
//! A [`Link`] belongs to an incarnation and dies with it; a connection that broke is dialled again, and
//! the pinned key is checked each time. What matters to callers is told apart in [`SendError`]: whether
//! the worker can have seen the request. This module must not know tenants.

use super::{
    body::Attempt,
    pinned::{LinkCertificate, client_config},
};
use crate::config::Limits;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use patchbay_core::{
    orchestrator::{Endpoint, Offer},
    session::SessionRoots,
};
use rustls::{crypto::CryptoProvider, pki_types::ServerName};
use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::io::InspectReader;

/// What a link carries: a client's body, or one of the gateway's own.
pub enum LinkBody {
    /// A client's.
    Forwarded(Attempt<Incoming>),
    /// A control request's.
    Control(Full<Bytes>),
}

impl Body for LinkBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Forwarded(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Control(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Forwarded(body) => body.is_end_stream(),
            Self::Control(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Forwarded(body) => body.size_hint(),
            Self::Control(body) => body.size_hint(),
        }
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The worker cannot be reached, or is not the one that enrolled; it saw nothing.
    #[error("the worker cannot be dialled")]
    Dial(#[source] DialError),
    /// The worker refused the stream before it read anything: it is leaving.
    #[error("the worker refused the stream")]
    Refused,
    /// The connection closed before the request was put on it; the worker saw nothing.
    #[error("the connection to the worker closed before the request was sent")]
    NotSent(#[source] hyper::Error),
    /// The connection broke; the worker may have seen the request.
    #[error("the connection to the worker broke")]
    Broken(#[source] hyper::Error),
}

/// Why a worker cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address does not answer.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// TLS failed; above all, the key is not the recorded one.
    #[error("no mutual TLS with the key that was recorded at enrolment")]
    Tls(#[source] io::Error),
    /// HTTP/2 could not be begun.
    #[error("no HTTP/2")]
    Http(#[source] hyper::Error),
    /// The worker ended the connection before it said a word: it is going.
    #[error("the worker ended the connection at once")]
    Unanswered,
    /// None of this happened in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The TLS configuration is not usable.
    #[error("no TLS configuration")]
    Config(#[source] rustls::Error),
}

/// The connection to one life of one worker.
pub struct Link {
    endpoint: Endpoint,
    tls: TlsConnector,
    dial_limit: Duration,
    idle_limit: Duration,
    live: Arc<Mutex<Option<Live>>>,
    dialling: tokio::sync::Mutex<()>,
}

/// A new connection.
struct Dialled {
    sender: SendRequest<LinkBody>,
    /// What moves its bytes; completes when it has ended.
    ended: JoinHandle<()>,
}

/// An open connection.
struct Live {
    sender: SendRequest<LinkBody>,
    /// Tells it from those before and after it.
    number: u64,
    last_used: Instant,
}

/// What all links of a gateway have in common.
#[derive(Debug)]
pub struct LinkContext {
    /// The crypto provider.
    pub crypto: Arc<CryptoProvider>,
    /// The gateway's certificate.
    pub certificate: Arc<LinkCertificate>,
    /// The root keys of sessions; none = sessions end with their worker.
    pub sessions: Arc<ArcSwapOption<SessionRoots>>,
    /// The gateway's bounds.
    pub limits: Limits,
}

/// The name that requests carry on a link. It means nothing, because the key is pinned, but HTTP/2
/// requires an authority and TLS libraries a server name.
const AUTHORITY: &str = "worker.patchbay.invalid";

/// The URI of a path (and query) on a link.
pub fn link_uri(path_and_query: &str) -> Result<http::Uri, http::Error> {
    http::Uri::builder().scheme("https").authority(AUTHORITY).path_and_query(path_and_query).build()
}

/// Flow-control windows for what comes from workers: the stream's is large enough for a response at
/// loopback speed, the connection's for several.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

impl Link {
    /// A link that dials at its first request.
    pub fn new(offer: &Offer, context: &LinkContext) -> Result<Self, DialError> {
        let config =
            client_config(context.crypto.clone(), context.certificate.clone(), offer.fingerprint)
                .map_err(DialError::Config)?;
        Ok(Self {
            endpoint: offer.endpoint.clone(),
            tls: TlsConnector::from(Arc::new(config)),
            dial_limit: context.limits.dial,
            idle_limit: context.limits.link_idle,
            live: Arc::default(),
            dialling: tokio::sync::Mutex::new(()),
        })
    }

    /// Sends one request and returns its answer as soon as the headers are there. Dropping the future or
    /// the answer's body resets the stream, which tells the worker that nobody waits any more.
    pub async fn send(&self, request: Request<LinkBody>) -> Result<Response<Incoming>, SendError> {
        let mut sender = self.sender().await.map_err(SendError::Dial)?;
        let answer = sender.send_request(request);
        // A request that is queued in the very moment in which the connection ends is only found again
        // when the queue's last sender is gone (tokio#7714): were one kept here, it would wait for ever.
        drop(sender);
        answer.await.map_err(classify)
    }

    /// Connects, where no connection is kept.
    pub async fn connect(&self) -> Result<(), DialError> {
        self.sender().await.map(drop)
    }

    async fn sender(&self) -> Result<SendRequest<LinkBody>, DialError> {
        if let Some(sender) = self.live_sender() {
            return Ok(sender);
        }
        // to wait for another request's dial is part of the limit: none may be the last of a long queue
        let dialling = async {
            let _one_at_a_time = self.dialling.lock().await;
            match self.live_sender() {
                Some(sender) => Ok(sender),
                None => self.dial_and_keep().await,
            }
        };
        let dialled = timeout(self.dial_limit, dialling).await;
        dialled.map_err(|_| DialError::TimedOut(self.dial_limit))?
    }

    async fn dial_and_keep(&self) -> Result<SendRequest<LinkBody>, DialError> {
        let dialled = self.dial().await?;
        let number = self.store(dialled.sender.clone());
        tokio::spawn(close_when_idle(Arc::downgrade(&self.live), number, self.idle_limit));
        tokio::spawn(forget_when_ended(Arc::downgrade(&self.live), number, dialled.ended));
        Ok(dialled.sender)
    }

    fn live_sender(&self) -> Option<SendRequest<LinkBody>> {
        let mut live = self.live.lock();
        let live = live.as_mut().filter(|live| !live.sender.is_closed())?;
        live.last_used = Instant::now();
        Some(live.sender.clone())
    }

    fn store(&self, sender: SendRequest<LinkBody>) -> u64 {
        let mut live = self.live.lock();
        let number = live.as_ref().map_or(0, |before| before.number + 1);
        *live = Some(Live { sender, number, last_used: Instant::now() });
        number
    }

    /// Whether a connection is kept open.
    pub fn is_connected(&self) -> bool {
        self.live.lock().as_ref().is_some_and(|live| !live.sender.is_closed())
    }

    async fn dial(&self) -> Result<Dialled, DialError> {
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(DialError::Connect)?;
                self.handshake(stream).await
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(DialError::Connect)?;
                stream.set_nodelay(true).map_err(DialError::Connect)?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Dialled, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let name = ServerName::try_from(AUTHORITY)
            .map_err(|_| DialError::Config(rustls::Error::General("server name".into())))?;
        let stream = self.tls.connect(name, stream).await.map_err(DialError::Tls)?;
        let (greeted, greeting) = oneshot::channel();
        let mut greeted = Some(greeted);
        let stream = InspectReader::new(stream, move |bytes| {
            if !bytes.is_empty()
                && let Some(greeted) = greeted.take()
            {
                // nobody waits any more where the dial took too long
                let _ = greeted.send(());
            }
        });
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_header_list_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(DialError::Http)?;
        // ends by itself once the connection is closed and no sender is left
        let ended = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a worker ended");
            }
        });
        // A TLS client believes in its connection before the worker does. One that goes in between ends
        // it without a word about requests; one that has begun HTTP/2 says of each what became of it.
        greeting.await.map_err(|_| DialError::Unanswered)?;
        Ok(Dialled { sender, ended })
    }
}

/// Lets go of a connection that nobody has used for a while: with ten thousand tenants, most are silent.
/// Streams that are still open keep theirs to their end.
async fn close_when_idle(live: Weak<Mutex<Option<Live>>>, number: u64, limit: Duration) {
    let mut wait = limit;
    loop {
        sleep(wait).await;
        let Some(live) = live.upgrade() else { return };
        let mut live = live.lock();
        match live.as_ref().filter(|live| live.number == number) {
            None => return,
            Some(this) if this.last_used.elapsed() >= limit => {
                *live = None;
                return;
            }
            Some(this) => wait = limit.saturating_sub(this.last_used.elapsed()),
        }
    }
}

/// Lets go of a connection that has ended: the last sender of its queue, which holds up what was queued
/// too late.
async fn forget_when_ended(live: Weak<Mutex<Option<Live>>>, number: u64, ended: JoinHandle<()>) {
    // it cannot fail but by a panic, which ends it as well
    let _ = ended.await;
    if let Some(live) = live.upgrade() {
        live.lock().take_if(|live| live.number == number);
    }
}

/// The worker's own word that it did not process a stream (RFC 9113, 8.7): it refused it, or it said
/// good-bye before it.
fn is_untouched(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (refused || left)
}

fn classify(error: hyper::Error) -> SendError {
    if error.is_canceled() {
        return SendError::NotSent(error);
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>()
            && is_untouched(h2)
        {
            return SendError::Refused;
        }
        source = cause.source();
    }
    SendError::Broken(error)
}
