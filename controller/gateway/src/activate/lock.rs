//! Takes a worker for a tenant: from an offer to a record that says whose it is. It must not know what is bound.

use super::{ActivateError, Activator, Request};
use crate::{
    forward::link::Link,
    reserve::{self, ReserveError},
};
use patchbay_core::{
    grant::{Grant, GrantError},
    jitter,
    link::BindRefusal,
    orchestrator::{
        AssignRefusal, Assignment, Offer, OfferError, Placement, TenantState, Unavailable,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// Before anything else is asked for, where a worker said that it is not for this tenant.
const AFTER_A_NO: Duration = Duration::from_millis(10);

/// What an activation has learned of workers so far.
#[derive(Default)]
pub(super) struct Learned {
    /// Placements that came to nothing. Only a bind's answer, or the control plane's word that a worker is gone, puts one
    /// here: a worker that was merely asked to keep itself may by now be this very tenant's, by another gateway, and
    /// then nothing else may take its place. For the same reason a claim is part of it: a worker that refused a claim
    /// of which this gateway knew too late that it is over may be the tenant's by its next one.
    pub(super) failed: Vec<Placement>,
    pub(super) lost_picks: usize,
}

/// How one attempt to take a worker ended.
pub(super) enum Lock {
    /// The tenant has this worker.
    Placed(Placement),
    /// What was known has changed: look again.
    LookAgain,
    /// The control plane, or the offered worker, gave no answer: it may in a moment, or another worker.
    NotNow(ActivateError),
}

/// How one attempt to have a worker kept for a tenant ended.
enum Kept {
    /// It is, until it is released or taken, or some time has passed.
    For(Arc<Link>),
    /// Look for another.
    Not,
    /// It gave no answer.
    Unanswered,
}

impl Activator {
    /// Takes an offered worker, which keeps itself for the tenant meanwhile. The grant is prepared before: what the
    /// worker waits for is one write.
    pub(super) async fn lock<F>(
        &self,
        request: &Request<'_>,
        learned: &Learned,
        grant: &mut GrantOnce<F>,
    ) -> Result<Lock, ActivateError>
    where
        F: Future<Output = Result<Grant, GrantError>> + Unpin,
    {
        let Request { tenant, provisioning, .. } = *request;
        let offer = async {
            let offer = self.orchestrator.offer(tenant, provisioning, &learned.failed).await;
            offer.map(Ok).or_else(|error| match error {
                OfferError::ControlPlane(unavailable) => Ok(Err(unavailable)),
                OfferError::Refused(refusal) => Err(refused(refusal)),
                other => Err(ActivateError::Offer(other)),
            })
        };
        let prepared = async { grant.get().await.map(drop).map_err(ActivateError::Grant) };
        let (offer, ()) = futures_util::future::try_join(offer, prepared).await?;
        let offer: Offer = match offer {
            Ok(offer) => offer,
            Err(unavailable) => return Ok(unavailable_now(request, unavailable)),
        };
        // Looked up after the offer: a grant may take seconds, and another claim of this tenant may have been faster
        // meanwhile, through another gateway too. The worker that it has is never replaced because one was offered.
        let state = self.orchestrator.lookup(request.name);
        if let TenantState::Assigned(placement) = &state
            && !learned.failed.contains(placement)
        {
            return Ok(Lock::Placed(placement.clone()));
        }
        let link = match self.keep(request, &offer).await? {
            Kept::For(link) => link,
            Kept::Not => {
                // whatever the control plane offers next, a worker that says no is not asked without a pause
                sleep(jitter::pause(AFTER_A_NO)).await;
                return Ok(Lock::LookAgain);
            }
            Kept::Unanswered => return Ok(Lock::NotNow(ActivateError::Unreachable)),
        };
        let epoch = state.next_epoch();
        let assigned = self.orchestrator.assign(tenant, provisioning, &offer, epoch).await;
        let is_taken = match &assigned {
            Ok(Assignment::Won(placement) | Assignment::Lost(placement)) => {
                placement.offer.incarnation == offer.incarnation
            }
            Ok(Assignment::Refused(_)) => false,
            // nobody knows
            Err(_) => true,
        };
        if !is_taken {
            let name = request.name.clone();
            tokio::spawn(async move { reserve::release(&link, &name).await });
        }
        match assigned {
            Ok(Assignment::Won(placement) | Assignment::Lost(placement)) => {
                Ok(Lock::Placed(placement))
            }
            Ok(Assignment::Refused(AssignRefusal::OfferGone | AssignRefusal::StaleEpoch)) => {
                Ok(Lock::LookAgain)
            }
            Ok(Assignment::Refused(refusal)) => Err(refused(refusal)),
            Err(unavailable) => Ok(unavailable_now(request, unavailable)),
        }
    }

    /// Has an offered worker kept for the tenant. Nothing is written for one that is another's, or does not answer.
    async fn keep(&self, request: &Request<'_>, offer: &Offer) -> Result<Kept, ActivateError> {
        let link = self.link(offer).map_err(|error| {
            tracing::error!(%error, "no TLS configuration for a worker");
            ActivateError::BindFailed
        })?;
        let incarnation = &offer.incarnation;
        match reserve::reserve(&link, request.name).await {
            Ok(()) => return Ok(Kept::For(link)),
            Err(ReserveError::Refused(BindRefusal::Leaving)) => {
                self.orchestrator.report_gone(incarnation);
            }
            Err(ReserveError::Refused(reason)) if reason.is_final() => {
                self.orchestrator.report_taken(incarnation);
            }
            Err(ReserveError::Refused(reason)) => {
                tracing::debug!(tenant = %request.name, worker = %offer.worker, %reason, "not kept");
                self.orchestrator.report_reserved(incarnation);
            }
            Err(error) => {
                tracing::warn!(
                    tenant = %request.name, worker = %offer.worker,
                    error = &error as &dyn std::error::Error, "a worker could not be asked"
                );
                self.orchestrator.report_unreachable(incarnation);
                return Ok(Kept::Unanswered);
            }
        }
        Ok(Kept::Not)
    }
}

fn unavailable_now(request: &Request<'_>, error: Unavailable) -> Lock {
    tracing::warn!(tenant = %request.name, %error, "a claim waits");
    Lock::NotNow(ActivateError::ControlPlane(error))
}

fn refused(refusal: AssignRefusal) -> ActivateError {
    match refusal {
        AssignRefusal::NotProvisioned => ActivateError::NotProvisioned,
        other => ActivateError::Refused(other),
    }
}

/// A grant that is prepared once per activation, whichever step needs it first.
pub(super) enum GrantOnce<F> {
    Pending(F),
    Ready(Box<Grant>),
}

impl<F: Future<Output = Result<Grant, GrantError>> + Unpin> GrantOnce<F> {
    pub(super) async fn get(&mut self) -> Result<&Grant, GrantError> {
        if let Self::Pending(future) = self {
            *self = Self::Ready(Box::new(future.await?));
        }
        match self {
            Self::Ready(grant) => Ok(grant),
            Self::Pending(_) => Err(GrantError::unavailable("the broker")),
        }
    }
}
