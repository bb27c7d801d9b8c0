//! Keeps the control plane's authority while this operator leads, and this operator's own certificate with it.
//!
//! What is to be done is [`crate::authority`]'s; here are the clock, the retries, and what people see of it.

use super::metrics::Metrics;
use crate::{
    authority::{KeepError, Keeper, Kept, Publisher},
    link::{CurrentCertificate, LinkCertificate, UnusableCertificate},
    total::after,
};
use jiff::Timestamp;
use patchbay_core::{chain::Chain, jitter};
use secrecy::ExposeSecret as _;
use std::{future::pending, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// A failure is tried again after about this long. Workers and gateways go on meanwhile.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// What is published is looked at again after this long: somebody may have changed it.
const LOOK: Duration = Duration::from_mins(1);

/// Who makes roots and certificates.
pub enum Authority {
    /// This operator.
    Kept(Box<Keeper>),
    /// Somebody else, who makes this operator's certificate as well. These roots are published, each PEM, as they are
    /// now.
    Published(Box<Publisher>, watch::Receiver<Vec<String>>),
    /// Somebody else, who publishes them too.
    Elsewhere,
}

#[derive(Debug, thiserror::Error)]
enum AuthorityError {
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("the operator's own new certificate is of no use")]
    Certificate(#[from] UnusableCertificate),
}

/// Never ends.
pub(super) async fn keep(
    authority: Authority,
    certificate: &CurrentCertificate,
    metrics: &Metrics,
) {
    match authority {
        Authority::Kept(mut keeper) => loop {
            let now = Timestamp::now();
            let kept = keeper.pass(now).await.map_err(AuthorityError::from);
            match kept.and_then(|kept| take(&kept, certificate, metrics)) {
                Ok(look_again) => sleep(until(now, look_again)).await,
                Err(error) => wait_after(&error, metrics).await,
            }
        },
        Authority::Published(publisher, mut roots) => loop {
            let now = Timestamp::now();
            let wanted = roots.borrow_and_update().clone();
            match publisher.publish(&wanted, now).await {
                // that nobody reads the roots anew any more is no reason to stop
                Ok(_) => drop(
                    timeout(LOOK, async {
                        if roots.changed().await.is_err() {
                            pending::<()>().await;
                        }
                    })
                    .await,
                ),
                Err(error) => wait_after(&error.into(), metrics).await,
            }
        },
        Authority::Elsewhere => pending().await,
    }
}

/// When to look again.
fn take(
    kept: &Kept,
    certificate: &CurrentCertificate,
    metrics: &Metrics,
) -> Result<Timestamp, AuthorityError> {
    metrics.authority_ends(kept.until);
    let (chain, key) = (&kept.operator.certificate, kept.operator.key.expose_secret());
    let next = LinkCertificate::from_pem(chain.as_bytes(), key.as_bytes())?;
    certificate.store(Some(next.into()));
    Ok(kept.look_again)
}

async fn wait_after(error: &AuthorityError, metrics: &Metrics) {
    metrics.failed("authority");
    tracing::warn!(error = %Chain(error), "the control plane's authority cannot be kept");
    sleep(jitter::pause(TRY_AGAIN)).await;
}

/// For how long to wait; never for nothing, or a clock that stands still would make this loop spin.
fn until(now: Timestamp, moment: Timestamp) -> Duration {
    let soonest = after(now, Duration::from_secs(1));
    Duration::try_from(moment.max(soonest).duration_since(now)).unwrap_or(LOOK)
}
