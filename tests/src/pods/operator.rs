//! The operator's end of a worker's link: it takes whatever key the worker has, since it is the one who
//! records it, and sends control requests.

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchbay_core::pin::Fingerprint;
use patchbay_gateway::forward::{link::link_uri, pinned::GatewayCertificate};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

const LIMIT: Duration = Duration::from_secs(10);

/// A connection to a worker.
pub struct Operator {
    sender: SendRequest<Full<Bytes>>,
    /// The key that the worker proved.
    pub fingerprint: Fingerprint,
}

impl Operator {
    /// Dials a worker with this certificate, or with none. Whether the worker takes it shows in what is asked
    /// next.
    pub async fn dial(
        address: SocketAddr,
        certificate: Option<&GatewayCertificate>,
    ) -> anyhow::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyKey(provider)));
        let mut config = match certificate {
            Some(it) => config.with_client_auth_cert(it.chain.clone(), it.key.clone_key())?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream =
            timeout(LIMIT, TcpStream::connect(address)).await.context("no connection")??;
        let name = ServerName::try_from("worker.patchbay.invalid")?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let chain = tls.get_ref().1.peer_certificates().context("no certificate")?;
        let fingerprint = Fingerprint::of_certificate(chain.first().context("no certificate")?)?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, fingerprint })
    }

    /// Sends a request; its status and body.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let request = Request::builder().method(method).uri(link_uri(path)?);
        let request = request.body(Full::new(body.into()))?;
        let response = timeout(LIMIT, self.sender.clone().send_request(request)).await??;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// Takes any key, if it is the other end's.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken on the worker link".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
