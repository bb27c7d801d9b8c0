//! The control plane's side of the link: a CA, certificates with roles, and a client that pins the
//! worker's key.

use crate::within;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchbay_core::{
    digest::Digest,
    grant::{CatalogGrant, Grant},
    id::{Epoch, TenantUid},
    link::{BindRequest, EPOCH_HEADER, TENANT_HEADER, User},
    pin::{Fingerprint, Role},
    session::SessionKeys,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use std::{path::Path, sync::Arc};
use tokio::net::UnixStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

/// The real bearer of every grant here; it must turn up in no log.
pub(crate) const BEARER: &str = "the-users-real-bearer";

/// A control plane's CA.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// What a client with this role presents.
    pub(crate) fn credential(&self, role: Role) -> Credential {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(role.uri().try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Credential { certificate: certificate.der().clone(), key: key.serialize_der() }
    }
}

/// A client certificate and its key.
pub(crate) struct Credential {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

/// One connection to a worker.
#[derive(Clone)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    closed: CancellationToken,
}

/// Makes the client's half of a handshake with `credential`, or with no certificate, with a worker
/// of this key. Whether the worker takes the credential shows in what is read next.
pub(crate) async fn tls(
    link: &Path,
    fingerprint: Fingerprint,
    credential: Option<Credential>,
) -> TlsStream<UnixStream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint, provider }));
    let mut config = match credential {
        Some(Credential { certificate, key }) => config
            .with_client_auth_cert(vec![certificate], PrivatePkcs8KeyDer::from(key).into())
            .unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = UnixStream::connect(link).await.unwrap();
    let name = ServerName::try_from("patchbay-worker").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

impl Client {
    /// Begins HTTP/2.
    pub(crate) async fn new(tls: TlsStream<UnixStream>) -> Self {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
                .await
                .unwrap();
        let closed = CancellationToken::new();
        let guard = closed.clone().drop_guard();
        tokio::spawn(async move {
            let _guard = guard;
            connection.await
        });
        Self { sender, closed }
    }

    /// Sends a request as it is.
    pub(crate) async fn send(
        &self,
        request: Request<impl Into<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        within(self.sender.clone().send_request(request.map(|body| Full::new(body.into())))).await
    }

    /// Returns once the worker has closed this connection.
    pub(crate) async fn closed(&self) {
        within(self.closed.cancelled()).await;
    }

    /// Sends a control request; its status and body.
    pub(crate) async fn control(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> (StatusCode, serde_json::Value) {
        let request =
            Request::builder().method(method).uri(url(path)).body(Bytes::from(body)).unwrap();
        let response = self.send(request).await.unwrap();
        let status = response.status();
        let body = body_of(response).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Binds a tenant.
    pub(crate) async fn bind(&self, tenant: &str, epoch: u64) -> (StatusCode, serde_json::Value) {
        self.bind_with(tenant, epoch, grant()).await
    }

    /// Binds a tenant with this grant.
    pub(crate) async fn bind_with(
        &self,
        tenant: &str,
        epoch: u64,
        grant: Grant,
    ) -> (StatusCode, serde_json::Value) {
        self.bind_all(tenant, epoch, grant, None).await
    }

    /// Binds a tenant with this grant and these keys of sessions.
    pub(crate) async fn bind_all(
        &self,
        tenant: &str,
        epoch: u64,
        grant: Grant,
        sessions: Option<SessionKeys>,
    ) -> (StatusCode, serde_json::Value) {
        let user = Some(User { issuer: "https://issuer.example".into(), subject: "alice".into() });
        let tenant = TenantUid::parse(tenant).unwrap();
        let bind = BindRequest { tenant, epoch: Epoch(epoch), grant, user, sessions };
        self.control(Method::POST, "/v1/bind", serde_json::to_vec(&bind).unwrap()).await
    }

    /// Sends requests until the worker refuses one because it leaves.
    pub(crate) async fn closed_to_new(&self, method: Method, path: &str) {
        let refused = async {
            while self.call(method.clone(), path, "").await.is_ok() {
                // nothing else tells when a worker has begun to leave by its own clock
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        within(refused).await;
    }

    /// Sends a request for tenant `t1` and epoch 1 to the MCP server's `path`.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> hyper::Result<Response<Incoming>> {
        self.send(forwarded(method, path).body(body.to_owned()).unwrap()).await
    }
}

/// A grant for a catalog that is nowhere.
pub(crate) fn grant() -> Grant {
    Grant {
        credential: Digest::of(b"credential"),
        expires_at: None,
        catalog: Some(CatalogGrant {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            bearer: BEARER.into(),
            lease: None,
        }),
        aws: None,
        allowed: None,
    }
}

/// A forwarded request for tenant `t1` and epoch 1.
pub(crate) fn forwarded(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(url(&format!("/mcp-server{path}")))
        .header(TENANT_HEADER, "t1")
        .header(EPOCH_HEADER, "1")
}

pub(crate) fn url(path: &str) -> String {
    format!("https://worker{path}")
}

pub(crate) async fn body_of(response: Response<Incoming>) -> Bytes {
    within(response.into_body().collect()).await.unwrap().to_bytes()
}

/// Accepts exactly one key, whatever its certificate says.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Fingerprint::of_certificate(certificate)
            .map_err(|_| rustls::CertificateError::BadEncoding)?;
        if presented == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("the link is TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
