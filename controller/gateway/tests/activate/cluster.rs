//! A cluster, its workers and whoever gives grants, as a test has them be.

use crate::worker::{self, Answer, Worker};
use async_trait::async_trait;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use patchbay_core::{
    class::WorkerClass,
    digest::Digest,
    fixtures,
    grant::{AwsGrant, Grant, GrantError, GrantSource},
    id::{ClassName, Epoch, Incarnation, ProviderName, TenantUid},
    identity::{Authenticated, Identity, Mode},
    latch::Claim,
    link::{BIND_PATH, BindAccepted, BindOutcome, BindRefusal, RESERVE_PATH, Refused},
    orchestrator::{
        Assignment, Offer, OfferError, Orchestrator, Placement, TenantState, Unavailable,
    },
    provider::Provisioning,
    tenant::{Authority, TenantKey, TenantName},
};
use patchbay_gateway::activate::{ActivateError, Activator, Bound, Judge, Request, Verdict};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, mpsc, watch};

/// What a gateway knows of a cluster: one tenant, and workers that are offered one after the other, the last one again
/// and again.
pub(crate) struct Cluster {
    pub(crate) state: Mutex<TenantState>,
    pub(crate) offers: Mutex<VecDeque<Offer>>,
    /// What another gateway assigns while a worker is being offered.
    pub(crate) meanwhile: Mutex<Option<Placement>>,
    /// Whether every worker is gone.
    pub(crate) all_gone: watch::Sender<bool>,
}

impl Cluster {
    pub(crate) fn new(state: TenantState, offers: &[&Worker]) -> Arc<Self> {
        let offers = offers.iter().map(|worker| worker.offer.clone()).collect();
        Arc::new(Self {
            state: Mutex::new(state),
            offers: Mutex::new(offers),
            meanwhile: Mutex::default(),
            all_gone: watch::Sender::default(),
        })
    }

    pub(crate) fn state(&self) -> TenantState {
        self.state.lock().clone()
    }
}

#[async_trait]
impl Orchestrator for Cluster {
    fn lookup(&self, _: &TenantName) -> TenantState {
        self.state()
    }

    async fn offer(
        &self,
        _: &TenantKey,
        _: Provisioning,
        failed: &[Placement],
    ) -> Result<Offer, OfferError> {
        if let Some(placement) = self.meanwhile.lock().take() {
            *self.state.lock() = TenantState::Assigned(placement);
        }
        let next = {
            let mut offers = self.offers.lock();
            let has_failed = |offer: &Offer| failed.iter().any(|it| it.offer == *offer);
            offers.retain(|offer| !has_failed(offer));
            if offers.len() > 1 { offers.pop_front() } else { offers.front().cloned() }
        };
        match next {
            Some(offer) => Ok(offer),
            None => std::future::pending().await,
        }
    }

    /// As a cluster does: with the next epoch, the tenant is moved.
    async fn assign(
        &self,
        _: &TenantKey,
        _: Provisioning,
        offer: &Offer,
        epoch: Epoch,
    ) -> Result<Assignment, Unavailable> {
        let placement = placed(offer, epoch.0);
        *self.state.lock() = TenantState::Assigned(placement.clone());
        Ok(Assignment::Won(placement))
    }

    fn report_gone(&self, _: &Incarnation) {}

    async fn awake(&self, _: &TenantName) {
        std::future::pending::<()>().await;
    }

    async fn gone(&self, _: &Incarnation) {
        self.all_gone.subscribe().wait_for(|all_gone| *all_gone).await.unwrap();
    }
}

/// Says of every credential that it is still good, or that it is not.
pub(crate) struct Says(pub(crate) bool);

#[async_trait]
impl Judge for Says {
    async fn judge(&self, _: &Authenticated, _: &ClassName) -> Verdict {
        if self.0 { Verdict::Good } else { Verdict::Over }
    }
}

pub(crate) fn good() -> Arc<dyn Judge> {
    Arc::new(Says(true))
}

pub(crate) struct Grants;

#[async_trait]
impl GrantSource for Grants {
    async fn prepare(&self, _: &WorkerClass, user: &Authenticated) -> Result<Grant, GrantError> {
        Ok(Grant {
            credential: user.digest,
            expires_at: None,
            catalog: None,
            aws: None,
            allowed: None,
        })
    }
}

/// Cannot be asked, which shows when it is let.
#[derive(Default)]
pub(crate) struct Away {
    pub(crate) prepared: AtomicUsize,
    pub(crate) may_fail: Notify,
}

#[async_trait]
impl GrantSource for Away {
    async fn prepare(&self, _: &WorkerClass, _: &Authenticated) -> Result<Grant, GrantError> {
        self.prepared.fetch_add(1, Ordering::SeqCst);
        self.may_fail.notified().await;
        Err(GrantError::unavailable("STS"))
    }
}

