//! What a cluster does not do for a class although the class says it: conditions that stand as long as it is so.
//!
//! A weaker isolation is never silent. This module must not know pods or tenants.

use crate::total::bounded;
use patchbay_core::class::WorkerClass;
use patchbay_crds::condition::ConditionStatus;
use std::collections::BTreeSet;

/// Whether `resources.pids` is enforced.
pub const PIDS_ENFORCED: &str = "PidsEnforced";
/// Whether what the class lists as its egress can be reached.
pub const EGRESS_REACHABLE: &str = "EgressReachable";
/// Whether what workers keep in memory stays there.
pub const MEMORY_ONLY: &str = "MemoryOnly";

/// One such condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The condition's type.
    pub condition: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people: what is so, and what to do.
    pub message: String,
}

/// What is to be said of a class, whose workers may be on nodes of which `swapping` have swap.
pub fn advice(class: &WorkerClass, swapping: &BTreeSet<String>) -> [Advice; 3] {
    [pids(), egress(class), memory(swapping)]
}

fn pids() -> Advice {
    Advice {
        condition: PIDS_ENFORCED,
        status: ConditionStatus::False,
        reason: "NodeLimitOnly",
        message: "spec.resources.pids bounds nothing in a cluster; set the kubelet's podPidsLimit"
            .into(),
    }
}

fn egress(class: &WorkerClass) -> Advice {
    let hosts = class.egress_hosts();
    let (status, reason, message) = if hosts.is_empty() && class.egress.cidrs.is_empty() {
        (ConditionStatus::True, "NothingListed", "the class lists nothing to reach".to_owned())
    } else if class.egress.cidrs.is_empty() {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let hosts = bounded(&hosts.join(", "), 512);
        let message = format!(
            "network policies know no names: list the ranges of {hosts} in spec.egress.cidrs, or no \
             worker reaches them where policies are enforced"
        );
        (ConditionStatus::False, "HostsWithoutRanges", message)
    } else {
        let message = "spec.egress.cidrs is the boundary; spec.egress.hosts binds programs that honour the proxy";
        (ConditionStatus::True, "RangesListed", message.into())
    };
    Advice { condition: EGRESS_REACHABLE, status, reason, message }
}

fn memory(swapping: &BTreeSet<String>) -> Advice {
    let (status, reason, message) = if swapping.is_empty() {
        (ConditionStatus::True, "NoSwapSeen", "no node is known to have swap".to_owned())
    } else {
        let nodes: Vec<&str> = swapping.iter().map(String::as_str).collect();
        let nodes = bounded(&nodes.join(", "), 512);
        let message = format!(
            "credentials in memory may be put on a disk of {nodes}: turn swap off there, or keep the \
             class away with spec.nodeSelector"
        );
        (ConditionStatus::False, "NodesHaveSwap", message)
    };
    Advice { condition: MEMORY_ONLY, status, reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{cidr::Cidr, class::HostPort, fixtures::class};

    fn said(class: &WorkerClass, swapping: &[&str], condition: &str) -> (ConditionStatus, String) {
        let swapping = swapping.iter().map(|node| (*node).to_owned()).collect();
        let found = advice(class, &swapping).into_iter().find(|it| it.condition == condition);
        let found = found.unwrap();
        (found.status, found.message)
    }

    #[test]
    fn hosts_without_ranges_are_named_with_the_fix() {
        let mut class = class("c", "/mcp");
        class.egress.hosts.clear();
        assert_eq!(said(&class, &[], EGRESS_REACHABLE).0, ConditionStatus::True);
        class.egress.hosts =
            vec![HostPort { host: "h.example".into(), port: 443, plain_http: false }];
        let (status, message) = said(&class, &[], EGRESS_REACHABLE);
        assert_eq!(status, ConditionStatus::False);
        assert!(message.contains("h.example:443") && message.contains("spec.egress.cidrs"));
        class.egress.cidrs = vec![Cidr::parse("10.0.0.0/8").unwrap()];
        assert_eq!(said(&class, &[], EGRESS_REACHABLE).0, ConditionStatus::True);
    }

    #[test]
    fn nodes_with_swap_are_named() {
        let class = class("c", "/mcp");
        assert_eq!(said(&class, &[], MEMORY_ONLY).0, ConditionStatus::True);
        let (status, message) = said(&class, &["n1", "n2"], MEMORY_ONLY);
        assert_eq!(status, ConditionStatus::False);
        assert!(message.contains("n1, n2"));
    }
}
