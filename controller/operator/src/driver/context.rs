//! What every pass and every job works with: the cluster's API, what is seen of it, and the way to workers.

use super::{metrics::Metrics, writes::Writes};
use crate::{
    Settings,
    cache::{Cache, Relister},
    link::Dialer,
    params::FIELD_MANAGER,
    worker_class::Pace,
};
use k8s_openapi::api::{
    authentication::v1::TokenReview,
    core::v1::{ConfigMap, Pod, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client,
    runtime::events::{Recorder, Reporter},
};
use patchbay_crds::{Tenant, WorkerClass};
use std::sync::Arc;

/// What is shared by everything that one leadership does.
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) pace: Pace,
    pub(super) cache: Arc<Cache>,
    pub(super) relister: Relister,
    pub(super) dialer: Dialer,
    pub(super) writes: Writes,
    pub(super) metrics: Metrics,
    pub(super) recorder: Recorder,
    pub(super) apis: Apis,
}

/// The kinds that are written, in the operator's namespace where they are in one.
pub(super) struct Apis {
    pub(super) pods: Api<Pod>,
    pub(super) tenants: Api<Tenant>,
    pub(super) classes: Api<WorkerClass>,
    pub(super) maps: Api<ConfigMap>,
    pub(super) policies: Api<NetworkPolicy>,
    pub(super) accounts: Api<ServiceAccount>,
    pub(super) budgets: Api<PodDisruptionBudget>,
    pub(super) reviews: Api<TokenReview>,
}

impl Apis {
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            pods: Api::namespaced(client.clone(), namespace),
            tenants: Api::namespaced(client.clone(), namespace),
            classes: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client.clone(), namespace),
            policies: Api::namespaced(client.clone(), namespace),
            accounts: Api::namespaced(client.clone(), namespace),
            budgets: Api::namespaced(client.clone(), namespace),
            reviews: Api::all(client.clone()),
        }
    }
}

/// One who records Events in this operator's name.
pub(super) fn recorder(client: &Client, identity: &str) -> Recorder {
    let (controller, instance) = (FIELD_MANAGER.into(), Some(identity.into()));
    Recorder::new(client.clone(), Reporter { controller, instance })
}
