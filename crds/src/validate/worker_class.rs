//! From a `WorkerClass` as written to a validated one.
//!
//! This module must not know how workers are made.

use super::{
    FieldError, Findings, Place, Problem, address, cidr, credentials, duration, member, name,
    not_empty,
    quantity::{self, MIB, TIB},
    scheduling, templates, tools,
};
use crate::{
    WorkerClass,
    marks::LINK_PORT,
    worker_class::{
        CredentialSource, Egress, Limits, Local, Profile, Resources, Server, Start, Tmpfs,
        Transport, WorkerClassSpec,
    },
};
use patchbay_core::{class, id::ClassName, idle::IdlePolicy, launch::PROXY_PORT};
use std::{collections::BTreeMap, time::Duration};

const DAY: Duration = Duration::from_hours(24);
/// The longest `idleTimeout`.
pub const MOST_IDLE: (&str, Duration) = ("30d", DAY.saturating_mul(30));
/// The longest `maxAge`.
pub const MOST_AGE: (&str, Duration) = ("365d", DAY.saturating_mul(365));
/// The longest `drainTimeout`.
pub const MOST_DRAIN: (&str, Duration) = ("10m", Duration::from_mins(10));
/// The longest `forgetAfter`.
pub const MOST_FORGET: (&str, Duration) = ("3650d", DAY.saturating_mul(3650));
/// The most workers that can be kept warm.
pub const MOST_WARM: u32 = 1000;
/// The least memory that an MCP server can have.
pub const LEAST_MEMORY: (&str, u64) = ("64Mi", 64 * MIB);
/// The least size of a tmpfs: less than a page is no file system.
pub const LEAST_TMPFS: (&str, u64) = ("4Ki", 4096);
/// The most memory, or the largest tmpfs, that an MCP server can have.
pub const MOST_MEMORY: (&str, u64) = ("1Ti", TIB);

/// Names that Patchbay sets itself, or that would hand every user of the class one identity.
pub const RESERVED_ENV: [&str; 5] =
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "QUILT_API_KEY", "HOME"];

/// Names that decide where the MCP server's requests go; programs read them in either case.
pub const RESERVED_ENV_ANY_CASE: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];

/// A cluster's class in the words of the core, or everything that is wrong with it.
pub fn validate(class: &WorkerClass) -> Result<class::WorkerClass, Vec<FieldError>> {
    validate_in(Place::Cluster, class)
}

/// The same of a class that is used in this place.
pub fn validate_in(
    place: Place,
    class: &WorkerClass,
) -> Result<class::WorkerClass, Vec<FieldError>> {
    let mut findings = Findings::default();
    let f = &mut findings;
    let WorkerClassSpec {
        path,
        host,
        image,
        command,
        env,
        transport,
        server,
        profile,
        start,
        resources,
        tmpfs,
        runtime_class_name,
        node_selector,
        tolerations,
        egress,
        idle_timeout,
        max_age,
        drain_timeout,
        forget_after,
        warm,
        limits,
        credentials,
        tools,
        local,
    } = &class.spec;

    let metadata_name = class.metadata.name.as_deref();
    let name = f.check("metadata.name", name(metadata_name, ClassName::parse));
    f.check("spec.path", address::route_path(path));
    if let Some(host) = host {
        f.check("spec.host", address::dns_name(host));
    }
    f.check("spec.image", not_empty(image, "name the MCP server's image"));
    self::command(f, "spec.command", command);
    let transport = self::transport(f, *transport, server.as_ref(), *profile);
    self::env(f, env, transport.port());
    let resources = self::resources(f, resources);
    let tmpfs = self::tmpfs(f, tmpfs);
    let scheduling = scheduling::scheduling(
        f,
        runtime_class_name.as_deref(),
        node_selector.as_ref(),
        tolerations.as_deref(),
    );
    let egress = self::egress(f, egress);
    let idle_timeout = f.check("spec.idleTimeout", duration::bounded(idle_timeout, MOST_IDLE));
    let max_age =
        max_age.as_ref().map(|age| f.check("spec.maxAge", duration::bounded(age, MOST_AGE)));
    let drain = f.check("spec.drainTimeout", duration::bounded(drain_timeout, MOST_DRAIN));
    let forget_after = forget_after
        .as_ref()
        .map(|after| f.check("spec.forgetAfter", duration::bounded(after, MOST_FORGET)));
    let warm = f.check("spec.warm", self::warm(*warm));
    let (limits, per_tenant) = self::limits(f, limits);
    let credentials = credentials::credentials(f, credentials, place);
    let templates = templates::templates(f, &class.spec, credentials.as_ref());
    let tools = tools.as_ref().map(|tools| tools::tools(f, tools));
    let local = self::local(f, local);
    quilt_profile(f, &class.spec);

    let whole = || {
        Some(class::WorkerClass {
            name: name?,
            path: path.clone(),
            host: host.clone(),
            image: image.clone(),
            command: command.clone(),
            env: env.clone(),
            transport,
            profile: match profile {
                Profile::Generic => class::Profile::Generic,
                Profile::Quilt => class::Profile::Quilt,
            },
            start: match start {
                Start::Warm => class::Start::Warm,
                Start::OnBind => class::Start::OnBind,
            },
            resources: resources?,
            tmpfs: tmpfs?,
            egress,
            idle: IdlePolicy { idle_timeout: idle_timeout?, max_age: max_age.flatten() },
            drain: drain?,
            forget_after: forget_after.flatten(),
            warm: warm?,
            limits,
            per_tenant,
            tools,
            credentials: credentials?,
            templates,
            local,
            scheduling,
        })
    };
    let whole = whole();
    findings.finish(whole)
}

