//! TLS to a worker: the recorded key or nothing (invariant 3).
//!
//! A worker's certificate is self-signed; neither its names nor its dates mean anything. What counts is
//! that the peer holds the private key whose fingerprint was recorded when the worker enrolled, so a
//! reused address fails closed. This module must not know how the fingerprint was obtained.

use arc_swap::ArcSwapOption;
use patchbay_core::pin::Fingerprint;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use std::sync::Arc;

/// The certificate by which this gateway proves its role to workers.
#[derive(Debug)]
pub struct GatewayCertificate {
    /// The certificate, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// The certificate that every link presents. It may be absent at first, and is exchanged when it is renewed:
/// a connection that is made after that presents the new one.
#[derive(Debug, Default)]
pub struct LinkCertificate(ArcSwapOption<CertifiedKey>);

impl LinkCertificate {
    /// With this certificate.
    pub fn new(certificate: GatewayCertificate, crypto: &CryptoProvider) -> Result<Self, Error> {
        let this = Self::default();
        this.replace(certificate, crypto)?;
        Ok(this)
    }

    /// Presents this certificate from now on. One that its key does not fit is refused, and changes nothing.
    pub fn replace(
        &self,
        certificate: GatewayCertificate,
        crypto: &CryptoProvider,
    ) -> Result<(), Error> {
        let GatewayCertificate { chain, key } = certificate;
        let certified = CertifiedKey::from_der(chain, key, crypto)?;
        self.0.store(Some(Arc::new(certified)));
        Ok(())
    }

    /// Whether there is one: without it no worker listens to this gateway.
    pub fn is_present(&self) -> bool {
        self.0.load().is_some()
    }
}

impl ResolvesClientCert for LinkCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.is_present()
    }
}

/// TLS for connections to the worker with this fingerprint.
///
/// Sessions are never resumed: a resumed session skips the check of the certificate.
pub fn client_config(
    provider: Arc<CryptoProvider>,
    certificate: Arc<LinkCertificate>,
    fingerprint: Fingerprint,
) -> Result<ClientConfig, Error> {
    let verifier = PinnedKey { fingerprint, provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

#[derive(Debug)]
struct PinnedKey {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Fingerprint::of_certificate(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if presented == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken on the worker link".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
