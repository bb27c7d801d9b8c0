//! What a link makes of a worker whose connections end at the wrong moment.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchbay_core::{
    id::{Incarnation, WorkerId},
    orchestrator::{Endpoint, Offer},
    pin::Fingerprint,
};
use patchbay_gateway::{
    config::Limits,
    forward::{
        link::{DialError, Link, LinkBody, LinkContext, SendError, link_uri},
        pinned::{GatewayCertificate, LinkCertificate},
    },
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A worker of which only the listener and the key are real.
struct Worker {
    listener: UnixListener,
    tls: TlsAcceptor,
    link: Link,
    _directory: tempfile::TempDir,
}

fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["worker".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

impl Worker {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link");
        let listener = UnixListener::bind(&path).unwrap();
        let crypto: Arc<CryptoProvider> = aws_lc_rs::default_provider().into();
        let (own, key) = certificate();
        let offer = Offer {
            worker: WorkerId::parse("w-1").unwrap(),
            incarnation: Incarnation::parse("i-1").unwrap(),
            endpoint: Endpoint::Unix(path),
            fingerprint: Fingerprint::of_certificate(&own).unwrap(),
        };
        let mut config = ServerConfig::builder_with_provider(crypto.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (chain, key) = certificate();
        let certificate = GatewayCertificate { chain: vec![chain], key };
        let certificate = Arc::new(LinkCertificate::new(certificate, &crypto).unwrap());
        let context = LinkContext { crypto, certificate, limits: Limits::default() };
        let link = Link::new(&offer, &context).unwrap();
        Self { listener, tls: Arc::new(config).into(), link, _directory: directory }
    }

    async fn accept(&self) -> TlsStream<UnixStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        self.tls.accept(stream).await.unwrap()
    }
}

fn request() -> Request<LinkBody> {
    let mut request = Request::new(LinkBody::Control(Full::default()));
    *request.uri_mut() = link_uri("/v1/status").unwrap();
    request
}

#[tokio::test]
async fn a_worker_that_ends_a_connection_before_its_first_word_has_seen_nothing() {
    let worker = Worker::new();
    let going = async {
        // for the gateway the handshake is complete, and it could write
        worker.accept().await.shutdown().await.unwrap();
    };
    let (sent, ()) = tokio::join!(worker.link.send(request()), going);
    assert!(matches!(sent, Err(SendError::Dial(DialError::Unanswered))), "{sent:?}");
    assert!(!worker.link.is_connected());
}

/// The worker ends every connection after one answer, while other requests are on their way to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_waits_for_ever_where_connections_end_under_it() {
    const CALLERS: usize = 8;
    const CALLS: usize = 400;
    let worker = Arc::new(Worker::new());
    let serving = Arc::clone(&worker);
    tokio::spawn(async move {
        loop {
            let stream = serving.accept().await;
            tokio::spawn(async move {
                let answered = AtomicUsize::new(0);
                let service = service_fn(|_| {
                    answered.fetch_add(1, Ordering::Relaxed);
                    async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
                });
                let connection = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = std::pin::pin!(connection);
                std::future::poll_fn(|context| {
                    let ended = connection.as_mut().poll(context);
                    if answered.load(Ordering::Relaxed) > 0 { ().into() } else { ended.map(drop) }
                })
                .await;
            });
        }
    });
    let callers = (0..CALLERS).map(|_| {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move {
            for _ in 0..CALLS {
                let sent = timeout(Duration::from_secs(30), worker.link.send(request())).await;
                // how it ends is the worker's doing; that it ends is the link's
                drop(sent.expect("a request was forgotten"));
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}
