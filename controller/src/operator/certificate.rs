//! The operator's link certificate from two files, read again when they change.
//!
//! Polled, and not watched: a Secret that is mounted is replaced by way of links, which notifications miss.

use anyhow::Context;
use arc_swap::ArcSwap;
use patchbay_core::chain::Chain;
use patchbay_operator::link::LinkCertificate;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// A certificate is renewed long before it ends.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A certificate, or a key, is a few kilobytes.
const MOST_BYTES: u64 = 64 * 1024;

/// What the files hold.
type Texts = (Vec<u8>, Zeroizing<Vec<u8>>);

/// The certificate of the moment. What is wrong with the files at the start is an error; later, what was read before
/// stays in use.
pub(super) fn watched(
    chain: PathBuf,
    key: PathBuf,
    shutdown: CancellationToken,
) -> anyhow::Result<Arc<ArcSwap<LinkCertificate>>> {
    let mut texts = read(&chain, &key)?;
    let current = Arc::new(ArcSwap::from_pointee(parse(&texts, &chain, &key)?));
    let renewed = Arc::clone(&current);
    tokio::spawn(async move {
        while shutdown.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
            let next = read(&chain, &key).and_then(|next| {
                let certificate =
                    if next == texts { None } else { Some(parse(&next, &chain, &key)?) };
                Ok(certificate.map(|certificate| (next, certificate)))
            });
            match next {
                Ok(None) => {}
                Ok(Some((next, certificate))) => {
                    texts = next;
                    renewed.store(Arc::new(certificate));
                    tracing::info!("took a new link certificate");
                }
                // the two files may be replaced one after the other
                Err(error) => {
                    tracing::warn!(error = %Chain(error.as_ref()), "kept the link certificate that was there");
                }
            }
        }
    });
    Ok(current)
}

fn read(chain: &Path, key: &Path) -> anyhow::Result<Texts> {
    let read = |path: &Path, flag: &str| {
        let show = || format!("cannot read {} ({flag})", path.display());
        let size = fs::metadata(path).with_context(show)?.len();
        anyhow::ensure!(size <= MOST_BYTES, "{} ({flag}) is too long", path.display());
        fs::read(path).with_context(show)
    };
    Ok((read(chain, "--link-cert")?, Zeroizing::new(read(key, "--link-key")?)))
}

fn parse(
    (chain_text, key_text): &Texts,
    chain: &Path,
    key: &Path,
) -> anyhow::Result<LinkCertificate> {
    LinkCertificate::from_pem(chain_text, key_text).with_context(|| {
        let (chain, key) = (chain.display(), key.display());
        format!("{chain} (--link-cert) and {key} (--link-key) are of no use")
    })
}
