//! Carries out what the pure parts decide, on a cluster: watches, passes over classes, jobs, and leadership.
//!
//! Everything that is decided is decided elsewhere ([`crate::worker_class`], [`crate::tenant`], [`crate::enrol`],
//! [`crate::lease`]); this module knows clients, sockets and the clock. kube's `Controller` is not used: a pass looks
//! at all pods and tenants of a class at one moment, needs to know as of when that is complete, and must be able to
//! ask for a new list; and each class has a memory that nobody else touches.

mod apply;
mod authority;
mod class;
mod context;
mod jobs;
mod leader;
mod memory;
mod metrics;
mod providers;
mod session_roots;
mod writes;

pub use self::{
    authority::Authority,
    leader::{LEASE, LeaderError},
    metrics::Metrics,
};

use self::{
    class::Task,
    context::{Apis, Context},
    leader::Leader,
    writes::Writes,
};
use crate::{
    Settings,
    cache::{Cache, Feeds, Listed},
    link::{CurrentCertificate, Dialer},
    session_roots::SessionRootKeeper,
    worker_class::Pace,
};
use kube::Client;
use patchbay_core::jitter;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

/// The account and the budget of all workers are tried again after about this long.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// An operator of one namespace.
pub struct Operator {
    /// Must not repeat writes by itself (kube's `default_retry`): whether a repeat is the same, only the writer knows.
    /// Must not take a minute's silence for a broken connection: so long a watch may have nothing to tell.
    pub client: Client,
    /// What the installation says.
    pub settings: Settings,
    /// Bounds and patience.
    pub pace: Pace,
    /// How this operator proves its role to workers; whoever renews it stores it here.
    pub certificate: CurrentCertificate,
    /// Who makes certificates.
    pub authority: Authority,
    /// Who keeps the root keys of sessions; none = nobody, and no session outlives its worker.
    pub session_roots: Option<SessionRootKeeper>,
    /// Counters.
    pub metrics: Metrics,
    /// Whether it can do its work, or could if it were the leader.
    pub state: Arc<State>,
}

/// How far an operator is, for probes.
#[derive(Debug, Default)]
pub struct State {
    is_candidate: AtomicBool,
    leads: AtomicBool,
    is_synced: AtomicBool,
}

impl State {
    /// What it still waits for; nothing for one that only waits for the leadership.
    pub fn missing(&self) -> Vec<String> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let missing = if !is(&self.is_candidate) {
            "it has not begun"
        } else if is(&self.leads) && !is(&self.is_synced) {
            "the first lists of classes, tenants and pods"
        } else {
            return Vec::new();
        };
        vec![missing.to_owned()]
    }
}

impl Operator {
    /// Waits for the leadership and works until `stop`.
    pub async fn run(self, stop: &CancellationToken) -> Result<(), LeaderError> {
        // a name for people, and what makes it this start's
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".into());
        let me = format!("{host}-{}", uuid::Uuid::new_v4().simple());
        let leader =
            Leader::new(&self.client, &self.settings.namespace, me.clone(), self.metrics.clone());
        self.state.is_candidate.store(true, Ordering::Relaxed);
        leader.lead(stop, |end| self.work(me, end)).await
    }

    /// What a leader does. Whatever it has started ends with it.
    async fn work(self, me: String, end: CancellationToken) {
        let Self { client, settings, pace, certificate, authority, session_roots, metrics, state } =
            self;
        state.leads.store(true, Ordering::Relaxed);
        let cache = Arc::new(Cache::default());
        let namespace = settings.namespace.clone();
        let mut feeds =
            Feeds::start(&client, &namespace, Arc::clone(&cache), &metrics.watch_failures);
        let context = Arc::new(Context {
            apis: Apis::new(&client, &namespace),
            settings,
            pace,
            cache: Arc::clone(&cache),
            relister: feeds.relister(),
            dialer: Dialer::new(certificate.clone()),
            writes: Writes::new(metrics.clone()),
            recorder: context::recorder(&client, &me),
            metrics,
        });
        tokio::select! {
            () = end.cancelled() => {}
            () = feeds.ended() => tracing::error!("a watch ended"),
            () = Box::pin(authority::keep(authority, &certificate, &context.metrics)) => {}
            () = Box::pin(session_roots::keep(session_roots, &context.metrics)) => {}
            () = Box::pin(providers::keep(&context, &client)) => tracing::error!("a watch ended"),
            () = async {
                begin(&context).await;
                state.is_synced.store(true, Ordering::Relaxed);
                classes(&context, &end).await;
            } => {}
        }
    }
}

/// Waits until everything has been listed, and what all workers need is there.
async fn begin(context: &Context) {
    let is_whole = |listed: &Listed| {
        listed.classes.is_some() && listed.tenants.is_some() && listed.pods.is_some()
    };
    // the cache outlives this
    let _ = context.cache.listed().wait_for(is_whole).await;
    while let Err(error) = apply::installation(context).await {
        context.metrics.failed("apply");
        tracing::warn!(error = error.text(), "what all workers need cannot be applied");
        sleep(jitter::pause(TRY_AGAIN)).await;
    }
}

/// Keeps a task for every class that there is, or of which something is left, until `end`.
async fn classes(context: &Arc<Context>, end: &CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut running = BTreeSet::new();
    loop {
        for name in context.cache.classes() {
            if !end.is_cancelled() && running.insert(name.clone()) {
                let task = Task::new(Arc::clone(context), name.clone()).run(end.clone());
                // a task that panics is one that has ended
                tasks.spawn(async move {
                    let ended = tokio::spawn(task);
                    let ended = tokio_util::task::AbortOnDropHandle::new(ended);
                    if let Err(error) = ended.await {
                        tracing::error!(class = name, %error, "the task of a class broke");
                    }
                    name
                });
            }
        }
        tokio::select! {
            () = context.cache.unheard() => {}
            Some(ended) = tasks.join_next() => {
                if let Ok(name) = ended {
                    running.remove(&name);
                    context.cache.forget_waker(&name);
                }
            }
            () = end.cancelled() => break,
        }
    }
    while tasks.join_next().await.is_some() {}
}
