//! A worker of which only the listener and the key are real, and a gateway's side of the link to it.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchbay_core::{
    id::{Incarnation, WorkerId},
    link::{MISDIRECTED, REFUSAL_HEADER},
    orchestrator::{Endpoint, Offer},
    pin::Fingerprint,
};
use patchbay_gateway::{
    config::Limits,
    forward::{
        link::LinkContext,
        pinned::{GatewayCertificate, LinkCertificate},
    },
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{convert::Infallible, sync::Arc};
use tokio::net::{UnixListener, UnixStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What a worker answers.
#[allow(dead_code, reason = "each suite uses its part of this")]
pub(crate) type Answer = (StatusCode, Vec<u8>);

/// The worker.
pub(crate) struct Worker {
    /// How it is dialled.
    pub(crate) offer: Offer,
    listener: UnixListener,
    tls: TlsAcceptor,
    _directory: tempfile::TempDir,
}

impl Worker {
    /// Listens, with a key of its own.
    pub(crate) fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("link");
        let listener = UnixListener::bind(&path).unwrap();
        let (own, key) = certificate();
        let offer = Offer {
            worker: WorkerId::parse(name).unwrap(),
            incarnation: Incarnation::parse(format!("life-of-{name}")).unwrap(),
            endpoint: Endpoint::Unix(path),
            fingerprint: Fingerprint::of_certificate(&own).unwrap(),
        };
        let mut config = ServerConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { offer, listener, tls: Arc::new(config).into(), _directory: directory }
    }

    /// The next connection, after its handshake.
    pub(crate) async fn accept(&self) -> TlsStream<UnixStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        self.tls.accept(stream).await.unwrap()
    }

    /// Ends the first `dropped` connections without a word, and answers requests on the others by their paths.
    #[allow(dead_code, reason = "each suite uses its part of this")]
    pub(crate) async fn serve(
        self,
        dropped: usize,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) {
        let answer = Arc::new(answer);
        for _ in 0..dropped {
            drop(self.listener.accept().await.unwrap());
        }
        loop {
            let stream = self.accept().await;
            let answer = Arc::clone(&answer);
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = Arc::clone(&answer);
                async move {
                    let (head, body) = request.into_parts();
                    // what breaks off needs no answer
                    let _ = body.collect().await;
                    let (status, body) = answer(head.uri.path());
                    let mut response = Response::new(Full::new(Bytes::from(body)));
                    *response.status_mut() = status;
                    if status == StatusCode::MISDIRECTED_REQUEST {
                        // as an agent says it that was sent another's request
                        response.headers_mut().insert(REFUSAL_HEADER, MISDIRECTED.parse().unwrap());
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            // a link that is dropped ends it
            tokio::spawn(connection);
        }
    }
}

/// A gateway's side.
pub(crate) fn context() -> LinkContext {
    let (chain, key) = certificate();
    let certificate = GatewayCertificate { chain: vec![chain], key };
    let certificate = Arc::new(LinkCertificate::new(certificate, &crypto()).unwrap());
    LinkContext {
        crypto: crypto(),
        certificate,
        sessions: Arc::default(),
        limits: Limits::default(),
    }
}

fn crypto() -> Arc<CryptoProvider> {
    aws_lc_rs::default_provider().into()
}

fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["worker".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}
