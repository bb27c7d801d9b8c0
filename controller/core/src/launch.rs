//! What the agent and the host of a worker are told, wherever they run: as sandboxes or as containers.
//!
//! A class and the places that an orchestrator made become two boot documents. All workers of a class are
//! alike: nothing here is about a tenant, and nothing here is a secret. This module is pure; it must not
//! know how places are made, or which orchestrator asks.

use crate::{
    aws_keys,
    boot::{AgentBoot, HostBoot, Listen, RelayBoot, RelayCatalog, Report, Roots},
    class::{Profile, WorkerClass},
    quilt,
};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The MCP server's user; its processes and the agent's never share one.
pub const SERVER_UID: u32 = 10_001;
/// The agent's user.
pub const AGENT_UID: u32 = 10_002;

/// The MCP server's writable home.
pub const HOME: &str = "/home/worker";

/// The loopback port, beside the MCP server, of its forward proxy.
pub const PROXY_PORT: u16 = 3128;

/// How long an MCP server may take until it answers. A cold import of a large Python server takes
/// seconds, and several may start at one time.
pub const START_LIMIT: Duration = Duration::from_mins(2);

/// Where an agent finds the others, and they it.
#[derive(Debug, Clone)]
pub struct AgentPlaces {
    /// Gateways and operators connect here.
    pub link: Listen,
    /// The host connects here.
    pub control: Listen,
    /// The host listens here.
    pub server: PathBuf,
    /// First and last words go there.
    pub report: Report,
    /// The control plane's CA.
    pub roots: Roots,
    /// The file of the token that tells an operator which pod this is.
    pub token: Option<PathBuf>,
    /// The egress proxy's socket.
    pub via: Option<PathBuf>,
}

/// Where a host finds its agent, and the agent it.
#[derive(Debug, Clone)]
pub struct HostPlaces {
    /// The agent connects here.
    pub server: Listen,
    /// The agent listens here.
    pub control: PathBuf,
    /// What the agent may take to leave where both are asked to end at one time.
    pub agent_leaves: Option<Duration>,
}

/// What the agent of a worker of `class` is told.
pub fn agent_boot(class: &WorkerClass, places: AgentPlaces) -> AgentBoot {
    let AgentPlaces { link, control, server, report, roots, token, via } = places;
    AgentBoot {
        class: class.name.clone(),
        link,
        control,
        server,
        report,
        token,
        roots,
        transport: class.transport.clone(),
        profile: class.profile,
        start: class.start,
        templates: class.templates.clone(),
        home: HOME.into(),
        relay: RelayBoot {
            hosts: class.egress_hosts(),
            catalog: class.credentials.catalog().map(|catalog| RelayCatalog {
                origin: catalog.origin.clone(),
                registry: catalog.registry.clone(),
                ca_bundle: catalog.ca_bundle.clone(),
            }),
            aws_keys: class.credentials.grants_aws_keys(),
            via,
        },
        tools: class.tools.clone(),
        limits: class.per_tenant,
        idle_timeout_seconds: class.idle.idle_timeout.as_secs(),
        max_age_seconds: class.idle.max_age.map(|age| age.as_secs()),
        drain_seconds: class.drain.as_secs(),
        start_seconds: START_LIMIT.as_secs(),
    }
}

/// What the host of a worker of `class` is told; `command` is the MCP server's where it runs.
pub fn host_boot(class: &WorkerClass, command: &[String], places: HostPlaces) -> HostBoot {
    let HostPlaces { server, control, agent_leaves } = places;
    let (command, files) = quilt::start(class, command);
    HostBoot {
        command,
        start: class.start,
        files,
        env: server_env(class),
        workdir: HOME.into(),
        server,
        control,
        transport: class.transport.clone(),
        proxy_port: PROXY_PORT,
        agent_leaves_seconds: agent_leaves.map(|limit| limit.as_secs()),
    }
}

/// The MCP server's environment: from nothing, then the class's own words. The proxy is the only way
/// out, and `NO_PROXY` is left unset so that nothing goes around it.
pub fn server_env(class: &WorkerClass) -> BTreeMap<String, String> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let mut env: BTreeMap<String, String> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", HOME.to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("HTTP_PROXY", proxy.clone()),
        ("HTTPS_PROXY", proxy.clone()),
        ("http_proxy", proxy.clone()),
        ("https_proxy", proxy),
        // the SDKs' last resort for credentials is the machine's own identity: never that
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(port) = class.transport.port() {
        env.insert("PORT".to_owned(), port.to_string());
    }
    if class.profile == Profile::Quilt {
        env.extend(quilt::environment(class));
    }
    if class.credentials.grants_aws_keys() {
        env.extend(aws_keys::environment(PROXY_PORT, HOME, class.credentials.region()));
    }
    env.extend(class.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    env
}

/// A file of a class that its workers see read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Where, absolute, below [`HOME`].
    pub path: PathBuf,
    /// All of its text.
    pub text: String,
}

/// The configuration file of a class's profile, where it has one. It must be a mount of its own, so that the
/// MCP server can neither replace nor rename it.
pub fn configuration(class: &WorkerClass) -> Option<Configuration> {
    match (&class.profile, class.credentials.catalog()) {
        (Profile::Quilt, Some(catalog)) => Some(Configuration {
            path: format!("{HOME}/{}/config.yml", quilt::DATA_DIR).into(),
            text: quilt::config_yml(catalog),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{class, quilt_class};

    #[test]
    fn the_servers_environment_is_built_from_nothing() {
        let env = server_env(&class("c", "/mcp"));
        assert!(!env.contains_key("NO_PROXY") && !env.contains_key("no_proxy"));
        assert_eq!(env["HTTPS_PROXY"], "http://127.0.0.1:3128");
        assert_eq!(env.len(), 10, "a variable more than the list above: {env:?}");
    }

    #[test]
    fn a_quilt_class_has_its_configuration_below_home_and_its_own_environment() {
        let quilt = quilt_class("quilt", "/mcp");
        let Configuration { path, text } = configuration(&quilt).unwrap();
        assert_eq!(path, PathBuf::from("/home/worker/.local/share/Quilt/config.yml"));
        assert!(text.contains("http://registry.example"), "{text}");
        assert_eq!(server_env(&quilt)["QUILT_DEPLOYMENT"], "legacy");
        assert_eq!(configuration(&class("c", "/mcp")), None);
    }

    #[test]
    fn the_users_of_agent_and_server_differ() {
        assert_ne!(AGENT_UID, SERVER_UID);
    }
}
