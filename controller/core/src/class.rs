//! A validated worker class: what a worker is, where it is reached, and what bounds it.
//!
//! These are the words that every part shares; `patchbay-crds` makes them from documents and refuses
//! bad ones with field and fix. This module must not know Kubernetes or YAML.

mod credentials;

pub use credentials::{
    Ambient, AssumeRole, CatalogSource, CredentialSource, ExchangeClient, InlineClaims,
    PolicyClaims, RoleChoice, SessionPolicy, TokenExchange, WebIdentity,
};

use crate::{
    cidr::Cidr, digest::Digest, id::ClassName, idle::IdlePolicy, quilt, template::Templates,
    tools::ToolPolicy,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

/// One class of worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerClass {
    /// Its name.
    pub name: ClassName,
    /// The path on the gateway, `/mcp` by default; never ends in `/`.
    pub path: String,
    /// The host name that the route is limited to, lower case.
    pub host: Option<String>,
    /// The image of the MCP server's container (ignored by the local orchestrator).
    pub image: String,
    /// The MCP server's command line.
    pub command: Vec<String>,
    /// The MCP server's environment: built from nothing, plus these.
    pub env: BTreeMap<String, String>,
    /// How the MCP server is spoken to.
    pub transport: Transport,
    /// What the worker knows of its MCP server beyond MCP.
    pub profile: Profile,
    /// When the MCP server is started.
    pub start: Start,
    /// Bounds on one worker.
    pub resources: Resources,
    /// Sizes of the writable places, bytes.
    pub tmpfs: TmpfsSizes,
    /// Where the MCP server may connect to.
    pub egress: Egress,
    /// When a bound worker leaves.
    pub idle: IdlePolicy,
    /// How long a leaving worker may finish what is in flight.
    pub drain: Duration,
    /// After how long without a worker a tenant that nobody made by hand is forgotten; none = never. A machine
    /// without a cluster remembers no tenant for longer than it runs.
    pub forget_after: Option<Duration>,
    /// How many anonymous workers are kept ready.
    pub warm: u32,
    /// Bounds on the tenants of the class.
    pub limits: Limits,
    /// Bounds on one tenant, which its worker holds it to.
    pub per_tenant: TenantLimits,
    /// Which tools its users may call; none = all, but for what the profile withholds.
    pub tools: Option<ToolPolicy>,
    /// Where the user's credentials for the MCP server come from.
    pub credentials: CredentialSource,
    /// What is made of them for an MCP server that finds them neither as an AWS SDK nor as quilt3 does.
    pub templates: Templates,
    /// What only the local orchestrator uses.
    pub local: LocalOptions,
    /// Where in a cluster its workers run.
    pub scheduling: Scheduling,
}

/// How an MCP server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// Streamable HTTP on a loopback port of the worker.
    Http {
        /// The port that the MCP server listens on.
        port: u16,
        /// The path of its MCP endpoint.
        path: String,
        /// A path that answers 2xx when the server is ready; none = any answer to any request.
        ready_path: Option<String>,
    },
    /// Its standard streams, one JSON-RPC message a line.
    Stdio,
}

impl Transport {
    /// The port that the MCP server listens on; none where it is spoken to without one.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Http { port, .. } => Some(*port),
            Self::Stdio => None,
        }
    }
}

/// What the worker knows of its MCP server beyond MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Profile {
    /// Nothing: any MCP server.
    Generic,
    /// The files and environment of `quilt-mcp`.
    Quilt,
}

/// When the MCP server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// With the worker, before any tenant.
    #[default]
    Warm,
    /// At bind: for servers that read their credentials only when they start.
    OnBind,
}

impl Start {
    /// Whether it is with the worker.
    pub const fn is_warm(&self) -> bool {
        matches!(self, Self::Warm)
    }
}

/// Bounds on one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Memory of the MCP server, bytes.
    pub memory_bytes: u64,
    /// Processes and threads of the MCP server.
    pub pids: u32,
}

