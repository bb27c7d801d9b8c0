//! A class becomes two sandboxes: what the agent's and the host's look like, and what each is told.
//!
//! All workers of a class are alike: nothing here is about a tenant, and nothing here is a secret. The
//! functions are pure; sockets and descriptors are made by the caller. This module must not know
//! bubblewrap's arguments or how processes are started.

use super::sandbox::{Limits, SandboxSpec, Tmpfs};
use patchbay_core::{
    boot::{AgentBoot, HostBoot, Listen, Report, Roots},
    class::WorkerClass,
    launch::{self, AGENT_UID, AgentPlaces, HOME, HostPlaces, SERVER_UID},
};
use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Where the sandboxes find each other's sockets.
const CONTROL_SOCKET: &str = "/run/patchbay/control";
const SERVER_SOCKET: &str = "/run/patchbay/server";
/// Where the agent finds the controller's egress proxy.
const EGRESS_SOCKET: &str = "/run/patchbay/egress";

/// Bounds on an agent: it relays, and holds one grant.
const AGENT_LIMITS: Limits = Limits { memory_bytes: 128 << 20, pids: 32, files: 4096 };
/// Open files of an MCP server, per process.
const SERVER_FILES: u64 = 4096;

/// What an agent inherits.
pub(super) struct AgentDescriptors {
    /// Its boot document.
    pub boot: OwnedFd,
    /// The socket on which gateways reach it.
    pub link: OwnedFd,
    /// The socket on which its host reaches it.
    pub control: OwnedFd,
    /// Where its first and last words go.
    pub report: OwnedFd,
}

/// What a host inherits.
pub(super) struct HostDescriptors {
    /// Its boot document.
    pub boot: OwnedFd,
    /// The socket on which its agent reaches it.
    pub server: OwnedFd,
}

/// What the agent of a worker of `class` is told.
pub(super) fn agent_boot(
    class: &WorkerClass,
    roots: &str,
    link: &OwnedFd,
    control: &OwnedFd,
    report: &OwnedFd,
) -> AgentBoot {
    let places = AgentPlaces {
        link: Listen::Fd(link.as_raw_fd()),
        control: Listen::Fd(control.as_raw_fd()),
        server: SERVER_SOCKET.into(),
        report: Report::Fd(report.as_raw_fd()),
        roots: Roots::Pem(roots.into()),
        token: None,
        via: Some(EGRESS_SOCKET.into()),
    };
    launch::agent_boot(class, places)
}

/// What the host of a worker of `class` is told.
pub(super) fn host_boot(class: &WorkerClass, server: &OwnedFd) -> HostBoot {
    let places = HostPlaces {
        server: Listen::Fd(server.as_raw_fd()),
        control: CONTROL_SOCKET.into(),
        // the controller asks the agent alone, and the lifeline's end is the host's sign
        agent_leaves: None,
    };
    launch::host_boot(class, class.local_command(), places)
}

/// The agent's sandbox: it sees the worker's program, its host's socket and the egress proxy's, and
/// writes nowhere.
pub(super) fn agent_sandbox(
    worker: &str,
    program: &Path,
    sockets: &Sockets,
    egress: &Path,
    descriptors: AgentDescriptors,
) -> SandboxSpec {
    let AgentDescriptors { boot, link, control, report } = descriptors;
    SandboxSpec {
        name: format!("{worker}-agent"),
        program: program.into(),
        args: boot_args("agent", &boot),
        env: BTreeMap::new(),
        workdir: "/".into(),
        uid: AGENT_UID,
        hostname: "agent".into(),
        read_only: Vec::new(),
        binds: vec![
            (sockets.server.clone(), SERVER_SOCKET.into()),
            (egress.to_owned(), EGRESS_SOCKET.into()),
        ],
        tmpfs: Vec::new(),
        descriptors: vec![boot, link, control, report],
        limits: AGENT_LIMITS,
    }
}

