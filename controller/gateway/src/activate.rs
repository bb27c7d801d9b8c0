//! Makes sure that a tenant has a worker that holds its grant: reserve, lock, bind, forward, in that order.
//!
//! Any number of concurrent requests of one tenant cause one activation (single flight); the others wait
//! for it. The common case, a worker that was bound by an earlier request with the same credential,
//! takes no lock and sends nothing. This module must not know what is forwarded or how workers are made.

mod flight;
mod lock;
mod renew;
mod slots;

use crate::{
    bind::{self, BindError, Told},
    config::Limits,
    forward::link::{DialError, Link, LinkContext},
};
use arc_swap::ArcSwapOption;
use flight::Flights;
use jiff::Timestamp;
use lock::{GrantOnce, Learned, Lock};
use parking_lot::Mutex;
use patchbay_core::{
    class::WorkerClass,
    digest::Digest,
    grant::{Grant, GrantError, GrantSource},
    id::Incarnation,
    identity::Authenticated,
    jitter,
    latch::Claim,
    link::BindRefusal,
    orchestrator::{
        AssignRefusal, Offer, OfferError, Orchestrator, Placement, TenantState, Unavailable,
    },
    provider::Provisioning,
    session::SessionRoots,
    tenant::{TenantKey, TenantName},
};
use renew::{Calls, Renewal};
pub use renew::{InFlight, Judge, Verdict};
use slots::Slots;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, Span};

/// Why a tenant has no worker. The texts are for clients.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ActivateError {
    /// No worker became free in time.
    #[error("no worker became ready in time; try again")]
    HoldElapsed,
    /// The tenant must be made by an operator first.
    #[error("this user is not provisioned here; ask your platform operator")]
    NotProvisioned,
    /// The control plane refused the tenant.
    #[error("{0}")]
    Refused(AssignRefusal),
    /// No worker can be offered.
    #[error("workers of this class do not start; your platform operator can see why")]
    Offer(#[source] OfferError),
    /// The control plane cannot be reached.
    #[error("the control plane is unavailable; try again")]
    ControlPlane(#[source] Unavailable),
    /// There is no grant.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The tenant's worker is not known to be gone, but cannot be reached.
    #[error("the user's worker cannot be reached; try again")]
    Unreachable,
    /// The worker did not take the bind.
    #[error("the worker did not take the user's credentials; try again")]
    BindFailed,
    /// The MCP server, which is started for its user, did not come to answer.
    #[error(
        "the MCP server did not start with the user's credentials; your platform operator can see why"
    )]
    ServerFailed,
    /// Other users were faster, time after time.
    #[error("other users took the workers that were free; try again")]
    Outrun,
}

/// Picks that a claim may lose to other users' before it gives up: each costs the control plane a write.
const MOST_LOST_PICKS: usize = 3;

/// Binds of one worker that may come to nothing while it can be reached.
const MOST_BINDS: usize = 3;

/// A worker that broke off is known to be gone within so long, or lives.
const END_KNOWN: Duration = Duration::from_secs(5);

/// Before a worker that gave no answer is dialled again; doubled each time.
const FIRST_DIAL: Duration = Duration::from_millis(100);

/// Pauses between tries while the control plane, or a worker that was offered, is not to be reached.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A tenant's worker, bound by this gateway.
#[derive(Clone)]
pub struct Bound {
    /// What every request must name.
    pub placement: Placement,
    /// The connection to it.
    pub link: Arc<Link>,
    /// The credential that the worker acknowledged last.
    acknowledged: Digest,
    /// When what it holds must be renewed.
    renewal: Option<Renewal>,
}

/// What an activation is for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The tenant.
    pub tenant: &'a TenantKey,
    /// Its name.
    pub name: &'a TenantName,
    /// Its class.
    pub class: &'a Arc<WorkerClass>,
    /// The user and the credential.
    pub user: &'a Authenticated,
    /// Whether a first contact makes a tenant.
    pub provisioning: Provisioning,
    /// Whether it takes a worker for a tenant that has none.
    pub wakes: bool,
    /// When the request arrived.
    pub now: Timestamp,
    /// What it is called in logs.
    pub id: &'a str,
}

