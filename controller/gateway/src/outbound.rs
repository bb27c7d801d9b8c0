//! Requests of the gateway's own: key sets, and questions to a catalog. Https only, bounded in time and
//! size. This module must not know what is asked or why.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a question may take, from its name to the last byte of the answer.
const LIMIT: Duration = Duration::from_secs(5);
/// An answer is at most this long, bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Asks one service.
#[derive(Debug, Clone)]
pub struct Outbound(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The trusted certificates are not usable.
    #[error("the trusted certificates are not usable")]
    Trust(#[source] rustls::Error),
    /// The request could not be made.
    #[error("the request is not valid")]
    Request(#[source] http::Error),
    /// The service cannot be reached.
    #[error("the service cannot be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
    /// It did not answer in time.
    #[error("the service did not answer within {LIMIT:?}")]
    TimedOut,
    /// It answered too much, or broke off.
    #[error("the service's answer is not complete, or longer than {MAX_ANSWER_BYTES} bytes")]
    Answer,
}

impl Outbound {
    /// A client that trusts the public certificate authorities and `ca_bundle` (PEM).
    pub fn new(
        crypto: Arc<CryptoProvider>,
        ca_bundle: Option<&str>,
    ) -> Result<Self, OutboundError> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for certificate in CertificateDer::pem_slice_iter(ca_bundle.unwrap_or_default().as_bytes())
        {
            let certificate = certificate.map_err(|_| {
                OutboundError::Trust(rustls::Error::General("a CA bundle is not PEM".into()))
            })?;
            roots.add(certificate).map_err(OutboundError::Trust)?;
        }
        let tls = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(OutboundError::Trust)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Sends a request and returns the whole answer.
    pub async fn ask(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), OutboundError> {
        let (head, body) = self.answer(request).await?.into_parts();
        Ok((head.status, body))
    }

    /// The same, with the answer's headers.
    pub async fn answer(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, OutboundError> {
        let answer = async {
            let response = self.0.request(request).await.map_err(OutboundError::Unreachable)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|_| OutboundError::Answer)?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        timeout(LIMIT, answer).await.map_err(|_| OutboundError::TimedOut)?
    }
}
