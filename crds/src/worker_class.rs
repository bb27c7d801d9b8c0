//! `WorkerClass`: what a worker is and where it is reached.
//!
//! These types hold what was written, defaults filled in; `crate::validate` says whether it makes
//! sense. The comments on fields are what `kubectl explain` shows: they speak to users. This
//! module must not know how workers are made.

#![allow(clippy::duplicated_attributes, reason = "every column has a type")]

mod assume_role;
mod credentials;
mod surroundings;
mod tools;

pub use assume_role::{AssumeRole, PolicyClaims, RoleClaim, RoleMap, SessionPolicy};
pub(crate) use credentials::default_region;
pub use credentials::{
    Ambient, CatalogCredentials, CredentialFile, CredentialSource, Credentials, ExchangeClient,
    InlineClaims, TokenExchange, WebIdentity,
};
pub use surroundings::{Egress, EgressHost, Resources, Server, Tmpfs};
pub use tools::Tools;

use crate::{bounds, condition::Condition, rules, validate::worker_class as limits};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a worker is and where it is reached.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "patchbay.dev",
    version = "v1alpha1",
    kind = "WorkerClass",
    plural = "workerclasses",
    namespaced,
    shortname = "wc",
    category = "patchbay",
    status = "WorkerClassStatus",
    derive = "PartialEq",
    printcolumn(
        name = "Path",
        type_ = "string",
        json_path = ".spec.path",
        description = "Where the gateway serves it"
    ),
    printcolumn(
        name = "Warm",
        type_ = "integer",
        json_path = ".status.warm",
        description = "Workers that are ready and belong to nobody yet"
    ),
    printcolumn(
        name = "Wanted",
        type_ = "integer",
        json_path = ".spec.warm",
        description = "How many of them are to be kept"
    ),
    printcolumn(
        name = "Bound",
        type_ = "integer",
        json_path = ".status.bound",
        description = "Workers that belong to a user"
    ),
    printcolumn(
        name = "Waiting",
        type_ = "integer",
        json_path = ".status.waiting",
        description = "Users that wait for a worker now"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether workers can be started"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why they can, or cannot"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    scale(
        spec_replicas_path = ".spec.warm",
        status_replicas_path = ".status.warm",
        label_selector_path = ".status.selector"
    ),
    doc = "A class of MCP server workers: what a worker is, where it is reached, and what bounds \
           it. Every user of a class gets a worker of their own."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::worker_class::spec()))]
