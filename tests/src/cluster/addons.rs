//! What is in a cluster from the start: the name server of its services, as a pod like any other, and what
//! kube-router may see. Pure.

use super::{addresses::Addresses, image::Image};
use serde_json::{Value, json};

/// The namespace of what belongs to the cluster itself.
pub(super) const SYSTEM: &str = "kube-system";

/// The deployment of the name server.
pub(super) const DNS: &str = "coredns";

/// What the names of services end with.
pub(super) const DOMAIN: &str = "cluster.local";

const DNS_IMAGE: &str = "patchbay.dev/coredns:1";

/// The image of the name server: its program, `/coredns`, and nothing else.
pub(super) fn dns_image() -> Image {
    Image {
        name: DNS_IMAGE.to_owned(),
        entrypoint: vec!["/coredns".to_owned()],
        ..Image::default()
    }
}

/// All of it, as one list.
pub(super) fn all(addresses: Addresses) -> Value {
    let mut items = dns(addresses);
    items.extend(network_policies());
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

/// Names of services and of pods of headless ones. Every other name is unknown: there is nobody to ask.
fn corefile() -> String {
    format!(
        "{DOMAIN} in-addr.arpa {{
    errors
    ready
    kubernetes
}}
. {{
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"
    )
}

fn dns(addresses: Addresses) -> Vec<Value> {
    // by this label policies name the name server, here as anywhere
    let labels = json!({ "k8s-app": "kube-dns" });
    let metadata = json!({ "name": DNS, "namespace": SYSTEM, "labels": labels });
    let watch = ["list", "watch"];
    let mut items = vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": { "Corefile": corefile() },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "kube-dns", "namespace": SYSTEM, "labels": labels },
            "spec": {
                "selector": labels,
                "clusterIP": addresses.dns(),
                "ports": [
                    { "name": "dns", "port": 53, "protocol": "UDP" },
                    { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
                ],
            },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": dns_pod(),
                },
            },
        }),
    ];
    items.extend(may(
        "system:coredns",
        &json!({ "kind": "ServiceAccount", "name": DNS, "namespace": SYSTEM }),
        &[
            json!({ "apiGroups": [""], "resources": ["namespaces", "services"], "verbs": watch }),
            json!({ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch }),
        ],
    ));
    items
}

fn dns_pod() -> Value {
    json!({
        "serviceAccountName": DNS,
        "priorityClassName": "system-cluster-critical",
        // who it asks for other names; it asks nobody
        "dnsPolicy": "Default",
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": DNS,
            "image": DNS_IMAGE,
            "imagePullPolicy": "Never",
            "args": ["-conf", "/etc/coredns/Corefile"],
            "readinessProbe": { "httpGet": { "path": "/ready", "port": 8181 }, "periodSeconds": 1 },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] },
                "readOnlyRootFilesystem": true,
            },
            "volumeMounts": [{ "name": "config", "mountPath": "/etc/coredns" }],
        }],
        "volumes": [{ "name": "config", "configMap": { "name": DNS } }],
    })
}

/// kube-router reads what network policies speak of.
fn network_policies() -> [Value; 2] {
    let watch = ["get", "list", "watch"];
    may(
        "system:kube-router",
        &json!({ "kind": "User", "name": "system:kube-router" }),
        &[
            json!({
                "apiGroups": [""],
                "resources": ["endpoints", "namespaces", "nodes", "pods", "services"],
                "verbs": watch,
            }),
            json!({ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch }),
            json!({ "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": watch }),
        ],
    )
}

/// A role and that `who` has it.
fn may(name: &str, who: &Value, rules: &[Value]) -> [Value; 2] {
    let api = "rbac.authorization.k8s.io";
    let version = format!("{api}/v1");
    [
        json!({
            "apiVersion": version, "kind": "ClusterRole",
            "metadata": { "name": name }, "rules": rules,
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": api, "kind": "ClusterRole", "name": name },
            "subjects": [who],
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_cluster_may_look_and_not_touch() {
        let all = all(Addresses::new(200));
        let items = all["items"].as_array().unwrap();
        let roles: Vec<_> = items.iter().filter(|item| item["kind"] == "ClusterRole").collect();
        assert_eq!(roles.len(), 2);
        for rule in roles.iter().flat_map(|role| role["rules"].as_array().unwrap()) {
            let verbs = rule["verbs"].as_array().unwrap();
            assert!(
                verbs.iter().all(|verb| ["get", "list", "watch"].contains(&verb.as_str().unwrap()))
            );
            assert!(!rule["resources"].to_string().contains("secrets"));
        }
    }

    #[test]
    fn no_name_is_asked_of_anybody_outside() {
        assert!(!corefile().contains("forward"));
        assert_eq!(
            dns_pod()["dnsPolicy"],
            "Default",
            "and it has no other server in its resolv.conf"
        );
    }
}
