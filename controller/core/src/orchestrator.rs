//! The seam between the gateway and wherever workers run: pods of a cluster or sandboxes of one machine.
//!
//! The gateway looks a tenant up, is offered an anonymous worker, and takes it by an assignment that at
//! most one of any number of concurrent claims wins. It then binds and forwards by itself: lock, bind,
//! forward, in that order. Nothing here knows HTTP, tokens, pods or processes.

use crate::{
    id::{Epoch, Incarnation, WorkerId},
    latch::Claim,
    pin::Fingerprint,
    provider::Provisioning,
    tenant::{TenantKey, TenantName},
};
use async_trait::async_trait;
use std::{net::SocketAddr, path::PathBuf};

/// Where a worker's agent listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix socket of this machine.
    Unix(PathBuf),
    /// A pod's own address.
    Tcp(SocketAddr),
}

/// A worker that a gateway may dial: the address, and the key that must answer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The worker's name.
    pub worker: WorkerId,
    /// This life of the worker.
    pub incarnation: Incarnation,
    /// Where its agent listens.
    pub endpoint: Endpoint,
    /// The public key that was recorded when it enrolled (invariant 3).
    pub fingerprint: Fingerprint,
}

/// A tenant's current assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// What every request to the worker must name.
    pub claim: Claim,
    /// The worker.
    pub offer: Offer,
}

/// What is known of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantState {
    /// Nobody has met it.
    Unknown,
    /// Known, without a worker. Its next assignment's epoch is `last.next()`.
    Asleep {
        /// The epoch of its last assignment.
        last: Epoch,
    },
    /// It has a worker.
    Assigned(Placement),
    /// An operator suspended it: it gets no worker.
    Suspended,
}

impl TenantState {
    /// Whether a request of the tenant would have to take a worker for it.
    pub const fn is_asleep(&self) -> bool {
        matches!(self, Self::Unknown | Self::Asleep { .. })
    }

    /// The epoch that the tenant's next assignment must carry.
    pub fn next_epoch(&self) -> Epoch {
        match self {
            Self::Unknown | Self::Suspended => Epoch::default().next(),
            Self::Asleep { last } => last.next(),
            Self::Assigned(placement) => placement.claim.epoch.next(),
        }
    }
}

/// How an assignment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// The tenant has the offered worker.
    Won(Placement),
    /// The tenant has a worker already: another claim was faster.
    Lost(Placement),
    /// The tenant gets no worker, or not this one.
    Refused(AssignRefusal),
}

/// Why an assignment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssignRefusal {
    /// The tenant is suspended.
    #[error("the tenant is suspended")]
    Suspended,
    /// The class has its limit of tenants.
    #[error("the class has no room for another tenant")]
    TenantLimit,
    /// The offered worker is gone or another tenant's by now: ask for another offer.
    #[error("the offered worker is no longer free")]
    OfferGone,
    /// The epoch is not the next one: look the tenant up again.
    #[error("the assignment's epoch is stale")]
    StaleEpoch,
    /// Nobody has met the tenant, and it may only be made by an operator.
    #[error("the tenant is not provisioned")]
    NotProvisioned,
    /// Issuer or subject are longer than a tenant can record.
    #[error("the issuer or the subject of this user is too long")]
    IdentityTooLong,
    /// What is recorded under the tenant's name is another identity: it was written by hand, and is never
    /// used.
    #[error("this user's record is not this user's; ask your platform operator")]
    NameMismatch,
    /// The tenant is being deleted; what comes after it is another tenant.
    #[error("this user's record is being deleted; try again")]
    Deleting,
    /// The control plane was asked and said no, for a reason that another try does not change.
    #[error("the control plane refuses this user's record; ask your platform operator")]
    NotAccepted,
}

/// Why no worker was offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// There is no such class (any more).
    #[error("there is no such class")]
    UnknownClass,
    /// Workers of the class fail to start, with what the last one said.
    #[error("workers of this class do not start: {0}")]
    NotStarting(String),
    /// The tenant gets no worker, so none was looked for.
    #[error(transparent)]
    Refused(AssignRefusal),
    /// The control plane cannot be told that this tenant waits, or asked what the tenant has.
    #[error(transparent)]
    ControlPlane(Unavailable),
    /// The orchestrator is ending.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
}

/// The control plane cannot be reached or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the control plane is unavailable: {0}")]
pub struct Unavailable(pub String);

/// Workers, wherever they run.
#[async_trait]
pub trait Orchestrator: Send + Sync + 'static {
    /// What is known of a tenant, from memory: called for every request.
    fn lookup(&self, tenant: &TenantName) -> TenantState;

    /// An anonymous worker for `tenant`, or the one that it turns out to have. Waits until there is one; the
    /// caller bounds the wait by dropping the future. A tenant that waits is counted as waiting; `provisioning`
    /// says whether it may be made for that. None of the workers of `failed` is offered as an anonymous one; as the
    /// tenant's own only one that it has by another claim, since a refusal was of a claim.
    async fn offer(
        &self,
        tenant: &TenantKey,
        provisioning: Provisioning,
        failed: &[Placement],
    ) -> Result<Offer, OfferError>;

    /// Records that `tenant` has the offered worker. Of concurrent calls for one tenant or one worker,
    /// one wins. `epoch` must be the tenant's next (see [`TenantState::next_epoch`]); `provisioning` says
    /// whether an unknown tenant may be made.
    async fn assign(
        &self,
        tenant: &TenantKey,
        provisioning: Provisioning,
        offer: &Offer,
        epoch: Epoch,
    ) -> Result<Assignment, Unavailable>;

    /// A gateway learned from the worker itself that this life of it is over for new work.
    fn report_gone(&self, incarnation: &Incarnation);

    /// A gateway learned from the worker itself that for the moment it is kept for another tenant: it is offered to
    /// nobody for a while. Where offers are exclusive this does not happen.
    fn report_reserved(&self, _incarnation: &Incarnation) {}

    /// A gateway learned from the worker itself that it is a tenant's, whose record may not be known yet: it is offered
    /// to nobody. By default nothing is to be learned: whoever gives workers away knows whose they are.
    fn report_taken(&self, _incarnation: &Incarnation) {}

    /// A gateway cannot reach this worker: it is offered to nobody for a moment. That alone is no worker's end; it is
    /// where the control plane does not vouch for it either, now or soon. By default it always does.
    fn report_unreachable(&self, _incarnation: &Incarnation) {}

    /// Completes as soon as the tenant is not asleep any more.
    async fn awake(&self, tenant: &TenantName);

    /// Completes as soon as this life of a worker is known to be over, at once for one that is unknown.
    async fn gone(&self, incarnation: &Incarnation);
}
