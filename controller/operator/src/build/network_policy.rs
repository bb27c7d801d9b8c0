//! Whom workers of a class hear, and what they reach: nothing, but for what is listed here.
//!
//! In: gateways and operators, at the link's port. Out: name lookups, and the class's ranges less what no
//! worker may reach, whatever a class says. The kubelet's probes are processes in the pod and need no way in.
//! `egress.hosts` is not here: policies know no names.

use super::{
    labels::{self, COMPONENT, GATEWAY, OPERATOR, PART_OF, PATCHBAY},
    metadata::{ClassRef, matching},
    places::LINK_PORT,
    ranges::{LetOut, Ranges, decide},
};
use crate::settings::Settings;
use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
        NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

/// Where a node's own cache of names listens, if it has one (`NodeLocal` `DNSCache`).
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";
const DNS_PORT: i32 = 53;

/// The policy of a class.
pub fn network_policy(class: ClassRef<'_>, settings: &Settings) -> NetworkPolicy {
    let mut egress = vec![dns(settings)];
    egress.extend(outward(decide(&class.class.egress.cidrs, &settings.cluster_ranges)));
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

/// What of a class's ranges is let out; none where nothing is, since a rule without peers would allow everything.
fn outward(ranges: Ranges) -> Option<NetworkPolicyEgressRule> {
    let peer = |LetOut { range, except }: LetOut| {
        let except: Vec<_> = except.iter().map(ToString::to_string).collect();
        block(range.to_string(), (!except.is_empty()).then_some(except))
    };
    let peers: Vec<_> = ranges.let_out.into_iter().map(peer).collect();
    (!peers.is_empty()).then_some(NetworkPolicyEgressRule { to: Some(peers), ports: None })
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
    use patchbay_core::{cidr::Cidr, fixtures::class};

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| Cidr::parse(text).unwrap()).collect()
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
    fn a_class_all_of_whose_ranges_are_withheld_reaches_names_alone() {
        let [mut shut, mut half] = ["shut", "half"].map(|name| class(name, "/mcp"));
        shut.egress.cidrs = cidrs(&["10.200.3.0/24", "169.254.169.254/32"]);
        half.egress.cidrs = cidrs(&["10.200.3.0/24", "192.0.2.0/24"]);
        let egress = |class: &_| {
            let policy = network_policy(fixtures::of(class), &fixtures::settings());
            policy.spec.unwrap().egress.unwrap()
        };
        assert_eq!(egress(&shut), [dns(&fixtures::settings())]);
        let to = egress(&half).pop().unwrap().to.unwrap();
        assert_eq!(to, [block("192.0.2.0/24".into(), None)]);
    }
}
