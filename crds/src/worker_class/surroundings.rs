//! The part of a `WorkerClass` that says what surrounds its MCP server: where it is spoken to, how
//! much it may use, and where it may connect to.
//!
//! This module must not know how any of it is enforced.

use crate::{bounds, rules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the MCP server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// Loopback port, 1 to 65535. Default: 8000.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Path of the MCP endpoint, at most 1024 characters. Default: `/mcp`.
    #[schemars(
        length(max = bounds::PATH),
        extend("x-kubernetes-validations" = rules::form::server_path())
    )]
    pub path: String,
    /// Path that answers with a 2xx status once the server is ready, at most 1024 characters.
    /// Default: any answer counts as ready; with `profile: quilt`, `/health`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::PATH),
        extend("x-kubernetes-validations" = rules::form::server_path())
    )]
    pub ready_path: Option<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self { port: 8000, path: super::default_mcp_path(), ready_path: None }
    }
}

/// Bounds on one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// Memory of the MCP server, its tmpfs included, as a quantity such as `512Mi` or `2Gi`. From
    /// `64Mi` to `1Ti`. Default: `512Mi`.
    #[schemars(
        length(max = bounds::QUANTITY),
        extend("x-kubernetes-validations" = rules::worker_class::memory())
    )]
    pub memory: String,
    /// Processes and threads of the MCP server, 1 to 4194304. Default: 256.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub pids: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self { memory: "512Mi".into(), pids: 256 }
    }
}

/// Sizes of the places that the MCP server may write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Tmpfs {
    /// Its home directory, as a quantity from `4Ki` to `1Ti`. Default: `64Mi`.
    #[schemars(
        length(max = bounds::QUANTITY),
        extend("x-kubernetes-validations" = rules::worker_class::tmpfs())
    )]
    pub home: String,
    /// `/tmp`, as a quantity from `4Ki` to `1Ti`. Default: `100Mi`.
    #[schemars(
        length(max = bounds::QUANTITY),
        extend("x-kubernetes-validations" = rules::worker_class::tmpfs())
    )]
    pub tmp: String,
    /// `/run`, as a quantity from `4Ki` to `1Ti`. Default: `10Mi`.
    #[schemars(
        length(max = bounds::QUANTITY),
        extend("x-kubernetes-validations" = rules::worker_class::tmpfs())
    )]
    pub run: String,
}

impl Default for Tmpfs {
    fn default() -> Self {
        Self { home: "64Mi".into(), tmp: "100Mi".into(), run: "10Mi".into() }
    }
}

/// Where the MCP server may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Egress {
    /// Hosts that are reached through the worker's proxy, at most 256, each host and port once. In
    /// a cluster this binds only programs that honour the proxy; `cidrs` is the boundary there.
    /// Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::EGRESS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["host", "port"]
        )
    )]
    pub hosts: Vec<EgressHost>,
    /// Address ranges that the worker's `NetworkPolicy` allows, such as `10.0.0.0/8`, at most 256.
    /// Used in clusters only. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::EGRESS),
        extend("items" = {
            "type": "string",
            "maxLength": bounds::CIDR,
            "x-kubernetes-validations": rules::form::cidr(),
        })
    )]
    pub cidrs: Vec<String>,
}

/// One host that the MCP server may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressHost {
    /// DNS name or IP address, lower case, without wildcard, at most 253 characters.
    #[schemars(
        length(max = bounds::NAME),
        extend("x-kubernetes-validations" = rules::form::host())
    )]
    pub host: String,
    /// TCP port, 1 to 65535. Default: 443.
    #[serde(default = "default_https_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Whether plain `http://` requests may be made, besides tunnels. Default: false.
    #[serde(default)]
    pub plain_http: bool,
}

const fn default_https_port() -> u16 {
    443
}
