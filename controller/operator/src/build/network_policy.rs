//! Whom workers of a class hear, and what they reach: nothing, but for what is listed here.
//!
//! In: gateways and operators, at the link's port. Out: name lookups, and the class's ranges less what no
//! worker may reach, whatever a class says. The kubelet's probes are processes in the pod and need no way in.
//! `egress.hosts` is not here: policies know no names.

use super::{
    labels::{self, COMPONENT, GATEWAY, OPERATOR, PART_OF, PATCHBAY},
    metadata::{ClassRef, matching},
    places::LINK_PORT,
};
use crate::settings::Settings;
use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
        NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use patchbay_core::cidr::Cidr;

/// What clouds and nodes keep at addresses of their own: instance metadata (169.254.169.254), credentials of
/// tasks and pods (169.254.170.2 and .23), the same by the newer family, and a large cloud's host agent.
const NEVER: [&str; 5] =
    ["169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "168.63.129.16/32", "100.100.100.200/32"];

/// Where a node's own cache of names listens, if it has one (`NodeLocal` `DNSCache`).
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";
const DNS_PORT: i32 = 53;

/// The policy of a class.
pub fn network_policy(class: ClassRef<'_>, settings: &Settings) -> NetworkPolicy {
    let mut egress = vec![dns(settings)];
    egress.extend(ranges(&class.class.egress.cidrs, &settings.cluster_ranges));
    NetworkPolicy {
        metadata: class.metadata(settings, Some(format!("patchbay-worker-{}", class.class.name))),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(matching(labels::selector(&class.class.name))),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some([GATEWAY, OPERATOR].map(own_pods).into()),
                ports: Some(vec![port("TCP", LINK_PORT.into())]),
            }]),
            egress: Some(egress),
        }),
    }
}

/// Patchbay's own pods of a kind, in the same namespace.
fn own_pods(component: &str) -> NetworkPolicyPeer {
    let labels = labels::of([(COMPONENT, component), (PART_OF, PATCHBAY)]);
    NetworkPolicyPeer { pod_selector: Some(matching(labels)), ..NetworkPolicyPeer::default() }
}

fn dns(settings: &Settings) -> NetworkPolicyEgressRule {
    let system = labels::of([("kubernetes.io/metadata.name", "kube-system")]);
    let pods = NetworkPolicyPeer {
        namespace_selector: Some(matching(system)),
        pod_selector: Some(matching(labels::of([("k8s-app", "kube-dns")]))),
        ..NetworkPolicyPeer::default()
    };
    let addresses = settings.dns.iter().map(ToString::to_string);
    let addresses = [NODE_LOCAL_DNS.to_owned()].into_iter().chain(addresses);
    NetworkPolicyEgressRule {
        to: Some([pods].into_iter().chain(addresses.map(|cidr| block(cidr, None))).collect()),
        ports: Some(vec![port("UDP", DNS_PORT), port("TCP", DNS_PORT)]),
    }
}

/// What a class lists, less what is forbidden; none where nothing is left, since a rule without peers would
/// allow everything.
fn ranges(listed: &[Cidr], own: &[Cidr]) -> Option<NetworkPolicyEgressRule> {
    let forbidden = forbidden(own);
    let peers: Vec<_> = listed
        .iter()
        .filter(|range| !forbidden.iter().any(|never| never.contains(range)))
        .map(|range| {
            let except = forbidden.iter().filter(|never| range.contains(never));
            let except: Vec<_> = except.map(ToString::to_string).collect();
            block(range.to_string(), (!except.is_empty()).then_some(except))
        })
        .collect();
    (!peers.is_empty()).then_some(NetworkPolicyEgressRule { to: Some(peers), ports: None })
}

/// What no worker may reach, each once, and none within another.
fn forbidden(own: &[Cidr]) -> Vec<Cidr> {
    let all = NEVER.iter().filter_map(|range| Cidr::parse(range).ok()).chain(own.iter().copied());
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all.dedup();
    let is_outermost =
        |range: &Cidr| !all.iter().any(|other| other != range && other.contains(range));
    all.iter().copied().filter(is_outermost).collect()
}