fn command(findings: &mut Findings, field: &str, command: &[String]) {
    let Some(program) = command.first() else {
        let fix = "write the absolute path of a program and its arguments";
        findings.add(field, Problem::new("is empty", fix));
        return;
    };
    findings.check(format!("{field}[0]"), address::file_path(program));
    for (index, argument) in command.iter().enumerate().skip(1) {
        if argument.contains('\0') {
            let problem = Problem::new("contains a zero byte", "remove it");
            findings.add(format!("{field}[{index}]"), problem);
        }
    }
}

/// Whether this is the name of an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    name.len() <= 256
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

fn env(findings: &mut Findings, env: &BTreeMap<String, String>, port: Option<u16>) {
    for (name, value) in env {
        let field = member("spec.env", name);
        let is_reserved = RESERVED_ENV.contains(&name.as_str())
            || RESERVED_ENV_ANY_CASE.iter().any(|reserved| reserved.eq_ignore_ascii_case(name));
        if !is_variable(name) {
            let problem = "is not the name of an environment variable";
            let fix = "use letters, digits and `_`, not starting with a digit";
            findings.add(field, Problem::with(name, problem, fix));
        } else if is_reserved {
            let fix = "remove it: credentials come from `spec.credentials`, and Patchbay sets HOME \
                       and the proxy itself";
            findings.add(field, Problem::with(name, "is reserved", fix));
        } else if value.contains('\0') {
            findings.add(field, Problem::new("contains a zero byte", "remove it"));
        } else if name == "PORT" && port.is_some_and(|port| *value != port.to_string()) {
            // the server would listen at one port, and be looked for at another
            let fix = "remove it: Patchbay sets PORT to `spec.server.port`";
            let problem = Problem::with(value, "is another port than the server's", fix);
            findings.add(field, problem);
        }
    }
}

/// What a worker listens on itself: the link, and the proxy of its server.
pub(crate) const TAKEN_PORTS: [u16; 2] = [PROXY_PORT, LINK_PORT];

fn transport(
    findings: &mut Findings,
    transport: Transport,
    server: Option<&Server>,
    profile: Profile,
) -> class::Transport {
    if transport == Transport::Stdio {
        if server.is_some() {
            let problem = "says where an HTTP server listens, and `transport: stdio` has none";
            findings.add("spec.server", Problem::new(problem, "remove it"));
        }
        return class::Transport::Stdio;
    }
    let Server { port, path, ready_path } = &server.cloned().unwrap_or_default();
    self::port(findings, "spec.server.port", *port);
    if TAKEN_PORTS.contains(port) {
        let problem =
            Problem::with(&port.to_string(), "is used by the worker itself", "use another one");
        findings.add("spec.server.port", problem);
    }
    findings.check("spec.server.path", address::server_path(path));
    if let Some(path) = ready_path {
        findings.check("spec.server.readyPath", address::server_path(path));
    }
    class::Transport::Http {
        port: *port,
        path: path.clone(),
        ready_path: ready_path.clone().or_else(|| match profile {
            Profile::Generic => None,
            Profile::Quilt => Some("/health".to_owned()),
        }),
    }
}

fn port(findings: &mut Findings, field: impl Into<String>, port: u16) {
    if port == 0 {
        findings.add(field, Problem::new("0 is not a port", "use 1 to 65535"));
    }
}

fn resources(findings: &mut Findings, resources: &Resources) -> Option<class::Resources> {
    let Resources { memory, pids } = resources;
    if *pids == 0 {
        let problem = Problem::new("0 leaves no process to run", "use at least 1");
        findings.add("spec.resources.pids", problem);
    }
    let bytes = quantity::bounded(memory, LEAST_MEMORY, MOST_MEMORY);
    let memory_bytes = findings.check("spec.resources.memory", bytes)?;
    Some(class::Resources { memory_bytes, pids: *pids })
}

