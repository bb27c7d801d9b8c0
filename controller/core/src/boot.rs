//! The boot documents of agent and host: one JSON document each, read once at start from a descriptor
//! (locally) or a file (in a pod). They hold configuration only, never a secret and never a tenant.
//! This module must not know how descriptors are passed or files mounted.

use crate::{
    class::{HostPort, Profile, Start, TenantLimits, Transport},
    grant::expose,
    id::ClassName,
    quilt::PlacedFile,
    template::Templates,
    tools::ToolPolicy,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// A boot document is at most this long, bytes.
pub const MAX_BOOT_BYTES: u64 = 512 * 1024;

/// The byte that a host sends on a connection of its agent together with a descriptor: the MCP server took
/// a connection, and this is it. An end without it means that the server saw nothing.
pub const SERVER_CONNECTED: u8 = b'+';

/// The byte that a host sends instead where a program did not start; a line says why.
pub const SERVER_FAILED: u8 = b'-';

/// Something to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Listen {
    /// A listening Unix socket that was inherited as this descriptor.
    Fd(i32),
    /// A Unix socket to make.
    Path(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
    /// A TCP port on every address, of whichever families there are: a pod learns its own only when it
    /// runs, and its boot document is older. It takes connections once the worker is ready.
    Port(u16),
}

/// The control plane's CA: PEM certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Roots {
    /// These, for the life of the worker.
    Pem(String),
    /// Those that this file holds when a connection comes: a mounted bundle rolls under living workers.
    File(PathBuf),
}

/// Where a worker's first and last words go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// Lines of JSON ([`ReportLine`]) on this inherited descriptor.
    Fd(i32),
    /// The farewell alone, in this file (a pod's termination message).
    TerminationLog(PathBuf),
}

/// One line of a [`Report::Fd`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReportLine {
    /// The agent listens; this is its key (the local form of enrolment).
    Enrolled(crate::pin::Fingerprint),
    /// The MCP server answers.
    Ready,
    /// A tenant bound the worker.
    Bound,
    /// The agent leaves.
    Farewell(crate::link::Farewell),
}

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentBoot {
    /// The class, for logs.
    pub class: ClassName,
    /// Where gateways and operators connect.
    pub link: Listen,
    /// Where the host connects: its lifeline first, then one connection per outbound stream of the MCP
    /// server.
    pub control: Listen,
    /// The host's Unix socket: each connection is one to the MCP server.
    pub server: PathBuf,
    /// Where the first and last words go.
    pub report: Report,
    /// The file of the token by which an operator learns which pod this is; none = nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<PathBuf>,
    /// The control plane's CA.
    pub roots: Roots,
    /// How the MCP server is spoken to.
    pub transport: Transport,
    /// What the agent knows of the MCP server beyond MCP.
    pub profile: Profile,
    /// When the MCP server is started.
    #[serde(default, skip_serializing_if = "Start::is_warm")]
    pub start: Start,
    /// What is made of a user's credentials.
    #[serde(default, skip_serializing_if = "Templates::is_none")]
    pub templates: Templates,
    /// The MCP server's HOME, where a bind places files.
    pub home: PathBuf,
    /// What the MCP server may reach, and how.
    pub relay: RelayBoot,
    /// Which tools may be called; none = all, but for what the profile withholds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolPolicy>,
    /// What the tenant is held to.
    #[serde(default, skip_serializing_if = "TenantLimits::is_none")]
    pub limits: TenantLimits,
    /// Seconds without a call after which a bound worker leaves.
    pub idle_timeout_seconds: u64,
    /// Seconds of age after which it leaves at its next idle moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
    /// Seconds that a leaving worker may take to finish what is in flight.
    pub drain_seconds: u64,
    /// Seconds that the MCP server may take until it answers.
    pub start_seconds: u64,
}

/// What an agent's relay is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayBoot {
    /// Destinations that the MCP server may reach, its catalog's origins among them.
    pub hosts: Vec<HostPort>,
    /// The catalog, whose requests are given the user's bearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<RelayCatalog>,
    /// Whether grants hold AWS keys, which the relay hands out itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aws_keys: bool,
    /// The egress proxy's Unix socket; none = the agent dials by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<PathBuf>,
}

/// The two origins that a relay gives the user's bearer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RelayCatalog {
    /// The catalog's origin.
    pub origin: String,
    /// The registry's origin.
    pub registry: String,
    /// PEM certificates to trust for them, besides the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
}

/// What a host is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostBoot {
    /// The MCP server's command line.
    pub command: Vec<String>,
    /// All of the MCP server's environment.
    pub env: BTreeMap<String, String>,
    /// When it is started: with the host, or when the agent says so.
    #[serde(default, skip_serializing_if = "Start::is_warm")]
    pub start: Start,
    /// Files to write before the MCP server starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlacedFile>,
    /// The MCP server's working directory.
    pub workdir: PathBuf,
    /// Where the agent connects: each connection is piped to the MCP server.
    pub server: Listen,
    /// The agent's Unix socket for the lifeline and the MCP server's outbound streams.
    pub control: PathBuf,
    /// How the MCP server is spoken to.
    pub transport: Transport,
    /// The loopback port that is piped to the agent as the MCP server's forward proxy.
    pub proxy_port: u16,
    /// Seconds that the agent may take to leave once this host is asked to end, where both are asked at one
    /// time (a pod's SIGTERM): until then the MCP server finishes its calls. None = it is ended at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_leaves_seconds: Option<u64>,
}

/// One line that a host writes on its lifeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LifelineEvent {
    /// The MCP server ended: its exit code, or the signal's negative number.
    ServerExited(i32),
    /// The files of the last [`LifelineCommand::Place`] are in place.
    Placed,
    /// They are not; why, for people, without any of their text.
    NotPlaced(String),
    /// The MCP server of the last [`LifelineCommand::Start`] runs; it need not answer yet.
    Started,
    /// It does not; why, for people, without any value of a variable.
    NotStarted(String),
}

/// One line that an agent writes on the lifeline. The host answers each before the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LifelineCommand {
    /// Write these files, each atomically, below the MCP server's HOME.
    Place(Vec<PlacedFile>),
    /// Start the MCP server, once, with these variables besides those of the boot document.
    Start(Vec<Variable>),
}

/// A variable of an MCP server's environment that holds a credential.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(serialize_with = "expose")]
    pub value: SecretString,
}

impl PartialEq for Variable {
    fn eq(&self, other: &Self) -> bool {
        let values = [self, other].map(|variable| variable.value.expose_secret());
        self.name == other.name && values[0] == values[1]
    }
}

impl Eq for Variable {}