impl Request<'_> {
    /// What is said of whatever is asked of others for this request (issue 4, diagnostics).
    fn span(&self) -> Span {
        let identity = &self.user.identity;
        tracing::info_span!(
            "grant",
            request_id = self.id,
            tenant = %self.name,
            provider = %identity.provider,
            mode = %identity.mode
        )
    }
}

/// What a worker is told beside its grant. Who the user is: nothing, unless its class makes texts of that.
fn told(context: &LinkContext, class: &WorkerClass, user: &Authenticated, claim: &Claim) -> Told {
    let roots = context.sessions.load();
    let keys = |roots: &SessionRoots| roots.keys(&claim.tenant, Timestamp::now());
    Told {
        user: class.templates.name_the_user().then(|| user.identity.told()),
        sessions: roots.as_deref().and_then(keys),
    }
}

/// All that this gateway remembers of tenants. It is derived from the control plane and from answers of
/// workers, so it may be lost at any time.
pub struct Activator {
    orchestrator: Arc<dyn Orchestrator>,
    grants: Arc<dyn GrantSource>,
    judge: Arc<dyn Judge>,
    context: Arc<LinkContext>,
    slots: Arc<Slots>,
}

#[derive(Default)]
struct Slot {
    bound: ArcSwapOption<Bound>,
    flights: Flights,
    /// When a worker was last wanted, in milliseconds since 1970.
    last_request: AtomicI64,
    /// When the last renewal began, in milliseconds since 1970.
    last_renewal: AtomicI64,
    /// Calls that go on, where there are keys to renew.
    calls: Mutex<Calls>,
}

/// How one attempt to use a placement ended.
enum Attempt {
    Bound(Arc<Bound>),
    /// The worker is another tenant's: another claim was faster.
    Lost,
    /// The worker is gone; another one is needed.
    Gone,
}

/// What became of a worker that gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It can be reached again.
    Reached,
    /// The control plane says that this life of it is over.
    Gone,
    /// Neither.
    Silent,
}

impl Activator {
    /// An activator over a control plane and a source of grants; `judge` says for how long a call's credential is good.
    pub fn new(
        orchestrator: Arc<dyn Orchestrator>,
        grants: Arc<dyn GrantSource>,
        judge: Arc<dyn Judge>,
        context: Arc<LinkContext>,
    ) -> Self {
        Self { orchestrator, grants, judge, context, slots: Arc::default() }
    }

    fn limits(&self) -> &Limits {
        &self.context.limits
    }

    /// The tenant's worker, if it is bound and acknowledged this very credential: the common case.
    pub fn ready(&self, request: &Request<'_>) -> Option<Arc<Bound>> {
        let slot = self.slots.get(request.name)?;
        slot.last_request.store(request.now.as_millisecond(), Ordering::Relaxed);
        let bound = self.current(&slot, request)?;
        self.renew_if_due(&slot, &bound, request);
        Some(bound)
    }

    /// When this gateway last had a request of a tenant; none where nothing is remembered of it, because it has no worker
    /// here and no request.
    pub fn last_request(&self, name: &TenantName) -> Option<Timestamp> {
        let slot = self.slots.get(name)?;
        Timestamp::from_millisecond(slot.last_request.load(Ordering::Relaxed)).ok()
    }

    fn current(&self, slot: &Slot, request: &Request<'_>) -> Option<Arc<Bound>> {
        let bound = slot.bound.load_full()?;
        let is_too_late = bound.renewal.is_some_and(|renewal| renewal.is_too_late(request.now));
        if bound.acknowledged != request.user.digest || is_too_late {
            return None;
        }
        match self.orchestrator.lookup(request.name) {
            TenantState::Assigned(placement) if placement == bound.placement => Some(bound),
            _ => None,
        }
    }

