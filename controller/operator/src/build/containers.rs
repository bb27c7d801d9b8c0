//! The containers of a worker's pod: one that prepares, and the two that run.
//!
//! The MCP server's image is not changed for it: the worker's program is copied beside it and starts the
//! class's command. Each container is told by its arguments where its boot document is, and by nothing else.

use super::{places, volumes};
use crate::settings::Settings;
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, Probe, ResourceRequirements, SeccompProfile,
        SecurityContext, TCPSocketAction, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use patchbay_core::{
    class::WorkerClass,
    launch::{self, AGENT_UID, SERVER_UID, START_LIMIT},
};
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;
/// An agent relays, and holds one grant.
const AGENT_MEMORY: (u64, u64) = (16 * MIB, 128 * MIB);
/// The copy is in memory.
const INSTALL_MEMORY: (u64, u64) = (16 * MIB, 64 * MIB);
/// Roots are read-only and volumes are memory, so what is left is a container's log. The kubelet rotates it
/// at 10 MiB and keeps five, and evicts a pod that has more than its limit: so this is more than that.
const STORAGE: (u64, u64) = (16 * MIB, 128 * MIB);

/// How long a probe waits for its connection, seconds. The kernel answers it, so it is the node that may be busy.
const PROBE_WAIT: i32 = 5;
/// How often a worker that starts is looked at, seconds: as late is it found to be ready.
const STARTUP_PERIOD: i32 = 1;
/// How often one that is ready is looked at.
const READINESS_PERIOD: i32 = 10;

/// Copies the worker's program, and makes the directories of mounted files, as the server's user.
pub(super) fn install(class: &WorkerClass, settings: &Settings) -> Container {
    let mut command = words(&[places::PROGRAM, "install", "--to", places::INSTALLED]);
    let configuration = launch::configuration(class);
    if let Some(directory) = configuration.as_ref().and_then(|file| file.path.parent()) {
        command.extend(["--directory".to_owned(), directory.display().to_string()]);
    }
    let mounts = volumes::of_install(class);
    container("install", &settings.worker_image, command, SERVER_UID, INSTALL_MEMORY, mounts)
}

/// Admits requests and holds the grant.
pub(super) fn agent(name: &str, settings: &Settings) -> Container {
    let boot = format!("{}/{}", places::BOOT, places::AGENT_JSON);
    let command = words(&[places::PROGRAM, "agent", "--boot-file", &boot]);
    let mounts = volumes::of_agent();
    let (image, memory) = (&settings.worker_image, AGENT_MEMORY);
    Container {
        ports: Some(vec![ContainerPort {
            name: Some("link".into()),
            container_port: places::LINK_PORT.into(),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        }]),
        // the agent gives up a server that does not start, and says why; the probe only must not be first
        startup_probe: Some(probe(STARTUP_PERIOD, START_LIMIT.as_secs() + 60)),
        readiness_probe: Some(probe(READINESS_PERIOD, 3)),
        ..container(name, image, command, AGENT_UID, memory, mounts)
    }
}

/// Runs the MCP server.
pub(super) fn server(name: &str, class: &WorkerClass) -> Container {
    let boot = format!("{}/{}", places::BOOT, places::HOST_JSON);
    let command = words(&[places::INSTALLED, "host", "--boot-file", &boot]);
    // requested in full: a node is never promised more memory than it has to users who do not know each other
    let memory = (class.resources.memory_bytes, class.resources.memory_bytes);
    let mounts = volumes::of_server(class);
    container(name, &class.image, command, SERVER_UID, memory, mounts)
}

/// What no container of a worker is without.
fn container(
    name: &str,
    image: &str,
    command: Vec<String>,
    uid: u32,
    memory: (u64, u64),
    mounts: Vec<VolumeMount>,
) -> Container {
    Container {
        name: name.into(),
        image: Some(image.into()),
        command: Some(command),
        working_dir: Some("/".into()),
        resources: Some(resources(memory)),
        security_context: Some(security(uid)),
        // never the end of the log: it may hold a user's words, and would become a part of the pod's status
        termination_message_policy: Some("File".into()),
        termination_message_path: Some(places::TERMINATION_MESSAGE.into()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn security(uid: u32) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(words(&["ALL"])), add: None }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(uid.into()),
        run_as_group: Some(uid.into()),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

pub(super) fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }
}

fn resources(memory: (u64, u64)) -> ResourceRequirements {
    let amounts = |memory: u64, storage: u64| {
        let amount = |bytes: u64| Quantity(bytes.to_string());
        Some(BTreeMap::from([
            ("memory".to_owned(), amount(memory)),
            ("ephemeral-storage".to_owned(), amount(storage)),
        ]))
    };
    ResourceRequirements {
        requests: amounts(memory.0, STORAGE.0),
        limits: amounts(memory.1, STORAGE.1),
        claims: None,
    }
}

/// The link's port, which the agent opens when the worker is ready (ADR 13). The probe says nothing there, so it needs no
/// certificate; no process is begun for it in the pod; and nobody else can have that port.
fn probe(period: i32, failures: u64) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction {
            port: IntOrString::Int(places::LINK_PORT.into()),
            host: None,
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(PROBE_WAIT),
        failure_threshold: Some(i32::try_from(failures).unwrap_or(i32::MAX)),
        ..Probe::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
