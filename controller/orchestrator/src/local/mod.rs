//! Workers as sandboxes of this machine: the embedded default.
//!
//! [`LocalOrchestrator`] is a control plane in one process: a ledger of who has which worker, and one
//! task per class that keeps its pool filled. It does for one machine what the API server and the
//! operator do for a cluster. It must not know HTTP, tokens or identities.

mod egress;
mod launch;
mod lives;
mod pool;
mod run_dir;
pub mod sandbox;
mod tenants;
mod worker;

pub use run_dir::{RunDir, RunDirError};

use crate::changes;
use async_trait::async_trait;
use egress::Egress;
use jiff::Timestamp;
use lives::Lives;
use parking_lot::Mutex;
use patchbay_core::{
    class::WorkerClass,
    digest::Digest,
    egress::EgressPolicy,
    id::{ClassName, Epoch, Incarnation, TenantUid},
    link::Farewell,
    orchestrator::{
        AssignRefusal, Assignment, Offer, OfferError, Orchestrator, Placement, TenantState,
        Unavailable,
    },
    placement::Ledger,
    provider::Provisioning,
    tenant::{TenantKey, TenantName},
};
use pool::{Pool, PoolPlan};
use sandbox::Launcher;
use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tenants::Made;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What the orchestrator needs to know of its surroundings.
#[derive(Debug)]
pub struct LocalConfig {
    /// The worker's program.
    pub worker_program: PathBuf,
    /// The control plane's CA, PEM, for workers to trust.
    pub roots: String,
    /// How many workers of a class may be on their way to ready at one time.
    pub max_starting: usize,
    /// A worker that a tenant was given and that is not bound after this time is ended: the claim that
    /// took it came to nothing.
    pub bind_limit: Duration,
    /// This controller's own listeners, which no worker may reach.
    pub own_addresses: Vec<SocketAddr>,
}

/// One tenant, for people: no secret, and nothing that is not in the ledger.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantRow {
    /// The derived name.
    pub tenant: TenantName,
    /// The class.
    pub class: ClassName,
    /// `Ready` with a worker, `Asleep` without, or `Suspended`.
    pub phase: &'static str,
    /// The worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// How often the tenant was given a worker.
    pub epoch: Epoch,
    /// How its last worker ended, where one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<patchbay_core::link::LeaveReason>,
    /// When a call was last known to begin or end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Timestamp>,
}

/// Workers as sandboxes of this machine.
pub struct LocalOrchestrator {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

/// What the orchestrator's tasks have in common.
struct Shared {
    classes: BTreeMap<ClassName, Class>,
    ledger: Mutex<Ledger>,
    /// The tenants that an operator made, and whether they are suspended.
    made: Mutex<Made>,
    lives: Lives,
    /// Counts changes of the ledger, so that waiters see those between their look and their wait.
    version: watch::Sender<u64>,
    launcher: Launcher,
    config: LocalConfig,
    run_dir: RunDir,
    shutdown: CancellationToken,
}

struct Class {
    class: Arc<WorkerClass>,
    pool: Mutex<Pool>,
}

impl LocalOrchestrator {
    /// Starts to fill the pools of `classes`. `tenants` were made by an operator; the flag says that one
    /// is suspended.
    pub fn start(
        classes: &[Arc<WorkerClass>],
        tenants: impl IntoIterator<Item = (TenantKey, bool)>,
        launcher: Launcher,
        config: LocalConfig,
        run_dir: RunDir,
    ) -> io::Result<Arc<Self>> {
        let classes = classes
            .iter()
            .map(|class| {
                let entry = Class { class: class.clone(), pool: Mutex::default() };
                (class.name.clone(), entry)
            })
            .collect();
        let shared = Arc::new(Shared {
            classes,
            ledger: Mutex::default(),
            made: Mutex::default(),
            lives: Lives::default(),
            version: watch::Sender::new(0),
            launcher,
            config,
            run_dir,
            shutdown: CancellationToken::new(),
        });
        shared.made_by_an_operator(tenants);
        let tasks = TaskTracker::new();
        for entry in shared.classes.values() {
            let listener = egress::listen(&shared.egress_socket(&entry.class.name))?;
            let egress = Egress {
                policy: EgressPolicy::new(entry.class.egress_hosts()),
                own: shared.config.own_addresses.clone(),
            };
            tasks.spawn(egress::serve(listener, egress, shared.shutdown.clone()));
            tasks.spawn(keep_filled(shared.clone(), entry.class.clone(), tasks.clone()));
        }
        Ok(Arc::new(Self { shared, tasks }))
    }

