//! The last words of all workers, kept as they come: the pods that have said them are deleted soon after.

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};
use parking_lot::Mutex;
use patchbay_core::link::Farewell;
use patchbay_tests::pods::stage::ended;
use std::{collections::BTreeMap, pin::pin, sync::Arc};
use tokio_util::task::AbortOnDropHandle;

/// What the workers of a namespace said when they left, by the names of their pods.
pub(crate) struct Record {
    farewells: Arc<Mutex<BTreeMap<String, Farewell>>>,
    _watch: AbortOnDropHandle<()>,
}

impl Record {
    /// Begins to keep it.
    pub(crate) fn keep(pods: &Api<Pod>) -> Self {
        let farewells = Arc::new(Mutex::new(BTreeMap::new()));
        let watch = watch(pods.clone(), Arc::clone(&farewells));
        Self { farewells, _watch: AbortOnDropHandle::new(tokio::spawn(watch)) }
    }

    /// All of them.
    pub(crate) fn farewells(self) -> BTreeMap<String, Farewell> {
        self.farewells.lock().clone()
    }
}

async fn watch(pods: Api<Pod>, farewells: Arc<Mutex<BTreeMap<String, Farewell>>>) {
    let pods = watcher(pods, watcher::Config::default()).default_backoff().touched_objects();
    let mut pods = pin!(pods);
    loop {
        match pods.try_next().await {
            Ok(Some(pod)) => {
                if let Some(farewell) = farewell(&pod) {
                    farewells.lock().insert(pod.name_any(), farewell);
                }
            }
            Ok(None) => return,
            // it goes on by itself
            Err(_) => {}
        }
    }
}

fn farewell(pod: &Pod) -> Option<Farewell> {
    serde_json::from_str(ended(pod, "agent")?.message.as_deref()?).ok()
}
