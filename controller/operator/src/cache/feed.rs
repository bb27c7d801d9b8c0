//! The watches that feed the cache, and lists on demand.
//!
//! A list is a watch that begins anew: it lists consistently, in pages, and goes on from exactly there, so no event
//! is lost between the two and none is older than the list. Tenants are listed before pods: whatever worker a
//! tenant has was there before it was assigned. kube's watcher ends and begins watches, with growing waits and
//! jitter; its store is not used, because it does not say as of when it is complete.

use super::{Cache, Kinds, Listed, Store, records};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use patchbay_core::chain::Chain;
use prometheus_client::metrics::counter::Counter;
use serde::de::DeserializeOwned;
use std::{fmt::Debug, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};

/// Lists are asked for at most this often, however many decisions wait for one.
const REST: Duration = Duration::from_millis(500);

/// How long a watch lasts, seconds: then the API server ends it, and the next one begins where it was. Shorter than the
/// silence that a client takes for a broken connection: there may be nothing to tell.
const WATCH_SECONDS: u32 = 60;

/// Objects in one part of a list. A part is in memory whole, with all that the cache does not keep; a decision may wait for
/// the last one.
const PAGE: u32 = 200;

/// How often watches and lists failed.
pub type WatchFailures = Counter;

/// The running watches.
#[derive(Debug)]
pub struct Feeds {
    cache: Arc<Cache>,
    wanted: Arc<Notify>,
    tasks: JoinSet<()>,
}

/// Asks for lists.
#[derive(Debug, Clone)]
pub struct Relister {
    cache: Arc<Cache>,
    wanted: Arc<Notify>,
}

impl Feeds {
    /// Begins to watch everything in `namespace`.
    pub fn start(
        client: &Client,
        namespace: &str,
        cache: Arc<Cache>,
        failures: &WatchFailures,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let (tenants, pods) = (watch::Sender::new(()), watch::Sender::new(()));
        let whole = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
        let feed = |what, anew: Option<&watch::Sender<()>>| Feed {
            what,
            cache: Arc::clone(&cache),
            anew: anew.map(watch::Sender::subscribe),
            failures: failures.clone(),
            is_optional: false,
        };
        let api = Api::namespaced(client.clone(), namespace);
        let classes = feed("classes", None);
        tasks.spawn(classes.run(api, whole.clone(), |kinds| &mut kinds.classes));
        let api = Api::namespaced(client.clone(), namespace);
        let feed_of_tenants = feed("tenants", Some(&tenants));
        tasks.spawn(feed_of_tenants.run(api, whole.clone(), |kinds| &mut kinds.tenants));
        let api = Api::namespaced(client.clone(), namespace);
        let workers = whole.clone().labels(&records::all_workers());
        tasks.spawn(feed("pods", Some(&pods)).run(api, workers, |kinds| &mut kinds.pods));
        let nodes = Feed { is_optional: true, ..feed("nodes", None) };
        tasks.spawn(nodes.run_nodes(Api::all(client.clone()), whole));
        let wanted = Arc::new(Notify::new());
        tasks.spawn(list_on_demand(Arc::clone(&cache), Arc::clone(&wanted), tenants, pods));
        Self { cache, wanted, tasks }
    }

    /// Asks for lists.
    pub fn relister(&self) -> Relister {
        Relister { cache: Arc::clone(&self.cache), wanted: Arc::clone(&self.wanted) }
    }

    /// Returns when one of them has ended, which none does by itself.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}

impl Relister {
    /// Returns once tenants and then pods have been listed, both after this call.
    pub async fn list(&self) {
        let asked = Timestamp::now();
        self.wanted.notify_one();
        let mut listed = self.cache.listed();
        let is_later = |listed: &Listed| listed.tenants > Some(asked) && listed.pods > Some(asked);
        // the cache outlives this
        let _ = listed.wait_for(is_later).await;
    }
}

async fn list_on_demand(
    cache: Arc<Cache>,
    wanted: Arc<Notify>,
    tenants: watch::Sender<()>,
    pods: watch::Sender<()>,
) {
    let mut listed = cache.listed();
    loop {
        wanted.notified().await;
        let asked = Timestamp::now();
        tenants.send_replace(());
        if listed.wait_for(|listed| listed.tenants > Some(asked)).await.is_err() {
            return;
        }
        pods.send_replace(());
        if listed.wait_for(|listed| listed.pods > Some(asked)).await.is_err() {
            return;
        }
        sleep(REST).await;
    }
}

struct Feed {
    what: &'static str,
    cache: Arc<Cache>,
    /// The watch is to begin anew.
    anew: Option<watch::Receiver<()>>,
    failures: WatchFailures,
    /// Whether the operator can do without it.
    is_optional: bool,
}

impl Feed {
    async fn run<R, K>(
        self,
        api: Api<K>,
        config: watcher::Config,
        store: impl Fn(&mut Kinds) -> &mut Store<R>,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        R: super::Record<Object = K>,
    {
        let cache = Arc::clone(&self.cache);
        let what = self.what;
        self.watch(api, config, |event| {
            let is_list = matches!(event, Event::InitDone);
            let mut kinds = cache.kinds.lock();
            let store = store(&mut kinds);
            let changes = store.take(event, Timestamp::now());
            if is_list {
                for (name, error) in store.unread() {
                    tracing::error!(what, name, error, "cannot be read by this release");
                }
            }
            let touched = Store::touched(&changes);
            let listed = Listed {
                classes: kinds.classes.listed(),
                tenants: kinds.tenants.listed(),
                pods: kinds.pods.listed(),
            };
            drop(kinds);
            if is_list {
                // what is complete now may decide what was open
                cache.listed.send_replace(listed);
                cache.wake_all();
            } else {
                cache.wake(&touched);
            }
        })
        .await;
    }

    async fn run_nodes(self, api: Api<Node>, config: watcher::Config) {
        let cache = Arc::clone(&self.cache);
        self.watch(api, config, |event| {
            if cache.kinds.lock().nodes.take(&event) {
                cache.wake_all();
            }
        })
        .await;
        cache.kinds.lock().nodes.refused();
        cache.wake_all();
        std::future::pending::<()>().await;
    }

    /// Returns only where it may not watch and can do without.
    async fn watch<K>(
        mut self,
        api: Api<K>,
        config: watcher::Config,
        mut take: impl FnMut(Event<K>),
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let what = self.what;
        let mut is_failing = false;
        loop {
            let mut events = pin!(watcher(api.clone(), config.clone()).default_backoff());
            loop {
                let event = tokio::select! {
                    event = events.try_next() => event,
                    () = begins_anew(&mut self.anew) => break,
                };
                match event {
                    Ok(Some(event)) => {
                        if is_failing && !matches!(event, Event::Init) {
                            tracing::info!(what, "is watched again");
                            is_failing = false;
                        }
                        take(event);
                    }
                    Ok(None) => break,
                    Err(error) if self.is_optional && is_forbidden(&error) => {
                        tracing::info!(
                            what,
                            "may not be watched: nothing is known of cordoned nodes and of swap"
                        );
                        return;
                    }
                    Err(error) => {
                        self.failures.inc();
                        if !is_failing {
                            tracing::warn!(what, error = %Chain(&error), "cannot be watched");
                        }
                        is_failing = true;
                    }
                }
            }
        }
    }
}

async fn begins_anew(anew: &mut Option<watch::Receiver<()>>) {
    if let Some(anew) = anew
        && anew.changed().await.is_ok()
    {
        return;
    }
    // one that will never be told otherwise goes on
    std::future::pending::<()>().await;
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    status.code == 403
}
