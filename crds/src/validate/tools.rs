//! From what a class says of tools to a policy.
//!
//! This module must not know how tools are judged.

use super::{Findings, element, member, word};
use crate::{bounds, worker_class::Tools};
use patchbay_core::tools::ToolPolicy;
use std::collections::{BTreeMap, BTreeSet};

const FIELD: &str = "spec.tools";

/// The policy; what is wrong with it is noted.
pub(super) fn tools(findings: &mut Findings, tools: &Tools) -> ToolPolicy {
    let Tools { allow, deny, permissions, bucket_arguments, signed_urls, hide_denied } = tools;
    ToolPolicy {
        allow: allow
            .as_ref()
            .map(|names| words(findings, &format!("{FIELD}.allow"), names, bounds::TOOL)),
        deny: words(
            findings,
            &format!("{FIELD}.deny"),
            deny.as_deref().unwrap_or_default(),
            bounds::TOOL,
        ),
        permissions: by_tool(findings, "permissions", permissions.as_ref()),
        bucket_arguments: by_tool(findings, "bucketArguments", bucket_arguments.as_ref()),
        signed_urls: *signed_urls,
        hide_denied: *hide_denied,
    }
}

fn by_tool(
    findings: &mut Findings,
    field: &str,
    map: Option<&BTreeMap<String, Vec<String>>>,
) -> BTreeMap<String, BTreeSet<String>> {
    let field = format!("{FIELD}.{field}");
    let mut known = BTreeMap::new();
    for (tool, names) in map.into_iter().flatten() {
        findings.check(field.clone(), word(tool, bounds::TOOL));
        let names = words(findings, &member(&field, tool), names, bounds::TOOL_NEED);
        known.insert(tool.clone(), names);
    }
    known
}

fn words(findings: &mut Findings, field: &str, names: &[String], most: u32) -> BTreeSet<String> {
    for (index, name) in names.iter().enumerate() {
        findings.check(element(field, index), word(name, most));
    }
    names.iter().cloned().collect()
}
