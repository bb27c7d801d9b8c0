//! Asks a worker to keep itself for a tenant while the claim is written, so that gateways do not write one after
//! another for the same worker (ADR 11). It must not know how the worker was chosen.

use crate::{
    control::{ControlError, control},
    forward::link::{Link, SendError},
};
use http::StatusCode;
use patchbay_core::{
    link::{BindRefusal, RELEASE_PATH, RESERVE_PATH, Refused, Reservation},
    tenant::TenantName,
};
use zeroize::Zeroizing;

/// Why a worker does not keep itself for a tenant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReserveError {
    /// The worker said no.
    #[error("the worker refused: {0}")]
    Refused(BindRefusal),
    /// It was not asked, or its answer makes no sense.
    #[error("the worker gave no answer of use")]
    NoAnswer(#[source] ControlError),
}

/// Has a worker kept for a tenant.
pub(crate) async fn reserve(link: &Link, tenant: &TenantName) -> Result<(), ReserveError> {
    let (status, answer) = match control(link, RESERVE_PATH, body(tenant)).await {
        Ok(answered) => answered,
        Err(ControlError::Send(SendError::Refused)) => {
            return Err(ReserveError::Refused(BindRefusal::Leaving));
        }
        Err(error) => return Err(ReserveError::NoAnswer(error)),
    };
    if status == StatusCode::NO_CONTENT {
        return Ok(());
    }
    let refused = serde_json::from_slice::<Refused>(&answer);
    Err(refused.map_or_else(
        |_| ReserveError::NoAnswer(ControlError::Unreadable(status)),
        |refused| ReserveError::Refused(refused.reason),
    ))
}

/// Has a worker kept for a tenant no longer. Without an answer it is not for long either.
pub(crate) async fn release(link: &Link, tenant: &TenantName) {
    if let Err(error) = control(link, RELEASE_PATH, body(tenant)).await {
        tracing::debug!(%tenant, error = &error as &dyn std::error::Error, "a worker was not released");
    }
}

fn body(tenant: &TenantName) -> Zeroizing<Vec<u8>> {
    let reservation = Reservation { tenant: tenant.clone() };
    // a plain structure always serialises
    Zeroizing::new(serde_json::to_vec(&reservation).unwrap_or_default())
}