fn tmpfs(findings: &mut Findings, tmpfs: &Tmpfs) -> Option<class::TmpfsSizes> {
    let Tmpfs { home, tmp, run } = tmpfs;
    let mut size = |field: &str, text: &str| {
        let bytes = quantity::bounded(text, LEAST_TMPFS, MOST_MEMORY);
        findings.check(format!("spec.tmpfs.{field}"), bytes)
    };
    let (home, tmp, run) = (size("home", home), size("tmp", tmp), size("run", run));
    Some(class::TmpfsSizes { home: home?, tmp: tmp?, run: run? })
}

fn egress(findings: &mut Findings, egress: &Egress) -> class::Egress {
    let Egress { hosts, cidrs } = egress;
    let cidrs = cidrs.iter().enumerate().filter_map(|(index, range)| {
        findings.check(format!("spec.egress.cidrs[{index}]"), cidr(range))
    });
    let cidrs = cidrs.collect();
    let hosts: Vec<_> = hosts
        .iter()
        .enumerate()
        .map(|(index, entry)| {
            let field = format!("spec.egress.hosts[{index}]");
            findings.check(format!("{field}.host"), address::host(&entry.host));
            port(findings, format!("{field}.port"), entry.port);
            class::HostPort {
                host: entry.host.clone(),
                port: entry.port,
                plain_http: entry.plain_http,
            }
        })
        .collect();
    let places: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    findings
        .unique(places.iter().map(String::as_str), |index| format!("spec.egress.hosts[{index}]"));
    class::Egress { hosts, cidrs }
}

fn warm(warm: i32) -> Result<u32, Problem> {
    u32::try_from(warm).ok().filter(|warm| *warm <= MOST_WARM).ok_or_else(|| {
        let problem = format!("{warm} is out of range");
        Problem::new(problem, format!("use 0 to {MOST_WARM}"))
    })
}

fn limits(findings: &mut Findings, limits: &Limits) -> (class::Limits, class::TenantLimits) {
    let Limits { tenants, requests_per_second, concurrent_calls } = limits;
    for (field, limit) in [
        ("tenants", tenants),
        ("requestsPerSecond", requests_per_second),
        ("concurrentCalls", concurrent_calls),
    ] {
        if *limit == Some(0) {
            let fix = "use at least 1, or leave it out for no limit";
            let problem = Problem::new("0 shuts everyone out", fix);
            findings.add(format!("spec.limits.{field}"), problem);
        }
    }
    let of_one = class::TenantLimits {
        requests_per_second: *requests_per_second,
        concurrent_calls: *concurrent_calls,
    };
    (class::Limits { tenants: *tenants }, of_one)
}

/// What the quilt profile needs of the rest of a class.
fn quilt_profile(findings: &mut Findings, spec: &WorkerClassSpec) {
    if spec.profile != Profile::Quilt {
        return;
    }
    let credentials = &spec.credentials;
    match credentials.source {
        CredentialSource::None => {
            let fix = "use `catalog`, or another source beside a catalog: the profile's server acts as a catalog's user";
            let problem = Problem::new("is not what `profile: quilt` needs", fix);
            findings.add("spec.credentials.source", problem);
        }
        CredentialSource::Catalog => {}
        _ if credentials.catalog.is_none() => {
            let fix = "say `catalog.origin` and `catalog.registry`";
            let problem = Problem::new("is what `profile: quilt` needs", fix);
            findings.add("spec.credentials.catalog", problem);
        }
        _ => {}
    }
    let commands = [
        ("spec.command", Some(&spec.command)),
        ("spec.local.command", spec.local.command.as_ref()),
    ];
    for (field, command) in commands {
        if command.is_some_and(|command| command.len() != 1) {
            let fix = "name the Python that has quilt-mcp, and nothing else: the profile starts the server";
            let problem = Problem::new("is not one program, as `profile: quilt` needs", fix);
            findings.add(field, problem);
        }
    }
}

fn local(findings: &mut Findings, local: &Local) -> class::LocalOptions {
    let Local { read_only_paths, command } = local;
    for (index, path) in read_only_paths.iter().enumerate() {
        let field = format!("spec.local.readOnlyPaths[{index}]");
        if path.bytes().all(|c| c == b'/') && !path.is_empty() {
            let fix = "list the folders that the MCP server needs";
            findings.add(field, Problem::with(path, "shows the whole machine", fix));
        } else {
            findings.check(field, address::file_path(path));
        }
    }
    if let Some(command) = command {
        self::command(findings, "spec.local.command", command);
    }
    class::LocalOptions {
        read_only_paths: read_only_paths.iter().map(Into::into).collect(),
        command: command.clone(),
    }
}

#[cfg(test)]
#[path = "worker_class_tests.rs"]
mod tests;