pub(crate) fn placed(offer: &Offer, epoch: u64) -> Placement {
    let claim = Claim { tenant: TenantUid::parse("tenant").unwrap(), epoch: Epoch(epoch) };
    Placement { claim, offer: offer.clone() }
}

/// Keeps itself for whoever asks, and takes every bind.
pub(crate) fn willing(path: &str) -> Answer {
    match path {
        RESERVE_PATH => (StatusCode::NO_CONTENT, Vec::new()),
        BIND_PATH => {
            let accepted = BindAccepted { outcome: BindOutcome::Bound };
            (StatusCode::OK, serde_json::to_vec(&accepted).unwrap())
        }
        _ => (StatusCode::NOT_FOUND, Vec::new()),
    }
}

pub(crate) fn refusing(status: StatusCode, reason: BindRefusal) -> Answer {
    (status, serde_json::to_vec(&Refused { reason }).unwrap())
}

/// Refuses the tenant, who has a worker by then that another gateway gave it.
pub(crate) fn refusing_meanwhile(
    cluster: &Arc<Cluster>,
    given: &Placement,
) -> impl Fn() -> Answer + Send + Sync + 'static {
    let (heard, state) = (Arc::clone(cluster), TenantState::Assigned(given.clone()));
    move || {
        *heard.state.lock() = state.clone();
        refusing(StatusCode::CONFLICT, BindRefusal::OtherTenant)
    }
}

/// Fails unless a first contact ends with this worker, which the tenant has then.
pub(crate) async fn is_bound_to(cluster: &Arc<Cluster>, given: Placement) {
    assert_eq!(activate(cluster).await.unwrap().placement, given);
    assert_eq!(cluster.state(), TenantState::Assigned(given));
}

/// AWS keys: the first are to be renewed soon, or end soon, and later ones are good for long.
pub(crate) struct Keys {
    pub(crate) first_live: SignedDuration,
    pub(crate) first_due: SignedDuration,
    pub(crate) prepared: AtomicUsize,
}

impl Keys {
    pub(crate) fn new(first_live: SignedDuration) -> Arc<Self> {
        Self::due_in(SignedDuration::ZERO, first_live)
    }

    pub(crate) fn due_in(first_due: SignedDuration, first_live: SignedDuration) -> Arc<Self> {
        Arc::new(Self { first_live, first_due, prepared: AtomicUsize::new(0) })
    }

    pub(crate) fn prepared(&self) -> usize {
        self.prepared.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl GrantSource for Keys {
    async fn prepare(&self, _: &WorkerClass, user: &Authenticated) -> Result<Grant, GrantError> {
        let is_first = self.prepared.fetch_add(1, Ordering::SeqCst) == 0;
        let now = Timestamp::now();
        let live = if is_first { self.first_live } else { SignedDuration::from_hours(12) };
        let keys =
            AwsGrant::temporary("ASIA".into(), "s".into(), "t".into(), now + live, "r".into());
        let renew_at = now + if is_first { self.first_due } else { live / 2 };
        let aws = keys.map(|keys| AwsGrant { renew_at: Some(renew_at), ..keys });
        Ok(Grant {
            credential: user.digest,
            expires_at: Some(now + live),
            catalog: None,
            aws,
            allowed: None,
        })
    }
}

/// A first contact.
pub(crate) async fn activate(cluster: &Arc<Cluster>) -> Result<Arc<Bound>, ActivateError> {
    let activator =
        Activator::new(cluster.clone(), Arc::new(Grants), good(), Arc::new(worker::context()));
    let (class, user) = (Arc::new(fixtures::class("tools", "/mcp")), alice());
    let tenant = user.identity.tenant(&class.name);
    let bound = activator.activate(&request(&class, &user, &tenant, &tenant.name())).await;
    bound.map(|bound| bound.expect("it wakes"))
}

pub(crate) fn alice() -> Authenticated {
    Authenticated {
        identity: Identity {
            provider: ProviderName::parse("keys").unwrap(),
            issuer: "keys".into(),
            subject: "alice".into(),
            entitlement: Arc::default(),
            authority: Authority::unrestricted(),
            mode: Mode::ApiKey,
            expires_at: None,
        },
        credential: "alice-1234".to_owned().into(),
        digest: Digest::of(b"alice"),
    }
}

pub(crate) fn request<'a>(
    class: &'a Arc<WorkerClass>,
    user: &'a Authenticated,
    tenant: &'a TenantKey,
    name: &'a TenantName,
) -> Request<'a> {
    let (provisioning, now) = (Provisioning::OnFirstContact, Timestamp::now());
    Request { tenant, name, class, user, provisioning, wakes: true, now, id: "request" }
}

/// A worker that takes every bind, and tells of each.
pub(crate) fn telling_of_binds(worker: Worker) -> mpsc::UnboundedReceiver<()> {
    let (told, binds) = mpsc::unbounded_channel();
    tokio::spawn(worker.serve(0, move |path| {
        if path == BIND_PATH {
            told.send(()).unwrap();
        }
        willing(path)
    }));
    binds
}