    /// The tenants that an operator made are these from now on; the flag says that one is suspended. One that is not
    /// among them any more is deleted. Who is suspended or deleted has no worker from now on, and theirs end within
    /// seconds.
    pub fn set_tenants(&self, tenants: impl IntoIterator<Item = (TenantKey, bool)>) {
        self.shared.made_by_an_operator(tenants);
    }

    /// Ends every worker and waits until they are gone.
    pub async fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Whether every class has as many anonymous workers as it shall keep, or has met a tenant.
    pub fn is_ready(&self) -> bool {
        let ledger = self.shared.ledger.lock();
        self.shared.classes.iter().all(|(name, class)| {
            ledger.anonymous(name) >= class.class.warm as usize
                || ledger.tenants().any(|(_, tenant)| tenant.key.class == *name)
        })
    }

    /// Why workers are bounded less than they should be, where they are.
    pub fn isolation_degraded(&self) -> Option<&'static str> {
        self.shared.launcher.cgroups().degraded()
    }

    /// How many anonymous workers each class has.
    pub fn anonymous(&self) -> Vec<(ClassName, usize)> {
        let ledger = self.shared.ledger.lock();
        self.shared.classes.keys().map(|name| (name.clone(), ledger.anonymous(name))).collect()
    }

    /// All tenants, for people.
    pub fn tenants(&self) -> Vec<TenantRow> {
        let ledger = self.shared.ledger.lock();
        ledger
            .tenants()
            .map(|(name, tenant)| {
                let worker =
                    tenant.worker.as_ref().and_then(|incarnation| ledger.worker(incarnation));
                TenantRow {
                    tenant: name.clone(),
                    class: tenant.key.class.clone(),
                    phase: match worker {
                        _ if tenant.suspended => "Suspended",
                        Some(_) => "Ready",
                        None => "Asleep",
                    },
                    worker: worker.map(|offer| offer.worker.to_string()),
                    epoch: tenant.epoch,
                    why: tenant.last_farewell.as_ref().map(|farewell| farewell.reason),
                    last_activity: tenant.last_farewell.as_ref().and_then(|f| f.last_activity),
                }
            })
            .collect()
    }
}

impl Shared {
    /// The socket of a class's way out. It is named by a digest, because a class's name may be longer than
    /// a socket's path has room for.
    fn egress_socket(&self, class: &ClassName) -> PathBuf {
        let digest: String = Digest::of(class.as_str().as_bytes()).to_string();
        self.run_dir.path().join(format!("e-{}", digest.get(..12).unwrap_or_default()))
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// A worker of a class is ready.
    fn worker_ready(&self, class: &ClassName, offer: Offer) {
        self.ledger.lock().worker_ready(class.clone(), offer);
        if let Some(class) = self.classes.get(class) {
            class.pool.lock().ready();
        }
        self.changed();
    }

    /// A worker that had become ready takes no new work any more.
    fn worker_gone(&self, incarnation: &Incarnation) -> Option<TenantName> {
        let tenant = self.ledger.lock().worker_gone(incarnation);
        if let Some(tenant) = &tenant {
            tracing::info!(%tenant, %incarnation, "a tenant's worker is gone");
        }
        self.changed();
        tenant
    }

    /// Completes when a tenant was given this worker.
    async fn taken(&self, incarnation: &Incarnation) {
        let mut version = self.version.subscribe();
        loop {
            version.mark_unchanged();
            if self.ledger.lock().is_taken(incarnation) || version.changed().await.is_err() {
                return;
            }
        }
    }

    fn record_farewell(&self, incarnation: &Incarnation, farewell: Farewell) {
        self.ledger.lock().record_farewell(incarnation, farewell);
    }

    /// A worker ended before it was ready.
    fn worker_failed(&self, class: &ClassName, why: String) {
        if let Some(class) = self.classes.get(class) {
            class.pool.lock().failed(Instant::now(), why);
        }
        self.changed();
    }

    /// A worker's MCP server ended by itself before anybody had it.
    fn worker_ended_early(&self, class: &ClassName, why: String) {
        if let Some(class) = self.classes.get(class) {
            class.pool.lock().ended_early(Instant::now(), why);
        }
        self.changed();
    }

    /// What the pool's plan is made from; also counts the planned starts, so that a plan is carried out
    /// once.
    fn plan(&self, name: &ClassName) -> PoolPlan {
        let Some(class) = self.classes.get(name) else {
            return PoolPlan::Rest;
        };
        let anonymous = self.ledger.lock().anonymous(name);
        let mut pool = class.pool.lock();
        let warm = class.class.warm as usize;
        let view = pool.view(warm, anonymous, self.config.max_starting, Instant::now());
        let plan = view.plan();
        if let PoolPlan::Start(count) = plan {
            pool.starting += count;
        }
        plan
    }
}

/// Keeps the pool of one class filled.
async fn keep_filled(shared: Arc<Shared>, class: Arc<WorkerClass>, tasks: TaskTracker) {
    let mut version = shared.version.subscribe();
    loop {
        version.mark_unchanged();
        let back_off = match shared.plan(&class.name) {
            PoolPlan::Start(count) => {
                for _ in 0..count {
                    tasks.spawn(worker::live(shared.clone(), class.clone()));
                }
                continue;
            }
            PoolPlan::BackOff(pause) => Some(pause),
            PoolPlan::Rest => None,
        };
        let pause = async {
            match back_off {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = version.changed() => if changed.is_err() { return },
            () = pause => {}
            () = shared.shutdown.cancelled() => return,
        }
    }
}

/// Counts a waiting tenant for as long as it lives.
struct Waiting<'a> {
    shared: &'a Shared,
    class: &'a Class,
}

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared, class: &'a Class) -> Self {
        class.pool.lock().waiting += 1;
        shared.changed();
        Self { shared, class }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut pool = self.class.pool.lock();
        pool.waiting = pool.waiting.saturating_sub(1);
        drop(pool);
        self.shared.changed();
    }
}