fn block(cidr: String, except: Option<Vec<String>>) -> NetworkPolicyPeer {
    NetworkPolicyPeer { ip_block: Some(IPBlock { cidr, except }), ..NetworkPolicyPeer::default() }
}

fn port(protocol: &str, port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.into()),
        port: Some(IntOrString::Int(port)),
        end_port: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};
    use patchbay_core::fixtures::class;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| Cidr::parse(text).unwrap()).collect()
    }

    /// What a policy lets out by range: what, and what of it not.
    fn let_out(listed: &[&str], own: &[&str]) -> Vec<(String, Vec<String>)> {
        let peers =
            ranges(&cidrs(listed), &cidrs(own)).and_then(|rule| rule.to).unwrap_or_default();
        peers
            .into_iter()
            .filter_map(|peer| peer.ip_block)
            .map(|block| (block.cidr, block.except.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_class_that_lists_nothing_reaches_names_alone_and_is_heard_by_nobody_else() {
        let policy = network_policy(fixtures::of(&class("c", "/mcp")), &fixtures::settings());
        let spec = policy.spec.as_ref().unwrap();
        assert_eq!(spec.policy_types, Some(vec!["Ingress".to_owned(), "Egress".to_owned()]));
        assert_eq!(spec.egress.as_ref().unwrap().len(), 1);
        assert_eq!(spec.ingress.as_ref().unwrap().len(), 1);
        insta::assert_yaml_snapshot!(policy);
    }

    #[test]
    fn everything_means_all_but_metadata_and_the_clusters_own() {
        let mut open = class("open", "/mcp");
        open.egress.cidrs = cidrs(&["0.0.0.0/0", "::/0"]);
        let policy = network_policy(fixtures::of(&open), &fixtures::settings());
        insta::assert_yaml_snapshot!(policy);
    }

    #[test]
    fn what_is_forbidden_is_not_reached_by_listing_it() {
        for listed in
            ["169.254.169.254/32", "169.254.170.23/32", "10.200.3.0/24", "fd00:ec2::254/128"]
        {
            assert_eq!(let_out(&[listed], &["10.200.0.0/16"]), [], "{listed}");
        }
        let expected = vec![
            ("10.0.0.0/8".to_owned(), vec!["10.200.0.0/16".to_owned()]),
            ("192.168.0.0/16".to_owned(), vec![]),
        ];
        // a range of the cluster within another is not taken out twice
        let own = ["10.200.0.0/16", "10.200.128.0/20"];
        assert_eq!(let_out(&["10.0.0.0/8", "192.168.0.0/16"], &own), expected);
    }

    fn cidr() -> impl Strategy<Value = String> {
        let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(a, n)| format!("{}/{n}", IpAddr::from(a)));
        let v6 =
            (any::<[u8; 16]>(), 0u8..=128).prop_map(|(a, n)| format!("{}/{n}", IpAddr::from(a)));
        let special = prop::sample::select(NEVER.map(str::to_owned).to_vec());
        prop_oneof![4 => v4, 1 => v6, 1 => special]
    }

    proptest! {
        #[test]
        fn no_forbidden_range_is_ever_let_out(
            listed in prop::collection::vec(cidr(), 0..6), own in prop::collection::vec(cidr(), 0..6),
        ) {
            let (listed, own): (Vec<_>, Vec<_>) = (
                listed.iter().map(String::as_str).collect(),
                own.iter().map(String::as_str).collect(),
            );
            let never = NEVER.iter().chain(&own).map(|text| Cidr::parse(text).unwrap());
            let out = let_out(&listed, &own);
            for never in never {
                for (range, except) in &out {
                    let range = Cidr::parse(range).unwrap();
                    // ranges are apart or one is in the other; the API server wants exceptions inside
                    let is_taken_out = except.iter().any(|it| Cidr::parse(it).unwrap().contains(&never));
                    prop_assert!(!never.contains(&range));
                    prop_assert!(!range.contains(&never) || is_taken_out);
                }
            }
            for (range, except) in &out {
                let range = Cidr::parse(range).unwrap();
                for except in except {
                    let except = Cidr::parse(except).unwrap();
                    prop_assert!(range.contains(&except) && except != range);
                }
            }
        }
    }
}
