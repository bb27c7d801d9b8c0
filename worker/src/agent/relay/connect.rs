//! Connections for the relay's HTTP client: dialled, and for https with TLS whose certificate is
//! the origin's by a public CA or by one that the class names. It must not know requests or
//! bearers.

use super::{
    dial::{DialError, Dialled, Dialler},
    origin::port_of,
    request::Target,
};
use http::{Uri, uri::Scheme};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, InvalidDnsNameError, ServerName,
        pem::{self, PemObject as _},
    },
};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use tower_service::Service;

/// An origin has this long for its half of a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("the catalog's CA bundle is not PEM")]
    NotPem(#[source] pem::Error),
    #[error("the catalog's CA bundle has an unusable certificate")]
    Unusable(#[source] rustls::Error),
    #[error("TLS cannot be set up")]
    Config(#[source] rustls::Error),
}

/// A host that is not connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the URL names no host and port")]
    NoTarget,
    #[error("the host's name cannot be in a certificate")]
    Name(#[from] InvalidDnsNameError),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the TLS handshake took too long")]
    TimedOut,
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Connector {
    dialler: Dialler,
    tls: TlsConnector,
}

impl Connector {
    /// Trusts public CAs and those of `ca_bundle` (PEM).
    pub(crate) fn new(dialler: Dialler, ca_bundle: Option<&str>) -> Result<Self, TrustError> {
        // whatever image the agent runs in, it has roots
        let mut trusted = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in CertificateDer::pem_slice_iter(ca_bundle.unwrap_or_default().as_bytes()) {
            trusted.add(root.map_err(TrustError::NotPem)?).map_err(TrustError::Unusable)?;
        }
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(TrustError::Config)?
                .with_root_certificates(trusted)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { dialler, tls: Arc::new(config).into() })
    }

    async fn connect(self, url: Uri) -> Result<Outbound, ConnectError> {
        let authority = url.authority().ok_or(ConnectError::NoTarget)?;
        let is_https = url.scheme() == Some(&Scheme::HTTPS);
        let port = port_of(authority).map_err(|_| ConnectError::NoTarget)?;
        let port = port.unwrap_or(if is_https { 443 } else { 80 });
        let target = Target::new(authority.host(), port);
        let stream = self.dialler.dial(&target).await?;
        if !is_https {
            return Ok(Outbound(Box::new(Either::Right(stream))));
        }
        let name = ServerName::try_from(target.host)?;
        let tls = timeout(HANDSHAKE_LIMIT, self.tls.connect(name, stream))
            .await
            .map_err(|_| ConnectError::TimedOut)?
            .map_err(ConnectError::Handshake)?;
        Ok(Outbound(Box::new(Either::Left(tls))))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Outbound>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = self.clone().connect(url);
        Box::pin(async { connecting.await.map(TokioIo::new) })
    }
}

/// A connection, with TLS or without.
#[derive(Debug)]
pub(crate) struct Outbound(Box<Either<TlsStream<Dialled>, Dialled>>);

impl Connection for Outbound {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Outbound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Outbound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::egress::EgressPolicy;

    fn connector(ca_bundle: &str) -> Result<Connector, TrustError> {
        Connector::new(Dialler::new(EgressPolicy::default(), None), Some(ca_bundle))
    }

    #[test]
    fn a_broken_bundle_is_refused_and_none_is_needed() {
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(matches!(connector(broken), Err(TrustError::NotPem(_))));
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(connector(no_certificate), Err(TrustError::Unusable(_))));
        assert!(connector("").is_ok());
    }
}