    /// The tenant's worker, made ready if need be; waits at most for the hold limit. None where the tenant sleeps, and the
    /// request does not wake it.
    pub async fn activate(
        &self,
        request: &Request<'_>,
    ) -> Result<Option<Arc<Bound>>, ActivateError> {
        let slot = self.slots.hold(request.name);
        slot.last_request.store(request.now.as_millisecond(), Ordering::Relaxed);
        let credential = request.user.digest;
        let mut obstacle = None;
        let flight = async {
            let turn = slot.flights.turn().await;
            if let Some(bound) = self.current(&slot, request) {
                return Ok(Some(bound));
            }
            if let Some(error) = turn.shared(credential) {
                return Err(error);
            }
            let bound = self.lock_and_bind(request, &mut obstacle).await;
            let bound = bound.inspect_err(|error| turn.failed(credential, error))?;
            if let Some(bound) = &bound {
                self.slots.bind(&slot, bound);
            }
            Ok(bound)
        };
        let outcome = timeout(self.limits().hold, flight).await;
        outcome.map_err(|_| obstacle.take().unwrap_or(ActivateError::HoldElapsed))?
    }

    /// Completes as soon as the tenant is not asleep any more.
    pub fn awake(&self, name: &TenantName) -> impl Future<Output = ()> + use<> {
        let (orchestrator, name) = (self.orchestrator.clone(), name.clone());
        async move { orchestrator.awake(&name).await }
    }

    /// Whether the life of a worker that broke off turns out to be over, within a moment.
    pub fn ends(&self, bound: &Bound) -> impl Future<Output = bool> + use<> {
        let orchestrator = self.orchestrator.clone();
        let incarnation = bound.placement.offer.incarnation.clone();
        async move { timeout(END_KNOWN, orchestrator.gone(&incarnation)).await.is_ok() }
    }

    /// The worker said that it is not this tenant's, or that it is leaving: never use this placement
    /// again without a new bind.
    pub fn forget(&self, name: &TenantName, bound: &Arc<Bound>) {
        self.slots.unbind(name, bound);
    }

    /// The worker itself said that it is leaving.
    pub fn worker_leaves(&self, name: &TenantName, bound: &Arc<Bound>) {
        self.forget(name, bound);
        self.orchestrator.report_gone(&bound.placement.offer.incarnation);
    }

    /// Tries until the caller's patience ends. `obstacle` tells what was in the way last, if that was the control plane or
    /// a worker that could not be asked: a request waits while they are away.
    async fn lock_and_bind(
        &self,
        request: &Request<'_>,
        obstacle: &mut Option<ActivateError>,
    ) -> Result<Option<Arc<Bound>>, ActivateError> {
        let grant = self.grants.prepare(request.class, request.user).instrument(request.span());
        let mut grant = GrantOnce::Pending(grant);
        let mut learned = Learned::default();
        let mut pause = FIRST_PAUSE;
        loop {
            let state = self.orchestrator.lookup(request.name);
            let placement = match &state {
                TenantState::Suspended => {
                    return Err(ActivateError::Refused(AssignRefusal::Suspended));
                }
                TenantState::Unknown if request.provisioning == Provisioning::Preprovisioned => {
                    return Err(ActivateError::NotProvisioned);
                }
                TenantState::Assigned(placement) if !learned.failed.contains(placement) => {
                    placement.clone()
                }
                state if !request.wakes => {
                    // one that has a worker which was of no use has to be given another, by a request that wakes it
                    return if state.is_asleep() {
                        Ok(None)
                    } else {
                        Err(ActivateError::Unreachable)
                    };
                }
                _ => match self.lock(request, &learned, &mut grant).await? {
                    Lock::Placed(placement) => placement,
                    Lock::LookAgain => continue,
                    Lock::NotNow(why) => {
                        *obstacle = Some(why);
                        sleep(jitter::pause(pause)).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        continue;
                    }
                },
            };
            *obstacle = None;
            match self.bind(request, &placement, grant.get().await?).await? {
                Attempt::Bound(bound) => return Ok(Some(bound)),
                Attempt::Gone => {}
                Attempt::Lost => {
                    learned.lost_picks += 1;
                    if learned.lost_picks == MOST_LOST_PICKS {
                        return Err(ActivateError::Outrun);
                    }
                }
            }
            learned.failed.push(placement);
        }
    }

