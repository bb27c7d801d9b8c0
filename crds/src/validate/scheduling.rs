//! Where in a cluster a worker may run, from what was written to what is meant.
//!
//! A toleration is written as in a pod; a field that a pod's has not is refused here, by name, and not when
//! the first pod is made. This module must not know how pods are made.

use super::{Findings, Problem, address, member};
use patchbay_core::class::{Scheduling, Toleration};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const OPERATORS: [&str; 2] = ["Exists", "Equal"];
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A class's scheduling, and what is wrong with it.
pub(super) fn scheduling(
    findings: &mut Findings,
    runtime: Option<&str>,
    nodes: Option<&BTreeMap<String, String>>,
    tolerations: Option<&[Map<String, Value>]>,
) -> Scheduling {
    if let Some(runtime) = runtime {
        findings.check("spec.runtimeClassName", address::dns_name(runtime));
    }
    let tolerations = tolerations.unwrap_or_default().iter().enumerate();
    Scheduling {
        runtime: runtime.map(str::to_owned),
        nodes: nodes.cloned().unwrap_or_default(),
        tolerations: tolerations
            .map(|(index, written)| {
                toleration(findings, &format!("spec.tolerations[{index}]"), written)
            })
            .collect(),
    }
}

fn toleration(findings: &mut Findings, field: &str, written: &Map<String, Value>) -> Toleration {
    let mut meant = Toleration::default();
    for (name, value) in written {
        let at = member(field, name);
        let text = || {
            let fix = "write it as text, in quotes where it is a number";
            let problem = || Problem::with(&value.to_string(), "is not a text", fix);
            value.as_str().map(str::to_owned).ok_or_else(problem)
        };
        match name.as_str() {
            "key" => meant.key = findings.check(at, text()),
            "value" => meant.value = findings.check(at, text()),
            "operator" => meant.operator = findings.check(at, text().and_then(one_of(&OPERATORS))),
            "effect" => meant.effect = findings.check(at, text().and_then(one_of(&EFFECTS))),
            "tolerationSeconds" => {
                let fix = "write a number of seconds";
                let problem = || Problem::with(&value.to_string(), "is not a whole number", fix);
                meant.seconds = findings.check(at, value.as_i64().ok_or_else(problem));
            }
            _ => {
                let fix = "use key, operator, value, effect and tolerationSeconds";
                findings.add(at, Problem::new("is no field of a toleration", fix));
            }
        }
    }
    meant
}

fn one_of(words: &'static [&str]) -> impl FnOnce(String) -> Result<String, Problem> {
    move |text| {
        if words.contains(&text.as_str()) {
            return Ok(text);
        }
        let fix = format!("use one of {}", words.join(", "));
        Err(Problem::with(&text, "is not known", fix))
    }
}