pub struct WorkerClassSpec {
    /// Path under which the gateway serves this class: whole segments such as `/team/mcp`, not
    /// below `/.well-known`. At most 1024 characters. Default: `/mcp`.
    #[serde(default = "default_mcp_path")]
    #[schemars(
        length(max = bounds::PATH),
        extend("x-kubernetes-validations" = rules::form::route_path())
    )]
    pub path: String,
    /// Host name that the path is limited to: a lower-case DNS name without port. Default: none;
    /// the path is served for every host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::NAME),
        extend("x-kubernetes-validations" = rules::form::dns_name())
    )]
    pub host: Option<String>,
    /// Image of the MCP server's container, as in a pod's `image`: 1 to 1024 characters. One
    /// machine without a cluster ignores it.
    #[schemars(
        length(min = 1, max = bounds::IMAGE),
        extend("x-kubernetes-validations" = rules::form::filled("name the MCP server's image"))
    )]
    pub image: String,
    /// Command line of the MCP server; the first element is an absolute path. 1 to 64 elements,
    /// each of at most 2048 characters.
    #[schemars(
        length(min = 1, max = bounds::COMMAND),
        inner(length(max = bounds::ARGUMENT)),
        extend("x-kubernetes-validations" = rules::worker_class::command())
    )]
    pub command: Vec<String>,
    /// Environment of the MCP server, which is otherwise built from nothing: plain configuration,
    /// at most 100 variables with values of at most 4096 characters. Never put secrets here:
    /// anyone who may read this object can read them. HOME, proxies and credentials are Patchbay's
    /// to set. Default: empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = bounds::ENV,
        "additionalProperties" = {"type": "string", "maxLength": bounds::ENV_VALUE},
        "x-kubernetes-validations" = rules::worker_class::env()
    ))]
    pub env: BTreeMap<String, String>,
    /// How the MCP server is spoken to: `http` (streamable HTTP on a loopback port) or `stdio`.
    /// Default: `http`.
    #[serde(default)]
    pub transport: Transport,
    /// Where the MCP server listens, for `transport: http` only. Default: path `/mcp` on port
    /// 8000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// What Patchbay knows of the MCP server beyond MCP: `generic` (nothing) or `quilt` (the files
    /// and environment of quilt-mcp). Default: `generic`.
    #[serde(default)]
    pub profile: Profile,
    /// When the MCP server is started: `warm` (with the worker, before any user) or `onBind` (when
    /// a user is given the worker, for servers that read credentials only at their start).
    /// Default: `warm`.
    #[serde(default)]
    pub start: Start,
    /// Bounds on one worker.
    #[serde(default)]
    pub resources: Resources,
    /// Sizes of the places that the MCP server may write to. All are memory, and vanish with the
    /// worker.
    #[serde(default)]
    pub tmpfs: Tmpfs,
    /// `RuntimeClass` of the worker's pod, for example `gvisor`. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::NAME))]
    pub runtime_class_name: Option<String>,
    /// Labels that a node must have to run a worker, at most 32. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend(
        "maxProperties" = bounds::PLACEMENT,
        "additionalProperties" = {"type": "string", "maxLength": bounds::LABEL}
    ))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Node taints that a worker's pod tolerates, as in a pod's `tolerations`, at most 32.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::free_form_objects")]
    pub tolerations: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
    /// Where the MCP server may connect to. Default: nowhere.
    #[serde(default)]
    pub egress: Egress,
    /// A worker leaves after this long without a call, as a duration such as `90s`, `15m` or
    /// `1h30m`. From `1s` to `30d`. Default: `15m`.
    #[serde(default = "default_idle_timeout")]
    #[schemars(
        length(max = bounds::DURATION),
        extend("x-kubernetes-validations" = rules::form::duration(limits::MOST_IDLE))
    )]
    pub idle_timeout: String,
    /// A worker that its user has had for longer than this leaves at its next idle moment, as a duration
    /// such as `12h`. From `1s` to `365d`. Default: never for its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::DURATION),
        extend("x-kubernetes-validations" = rules::form::duration(limits::MOST_AGE))
    )]
    pub max_age: Option<String>,
    /// How long a leaving worker may finish the calls in flight, as a duration. From `1s` to
    /// `10m`. Default: `30s`.
    #[serde(default = "default_drain_timeout")]
    #[schemars(
        length(max = bounds::DURATION),
        extend("x-kubernetes-validations" = rules::form::duration(limits::MOST_DRAIN))
    )]
    pub drain_timeout: String,
    /// A tenant that its user's first call made and that had no worker for this long is deleted,
    /// as a duration such as `90d`; one that was made by hand stays. From `1s` to `3650d`.
    /// Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = bounds::DURATION),
        extend("x-kubernetes-validations" = rules::form::duration(limits::MOST_FORGET))
    )]
    pub forget_after: Option<String>,
    /// How many workers that belong to nobody yet are kept ready, 0 to 1000. `kubectl scale` and
    /// autoscalers set it. Default: 1.
    #[serde(default = "default_warm")]
    #[schemars(range(min = 0, max = limits::MOST_WARM))]
    pub warm: i32,
    /// Bounds on the users of the class. Default: none.
    #[serde(default)]
    pub limits: Limits,
    /// Where the user's credentials for the MCP server come from.
    #[serde(default)]
    pub credentials: Credentials,
    /// Which tools of the MCP server users may see and call. Default: all, but `profile: quilt`
    /// withholds `catalog_configure` and signed URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Tools>,
    /// What is used only on one machine without a cluster.
    #[serde(default)]
    pub local: Local,
}

fn default_mcp_path() -> String {
    "/mcp".into()
}

fn default_idle_timeout() -> String {
    "15m".into()
}

fn default_drain_timeout() -> String {
    "30s".into()
}

const fn default_warm() -> i32 {
    1
}

/// How the MCP server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// Streamable HTTP on a loopback port of the worker.
    #[default]
    Http,
    /// Standard input and output.
    Stdio,
}

/// What Patchbay knows of the MCP server beyond MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Profile {
    /// Nothing.
    #[default]
    Generic,
    /// The files and environment of quilt-mcp.
    Quilt,
}

/// When the MCP server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// With the worker.
    #[default]
    Warm,
    /// When a user is given the worker.
    OnBind,
}

/// Bounds on the users of a class.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// Users that may have a worker at one time, 1 to 1000000. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tenants: Option<u32>,
    /// Requests per second of one user, with a second's worth at once, 1 to 1000000. What is over it
    /// is answered 429. Pings, notifications and `subscriptions/listen` do not count; a GET or DELETE
    /// counts once. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second: Option<u32>,
    /// Requests of one user that run at one time, 1 to 1000000. What is over it is answered 429, and
    /// the same do not count. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrent_calls: Option<u32>,
}