    /// Binds the placement's worker. A bind may be sent again: the worker knows its tenant.
    async fn bind(
        &self,
        request: &Request<'_>,
        placement: &Placement,
        grant: &Grant,
    ) -> Result<Attempt, ActivateError> {
        let Placement { claim, offer } = placement;
        let link = self.link(offer).map_err(|error| {
            tracing::error!(%error, "no TLS configuration for a worker");
            ActivateError::BindFailed
        })?;
        let told = told(&self.context, request.class, request.user, claim);
        for _ in 0..MOST_BINDS {
            let error = match bind::bind(&link, claim, grant, told.clone()).await {
                Ok(outcome) => {
                    let (tenant, worker) = (request.name, &offer.worker);
                    tracing::debug!(%tenant, %worker, ?outcome, "bound");
                    return Ok(Attempt::Bound(Arc::new(Bound {
                        placement: placement.clone(),
                        link,
                        acknowledged: request.user.digest,
                        renewal: Renewal::of(grant),
                    })));
                }
                Err(BindError::Refused(reason)) if reason.is_final() => {
                    tracing::warn!(
                        tenant = %request.name, worker = %offer.worker, %reason,
                        "a worker refused its assigned tenant; taking another"
                    );
                    return Ok(Attempt::Lost);
                }
                // another one would fare no better
                Err(BindError::Refused(BindRefusal::ServerFailed)) => {
                    tracing::warn!(
                        tenant = %request.name, worker = %offer.worker,
                        "a worker's MCP server did not start for its user"
                    );
                    self.orchestrator.report_gone(&offer.incarnation);
                    return Err(ActivateError::ServerFailed);
                }
                Err(BindError::Leaving) => {
                    self.orchestrator.report_gone(&offer.incarnation);
                    return Ok(Attempt::Gone);
                }
                Err(error) => error,
            };
            tracing::warn!(
                tenant = %request.name, worker = %offer.worker,
                error = &error as &dyn std::error::Error, "a worker could not be bound"
            );
            match self.settle(&link, &offer.incarnation).await {
                Settled::Reached => {}
                Settled::Gone => return Ok(Attempt::Gone),
                Settled::Silent => return Err(ActivateError::Unreachable),
            }
        }
        Err(ActivateError::BindFailed)
    }

    /// What becomes of a bound worker that could not be dialled.
    pub async fn settled(&self, bound: &Bound) -> Settled {
        self.settle(&bound.link, &bound.placement.offer.incarnation).await
    }

    /// Dials a worker that gave no answer until it is reached or known to be gone, within the settle limit. Only the
    /// control plane may give up a worker that may be bound, by another gateway if not by this one (DESIGN, life of a
    /// worker, step 9), and it usually learns of a death soon; a worker that is well answers the next time.
    async fn settle(&self, link: &Link, incarnation: &Incarnation) -> Settled {
        let reached = async {
            let mut pause = FIRST_DIAL;
            loop {
                sleep(jitter::pause(pause)).await;
                match link.connect().await {
                    Ok(()) => return,
                    Err(_) => self.orchestrator.report_unreachable(incarnation),
                }
                pause *= 2;
            }
        };
        let settled = async {
            tokio::select! {
                () = self.orchestrator.gone(incarnation) => Settled::Gone,
                () = reached => Settled::Reached,
            }
        };
        timeout(self.limits().settle, settled).await.unwrap_or(Settled::Silent)
    }

    /// The one link to this life of a worker; it is dropped when the worker is known to be gone.
    fn link(&self, offer: &Offer) -> Result<Arc<Link>, DialError> {
        if let Some(link) = self.slots.link(&offer.incarnation) {
            return Ok(link);
        }
        let link = Arc::new(Link::new(offer, &self.context)?);
        let (link, is_new) = self.slots.meet(&offer.incarnation, link);
        if is_new {
            let (slots, orchestrator) = (self.slots.clone(), self.orchestrator.clone());
            let incarnation = offer.incarnation.clone();
            tokio::spawn(async move {
                orchestrator.gone(&incarnation).await;
                slots.gone(&incarnation);
            });
        }
        Ok(link)
    }
}
