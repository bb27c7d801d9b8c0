//! A worker: a pod, and the `ConfigMap` with what its two parts are told.
//!
//! The pod holds nothing that is not the class's or the installation's. It passes Pod Security `restricted`.

use super::{
    boot, containers,
    error::BuildError,
    labels,
    metadata::{ClassRef, matching},
    places::{self, LINK_PORT},
    revision, service_account, volumes,
};
use crate::settings::Settings;
use k8s_openapi::api::core::v1::{
    ConfigMap, LocalObjectReference, Pod, PodSecurityContext, PodSpec, Toleration,
    TopologySpreadConstraint,
};
use patchbay_core::{
    class::{self, WorkerClass},
    launch::PROXY_PORT,
};
use std::collections::BTreeMap;

/// The container that holds the grant. Its termination message is the worker's farewell.
pub const AGENT: &str = "agent";
/// The container of the MCP server.
pub const SERVER: &str = "server";

/// The group that both containers' users are in besides their own: sockets are shared by it.
const SHARED_GROUP: i64 = 10_003;

/// What is created for one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Names what it is made from; a label of both objects.
    pub revision: String,
    /// One for all pods of a revision, and there before them.
    pub boot: ConfigMap,
    /// The cluster gives it a name.
    pub pod: Pod,
}

/// The manifests of a worker of this class.
pub fn worker(class: ClassRef<'_>, settings: &Settings) -> Result<Worker, BuildError> {
    let taken = class.class.transport.port().filter(|port| [LINK_PORT, PROXY_PORT].contains(port));
    if let Some(port) = taken {
        return Err(BuildError::PortTaken(port));
    }
    let documents = boot::documents(class.class)?;
    let revision = revision::of(&pod(class, settings, ""), &documents)?;
    Ok(Worker {
        pod: pod(class, settings, &revision),
        boot: boot::config_map(class, settings, &revision, documents),
        revision,
    })
}

fn pod(class: ClassRef<'_>, settings: &Settings, revision: &str) -> Pod {
    let mut metadata = class.metadata(settings, None);
    metadata.generate_name = Some(format!("{}-", class.class.name));
    metadata.labels.get_or_insert_default().extend(labels::of([(labels::REVISION, revision)]));
    // a scale-down waits for the user; a worker leaves by itself when it is idle
    let evict = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    metadata.annotations = Some(BTreeMap::from([(evict.to_owned(), "false".to_owned())]));
    Pod { metadata, spec: Some(spec(class.class, settings, revision)), status: None }
}

fn spec(class: &WorkerClass, settings: &Settings, revision: &str) -> PodSpec {
    let class::Scheduling { runtime, nodes, tolerations } = &class.scheduling;
    PodSpec {
        init_containers: Some(vec![containers::install(class, settings)]),
        // the agent first: the server's host waits for it
        containers: vec![containers::agent(AGENT, settings), containers::server(SERVER, class)],
        volumes: Some(volumes::volumes(class, settings, revision)),
        service_account_name: Some(service_account::NAME.into()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        host_network: Some(false),
        host_pid: Some(false),
        host_ipc: Some(false),
        share_process_namespace: Some(false),
        security_context: Some(security()),
        image_pull_secrets: pull_secrets(settings),
        // a worker serves one tenant in its life, and has one
        restart_policy: Some("Never".into()),
        termination_grace_period_seconds: i64::try_from(places::grace(class).as_secs()).ok(),
        runtime_class_name: runtime.clone(),
        node_selector: (!nodes.is_empty()).then(|| nodes.clone()),
        tolerations: (!tolerations.is_empty())
            .then(|| tolerations.iter().map(toleration).collect()),
        topology_spread_constraints: Some(vec![
            spread(class, "topology.kubernetes.io/zone"),
            spread(class, "kubernetes.io/hostname"),
        ]),
        ..PodSpec::default()
    }
}

fn security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        fs_group: Some(SHARED_GROUP),
        seccomp_profile: Some(containers::runtime_default()),
        ..PodSecurityContext::default()
    }
}

fn pull_secrets(settings: &Settings) -> Option<Vec<LocalObjectReference>> {
    let secrets = settings.image_pull_secrets.iter();
    let secrets: Vec<_> = secrets.map(|name| LocalObjectReference { name: name.clone() }).collect();
    (!secrets.is_empty()).then_some(secrets)
}

fn toleration(toleration: &class::Toleration) -> Toleration {
    let class::Toleration { key, operator, value, effect, seconds } = toleration.clone();
    Toleration { key, operator, value, effect, toleration_seconds: seconds }
}

/// Users of a class are spread over what may fail at one time; a warm worker somewhere is better than none.
fn spread(class: &WorkerClass, topology_key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology_key.into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(matching(labels::selector(&class.name))),
        ..TopologySpreadConstraint::default()
    }
}
