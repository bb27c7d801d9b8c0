//! Where in a worker's pod everything is: volumes, and the paths at which each container sees them.
//!
//! Agent and server each write sockets into a directory of their own, which the other sees read-only (one
//! can connect to a socket on a read-only mount, and not replace it). What only the agent may read is mounted
//! nowhere else.

use patchbay_core::{
    boot::{Listen, Report, Roots},
    class::WorkerClass,
    launch::{AgentPlaces, HostPlaces},
};
use std::time::Duration;

pub(super) use patchbay_crds::marks::LINK_PORT;

/// The program in the worker's image.
pub(super) const PROGRAM: &str = "/patchbay-worker";
/// The program's copy, whatever the image of the MCP server holds.
pub(super) const INSTALLED: &str = "/patchbay/bin/patchbay-worker";

pub(super) const BIN: &str = "/patchbay/bin";
pub(super) const BOOT: &str = "/patchbay/boot";
pub(super) const CA: &str = "/patchbay/ca";
pub(super) const TOKEN: &str = "/patchbay/token";
/// The agent's sockets.
pub(super) const AGENT_SIDE: &str = "/patchbay/agent";
/// The host's socket.
pub(super) const SERVER_SIDE: &str = "/patchbay/server";

/// Keys of the boot `ConfigMap`, and names of the files that they become.
pub(super) const AGENT_JSON: &str = "agent.json";
pub(super) const HOST_JSON: &str = "host.json";
pub(super) const CONFIGURATION: &str = "configuration";
/// The key of the control plane's CA.
pub(super) const CA_CRT: &str = "ca.crt";
/// The token's file.
pub(super) const TOKEN_FILE: &str = "token";

pub(super) const TERMINATION_MESSAGE: &str = "/dev/termination-log";

/// What an agent may take beyond its drain time: last bytes leave, connections close.
const AGENT_MARGIN: Duration = Duration::from_secs(5);
/// What the MCP server may take after its agent: it is asked to end, and then it is ended.
const SERVER_MARGIN: Duration = Duration::from_secs(10);

/// Where an agent finds everything.
pub(super) fn agent() -> AgentPlaces {
    AgentPlaces {
        link: Listen::Port(LINK_PORT),
        control: Listen::Path(format!("{AGENT_SIDE}/control").into()),
        server: format!("{SERVER_SIDE}/socket").into(),
        report: Report::TerminationLog(TERMINATION_MESSAGE.into()),
        roots: Roots::File(format!("{CA}/{CA_CRT}").into()),
        token: Some(format!("{TOKEN}/{TOKEN_FILE}").into()),
        // the class's network policy is the boundary here
        via: None,
    }
}

/// Where a host finds everything.
pub(super) fn host(class: &WorkerClass) -> HostPlaces {
    HostPlaces {
        server: Listen::Path(format!("{SERVER_SIDE}/socket").into()),
        control: format!("{AGENT_SIDE}/control").into(),
        agent_leaves: Some(class.drain + AGENT_MARGIN),
    }
}

/// What a pod may take to end: its agent, and then its MCP server.
pub(super) fn grace(class: &WorkerClass) -> Duration {
    class.drain + AGENT_MARGIN + SERVER_MARGIN
}
