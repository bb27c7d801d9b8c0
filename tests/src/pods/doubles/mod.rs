//! Workers in name only: what listens at the address of a simulated pod and says on the link what a worker says.
//!
//! Pods that kwok plays become a worker each, in this process, as soon as they have an address of this machine. Each
//! has a key of its own and shows a token that is bound to its pod, so that the real operator enrols it; it latches on
//! its first bind, and when it leaves its pod ends with its last words, as a kubelet would have it. What is left out
//! is the MCP server: [`worker`] answers one tool by itself. This must not know who is served, or why.

mod pod;
mod tls;
mod worker;

use self::{pod::Pods, tls::Clients, worker::Worker};
use super::Stage;
use crate::{cluster::is_ready, pods::stage::address};
use anyhow::Context;
use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use patchbay_crds::marks::{BOUND, FINGERPRINT};
use std::{collections::BTreeMap, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// How long hundreds of pods may take on a machine with other things to do.
const LIMIT: Duration = Duration::from_mins(10);
/// An address is another pod's as soon as the cluster says so, and whoever had it may be about to go.
const BIND_AGAIN: Duration = Duration::from_millis(20);

/// How many pods there are, as the cluster has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// A gateway may claim them: ready, enrolled, and not marked as somebody's.
    pub warm: usize,
    /// Marked as somebody's.
    pub bound: usize,
    /// Anything else.
    pub others: usize,
}

/// All of a namespace's.
pub struct Doubles {
    counts: watch::Receiver<Counts>,
    _watch: AbortOnDropHandle<()>,
}

impl Doubles {
    /// Begins to play every pod of the namespace.
    pub fn play(stage: &Stage) -> anyhow::Result<Self> {
        let clients = Clients::of(&stage.authority)?;
        let (told, counts) = watch::channel(Counts::default());
        let pods = Pods::new(&stage.place.client, &stage.place.name);
        let play = Play { clients, pods, running: BTreeMap::new(), told };
        Ok(Self { counts, _watch: AbortOnDropHandle::new(tokio::spawn(play.run())) })
    }

    /// Waits until there are as many pods of each kind.
    pub async fn until(&self, what: &str, is_so: impl Fn(Counts) -> bool) -> anyhow::Result<()> {
        let mut counts = self.counts.clone();
        let seen = timeout(LIMIT, counts.wait_for(|counts| is_so(*counts))).await;
        let last = *self.counts.borrow();
        seen.map_err(anyhow::Error::from)
            .and_then(|seen| Ok(seen.map(drop)?))
            .with_context(|| format!("not so in time: {what}: {last:?}"))
    }
}

/// One pod that is played.
struct Running {
    kind: Kind,
    listening: Option<AbortHandle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Warm,
    Bound,
    Other,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

struct Play {
    clients: Clients,
    pods: Pods,
    /// By the UIDs of pods.
    running: BTreeMap<String, Running>,
    told: watch::Sender<Counts>,
}

impl Play {
    async fn run(mut self) {
        let events = watcher(self.pods.api.clone(), watcher::Config::default()).default_backoff();
        let mut events = pin!(events);
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                    self.see(&pod);
                }
                Ok(Some(watcher::Event::Delete(pod))) => {
                    self.change(pod.uid().unwrap_or_default(), None);
                }
                Ok(Some(watcher::Event::Init | watcher::Event::InitDone)) => {}
                Ok(None) => return,
                // it goes on by itself
                Err(error) => eprintln!("the watch of simulated pods: {error}"),
            }
        }
    }

    fn see(&mut self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        let is_playing = self.running.get(&uid).is_some_and(|one| one.listening.is_some());
        let listening = match address(pod) {
            Ok(address) if !is_playing && pod.metadata.deletion_timestamp.is_none() => {
                self.begin(pod, address)
            }
            _ => None,
        };
        self.change(uid, Some((kind(pod), listening)));
    }

    fn begin(&self, pod: &Pod, address: SocketAddr) -> Option<AbortHandle> {
        let acceptor = self.clients.acceptor().inspect_err(|error| eprintln!("no key: {error}"));
        let worker = Arc::new(Worker::new(self.pods.clone(), pod.clone()));
        let task = tokio::spawn(worker::serve(worker, address, acceptor.ok()?));
        Some(task.abort_handle())
    }

    fn change(&mut self, uid: String, seen: Option<(Kind, Option<AbortHandle>)>) {
        match seen {
            Some((kind, listening)) => {
                let one = self.running.entry(uid).or_insert(Running { kind, listening: None });
                one.kind = kind;
                if listening.is_some() {
                    one.listening = listening;
                }
            }
            None => drop(self.running.remove(&uid)),
        }
        let count = |kind| self.running.values().filter(|one| one.kind == kind).count();
        let counts = Counts {
            warm: count(Kind::Warm),
            bound: count(Kind::Bound),
            others: count(Kind::Other),
        };
        self.told.send_if_modified(|known| std::mem::replace(known, counts) != counts);
    }
}

fn kind(pod: &Pod) -> Kind {
    if pod.labels().contains_key(BOUND) {
        Kind::Bound
    } else if is_ready(pod) && pod.annotations().contains_key(FINGERPRINT) {
        Kind::Warm
    } else {
        Kind::Other
    }
}

/// Listens at a pod's address; whoever had it before may need a moment to go.
async fn listen(address: SocketAddr) -> tokio::net::TcpListener {
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                eprintln!("{address}: {error}");
                sleep(BIND_AGAIN).await;
            }
        }
    }
}