/// What is used only on one machine without a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Local {
    /// Further absolute paths of the machine that the MCP server may read, at most 64. Default:
    /// none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = bounds::READ_ONLY_PATHS),
        extend("items" = {
            "type": "string",
            "maxLength": bounds::PATH,
            "x-kubernetes-validations": rules::worker_class::read_only_path(),
        })
    )]
    pub read_only_paths: Vec<String>,
    /// Command line on this machine, where it differs from the image's: 1 to 64 elements, each of
    /// at most 2048 characters. Default: `spec.command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = bounds::COMMAND),
        inner(length(max = bounds::ARGUMENT)),
        extend("x-kubernetes-validations" = rules::worker_class::command())
    )]
    pub command: Option<Vec<String>>,
}

/// What is observed of a class.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkerClassStatus {
    /// Workers that are ready and belong to nobody yet.
    pub warm: i32,
    /// Workers that belong to a user.
    pub bound: i32,
    /// Workers that are leaving.
    pub draining: i32,
    /// Users of the class, with or without a worker.
    pub tenants: i32,
    /// Users that wait for a worker now.
    pub waiting: i32,
    /// Label selector of the workers that belong to nobody yet, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::PATH))]
    pub selector: Option<String>,
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds of the class, and why; one of each type.
    #[schemars(
        length(max = bounds::CONDITIONS),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["type"]
        )
    )]
    pub conditions: Vec<Condition>,
}

/// The fields of a class that say nothing on one machine without a cluster and that this one sets;
/// meant for one log line. What would weaken isolation by being ignored is refused instead.
pub fn ignored_locally(class: &WorkerClass) -> Vec<&'static str> {
    let spec = &class.spec;
    [
        ("spec.image", true),
        ("spec.runtimeClassName", spec.runtime_class_name.is_some()),
        ("spec.nodeSelector", spec.node_selector.is_some()),
        ("spec.tolerations", spec.tolerations.is_some()),
        ("spec.egress.cidrs", !spec.egress.cidrs.is_empty()),
        ("spec.forgetAfter", spec.forget_after.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, is_set)| is_set.then_some(field))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(json: serde_json::Value) -> Result<WorkerClassSpec, serde_json::Error> {
        serde_json::from_value(json)
    }

    #[test]
    fn image_and_command_suffice_and_the_rest_has_the_documented_defaults() {
        let spec = spec(json!({"image": "i", "command": ["/c"]})).unwrap();
        assert_eq!(spec.path, "/mcp");
        assert_eq!(spec.transport, Transport::Http);
        let server = spec.server.unwrap_or_default();
        assert_eq!((server.port, server.path.as_str()), (8000, "/mcp"));
        assert_eq!((spec.profile, spec.start), (Profile::Generic, Start::Warm));
        assert_eq!(spec.resources.memory, "512Mi");
        assert_eq!(spec.resources.pids, 256);
        let Tmpfs { home, tmp, run } = &spec.tmpfs;
        assert_eq!([home, tmp, run], ["64Mi", "100Mi", "10Mi"]);
        assert_eq!(spec.idle_timeout, "15m");
        assert_eq!(spec.drain_timeout, "30s");
        assert_eq!((spec.max_age, spec.forget_after), (None, None));
        assert_eq!(spec.warm, 1);
        assert_eq!(spec.egress, Egress::default());
        assert_eq!(spec.limits, Limits::default());
        assert_eq!(spec.credentials.source, CredentialSource::None);
    }

    #[test]
    fn a_part_that_is_written_in_part_keeps_its_other_defaults() {
        let spec = spec(json!({
            "image": "i", "command": ["/c"], "server": {"port": 9}, "tmpfs": {"tmp": "1Gi"},
            "egress": {"hosts": [{"host": "h.example"}]},
        }))
        .unwrap();
        assert_eq!(spec.server.unwrap().path, "/mcp");
        assert_eq!(spec.tmpfs.home, "64Mi");
        assert_eq!(spec.egress.hosts[0].port, 443);
        assert!(!spec.egress.hosts[0].plain_http);
    }

    #[test]
    fn what_only_clusters_use_is_named_where_it_is_set() {
        let base = spec(json!({"image": "i", "command": ["/c"]})).unwrap();
        let plain = WorkerClass::new("c", base.clone());
        assert_eq!(ignored_locally(&plain), ["spec.image"]);
        let full = WorkerClass::new(
            "c",
            WorkerClassSpec {
                runtime_class_name: Some("gvisor".into()),
                node_selector: Some(BTreeMap::new()),
                tolerations: Some(vec![]),
                egress: Egress { hosts: vec![], cidrs: vec!["10.0.0.0/8".into()] },
                ..base
            },
        );
        assert_eq!(
            ignored_locally(&full),
            [
                "spec.image",
                "spec.runtimeClassName",
                "spec.nodeSelector",
                "spec.tolerations",
                "spec.egress.cidrs"
            ]
        );
    }
}
