//! Certificates in files that somebody renews: they are read again from time to time, and taken if they are
//! usable.
//!
//! Files are compared by content and polled: mounted Secrets are exchanged by renaming a directory, of which watches
//! on files miss things. Between the two reads of a pair the pair may be exchanged; then the key does not fit, and
//! the next look finds both. This module must not know what a certificate is for.

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use patchbay_core::{chain::Chain, digest::Digest};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{future::pending, path::PathBuf, sync::Arc, time::Duration};
use tokio::{fs, time::sleep};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// No chain of certificates, and no key, is longer, bytes.
const MOST_BYTES: u64 = 256 * 1024;

/// A certificate and its key, with the arguments that named them.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) cert: (&'static str, PathBuf),
    pub(crate) key: (&'static str, PathBuf),
}

/// What two files hold.
pub(crate) struct Pair {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// Tells one content from another.
    digest: Digest,
}

impl Files {
    async fn read(&self) -> anyhow::Result<Pair> {
        let (cert, key) = (read(&self.cert).await?, read(&self.key).await?);
        let describe =
            |(argument, path): &(&str, PathBuf)| format!("{} ({argument})", path.display());
        let chain = CertificateDer::pem_slice_iter(&cert)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{} is no PEM file", describe(&self.cert)))?;
        ensure!(!chain.is_empty(), "{} holds no certificate", describe(&self.cert));
        let digest = Digest::of_fields("patchbay.dev/certificate/v1", &[&cert, &key]);
        let key = PrivateKeyDer::from_pem_slice(&key)
            .with_context(|| format!("{} holds no private key", describe(&self.key)))?;
        Ok(Pair { chain, key, digest })
    }
}

async fn read((argument, path): &(&str, PathBuf)) -> anyhow::Result<Vec<u8>> {
    let what = || format!("cannot read {} ({argument})", path.display());
    let length = fs::metadata(path).await.with_context(what)?.len();
    ensure!(length <= MOST_BYTES, "{} ({argument}) is no certificate or key", path.display());
    fs::read(path).await.with_context(what)
}

type Take = Box<dyn Fn(Pair) -> anyhow::Result<()> + Send + Sync>;

/// Looks at files for ever.
pub(crate) struct Renewal(Option<Looking>);

struct Looking {
    files: Files,
    taken: Option<Digest>,
    take: Take,
}

impl Renewal {
    /// There are no files.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Hands what the files hold to `take`, now or as soon as they are there, and again whenever it changes.
    pub(crate) fn new(
        files: Files,
        take: impl Fn(Pair) -> anyhow::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Looking { files, taken: None, take: Box::new(take) }))
    }

    /// Never ends; the caller drops it.
    pub(crate) async fn run(self) {
        let Some(mut looking) = self.0 else { return pending().await };
        let mut last = String::new();
        loop {
            let looked = looking.look().await;
            tell(&mut last, looked.err());
            sleep(LOOK).await;
        }
    }
}

