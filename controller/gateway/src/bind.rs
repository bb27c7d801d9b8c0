//! Binds a worker: one control request over its link.
//!
//! This is the only place that puts a grant on the wire. Its bytes are wiped after use. This module must
//! not know how the worker was chosen or why.

use crate::{
    control::{ControlError, control},
    forward::link::{Link, SendError},
};
use http::StatusCode;
use patchbay_core::{
    grant::Grant,
    latch::Claim,
    link::{
        BIND_PATH, BindAccepted, BindOutcome, BindRefusal, BindRequest, MAX_BIND_BYTES, Refused,
        User,
    },
    session::SessionKeys,
};
use zeroize::Zeroizing;

/// Why a worker is not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The request did not get through.
    #[error("the bind did not reach the worker")]
    Send(#[source] SendError),
    /// The worker said no.
    #[error("the worker refused the bind: {0}")]
    Refused(BindRefusal),
    /// The worker is leaving.
    #[error("the worker is leaving")]
    Leaving,
    /// The worker's answer makes no sense.
    #[error("the worker answered {0} in no form that is known")]
    Nonsense(StatusCode),
    /// The grant cannot be written as a bind.
    #[error("the grant is longer than {MAX_BIND_BYTES} bytes")]
    TooLarge,
}

/// What a worker is told beside its grant.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Who its user is, where the class's templates name the user.
    pub user: Option<User>,
    /// What session ids are sealed with, where they are.
    pub sessions: Option<SessionKeys>,
}

/// Binds, or offers a bound worker a newer grant.
pub async fn bind(
    link: &Link,
    claim: &Claim,
    grant: &Grant,
    told: Told,
) -> Result<BindOutcome, BindError> {
    let Claim { tenant, epoch } = claim.clone();
    let Told { user, sessions } = told;
    let bind = BindRequest { tenant, epoch, grant: grant.clone(), user, sessions };
    let body = serde_json::to_vec(&bind).map(Zeroizing::new).map_err(|_| BindError::TooLarge)?;
    if body.len() > MAX_BIND_BYTES {
        return Err(BindError::TooLarge);
    }
    let (status, answer) = control(link, BIND_PATH, body).await?;
    match status {
        StatusCode::OK => serde_json::from_slice::<BindAccepted>(&answer)
            .map(|accepted| accepted.outcome)
            .map_err(|_| BindError::Nonsense(status)),
        StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE => {
            match serde_json::from_slice::<Refused>(&answer) {
                Ok(Refused { reason: BindRefusal::Leaving }) => Err(BindError::Leaving),
                Ok(Refused { reason }) => Err(BindError::Refused(reason)),
                Err(_) => Err(BindError::Nonsense(status)),
            }
        }
        other => Err(BindError::Nonsense(other)),
    }
}

impl From<ControlError> for BindError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Send(SendError::Refused) => Self::Leaving,
            ControlError::Send(error) => Self::Send(error),
            ControlError::Unreadable(status) => Self::Nonsense(status),
        }
    }
}
