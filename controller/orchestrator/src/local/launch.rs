//! A class becomes two sandboxes: what the agent's and the host's look like, and what each is told.
//!
//! All workers of a class are alike: nothing here is about a tenant, and nothing here is a secret. The
//! functions are pure; sockets and descriptors are made by the caller. This module must not know
//! bubblewrap's arguments or how processes are started.

use super::sandbox::{Limits, SandboxSpec, Tmpfs};
use patchbay_core::{
    boot::{AgentBoot, HostBoot, Listen, RelayBoot, RelayCatalog, Report},
    class::{CredentialSource, Profile, Transport, WorkerClass},
    quilt,
};
use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The MCP server's user inside; its processes and the agent's never share one.
const SERVER_UID: u32 = 10_001;
const AGENT_UID: u32 = 10_002;

/// Where the sandboxes find each other's sockets.
const CONTROL_SOCKET: &str = "/run/patchbay/control";
const SERVER_SOCKET: &str = "/run/patchbay/server";
/// Where the agent finds the controller's egress proxy.
const EGRESS_SOCKET: &str = "/run/patchbay/egress";

/// The MCP server's writable home.
const HOME: &str = "/home/worker";

/// The loopback port, inside the MCP server's sandbox, of its forward proxy.
const PROXY_PORT: u16 = 3128;

/// How long an MCP server may take until it answers. A cold import of a large Python server takes
/// seconds, and several may start at one time.
const START_SECONDS: u64 = 120;

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
    AgentBoot {
        class: class.name.clone(),
        link: Listen::Fd(link.as_raw_fd()),
        control: Listen::Fd(control.as_raw_fd()),
        server: SERVER_SOCKET.into(),
        report: Report::Fd(report.as_raw_fd()),
        roots: roots.into(),
        transport: class.transport.clone(),
        profile: class.profile,
        home: HOME.into(),
        relay: RelayBoot {
            hosts: class.egress_hosts(),
            catalog: match &class.credentials {
                CredentialSource::None => None,
                CredentialSource::Catalog(catalog) => Some(RelayCatalog {
                    origin: catalog.origin.clone(),
                    registry: catalog.registry.clone(),
                    ca_bundle: catalog.ca_bundle.clone(),
                }),
            },
            via: Some(EGRESS_SOCKET.into()),
        },
        idle_timeout_seconds: class.idle.idle_timeout.as_secs(),
        max_age_seconds: class.idle.max_age.map(|age| age.as_secs()),
        drain_seconds: class.drain.as_secs(),
        start_seconds: START_SECONDS,
    }
}

/// What the host of a worker of `class` is told.
pub(super) fn host_boot(class: &WorkerClass, server: &OwnedFd) -> HostBoot {
    let (command, files) = quilt::start(class, class.local_command());
    HostBoot {
        command,
        files,
        env: server_env(class),
        workdir: HOME.into(),
        server: Listen::Fd(server.as_raw_fd()),
        control: CONTROL_SOCKET.into(),
        transport: class.transport.clone(),
        proxy_port: PROXY_PORT,
    }
}

/// The MCP server's environment: from nothing, then the class's own words. The proxy is the only way
/// out, and `NO_PROXY` is left unset so that nothing goes around it.
fn server_env(class: &WorkerClass) -> BTreeMap<String, String> {
    let Transport::Http { port, .. } = &class.transport;
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let mut env: BTreeMap<String, String> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", HOME.to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("PORT", port.to_string()),
        ("HTTP_PROXY", proxy.clone()),
        ("HTTPS_PROXY", proxy.clone()),
        ("http_proxy", proxy.clone()),
        ("https_proxy", proxy),
        // the SDKs' last resort for credentials is the machine's own identity: never that
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if class.profile == Profile::Quilt {
        env.extend(quilt::environment(class));
    }
    env.extend(class.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    env
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
/// file of the class, where it has one.
pub(super) fn host_sandbox(
    worker: &str,
    program: &Path,
    sockets: &Sockets,
    class: &WorkerClass,
    configuration: Option<&Path>,
    descriptors: HostDescriptors,
) -> SandboxSpec {
    let HostDescriptors { boot, server } = descriptors;
    let mut binds = vec![(sockets.control.clone(), PathBuf::from(CONTROL_SOCKET))];
    // a mount of its own, so that the server can neither replace nor rename it
    binds.extend(configuration.map(|file| (file.to_owned(), quilt_configuration_path())));
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

fn quilt_configuration_path() -> PathBuf {
    PathBuf::from(format!("{HOME}/{}/config.yml", quilt::DATA_DIR))
}

/// The text of the profile's configuration file for a class, where it has one.
pub(super) fn configuration(class: &WorkerClass) -> Option<String> {
    match (&class.profile, &class.credentials) {
        (Profile::Quilt, CredentialSource::Catalog(catalog)) => Some(quilt::config_yml(catalog)),
        _ => None,
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
    use patchbay_core::fixtures::class;

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
        let mut quilt = class("quilt", "/mcp");
        quilt.profile = Profile::Quilt;
        quilt.credentials = CredentialSource::Catalog(patchbay_core::class::CatalogSource {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            region: "us-east-1".into(),
            ca_bundle: None,
        });
        assert!(configuration(&quilt).unwrap().contains("http://registry.example"));
        assert_eq!(server_env(&quilt)["QUILT_DEPLOYMENT"], "legacy");
        let descriptors = HostDescriptors { boot: descriptor(), server: descriptor() };
        let file = Path::new("/run/patchbay/0badcafe/w-1/config");
        let program = Path::new("/opt/patchbay/patchbay-worker");
        let spec = host_sandbox("w-1", program, &sockets(), &quilt, Some(file), descriptors);
        assert_eq!(spec.validate(), Ok(()));
        let inside = PathBuf::from("/home/worker/.local/share/Quilt/config.yml");
        assert!(spec.binds.contains(&(file.to_owned(), inside)));
        assert_eq!(configuration(&class("c", "/mcp")), None);
    }

    #[test]
    fn the_agent_writes_nowhere_and_the_server_only_in_memory() {
        let [agent, host] = both();
        assert!(agent.tmpfs.is_empty());
        let places: Vec<_> = host.tmpfs.iter().map(|t| t.path.to_str().unwrap()).collect();
        assert_eq!(places, ["/home/worker", "/tmp", "/run"]);
    }

    #[test]
    fn the_servers_environment_is_built_from_nothing() {
        let env = server_env(&class("c", "/mcp"));
        assert!(!env.contains_key("NO_PROXY") && !env.contains_key("no_proxy"));
        assert_eq!(env["HTTPS_PROXY"], "http://127.0.0.1:3128");
        assert_eq!(env.len(), 10, "a variable more than the list above: {env:?}");
    }
}
