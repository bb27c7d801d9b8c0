//! The agent's identity and the rules of its link: a key pair made at start that never leaves
//! memory, a self-signed certificate that only carries the key, TLS 1.3, HTTP/2, and a client
//! certificate of the control plane's CA. There is no resumption: every connection proves both keys
//! anew. A CA that is a mounted bundle may roll while the worker lives, so each connection is held
//! to what the bundle says in its moment. It must not know sockets or what a role may do.

use parking_lot::Mutex;
use patchbay_core::{
    boot::Roots,
    chain::Chain,
    pin::{Fingerprint, InvalidCertificate},
};
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
use std::{io, path::PathBuf, sync::Arc};
use tokio_rustls::TlsAcceptor;

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
    #[error("the control plane's CA cannot be read from `{}`", path.display())]
    RootsUnreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
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
    fn server_config(&self, roots: &str) -> Result<Arc<ServerConfig>, TlsError> {
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

/// The link's rules, as the control plane's CA is now.
pub(crate) struct Rules {
    identity: Identity,
    /// Where the CA is, if it may change.
    file: Option<PathBuf>,
    current: Mutex<Current>,
}

/// What was made of a CA.
struct Current {
    roots: String,
    config: Arc<ServerConfig>,
}

impl Rules {
    /// The rules for these roots, which must be usable now.
    pub(crate) async fn new(identity: Identity, roots: Roots) -> Result<Self, TlsError> {
        let (roots, file) = match roots {
            Roots::Pem(text) => (text, None),
            Roots::File(path) => (read(&path).await?, Some(path)),
        };
        let config = identity.server_config(&roots)?;
        Ok(Self { identity, file, current: Mutex::new(Current { roots, config }) })
    }

    /// For the next connection. Connections are few, since each carries all of one gateway's requests: the
    /// file is read for each, and there is nothing to watch. While it is unusable the last rules stand.
    pub(crate) async fn acceptor(&self) -> TlsAcceptor {
        if let Some(path) = &self.file
            && let Err(error) = self.refresh(path).await
        {
            tracing::error!(error = %Chain(&error), "the control plane's CA stays as it was");
        }
        Arc::clone(&self.current.lock().config).into()
    }

    async fn refresh(&self, path: &PathBuf) -> Result<(), TlsError> {
        let roots = read(path).await?;
        if self.current.lock().roots != roots {
            let config = self.identity.server_config(&roots)?;
            *self.current.lock() = Current { roots, config };
            tracing::info!("the control plane's CA has changed");
        }
        Ok(())
    }
}

async fn read(path: &PathBuf) -> Result<String, TlsError> {
    tokio::fs::read_to_string(path)
        .await
        .map_err(|source| TlsError::RootsUnreadable { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec![NAME.to_owned()])
            .and_then(|params| params.self_signed(&key))
            .unwrap()
            .pem()
    }

    #[tokio::test]
    async fn a_mounted_ca_rolls_under_a_living_worker_and_a_broken_one_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        let first = bundle();
        write(&first);
        let roots = Roots::File(file.path().to_owned());
        let rules = Rules::new(Identity::generate().unwrap(), roots).await.unwrap();
        let config = async || Arc::clone(rules.acceptor().await.config());
        let before = config().await;
        assert!(Arc::ptr_eq(&before, &config().await), "made anew for the same CA");

        write(&format!("{first}{}", bundle()));
        let rolled = config().await;
        assert!(!Arc::ptr_eq(&before, &rolled));
        for broken in ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            write(broken);
            assert!(Arc::ptr_eq(&rolled, &config().await), "{broken}");
        }
        std::fs::remove_file(file.path()).unwrap();
        assert!(Arc::ptr_eq(&rolled, &config().await));
    }

    #[tokio::test]
    async fn a_worker_does_not_start_without_its_mounted_ca() {
        let roots = Roots::File("/nowhere/ca.crt".into());
        let rules = Rules::new(Identity::generate().unwrap(), roots).await;
        assert!(matches!(rules, Err(TlsError::RootsUnreadable { .. })));
    }

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