/// Sizes of the writable places of the MCP server, bytes. All are memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TmpfsSizes {
    /// HOME.
    pub home: u64,
    /// `/tmp`.
    pub tmp: u64,
    /// `/run`.
    pub run: u64,
}

/// Where an MCP server may connect to. Empty = nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Egress {
    /// Host and port pairs, reached through the worker's proxy.
    pub hosts: Vec<HostPort>,
    /// Address ranges: the boundary in a cluster, whose network policies know no names.
    pub cidrs: Vec<Cidr>,
}

/// One host name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostPort {
    /// Lower-case DNS name or IP address; no wildcard.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether plain `http://` requests may be made to it, besides CONNECT.
    #[serde(default)]
    pub plain_http: bool,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Bounds on the tenants of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Tenants with a worker at one time; none = no limit.
    pub tenants: Option<u32>,
}

/// Bounds on one tenant. Its worker alone sees all of its requests, and counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantLimits {
    /// Requests per second, with a second's worth at once; none = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Requests in flight at one time; none = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_calls: Option<u32>,
}

impl TenantLimits {
    /// Whether there is nothing to count.
    pub const fn is_none(&self) -> bool {
        self.requests_per_second.is_none() && self.concurrent_calls.is_none()
    }
}

/// What only the local orchestrator uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalOptions {
    /// Further paths of this machine that the MCP server may read.
    pub read_only_paths: Vec<PathBuf>,
    /// The command on this machine, where it differs from the image's.
    pub command: Option<Vec<String>>,
}

/// Where in a cluster a worker runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// The container runtime, by the name that the cluster has for it.
    pub runtime: Option<String>,
    /// Labels that a node must have.
    pub nodes: BTreeMap<String, String>,
    /// Taints of nodes that do not keep a worker away.
    pub tolerations: Vec<Toleration>,
}

/// A kind of taint that does not keep a worker away, in a cluster's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Toleration {
    /// The taint's key; none = every key.
    pub key: Option<String>,
    /// How the value is compared: `Exists` or `Equal`.
    pub operator: Option<String>,
    /// The taint's value.
    pub value: Option<String>,
    /// What the taint does; none = whatever it does.
    pub effect: Option<String>,
    /// Seconds after which it does it all the same.
    pub seconds: Option<i64>,
}

impl WorkerClass {
    /// All that the MCP server may reach: what the class lists, and its catalog.
    pub fn egress_hosts(&self) -> Vec<HostPort> {
        let mut hosts = self.egress.hosts.clone();
        if let Some(catalog) = self.credentials.catalog() {
            hosts.extend([&catalog.origin, &catalog.registry].map(|origin| HostPort {
                host: quilt::origin_host(origin).to_owned(),
                port: quilt::origin_port(origin),
                plain_http: false,
            }));
        }
        hosts
    }

    /// The command that the local orchestrator runs.
    pub fn local_command(&self) -> &[String] {
        self.local.command.as_deref().unwrap_or(&self.command)
    }

    /// A digest of all that makes a worker what it is. Where it changes, anonymous workers are retired
    /// and bound ones leave when idle; what only bounds the pool (`warm`, `limits`) or the route is no
    /// part of it.
    pub fn revision(&self) -> Digest {
        let Self {
            name,
            path: _,
            host: _,
            image,
            command,
            env,
            transport,
            profile,
            start,
            resources,
            tmpfs,
            egress,
            idle,
            drain,
            warm: _,
            limits: _,
            per_tenant,
            tools,
            credentials,
            templates,
            local,
            // of no worker of this machine; a pod's revision is made from its whole manifest
            scheduling: _,
            forget_after: _,
        } = self;
        // Debug output is deterministic, covers every field, and need only be stable within one process.
        let text = format!(
            "{name:?}{image:?}{command:?}{env:?}{transport:?}{profile:?}{start:?}{resources:?}\
             {tmpfs:?}{egress:?}{idle:?}{drain:?}{per_tenant:?}{tools:?}{credentials:?}{templates:?}{local:?}"
        );
        Digest::of(text.as_bytes())
    }
}
