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

/// What is known of swap on the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Swap {
    /// Nothing yet: what was said before stands.
    #[default]
    NotListed,
    /// Nothing: nodes may not be watched.
    Unwatched,
    /// What each of them says.
    Told {
        /// Those that have swap.
        has: BTreeSet<String>,
        /// Those whose kubelet is too old to say whether they have.
        silent: BTreeSet<String>,
    },
}

/// What is to be said of a class, whose workers may be on nodes of which this is known.
pub fn advice(class: &WorkerClass, swap: &Swap) -> Vec<Advice> {
    [pids(), egress(class)].into_iter().chain(memory(swap)).collect()
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

fn memory(swap: &Swap) -> Option<Advice> {
    let (status, reason, message) = match swap {
        Swap::NotListed => return None,
        Swap::Unwatched => {
            let message = "nodes are not watched, so nothing is known of swap: let the operator watch them \
                           (operator.watchNodes), or see to it that none has any";
            (ConditionStatus::Unknown, "NodesNotWatched", message.to_owned())
        }
        Swap::Told { has, .. } if !has.is_empty() => {
            let message = format!(
                "credentials in memory may be put on a disk of {}: turn swap off there, or keep the \
                 class away with spec.nodeSelector",
                names(has)
            );
            (ConditionStatus::False, "NodesHaveSwap", message)
        }
        Swap::Told { silent, .. } if !silent.is_empty() => {
            let message = format!(
                "kubelets before 1.34 do not say whether their node has swap: look at {} yourself",
                names(silent)
            );
            (ConditionStatus::Unknown, "NodesDoNotSay", message)
        }
        Swap::Told { .. } => (ConditionStatus::True, "NoSwapSeen", "no node has swap".to_owned()),
    };
    Some(Advice { condition: MEMORY_ONLY, status, reason, message })
}

fn names(nodes: &BTreeSet<String>) -> String {
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    bounded(&nodes.join(", "), 512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{cidr::Cidr, class::HostPort, fixtures::class};

    fn told(has: &[&str], silent: &[&str]) -> Swap {
        let [has, silent] =
            [has, silent].map(|nodes| nodes.iter().map(|node| (*node).to_owned()).collect());
        Swap::Told { has, silent }
    }

    fn said(class: &WorkerClass, swap: &Swap, condition: &str) -> (ConditionStatus, String) {
        let found = advice(class, swap).into_iter().find(|it| it.condition == condition);
        let found = found.unwrap();
        (found.status, found.message)
    }

    #[test]
    fn hosts_without_ranges_are_named_with_the_fix() {
        let mut class = class("c", "/mcp");
        let reachable = |class: &WorkerClass| said(class, &Swap::Unwatched, EGRESS_REACHABLE);
        class.egress.hosts.clear();
        assert_eq!(reachable(&class).0, ConditionStatus::True);
        class.egress.hosts =
            vec![HostPort { host: "h.example".into(), port: 443, plain_http: false }];
        let (status, message) = reachable(&class);
        assert_eq!(status, ConditionStatus::False);
        assert!(message.contains("h.example:443") && message.contains("spec.egress.cidrs"));
        class.egress.cidrs = vec![Cidr::parse("10.0.0.0/8").unwrap()];
        assert_eq!(reachable(&class).0, ConditionStatus::True);
    }

    #[test]
    fn nodes_with_swap_are_named_whatever_is_not_known_of_others() {
        let class = class("c", "/mcp");
        assert_eq!(said(&class, &told(&[], &[]), MEMORY_ONLY).0, ConditionStatus::True);
        let (status, message) = said(&class, &told(&["n1", "n2"], &["n3"]), MEMORY_ONLY);
        assert_eq!(status, ConditionStatus::False);
        assert!(message.contains("n1, n2:"), "{message}");
    }

    #[test]
    fn what_nobody_says_of_swap_is_no_assurance() {
        let class = class("c", "/mcp");
        let (status, message) = said(&class, &Swap::Unwatched, MEMORY_ONLY);
        assert_eq!(status, ConditionStatus::Unknown);
        assert!(message.contains("operator.watchNodes"), "{message}");
        let (status, message) = said(&class, &told(&[], &["n3"]), MEMORY_ONLY);
        assert_eq!(status, ConditionStatus::Unknown);
        assert!(message.contains("n3"), "{message}");
    }

    #[test]
    fn nothing_is_said_of_memory_before_nodes_have_been_listed() {
        let advice = advice(&class("c", "/mcp"), &Swap::NotListed);
        assert!(advice.iter().all(|it| it.condition != MEMORY_ONLY), "{advice:?}");
        assert_eq!(advice.len(), 2);
    }
}
