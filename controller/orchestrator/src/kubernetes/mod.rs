//! Workers as pods of a cluster: the gateway's side.
//!
//! [`KubernetesOrchestrator`] watches worker pods, tenants, classes and providers of one namespace, and answers
//! from memory. It takes workers by one write on a Tenant, which the API server serialises; it makes no pod and
//! deletes nothing: the operator does. [`view`] is what it knows, [`pick`] and [`claim`] decide, [`write`] and
//! [`watch`] talk to the API server. It must not know HTTP to clients, tokens or identities.

mod claim;
mod connect;
mod definitions;
mod follow;
mod metrics;
mod pick;
mod seen;
mod view;
mod watch;
mod write;

#[cfg(test)]
mod tests;

pub use connect::connect;
pub use definitions::{Definitions, Wrong};
pub use metrics::Metrics;

use crate::changes;
use async_trait::async_trait;
use claim::{Claimant, Plan, Settled, WaitPlan, Write};
use follow::Synced;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use parking_lot::{Mutex, RwLock};
use patchbay_core::{
    class::Limits,
    digest::random_bytes,
    id::{ClassName, Epoch, Incarnation},
    orchestrator::{
        AssignRefusal, Assignment, Offer, OfferError, Orchestrator, Placement, TenantState,
        Unavailable,
    },
    provider::Provisioning,
    tenant::{TenantKey, TenantName},
};
use pick::Asking;
use seen::{SeenTenant, SeenWorker};
use std::{collections::HashSet, future::pending, sync::Arc, time::Duration};
use tokio::{
    sync::watch as channel,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use view::{Named, View};
use write::{Tenants, Written};

/// What the orchestrator needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct KubernetesConfig {
    /// The namespace of workers, tenants, classes and providers.
    pub namespace: String,
    /// For how long a request waits for a worker: for so long a noted wait counts.
    pub hold: Duration,
    /// How long one request to the API server may take.
    pub request: Duration,
}

/// Pods as workers.
pub struct KubernetesOrchestrator {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

struct Shared {
    config: KubernetesConfig,
    tenants: Tenants,
    pods: Api<Pod>,
    view: RwLock<View>,
    /// Changes with everything in the view that a claim may wait for.
    version: channel::Sender<u64>,
    definitions: channel::Sender<Arc<Definitions>>,
    synced: Synced,
    /// Tenants of which nobody knows whether the last write was written: they are read before the next one.
    doubtful: Mutex<HashSet<TenantName>>,
    seed: u64,
    metrics: Metrics,
    shutdown: CancellationToken,
}

/// For so long the watch is trusted to show a worker that the API server has.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a claim that wants an offer does next.
enum Next {
    Take(Offer),
    /// Whether there is such a worker at all.
    LookForWorker(Incarnation),
    Note(Write),
    /// Until something changes, or this moment.
    Wait(Option<Instant>),
}

impl KubernetesOrchestrator {
    /// Begins to watch. `client` must not repeat writes by itself: see [`connect`].
    pub fn start(client: &Client, config: KubernetesConfig, metrics: Metrics) -> Arc<Self> {
        let shared = Arc::new(Shared {
            tenants: Tenants::new(client.clone(), &config.namespace, config.request),
            pods: Api::namespaced(client.clone(), &config.namespace),
            config,
            view: RwLock::default(),
            version: channel::Sender::new(0),
            definitions: channel::Sender::default(),
            synced: Synced::default(),
            doubtful: Mutex::default(),
            seed: random_bytes().map_or(0, u64::from_ne_bytes),
            metrics,
            shutdown: CancellationToken::new(),
        });
        let tasks = TaskTracker::new();
        follow::start(&shared, client, &tasks);
        Arc::new(Self { shared, tasks })
    }

    /// Kinds of objects of which the first list is not complete. None = what is known is known to be whole.
    pub fn missing(&self) -> Vec<&'static str> {
        self.shared.synced.missing()
    }

    /// Completes when every first list is complete.
    pub async fn synced(&self) {
        self.shared.synced.wait().await;
    }

