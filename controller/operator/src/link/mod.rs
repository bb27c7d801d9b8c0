//! The operator's end of a worker's link: it asks a worker who and whose it is, and asks it to leave.
//!
//! Whoever enrols takes whatever key the other end proves, and records it; everything else is only said to, and
//! believed of, the key that was recorded (invariant 3). This module must not know pods or what answers lead to.

mod certificate;
mod connection;
mod tls;

pub use self::{
    certificate::{LinkCertificate, UnusableCertificate},
    connection::{Connection, Retired},
};

use arc_swap::ArcSwapOption;
use http::StatusCode;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchbay_core::pin::Fingerprint;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::ServerName;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

/// A pod of the same cluster answers within this, or has more to do than to be asked.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// The operator's certificate of the moment; none before the first one is there.
pub type CurrentCertificate = Arc<ArcSwapOption<LinkCertificate>>;

/// Dials workers, with the certificate of the moment.
#[derive(Clone)]
pub struct Dialer {
    certificate: CurrentCertificate,
    provider: Arc<CryptoProvider>,
}

/// Why a worker was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// This operator has no link certificate yet.
    #[error("there is no certificate yet to show to workers")]
    NoCertificate,
    /// Nobody listens, or the way there is broken.
    #[error("the worker cannot be reached")]
    Connect(#[source] io::Error),
    /// The TLS handshake failed: the worker may not trust this operator's certificate.
    #[error("the TLS handshake with the worker failed")]
    Handshake(#[source] io::Error),
    /// It took too long.
    #[error("the worker did not {0} in time")]
    TimedOut(&'static str),
    /// This operator's own certificate and key are of no use.
    #[error("the operator's own link certificate is of no use")]
    Certificate(#[source] rustls::Error),
    /// The other end showed no certificate that has a key.
    #[error("the other end proved no key")]
    NoKey,
    /// Somebody else answers at the worker's address.
    #[error("another key answers at the worker's address than was recorded for it")]
    OtherKey,
    /// The connection broke.
    #[error("the connection to the worker broke")]
    Broken(#[source] hyper::Error),
    /// The worker refused; 403 where it does not take this certificate for an operator's.
    #[error("the worker answered {0}")]
    Refused(StatusCode),
    /// The answer is not what was asked for, or too long.
    #[error("the worker's answer cannot be read")]
    Unreadable,
}

impl Dialer {
    /// One that shows whatever certificate is current when it dials.
    pub fn new(certificate: CurrentCertificate) -> Self {
        Self { certificate, provider: Arc::new(aws_lc_rs::default_provider()) }
    }

    /// Connects to whoever listens there; [`Connection::fingerprint`] says who it is.
    pub async fn dial(&self, address: SocketAddr) -> Result<Connection, LinkError> {
        self.connect(address, None).await
    }

    /// Connects to the worker of this key, and to nobody else.
    pub async fn dial_pinned(
        &self,
        address: SocketAddr,
        fingerprint: Fingerprint,
    ) -> Result<Connection, LinkError> {
        self.connect(address, Some(fingerprint)).await
    }

    async fn connect(
        &self,
        address: SocketAddr,
        pinned: Option<Fingerprint>,
    ) -> Result<Connection, LinkError> {
        let certificate = self.certificate.load_full().ok_or(LinkError::NoCertificate)?;
        let config =
            tls::client_config(&self.provider, &certificate).map_err(LinkError::Certificate)?;
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address))
            .await
            .map_err(|_| LinkError::TimedOut("take a connection"))?
            .map_err(LinkError::Connect)?;
        let name = ServerName::from(address.ip());
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let tls = timeout(HANDSHAKE_LIMIT, handshake)
            .await
            .map_err(|_| LinkError::TimedOut("finish the TLS handshake"))?
            .map_err(LinkError::Handshake)?;
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let fingerprint = chain.first().and_then(|it| Fingerprint::of_certificate(it).ok());
        let fingerprint = fingerprint.ok_or(LinkError::NoKey)?;
        if pinned.is_some_and(|pinned| pinned != fingerprint) {
            return Err(LinkError::OtherKey);
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .map_err(LinkError::Broken)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a worker broke");
            }
        }));
        Ok(Connection::new(fingerprint, sender, driver))
    }
}