fn fresh_uid() -> TenantUid {
    TenantUid::from(uuid::Uuid::new_v4())
}

#[async_trait]
impl Orchestrator for LocalOrchestrator {
    fn lookup(&self, tenant: &TenantName) -> TenantState {
        self.shared.ledger.lock().lookup(tenant)
    }

    async fn offer(
        &self,
        tenant: &TenantKey,
        _: Provisioning,
        failed: &[Placement],
    ) -> Result<Offer, OfferError> {
        let shared = &*self.shared;
        let class = shared.classes.get(&tenant.class).ok_or(OfferError::UnknownClass)?;
        let mut version = shared.version.subscribe();
        let mut waiting = None;
        loop {
            version.mark_unchanged();
            let picked = shared.ledger.lock().pick(&tenant.class, failed);
            if let Some(offer) = picked {
                return Ok(offer);
            }
            if let Some(why) = class.pool.lock().hopeless() {
                return Err(OfferError::NotStarting(why.to_owned()));
            }
            waiting.get_or_insert_with(|| Waiting::begin(shared, class));
            tokio::select! {
                changed = version.changed() => {
                    changed.map_err(|_| OfferError::ShuttingDown)?;
                }
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
        let Some(class) = self.shared.classes.get(&tenant.class) else {
            return Ok(Assignment::Refused(AssignRefusal::OfferGone));
        };
        let mut ledger = self.shared.ledger.lock();
        // at one moment: an operator may delete it at any time
        if provisioning == Provisioning::Preprovisioned
            && ledger.lookup(&tenant.name()) == TenantState::Unknown
        {
            return Ok(Assignment::Refused(AssignRefusal::NotProvisioned));
        }
        let assignment = ledger.assign(tenant, offer, epoch, class.class.limits, fresh_uid());
        drop(ledger);
        if let Assignment::Won(placement) = &assignment {
            class.pool.lock().taken();
            tracing::info!(
                tenant = %tenant.name(), class = %tenant.class, worker = %placement.offer.worker,
                epoch = %placement.claim.epoch, "a tenant has a worker"
            );
            self.shared.changed();
        }
        Ok(assignment)
    }

    fn report_gone(&self, incarnation: &Incarnation) {
        let _its_tenant = self.shared.worker_gone(incarnation);
    }

    async fn awake(&self, tenant: &TenantName) {
        changes::until(self.shared.version.subscribe(), || !self.lookup(tenant).is_asleep()).await;
    }

    async fn gone(&self, incarnation: &Incarnation) {
        let mut version = self.shared.version.subscribe();
        loop {
            version.mark_unchanged();
            if !self.shared.ledger.lock().contains(incarnation) {
                return;
            }
            if version.changed().await.is_err() {
                return;
            }
        }
    }
}
