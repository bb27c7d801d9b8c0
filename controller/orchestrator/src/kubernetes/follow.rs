//! From watch events to what the orchestrator knows: one task for each kind.

use super::{
    Shared,
    seen::{SeenTenant, SeenWorker, Version},
    watch::{Followed, follow},
};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{Api, Client, Resource, ResourceExt as _, runtime::watcher::Event};
use patchbay_core::{id::Incarnation, tenant::TenantName};
use patchbay_crds::{IdentityProvider, Tenant, WorkerClass};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, sync::Arc};
use tokio::{sync::watch as channel, time::Instant};
use tokio_util::task::TaskTracker;

const WORKERS: Followed = Followed {
    kind: "pods",
    labels: Some("app.kubernetes.io/component=worker,app.kubernetes.io/part-of=patchbay"),
};
const TENANTS: Followed = Followed { kind: "tenants", labels: None };
const CLASSES: Followed = Followed { kind: "workerclasses", labels: None };
const PROVIDERS: Followed = Followed { kind: "identityproviders", labels: None };

/// Which first lists are complete.
#[derive(Debug)]
pub(super) struct Synced(channel::Sender<BTreeSet<&'static str>>);

impl Default for Synced {
    fn default() -> Self {
        let all = [WORKERS, TENANTS, CLASSES, PROVIDERS].map(|followed| followed.kind);
        Self(channel::Sender::new(all.into()))
    }
}

impl Synced {
    pub(super) fn missing(&self) -> Vec<&'static str> {
        self.0.borrow().iter().copied().collect()
    }

    pub(super) async fn wait(&self) {
        // the sender is this very value
        let _ = self.0.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    fn complete(&self, followed: Followed) {
        self.0.send_if_modified(|missing| missing.remove(followed.kind));
    }
}

/// Starts to follow everything.
pub(super) fn start(shared: &Arc<Shared>, client: &Client, tasks: &TaskTracker) {
    spawn(shared, client, tasks, WORKERS, worker);
    spawn(shared, client, tasks, TENANTS, tenant);
    let mut listed = Vec::new();
    spawn(shared, client, tasks, CLASSES, move |shared, event| class(shared, event, &mut listed));
    let mut listed = Vec::new();
    spawn(shared, client, tasks, PROVIDERS, move |shared, event| {
        provider(shared, event, &mut listed);
    });
}

fn spawn<K>(
    shared: &Arc<Shared>,
    client: &Client,
    tasks: &TaskTracker,
    followed: Followed,
    mut take: impl FnMut(&Shared, Event<K>) + Send + 'static,
) where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let shared = shared.clone();
    let api = Api::<K>::namespaced(client.clone(), &shared.config.namespace);
    tasks.spawn(async move {
        let metrics = shared.metrics.clone();
        let following = follow(api, followed, metrics, |event| take(&shared, event));
        shared.shutdown.run_until_cancelled(following).await
    });
}

fn worker(shared: &Shared, event: Event<Pod>) {
    let now = Instant::now();
    shared.change(|view| match event {
        Event::Apply(pod) => SeenWorker::of(&pod).is_some_and(|seen| view.worker_seen(seen, now)),
        Event::Delete(pod) => {
            let uid = pod.uid().and_then(|uid| Incarnation::parse(uid).ok());
            uid.is_some_and(|uid| view.worker_deleted(&uid))
        }
        Event::Init => {
            view.list_workers();
            false
        }
        Event::InitApply(pod) => {
            if let Some(seen) = SeenWorker::of(&pod) {
                view.worker_listed(seen);
            }
            false
        }
        Event::InitDone => {
            view.workers_complete(now);
            shared.synced.complete(WORKERS);
            true
        }
    });
}

fn tenant(shared: &Shared, event: Event<Tenant>) {
    let now = Instant::now();
    shared.change(|view| match event {
        Event::Apply(tenant) => {
            SeenTenant::of(&tenant).is_some_and(|(name, seen)| view.tenant_watched(name, seen, now))
        }
        Event::Delete(tenant) => TenantName::parse(tenant.name_any())
            .is_ok_and(|name| view.tenant_deleted(&name, Version::of(&tenant.metadata), now)),
        Event::Init => {
            view.list_tenants();
            false
        }
        Event::InitApply(tenant) => {
            if let Some((name, seen)) = SeenTenant::of(&tenant) {
                view.tenant_listed(&name, &seen);
            }
            false
        }
        Event::InitDone => {
            view.tenants_complete(now);
            shared.synced.complete(TENANTS);
            true
        }
    });
}

fn class(shared: &Shared, event: Event<WorkerClass>, listed: &mut Vec<String>) {
    shared.redefine(|definitions| match event {
        Event::Apply(class) => definitions.class_seen(&class),
        Event::Delete(class) => definitions.class_deleted(&class.name_any()),
        Event::Init => listed.clear(),
        Event::InitApply(class) => {
            listed.push(class.name_any());
            definitions.class_seen(&class);
        }
        Event::InitDone => {
            definitions.keep_classes(listed);
            shared.synced.complete(CLASSES);
        }
    });
}

fn provider(shared: &Shared, event: Event<IdentityProvider>, listed: &mut Vec<String>) {
    shared.redefine(|definitions| match event {
        Event::Apply(provider) => definitions.provider_seen(&provider),
        Event::Delete(provider) => definitions.provider_deleted(&provider.name_any()),
        Event::Init => listed.clear(),
        Event::InitApply(provider) => {
            listed.push(provider.name_any());
            definitions.provider_seen(&provider);
        }
        Event::InitDone => {
            definitions.keep_providers(listed);
            shared.synced.complete(PROVIDERS);
        }
    });
}