/// The MCP server's sandbox, in which the host is the first process. `configuration` is the profile's
/// file of the class, where it has one: outside, and where the MCP server finds it.
pub(super) fn host_sandbox(
    worker: &str,
    program: &Path,
    sockets: &Sockets,
    class: &WorkerClass,
    configuration: Option<(PathBuf, PathBuf)>,
    descriptors: HostDescriptors,
) -> SandboxSpec {
    let HostDescriptors { boot, server } = descriptors;
    let mut binds = vec![(sockets.control.clone(), PathBuf::from(CONTROL_SOCKET))];
    // a mount of its own, so that the server can neither replace nor rename it
    binds.extend(configuration);
    let tmpfs = |path: &str, bytes, mode| Tmpfs { path: path.into(), bytes, mode };
    SandboxSpec {
        name: format!("{worker}-server"),
        program: program.into(),
        args: boot_args("host", &boot),
        env: BTreeMap::new(),
        workdir: HOME.into(),
        uid: SERVER_UID,
        hostname: "worker".into(),
        read_only: class.local.read_only_paths.clone(),
        binds,
        tmpfs: vec![
            tmpfs(HOME, class.tmpfs.home, 0o700),
            tmpfs("/tmp", class.tmpfs.tmp, 0o1777),
            tmpfs("/run", class.tmpfs.run, 0o755),
        ],
        descriptors: vec![boot, server],
        limits: Limits {
            memory_bytes: class.resources.memory_bytes,
            pids: class.resources.pids,
            files: SERVER_FILES,
        },
    }
}

fn boot_args(role: &str, boot: &OwnedFd) -> Vec<std::ffi::OsString> {
    vec![role.into(), "--boot-fd".into(), boot.as_raw_fd().to_string().into()]
}

/// A worker's sockets on the host.
#[derive(Debug, Clone)]
pub(super) struct Sockets {
    /// Gateways connect here; the agent listens.
    pub link: PathBuf,
    /// The host connects here; the agent listens.
    pub control: PathBuf,
    /// The agent connects here; the host listens.
    pub server: PathBuf,
}

impl Sockets {
    /// The sockets of a worker whose own directory this is.
    pub(super) fn inside(directory: &Path) -> Self {
        Self {
            link: directory.join("l"),
            control: directory.join("c"),
            server: directory.join("s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::fixtures::{class, quilt_class};

    const EGRESS: &str = "/run/patchbay/0badcafe/e-c";

    fn descriptor() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn sockets() -> Sockets {
        Sockets::inside(Path::new("/run/patchbay/0badcafe/w-1"))
    }

    fn both() -> [SandboxSpec; 2] {
        let program = Path::new("/opt/patchbay/patchbay-worker");
        let agent = AgentDescriptors {
            boot: descriptor(),
            link: descriptor(),
            control: descriptor(),
            report: descriptor(),
        };
        let host = HostDescriptors { boot: descriptor(), server: descriptor() };
        [
            agent_sandbox("w-1", program, &sockets(), Path::new(EGRESS), agent),
            host_sandbox("w-1", program, &sockets(), &class("c", "/mcp"), None, host),
        ]
    }

    #[test]
    fn both_sandboxes_are_well_formed_and_differ_in_user() {
        let [agent, host] = both();
        assert_eq!(agent.validate(), Ok(()));
        assert_eq!(host.validate(), Ok(()));
        assert_ne!(agent.uid, host.uid);
    }

    #[test]
    fn the_server_sees_only_the_agents_control_socket_and_the_agent_only_the_servers() {
        let [agent, host] = both();
        let seen = |spec: &SandboxSpec| {
            spec.binds.iter().map(|(outside, _)| outside.clone()).collect::<Vec<_>>()
        };
        assert_eq!(seen(&agent), [sockets().server, EGRESS.into()]);
        assert_eq!(seen(&host), [sockets().control]);
    }

    #[test]
    fn a_quilt_worker_has_its_configuration_as_a_mount_of_its_own() {
        let quilt = quilt_class("quilt", "/mcp");
        let inside = launch::configuration(&quilt).unwrap().path;
        let descriptors = HostDescriptors { boot: descriptor(), server: descriptor() };
        let mount = (PathBuf::from("/run/patchbay/0badcafe/w-1/config"), inside);
        let program = Path::new("/opt/patchbay/patchbay-worker");
        let spec =
            host_sandbox("w-1", program, &sockets(), &quilt, Some(mount.clone()), descriptors);
        assert_eq!(spec.validate(), Ok(()));
        assert!(spec.binds.contains(&mount));
    }

    #[test]
    fn the_agent_writes_nowhere_and_the_server_only_in_memory() {
        let [agent, host] = both();
        assert!(agent.tmpfs.is_empty());
        let places: Vec<_> = host.tmpfs.iter().map(|t| t.path.to_str().unwrap()).collect();
        assert_eq!(places, ["/home/worker", "/tmp", "/run"]);
    }
}