/// Hands what a file holds to `take`, now or as soon as it is there, and again whenever it changes.
/// Never ends; the caller drops it.
pub(crate) async fn follow(
    file: (&'static str, PathBuf),
    take: impl Fn(&str) -> anyhow::Result<()>,
) {
    let (mut taken, mut last) = (None, String::new());
    loop {
        let looked = read(&file).await.and_then(|content| {
            let digest = Digest::of(&content);
            if taken != Some(digest) {
                take(&String::from_utf8_lossy(&content))?;
                taken = Some(digest);
            }
            Ok(())
        });
        tell(&mut last, looked.err());
        sleep(LOOK).await;
    }
}

/// Tells an error that is not the last one.
fn tell(last: &mut String, error: Option<anyhow::Error>) {
    let error = error.map_or(String::new(), |error| Chain(error.as_ref()).to_string());
    if error != *last && !error.is_empty() {
        tracing::warn!(error, "what is in a file cannot be used; what was read before stays");
    }
    *last = error;
}

impl Looking {
    /// Whether something was taken.
    async fn look(&mut self) -> anyhow::Result<bool> {
        let pair = self.files.read().await?;
        let digest = pair.digest;
        if self.taken == Some(digest) {
            return Ok(false);
        }
        (self.take)(pair)?;
        tracing::info!(file = %self.files.cert.1.display(), "a certificate is used from now on");
        self.taken = Some(digest);
        Ok(true)
    }
}

/// The certificate that clients see.
#[derive(Debug)]
pub(crate) struct ServerCertificate(ArcSwap<CertifiedKey>);

impl ServerCertificate {
    /// Reads it, and returns what renews it.
    pub(crate) async fn load(files: Files) -> anyhow::Result<(Arc<Self>, Renewal)> {
        let pair = files.read().await?;
        let digest = pair.digest;
        let this = Arc::new(Self(ArcSwap::from_pointee(certified(pair, &files)?)));
        let (renewed, of) = (this.clone(), files.clone());
        let take: Take = Box::new(move |pair| {
            renewed.0.store(Arc::new(certified(pair, &of)?));
            Ok(())
        });
        Ok((this, Renewal(Some(Looking { files, taken: Some(digest), take }))))
    }
}

fn certified(pair: Pair, files: &Files) -> anyhow::Result<CertifiedKey> {
    let provider: Arc<CryptoProvider> = aws_lc_rs::default_provider().into();
    let Pair { chain, key, .. } = pair;
    CertifiedKey::from_der(chain, key, &provider).with_context(|| {
        let (cert, key) = (files.cert.1.display(), files.key.1.display());
        format!("{cert} and {key} do not fit each other")
    })
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::path::Path;

    /// A certificate and its key, PEM.
    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["h.example".into()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn files(directory: &Path) -> Files {
        Files {
            cert: ("--tls-cert", directory.join("tls.crt")),
            key: ("--tls-key", directory.join("tls.key")),
        }
    }

    fn write(files: &Files, (cert, key): &(String, String)) {
        std::fs::write(&files.cert.1, cert).unwrap();
        std::fs::write(&files.key.1, key).unwrap();
    }

    #[tokio::test]
    async fn a_renewed_pair_is_taken_and_half_of_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let (old, new) = (pair(), pair());
        write(&files, &old);
        let (certificate, renewal) = ServerCertificate::load(files.clone()).await.unwrap();
        let shown = || certificate.0.load().cert[0].to_vec();
        let first = shown();
        let mut looking = renewal.0.unwrap();
        assert!(!looking.look().await.unwrap());

        write(&files, &(new.0.clone(), old.1.clone()));
        let error = looking.look().await.unwrap_err();
        assert!(error.to_string().contains("do not fit each other"), "{error}");
        std::fs::remove_file(&files.key.1).unwrap();
        assert!(looking.look().await.unwrap_err().to_string().contains("--tls-key"));
        assert_eq!(shown(), first);

        write(&files, &new);
        assert!(looking.look().await.unwrap());
        assert_ne!(shown(), first);
    }

    #[tokio::test]
    async fn files_that_are_not_there_yet_are_taken_when_they_come() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        assert!(ServerCertificate::load(files.clone()).await.is_err());
        let taken = Arc::new(Mutex::new(0));
        let counted = taken.clone();
        let renewal = Renewal::new(files.clone(), move |_| {
            *counted.lock() += 1;
            Ok(())
        });
        let mut looking = renewal.0.unwrap();
        assert!(looking.look().await.is_err());
        write(&files, &pair());
        assert!(looking.look().await.unwrap() && !looking.look().await.unwrap());
        assert_eq!(*taken.lock(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_no_pem_is_named_with_its_argument() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        write(&files, &("nothing".into(), pair().1));
        let error = files.read().await.err().unwrap().to_string();
        assert!(error.contains("--tls-cert") && error.contains("no certificate"), "{error}");
    }
}
