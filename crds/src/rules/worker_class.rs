//! What a `WorkerClass` may say, beyond the form of each text.
//!
//! This module must not know how workers are made.

use super::{form, rule, templates};
use crate::validate::worker_class as limits;
use kube::core::{Reason, Rule};
use serde_json::{Value, json};

/// The rules about the spec.
pub(crate) fn spec() -> Vec<Rule> {
    let mut rules = vec![
        rule(
            "self.transport != 'stdio' || !has(self.server)",
            "says where an HTTP server listens, and `transport: stdio` has none; remove it",
        )
        .field_path(".server"),
        rule(
            format!("!has(self.server) || !(self.server.port in {:?})", limits::TAKEN_PORTS),
            "is used by the worker itself; use another one",
        )
        .field_path(".server.port"),
        rule(
            "self.transport == 'stdio' || !has(self.env) || !('PORT' in self.env) || self.env['PORT'] == \
             string(has(self.server) ? self.server.port : 8000)",
            "says another port than the server's; remove `PORT`: Patchbay sets it to `spec.server.port`",
        )
        .field_path(".env"),
        rule(
            "self.profile != 'quilt' || self.credentials.source != 'none'",
            "is not what `profile: quilt` needs; use `catalog`, or another source beside a catalog: \
             the profile's server acts as a catalog's user",
        )
        .field_path(".credentials.source"),
        rule(
            "self.profile != 'quilt' || self.credentials.source in ['none', 'catalog'] || \
             has(self.credentials.catalog)",
            "is what `profile: quilt` needs; name the catalog's `origin` and `registry`",
        )
        .field_path(".credentials.catalog"),
        rule(
            "self.profile != 'quilt' || size(self.command) == 1",
            "is not one program, as `profile: quilt` needs; name the Python that has quilt-mcp, \
             and nothing else: the profile starts the server",
        )
        .field_path(".command"),
    ];
    rules.extend(templates::spec());
    rules
}

/// The rules about the memory of a worker.
pub(crate) fn memory() -> [Rule; 1] {
    form::quantity(limits::LEAST_MEMORY.0, limits::MOST_MEMORY.0)
}

/// The rules about the size of a tmpfs.
pub(crate) fn tmpfs() -> [Rule; 1] {
    form::quantity(limits::LEAST_TMPFS.0, limits::MOST_MEMORY.0)
}

/// The rules about a command line.
pub(crate) fn command() -> [Rule; 2] {
    [
        rule(
            form::is_file_path("self[0]"),
            "does not begin with the absolute path of a program; write a path such as \
             `/opt/server`, without `.` or `..` as a segment",
        ),
        rule(
            r"self.all(argument, !argument.contains('\u0000'))",
            "contains a zero byte; remove it",
        ),
    ]
}

/// The rules about an environment of plain values.
pub(crate) fn env() -> Vec<Rule> {
    let fix =
        "remove it: credentials come from `credentials`, and Patchbay sets HOME and the proxy";
    let mut rules = names().to_vec();
    rules.extend(limits::RESERVED_ENV.map(|name| {
        rule(format!("!('{name}' in self)"), &format!("sets {name}, which is reserved; {fix}"))
    }));
    rules.push(rule(
        format!(
            "self.all(name, !name.matches('^(?i)({})$'))",
            limits::RESERVED_ENV_ANY_CASE.join("|")
        ),
        &format!("sets a proxy, which is reserved; {fix}"),
    ));
    rules
}

/// The rules about the names of an environment.
pub(crate) fn names() -> [Rule; 1] {
    [rule(
        "self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]{0,255}$'))",
        "has a name that is none of an environment variable; use letters, digits and `_`, not \
         starting with a digit, at most 256",
    )]
}

