//! The agent's identity and the rules of its link: a key pair made at start that never leaves
//! memory, a self-signed certificate that only carries the key, TLS 1.3, HTTP/2, and a client
//! certificate of the control plane's CA. There is no resumption: every connection proves both keys
//! anew. It must not know sockets or what a role may do.

use patchbay_core::pin::{Fingerprint, InvalidCertificate};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        pem::{self, PemObject as _},
    },
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use std::sync::Arc;

/// The one protocol on a link.
pub(crate) const ALPN: &[u8] = b"h2";

/// The certificate's name. Nobody checks it: the key is pinned.
const NAME: &str = "patchbay-worker";

/// The agent's key and its certificate.
pub(crate) struct Identity {
    /// What the control plane records of it.
    pub(crate) fingerprint: Fingerprint,
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

/// An identity or a CA that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot make a key pair")]
    Key(#[source] rcgen::Error),
    #[error("cannot make a certificate")]
    Certificate(#[source] rcgen::Error),
    #[error("the made certificate cannot be read")]
    Unreadable(#[from] InvalidCertificate),
    #[error("the control plane's CA is not PEM")]
    RootsNotPem(#[source] pem::Error),
    #[error("the control plane's CA has an unusable certificate")]
    Roots(#[source] rustls::Error),
    #[error("the control plane's CA is empty")]
    Verifier(#[source] VerifierBuilderError),
    #[error("TLS cannot be set up")]
    Config(#[source] rustls::Error),
}

impl Identity {
    /// A fresh identity.
    pub(crate) fn generate() -> Result<Self, TlsError> {
        let key = rcgen::KeyPair::generate().map_err(TlsError::Key)?;
        let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])
            .and_then(|params| params.self_signed(&key))
            .map_err(TlsError::Certificate)?;
        Ok(Self {
            fingerprint: Fingerprint::of_certificate(certificate.der())?,
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        })
    }

    /// The link's rules for clients whose certificates `roots` (PEM) signed.
    pub(crate) fn server_config(&self, roots: &str) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut trusted = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            trusted.add(root.map_err(TlsError::RootsNotPem)?).map_err(TlsError::Roots)?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider))
                .build()
                .map_err(TlsError::Verifier)?;
        let key = PrivateKeyDer::Pkcs8(self.key.clone_key());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Config)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], key)
            .map_err(TlsError::Config)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identity_has_a_key_of_its_own() {
        let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(a.fingerprint, b.fingerprint);
        assert_eq!(Fingerprint::of_certificate(&a.certificate).unwrap(), a.fingerprint);
    }

    #[test]
    fn a_link_without_a_ca_is_refused() {
        let identity = Identity::generate().unwrap();
        assert!(matches!(identity.server_config(""), Err(TlsError::Verifier(_))));
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(matches!(identity.server_config(broken), Err(TlsError::RootsNotPem(_))));
    }
}
