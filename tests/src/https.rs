//! One HTTPS request at a time, trusting one certificate authority: enough to look at the double
//! from outside with nothing in between. Every request has a connection of its own.

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::sync::Arc;
use tokio::{net::TcpStream, task::AbortHandle};
use tokio_rustls::TlsConnector;

/// A client that trusts one authority.
pub struct Client(TlsConnector);

/// Ends a connection's task with the request that it was for.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// Trusts the certificates in `ca_pem` and no others.
    pub fn trusting(ca_pem: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Sends a request whose URI is absolute, and reads the whole answer.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
        let uri = request.uri().clone();
        let authority = uri.authority().context("the URI has no authority")?;
        let port = authority.port_u16().unwrap_or(443);
        let stream = TcpStream::connect((authority.host(), port)).await?;
        let name = ServerName::try_from(authority.host().to_owned())?;
        let stream = self.0.connect(name, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDrop(tokio::spawn(connection).abort_handle());

        request.headers_mut().insert(header::HOST, authority.as_str().parse()?);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>()?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}
