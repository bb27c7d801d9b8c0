//! What a cluster does not do for a class although the class says it: conditions that stand as long as it is so.
//!
//! A weaker isolation is never silent. This module must not know pods or tenants.

use crate::{
    build::ranges::{Forbids, Ranges, Withheld, decide},
    total::bounded,
};
use patchbay_core::{cidr::Cidr, class::WorkerClass};
use patchbay_crds::condition::ConditionStatus;
use std::collections::BTreeSet;

/// Whether `resources.pids` is enforced.
pub const PIDS_ENFORCED: &str = "PidsEnforced";
/// Whether what the class lists as its egress can be reached.
pub const EGRESS_REACHABLE: &str = "EgressReachable";
/// Whether what workers keep in memory stays there.
pub const MEMORY_ONLY: &str = "MemoryOnly";
/// Whether users' credentials are in the environment of their MCP server, where whatever it starts finds them too.
pub const CREDENTIALS_IN_ENVIRONMENT: &str = "CredentialsInEnvironment";

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

/// What is to be said of a class in a cluster whose own ranges these are, and of whose nodes this is known.
pub fn advice(class: &WorkerClass, cluster_ranges: &[Cidr], swap: &Swap) -> Vec<Advice> {
    let always = [pids(), egress(class, cluster_ranges), environment(class)];
    always.into_iter().chain(memory(swap)).collect()
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

fn egress(class: &WorkerClass, cluster_ranges: &[Cidr]) -> Advice {
    let hosts = class.egress_hosts();
    let ranges = decide(&class.egress.cidrs, cluster_ranges);
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
    } else if ranges.withheld.is_empty() {
        (ConditionStatus::True, "RangesListed", listed(&ranges))
    } else {
        (ConditionStatus::False, "RangesWithheld", withheld(&ranges.withheld))
    };
    Advice { condition: EGRESS_REACHABLE, status, reason, message }
}

/// The boundary, where every range is let out. That something within one is not is as it should be.
fn listed(ranges: &Ranges) -> String {
    let except: BTreeSet<Cidr> =
        ranges.let_out.iter().flat_map(|it| it.except.iter().copied()).collect();
    let less = if except.is_empty() {
        String::new()
    } else {
        let except = some_of(except.iter().map(ToString::to_string));
        format!(
            ", less the cluster's own ranges (cluster.ranges) and addresses of metadata: {except}"
        )
    };
    format!(
        "spec.egress.cidrs is the boundary{less}; spec.egress.hosts binds programs that honour the proxy"
    )
}

/// Which ranges are withheld, because of which, and what to do.
fn withheld(all: &[Withheld]) -> String {
    let by = |who: Forbids| {
        let own = all.iter().filter(|it| it.by == who);
        let own: Vec<_> = own.map(|it| format!("{} (in {})", it.range, it.within)).collect();
        (!own.is_empty()).then(|| some_of(own.into_iter()))
    };
    let cluster = by(Forbids::Cluster).map(|ranges| {
        format!(
            "no worker reaches {ranges}, which cluster.ranges says are the cluster's own: narrow it \
             to the ranges of nodes, pods and services"
        )
    });
    let always = by(Forbids::Always).map(|ranges| {
        format!(
            "no worker reaches {ranges}, where clouds and nodes keep metadata and credentials: no \
             setting opens them, so take them out of spec.egress.cidrs"
        )
    });
    cluster.into_iter().chain(always).collect::<Vec<_>>().join(". ")
}