    /// Classes and providers, now and whenever they change.
    pub fn definitions(&self) -> channel::Receiver<Arc<Definitions>> {
        self.shared.definitions.subscribe()
    }

    /// Ends all watches.
    pub async fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Shared {
    /// Changes the view, and wakes who waits for a change.
    fn change(&self, change: impl FnOnce(&mut View) -> bool) {
        if change(&mut self.view.write()) {
            self.version.send_modify(|version| *version = version.wrapping_add(1));
        }
    }

    /// Changes the definitions, if `change` does, and tells those who follow them.
    fn redefine(&self, change: impl FnOnce(&mut Definitions)) {
        self.definitions.send_if_modified(|definitions| {
            let mut changed = Definitions::clone(definitions);
            change(&mut changed);
            let is_changed = changed != **definitions;
            if is_changed {
                *definitions = Arc::new(changed);
            }
            is_changed
        });
        // claims that wait look again whether their class is still there
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Whether a tenant is what a write found it to be.
    fn is_as_before(&self, name: &TenantName, write: &Write) -> bool {
        claim::is_as_before(self.view.read().tenant(name), write)
    }

    fn limits(&self, class: &ClassName) -> Option<Limits> {
        self.definitions.borrow().class(class).map(|class| class.limits)
    }

    /// Makes known what the API server says of a tenant.
    async fn read_back(&self, name: &TenantName) -> Result<(), Unavailable> {
        self.metrics.read_back();
        self.doubtful.lock().insert(name.clone());
        let asked_at = self.view.read().version(name);
        let found = self.tenants.read(name).await?;
        self.doubtful.lock().remove(name);
        let now = Instant::now();
        self.change(|view| match found.as_ref().and_then(SeenTenant::of) {
            Some((name, seen)) => view.tenant_answered(name, seen, now),
            None => view.tenant_not_found(name, asked_at, now),
        });
        Ok(())
    }

    async fn settle_doubt(&self, name: &TenantName) -> Result<(), Unavailable> {
        let is_doubtful = self.doubtful.lock().contains(name);
        if is_doubtful { self.read_back(name).await } else { Ok(()) }
    }

    /// Writes, and makes known what that made of the tenant. Where it was not written, or nobody knows, the tenant
    /// is read back first.
    async fn write(
        &self,
        key: &TenantKey,
        name: &TenantName,
        write: &Write,
        purpose: &'static str,
    ) -> Result<Option<SeenTenant>, Failed> {
        match self.tenants.write(key, name, write).await {
            Written::Done(tenant) => {
                self.metrics.wrote(purpose, "done");
                let seen = SeenTenant::of(&tenant).map(|(_, seen)| seen);
                if let Some(seen) = seen.clone() {
                    self.change(|view| view.tenant_answered(name.clone(), seen, Instant::now()));
                }
                Ok(seen)
            }
            Written::Conflict(why) => {
                self.metrics.wrote(purpose, "conflict");
                self.read_back(name).await.map_err(Failed::Unknown)?;
                Err(Failed::Unanswered(Unavailable(why)))
            }
            Written::Refused(why) => {
                self.metrics.wrote(purpose, "refused");
                self.read_back(name).await.map_err(Failed::Unknown)?;
                Err(Failed::Refused(why))
            }
            Written::Unknown(why) => {
                self.metrics.wrote(purpose, "unknown");
                tracing::warn!(tenant = %name, why, "nobody knows whether a write was written");
                self.read_back(name).await.map_err(Failed::Unknown)?;
                Err(Failed::Unanswered(Unavailable(why)))
            }
        }
    }

    /// Whether the API server has this pod, with an address and a recorded key. Where it has, the watch is about to show it.
    async fn has_pod(&self, tenant: &TenantName, uid: &Incarnation) -> Result<bool, Unavailable> {
        let name = self.view.read().tenant(tenant).and_then(|tenant| tenant.assignment.clone());
        let Some(name) = name.map(|assignment| assignment.worker) else { return Ok(false) };
        match timeout(self.config.request, self.pods.get_opt(&name)).await {
            Ok(Ok(pod)) => {
                let seen = pod.as_ref().and_then(SeenWorker::of);
                Ok(seen.is_some_and(|seen| seen.uid == *uid && seen.offer().is_some()))
            }
            Ok(Err(error)) => Err(Unavailable(error.to_string())),
            Err(_) => Err(Unavailable("a pod was not read in time".to_owned())),
        }
    }

    /// What to do for a claim that wants an offer. `absent` is a pod that the API server does not have.
    fn next(
        &self,
        claimant: Claimant<'_>,
        failed: &[Placement],
        absent: Option<&Incarnation>,
    ) -> Result<Next, OfferError> {
        let (class, name) = (&claimant.key.class, claimant.name);
        let mut view = self.view.write();
        if let Some(why) = claim::refusal(&view, claimant) {
            return Err(OfferError::Refused(why));
        }
        if let Some(tenant) = view.tenant(name) {
            match view.worker_of(tenant) {
                Named::Worker(own) if !failed.contains(&tenant.placement(own.clone())) => {
                    return Ok(Next::Take(own));
                }
                Named::Unseen(uid) if absent != Some(&uid) => {
                    return Ok(Next::LookForWorker(uid));
                }
                _ => {}
            }
        }
        let (now, today) = (Instant::now(), Timestamp::now());
        let exclude: Vec<_> = failed.iter().map(|it| it.offer.incarnation.clone()).collect();
        let asking = Asking { tenant: name, exclude: &exclude, seed: self.seed, now };
        let until = match view.pick(class, asking, self.config.hold, today) {
            Ok(offer) => return Ok(Next::Take(offer)),
            Err(until) => until,
        };
        Ok(match claim::wait(&view, name, self.config.hold, today) {
            WaitPlan::Write(write) => Next::Note(write),
            WaitPlan::Noted { until: noted } => {
                let left = noted.duration_since(today).unsigned_abs();
                let renewal = now + left;
                Next::Wait(Some(until.map_or(renewal, |until| until.min(renewal))))
            }
        })
    }
}

/// Why a write was not written, as far as is known.
enum Failed {
    /// The API server said no, and the view says what it is now.
    Refused(String),
    /// There was no answer, or none that decides, and the view says what it is now.
    Unanswered(Unavailable),
    /// Nobody knows what it is now.
    Unknown(Unavailable),
}

/// Until when a claim holds a worker against the other claims of this gateway.
struct InHand<'a>(&'a Shared, &'a Incarnation);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let Self(shared, uid) = self;
        shared.change(|view| {
            view.put_down(uid);
            true
        });
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

#[async_trait]
impl Orchestrator for KubernetesOrchestrator {
    fn lookup(&self, tenant: &TenantName) -> TenantState {
        self.shared.view.read().lookup(tenant)
    }

    async fn offer(
        &self,
        tenant: &TenantKey,
        provisioning: Provisioning,
        failed: &[Placement],
    ) -> Result<Offer, OfferError> {
        let shared = &*self.shared;
        let name = tenant.name();
        let mut version = shared.version.subscribe();
        let mut absent = None;
        let mut found = None;
        shared.settle_doubt(&name).await.map_err(OfferError::ControlPlane)?;
        loop {
            version.mark_unchanged();
            let limits = shared.limits(&tenant.class).ok_or(OfferError::UnknownClass)?;
            let claimant = Claimant { key: tenant, name: &name, provisioning, limits };
            let wake = match shared.next(claimant, failed, absent.as_ref())? {
                Next::Take(offer) => return Ok(offer),
                Next::Note(write) => {
                    if let Err(failed) = shared.write(tenant, &name, &write, "wait").await {
                        let is_as_before = shared.is_as_before(&name, &write);
                        match failed {
                            // another gateway was faster, or somebody suspends it just now
                            Failed::Refused(_) | Failed::Unanswered(_) if !is_as_before => {}
                            Failed::Refused(why) => {
                                tracing::error!(tenant = %name, why, "a wait was refused");
                                return Err(OfferError::Refused(AssignRefusal::NotAccepted));
                            }
                            Failed::Unanswered(why) | Failed::Unknown(why) => {
                                return Err(OfferError::ControlPlane(why));
                            }
                        }
                    }
                    continue;
                }
                Next::LookForWorker(uid) => match found {
                    Some(again) if again > Instant::now() => Some(again),
                    _ if shared.has_pod(&name, &uid).await.map_err(OfferError::ControlPlane)? => {
                        let again = Instant::now() + LOOK_AGAIN;
                        found = Some(again);
                        Some(again)
                    }
                    _ => {
                        absent = Some(uid);
                        continue;
                    }
                },
                Next::Wait(until) => until,
            };
            tokio::select! {
                changed = version.changed() => changed.map_err(|_| OfferError::ShuttingDown)?,
                () = until(wake) => {}
                () = shared.shutdown.cancelled() => return Err(OfferError::ShuttingDown),
            }
        }
    }

    async fn assign(
        &self,
        tenant: &TenantKey,
        provisioning: Provisioning,
        offer: &Offer,
        epoch: Epoch,
    ) -> Result<Assignment, Unavailable> {
        let shared = &*self.shared;
        let name = tenant.name();
        shared.settle_doubt(&name).await?;
        let refused = |why| Ok(Assignment::Refused(why));
        let Some(limits) = shared.limits(&tenant.class) else {
            return refused(AssignRefusal::OfferGone);
        };
        let claimant = Claimant { key: tenant, name: &name, provisioning, limits };
        let (write, _in_hand) = {
            let mut view = shared.view.write();
            match claim::assign(&view, claimant, offer, epoch, Timestamp::now()) {
                Plan::Answer(answer) => return Ok(answer),
                Plan::Write(_) if !view.take_in_hand(&offer.incarnation) => {
                    return refused(AssignRefusal::OfferGone);
                }
                Plan::Write(write) => (write, InHand(shared, &offer.incarnation)),
            }
        };
        let failed = match shared.write(tenant, &name, &write, "assign").await {
            Ok(Some(seen)) => {
                let placement = seen.placement(offer.clone());
                tracing::info!(
                    tenant = %name, class = %tenant.class, worker = %offer.worker,
                    epoch = %placement.claim.epoch, "a tenant has a worker"
                );
                return Ok(Assignment::Won(placement));
            }
            // of an object that no API server would send
            Ok(None) => return refused(AssignRefusal::NotAccepted),
            Err(Failed::Unknown(why)) => return Err(why),
            Err(failed) => failed,
        };
        let settled = claim::settle(&shared.view.read(), &name, &write, offer);
        match (settled, failed) {
            (Settled::Ended(assignment), _) => Ok(assignment),
            (Settled::NotWritten, Failed::Refused(why)) => {
                tracing::error!(tenant = %name, why, "an assignment was refused");
                refused(AssignRefusal::NotAccepted)
            }
            (Settled::NotWritten, Failed::Unanswered(why) | Failed::Unknown(why)) => Err(why),
        }
    }

    fn report_gone(&self, incarnation: &Incarnation) {
        self.shared.change(|view| view.worker_left(incarnation, Instant::now()));
    }

    fn report_reserved(&self, incarnation: &Incarnation) {
        self.shared.change(|view| view.worker_reserved(incarnation, Instant::now()));
    }

    fn report_taken(&self, incarnation: &Incarnation) {
        self.shared.change(|view| view.worker_taken(incarnation, Instant::now()));
    }

    fn report_unreachable(&self, incarnation: &Incarnation) {
        self.shared.change(|view| view.worker_unreachable(incarnation, Instant::now()));
    }

    async fn awake(&self, tenant: &TenantName) {
        changes::until(self.shared.version.subscribe(), || !self.lookup(tenant).is_asleep()).await;
    }

    async fn gone(&self, incarnation: &Incarnation) {
        let over = self.shared.view.read().until_over(incarnation);
        if let Some(over) = over {
            over.cancelled().await;
        }
    }
}