/// The rules about credentials.
pub(crate) fn credentials() -> Vec<Rule> {
    let mut rules = vec![
        rule(
            "self.source != 'ambient'",
            "`ambient` would give every user the cluster's own identity, and works on one machine \
             without a cluster only; use another source",
        )
        .field_path(".source")
        .reason(Reason::FieldValueForbidden),
        rule(
            "self.source != 'catalog' || has(self.catalog)",
            "is what `source: catalog` needs; name the catalog's `origin` and `registry`",
        )
        .field_path(".catalog")
        .reason(Reason::FieldValueRequired),
        rule(
            "self.source != 'none' || !has(self.catalog)",
            "would not be used; set `source: catalog` or another source beside it, or remove it",
        )
        .field_path(".catalog"),
        rule(
            "!(self.source in ['assumeRole', 'webIdentity']) || has(self.assumeRole)",
            "is what `source: assumeRole` and `source: webIdentity` need; say `role`, or another \
             way to a user's role",
        )
        .field_path(".assumeRole")
        .reason(Reason::FieldValueRequired),
        rule(
            "self.source in ['assumeRole', 'webIdentity'] || !has(self.assumeRole)",
            "would not be used; set `source: assumeRole` or `source: webIdentity`, or remove it",
        )
        .field_path(".assumeRole"),
        rule(
            "self.source != 'webIdentity' || !has(self.assumeRole) || \
             !has(self.assumeRole.externalId)",
            "is not taken where the user's own token is exchanged; remove it: the role's trust \
             policy decides by what the token says",
        )
        .field_path(".assumeRole.externalId"),
        rule(
            "self.source != 'webIdentity' || !has(self.assumeRole) || \
             !has(self.assumeRole.tags) || size(self.assumeRole.tags) == 0",
            "are not taken where the user's own token is exchanged; remove them: tags are what the \
             token says to AWS",
        )
        .field_path(".assumeRole.tags"),
        rule(
            "self.source != 'webIdentity' || has(self.webIdentity)",
            "is what `source: webIdentity` needs; say `audience`",
        )
        .field_path(".webIdentity")
        .reason(Reason::FieldValueRequired),
        rule(
            "self.source == 'webIdentity' || !has(self.webIdentity)",
            "would not be used; set `source: webIdentity`, or remove it",
        )
        .field_path(".webIdentity"),
        rule(
            "self.source == 'inlineClaims' || !has(self.inlineClaims)",
            "would not be used; set `source: inlineClaims`, or remove it",
        )
        .field_path(".inlineClaims"),
        rule(
            "self.source == 'ambient' || !has(self.ambient)",
            "would not be used; set `source: ambient`, or remove it",
        )
        .field_path(".ambient"),
    ];
    rules.extend(templates::credentials());
    rules
}

/// The rules about a catalog as a source of credentials.
pub(crate) fn catalog() -> [Rule; 1] {
    // quilt3 knows both by host name alone, so the relay could not tell them apart
    let host = r"find(r'^https://(\[[^\]]*\]|[^:]*)')";
    [rule(
        format!("self.origin == self.registry || self.origin.{host} != self.registry.{host}"),
        "differs from the catalog by its port alone; give the registry a host name of its own, or \
         let one origin serve both",
    )
    .field_path(".registry")]
}

/// The rules about an AWS region.
pub(crate) fn region() -> [Rule; 1] {
    [rule(
        "self.matches('^[a-z0-9-]+$')",
        "is not an AWS region; write a region such as `us-east-1`",
    )]
}

/// What is visible in ASCII, and nothing else.
const WORD: &str = "is not a name; use visible ASCII characters, without spaces";

/// The schema of the name of a tool, of an argument or of a permission, of at most `most` characters.
pub(crate) fn word(most: u32) -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": most,
        "x-kubernetes-validations": name(),
    })
}

/// The rules about a name.
pub(crate) fn name() -> [Rule; 1] {
    [rule("self.matches('^[!-~]*$')", WORD)]
}

/// The rules about scopes (RFC 6749, 3.3).
pub(crate) fn scope() -> [Rule; 1] {
    [rule(
        "self.matches('^[!-~]+( [!-~]+)*$')",
        "is not a list of scopes; use visible ASCII characters, and one space between two scopes",
    )]
}

/// The schema of a list of at most `count` such names.
pub(crate) fn words(count: u32, most: u32) -> Value {
    json!({ "type": "array", "maxItems": count, "items": word(most) })
}

/// The rules about a map by names of tools.
pub(crate) fn tool_names() -> [Rule; 1] {
    [rule(
        "self.all(name, name.matches('^[!-~]{1,128}$'))",
        "has a name that is none of a tool; use 1 to 128 visible ASCII characters, without spaces",
    )]
}

/// The rules about a list of paths of a machine.
pub(crate) fn read_only_path() -> [Rule; 1] {
    [rule(
        format!("{} && self.matches('[^/]')", form::is_file_path("self")),
        "is not the absolute path of a folder or file; list what the MCP server needs, such as \
         `/opt/server`, without `.` or `..` as a segment",
    )]
}