/// The first of them, and how many more there are: a range that is cut off would be another one.
fn some_of(all: impl ExactSizeIterator<Item = String>) -> String {
    const MOST: usize = 16;
    let more = all.len().saturating_sub(MOST);
    let first = all.take(MOST).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

fn environment(class: &WorkerClass) -> Advice {
    let names: Vec<&str> = class.templates.env.keys().map(String::as_str).collect();
    let (status, reason, message) = if names.is_empty() {
        (ConditionStatus::False, "NoneNamed", "the class puts none there".to_owned())
    } else {
        let message = format!(
            "spec.credentials.env puts them into {}: every program that the MCP server starts inherits \
             them, and they cannot be renewed there; use spec.credentials.files if the server can read \
             a file",
            bounded(&names.join(", "), 512)
        );
        (ConditionStatus::True, "AskedByClass", message)
    };
    Advice { condition: CREDENTIALS_IN_ENVIRONMENT, status, reason, message }
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
    use patchbay_core::{cidr::Cidr, class::HostPort, fixtures::class, template::Template};

    fn told(has: &[&str], silent: &[&str]) -> Swap {
        let [has, silent] =
            [has, silent].map(|nodes| nodes.iter().map(|node| (*node).to_owned()).collect());
        Swap::Told { has, silent }
    }

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| Cidr::parse(text).unwrap()).collect()
    }

    fn said(class: &WorkerClass, swap: &Swap, condition: &str) -> (ConditionStatus, String) {
        let found = advice(class, &[], swap).into_iter().find(|it| it.condition == condition);
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

    /// What is said of a class that lists these ranges, in a cluster whose own are those.
    fn of_ranges(listed: &[&str], own: &[&str]) -> (ConditionStatus, &'static str, String) {
        let mut class = class("c", "/mcp");
        class.egress.cidrs = cidrs(listed);
        let Advice { condition, status, reason, message } = egress(&class, &cidrs(own));
        assert_eq!(condition, EGRESS_REACHABLE);
        (status, reason, message)
    }

    #[test]
    fn a_range_of_the_clusters_own_is_named_with_the_one_that_withholds_it_and_the_fix() {
        let listed = ["10.1.0.0/16", "192.0.2.0/24", "172.16.4.0/24"];
        let (status, reason, message) = of_ranges(&listed, &["10.0.0.0/8", "172.16.0.0/12"]);
        assert_eq!((status, reason), (ConditionStatus::False, "RangesWithheld"));
        assert_eq!(
            message,
            "no worker reaches 10.1.0.0/16 (in 10.0.0.0/8), 172.16.4.0/24 (in 172.16.0.0/12), which \
             cluster.ranges says are the cluster's own: narrow it to the ranges of nodes, pods and services"
        );
        assert_eq!(of_ranges(&listed, &["10.2.0.0/16"]).1, "RangesListed");
    }

    #[test]
    fn nobody_is_told_to_narrow_a_setting_for_what_no_setting_opens() {
        for own in [&["169.254.0.0/16"][..], &[]] {
            let (status, reason, message) = of_ranges(&["169.254.169.254/32"], own);
            assert_eq!((status, reason), (ConditionStatus::False, "RangesWithheld"));
            assert!(message.contains("169.254.169.254/32 (in 169.254.0.0/16)"), "{message}");
            assert!(message.contains("no setting opens them"), "{message}");
            assert!(!message.contains("cluster.ranges"), "{message}");
        }
        let both = ["10.1.0.0/16", "169.254.169.254/32"];
        let (_, _, message) = of_ranges(&both, &["10.0.0.0/8"]);
        assert!(message.contains("cluster.ranges") && message.contains("no setting"), "{message}");
    }

    #[test]
    fn everything_but_the_clusters_own_is_as_it_should_be_and_what_is_left_out_is_named() {
        let (status, reason, message) = of_ranges(&["0.0.0.0/0"], &["10.0.0.0/8", "fc00::/7"]);
        assert_eq!((status, reason), (ConditionStatus::True, "RangesListed"));
        assert!(message.contains("10.0.0.0/8, 100.100.100.200/32"), "{message}");
        assert!(message.contains("the cluster's own ranges (cluster.ranges)"), "{message}");
        assert!(!message.contains("fc00"), "{message}");
        // nothing is left out of what is apart from it
        let (_, _, message) = of_ranges(&["192.0.2.0/24"], &["10.0.0.0/8"]);
        assert!(!message.contains("less"), "{message}");
    }

    #[test]
    fn of_very_many_ranges_some_are_named_whole() {
        let listed: Vec<_> = (0..256).map(|third| format!("10.1.{third}.0/24")).collect();
        let listed: Vec<_> = listed.iter().map(String::as_str).collect();
        let (_, _, message) = of_ranges(&listed, &["10.0.0.0/8"]);
        assert!(message.contains("10.1.15.0/24 (in 10.0.0.0/8) and 240 more, which"), "{message}");
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
        let advice = advice(&class("c", "/mcp"), &[], &Swap::NotListed);
        assert!(advice.iter().all(|it| it.condition != MEMORY_ONLY), "{advice:?}");
        assert_eq!(advice.len(), 3);
    }

    #[test]
    fn credentials_in_an_environment_are_never_silent() {
        let mut class = class("c", "/mcp");
        let of = |class: &WorkerClass| said(class, &Swap::Unwatched, CREDENTIALS_IN_ENVIRONMENT);
        assert_eq!(of(&class).0, ConditionStatus::False);
        let template = Template::parse("${user.subject}").unwrap();
        class.templates.env.insert("WHO".to_owned(), template);
        let (status, message) = of(&class);
        assert_eq!(status, ConditionStatus::True);
        assert!(
            message.contains("into WHO:") && message.contains("credentials.files"),
            "{message}"
        );
    }
}
