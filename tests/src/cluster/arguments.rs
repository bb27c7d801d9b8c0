//! With which arguments each component is started. Pure: everything that is not the usual value is named
//! here, with the reason where it is not plain.

use super::{
    addresses::{API_PORT, Addresses},
    certificates::NODE,
    component::Component,
    files::VOLUME_PLUGINS,
    layout::{Layout, Plan},
    simulated,
};
use std::path::PathBuf;

/// Where etcd listens: inside the node's own network namespace, so that no port has to be looked for.
const ETCD: &str = "https://127.0.0.1:2379";
/// Where etcd would listen for others like it.
const ETCD_PEER: &str = "https://127.0.0.1:2380";

/// The program of a component and its arguments.
pub(super) fn command(component: Component, plan: &Plan) -> (PathBuf, Vec<String>) {
    let Plan { layout, programs, addresses, .. } = plan;
    if component == Component::Containerd {
        let config = format!("--config={}", layout.config("containerd.toml").display());
        return (programs.join("containerd"), vec![config]);
    }
    let own = match component {
        Component::Etcd | Component::Containerd => etcd(layout),
        Component::Apiserver => apiserver(layout, *addresses),
        Component::Controllers => controllers(layout),
        Component::Scheduler => scheduler(layout),
        Component::Kubelet => kubelet(layout, *addresses),
        Component::Proxy => proxy(layout, *addresses),
        Component::Firewall => firewall(layout),
        Component::Kwok => kwok(layout),
    };
    let own = own.into_iter().map(|(name, value)| format!("--{name}={value}"));
    if matches!(component, Component::Firewall | Component::Kwok) {
        return (programs.join(component.name()), own.collect());
    }
    let arguments = [component.name().to_owned()].into_iter().chain(own).collect();
    (programs.join("kubernetes"), arguments)
}

type Flags = Vec<(&'static str, String)>;

fn pki(layout: &Layout, name: &str) -> String {
    layout.pki(name).display().to_string()
}

fn config(layout: &Layout, name: &str) -> String {
    layout.config(name).display().to_string()
}

fn etcd(layout: &Layout) -> Flags {
    let pki = |name| pki(layout, name);
    vec![
        ("name", NODE.to_owned()),
        ("data-dir", layout.etcd().display().to_string()),
        ("listen-client-urls", ETCD.to_owned()),
        ("advertise-client-urls", ETCD.to_owned()),
        ("listen-peer-urls", ETCD_PEER.to_owned()),
        ("initial-advertise-peer-urls", ETCD_PEER.to_owned()),
        ("initial-cluster", format!("{NODE}={ETCD_PEER}")),
        ("cert-file", pki("etcd.crt")),
        ("key-file", pki("etcd.key")),
        ("trusted-ca-file", pki("etcd-ca.crt")),
        ("client-cert-auth", "true".to_owned()),
        ("peer-cert-file", pki("etcd.crt")),
        ("peer-key-file", pki("etcd.key")),
        ("peer-trusted-ca-file", pki("etcd-ca.crt")),
        ("peer-client-cert-auth", "true".to_owned()),
        // a cluster that loses power is made anew
        ("unsafe-no-fsync", "true".to_owned()),
        ("log-level", "warn".to_owned()),
    ]
}

fn apiserver(layout: &Layout, addresses: Addresses) -> Flags {
    let pki = |name| pki(layout, name);
    let config = |name| config(layout, name);
    let url = addresses.api_url();
    vec![
        ("bind-address", addresses.node().to_string()),
        ("advertise-address", addresses.node().to_string()),
        ("secure-port", API_PORT.to_string()),
        ("service-cluster-ip-range", addresses.services()),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
        ("client-ca-file", pki("ca.crt")),
        ("authentication-config", config("authentication.json")),
        ("authorization-mode", "Node,RBAC".to_owned()),
        // beside the usual ones, among them PodSecurity and ValidatingAdmissionPolicy
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        // a suite may need one on the node; namespaces that enforce `restricted` still refuse it
        ("allow-privileged", "true".to_owned()),
        ("etcd-servers", ETCD.to_owned()),
        ("etcd-cafile", pki("etcd-ca.crt")),
        ("etcd-certfile", pki("etcd-client.crt")),
        ("etcd-keyfile", pki("etcd-client.key")),
        ("kubelet-certificate-authority", pki("ca.crt")),
        ("kubelet-client-certificate", pki("apiserver-kubelet.crt")),
        ("kubelet-client-key", pki("apiserver-kubelet.key")),
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        ("service-account-issuer", url.clone()),
        ("service-account-jwks-uri", format!("{url}/openid/v1/jwks")),
        ("service-account-key-file", pki("service-accounts.key")),
        ("service-account-signing-key-file", pki("service-accounts.key")),
        ("audit-policy-file", config("audit.json")),
        ("audit-log-path", layout.audit_log().display().to_string()),
        // tests read all of it: it must not begin anew in the middle
        ("audit-log-maxsize", "16384".to_owned()),
        ("profiling", "false".to_owned()),
    ]
}

fn controllers(layout: &Layout) -> Flags {
    let kubeconfig = layout.kubeconfig_of(Component::Controllers).display().to_string();
    vec![
        ("bind-address", "127.0.0.1".to_owned()),
        ("kubeconfig", kubeconfig),
        // there is one: after a restart nobody has to wait for a lease to run out
        ("leader-elect", "false".to_owned()),
        ("use-service-account-credentials", "true".to_owned()),
        ("root-ca-file", pki(layout, "ca.crt")),
        ("service-account-private-key-file", pki(layout, "service-accounts.key")),
        // kubelet's, and not the usual one below /usr
        ("flex-volume-plugin-dir", VOLUME_PLUGINS.to_owned()),
        // tests wait for what an autoscaler does
        ("horizontal-pod-autoscaler-sync-period", "2s".to_owned()),
        ("cluster-signing-cert-file", pki(layout, "ca.crt")),
        ("cluster-signing-key-file", pki(layout, "ca.key")),
        ("profiling", "false".to_owned()),
    ]
}

fn scheduler(layout: &Layout) -> Flags {
    let kubeconfig = layout.kubeconfig_of(Component::Scheduler).display().to_string();
    vec![
        ("bind-address", "127.0.0.1".to_owned()),
        ("kubeconfig", kubeconfig),
        ("leader-elect", "false".to_owned()),
        ("profiling", "false".to_owned()),
    ]
}

fn kubelet(layout: &Layout, addresses: Addresses) -> Flags {
    let kubeconfig = layout.kubeconfig_of(Component::Kubelet).display().to_string();
    vec![
        ("config", config(layout, "kubelet.json")),
        ("kubeconfig", kubeconfig),
        ("hostname-override", NODE.to_owned()),
        ("node-ip", addresses.node().to_string()),
    ]
}

fn proxy(layout: &Layout, addresses: Addresses) -> Flags {
    let kubeconfig = layout.kubeconfig_of(Component::Proxy).display().to_string();
    let as_they_are = |name| (name, "0".to_owned());
    vec![
        ("kubeconfig", kubeconfig),
        ("hostname-override", NODE.to_owned()),
        ("proxy-mode", "nftables".to_owned()),
        // what comes from elsewhere, as the host does, is answered by way of the node
        ("cluster-cidr", addresses.pods()),
        ("healthz-bind-address", "127.0.0.1".to_owned()),
        // the kernel's limits are the host's too
        as_they_are("conntrack-max-per-core"),
        as_they_are("conntrack-min"),
        as_they_are("conntrack-tcp-timeout-established"),
        as_they_are("conntrack-tcp-timeout-close-wait"),
    ]
}

/// Its own range of services is left as it is, one that nothing here has: what goes there would be let through
/// before any policy is asked, since kube-router expects to translate such addresses itself. Here kube-proxy
/// has done so before.
fn firewall(layout: &Layout) -> Flags {
    let kubeconfig = layout.kubeconfig_of(Component::Firewall).display().to_string();
    vec![
        ("kubeconfig", kubeconfig),
        ("hostname-override", NODE.to_owned()),
        ("run-firewall", "true".to_owned()),
        ("run-router", "false".to_owned()),
        ("run-service-proxy", "false".to_owned()),
        ("health-port", "0".to_owned()),
    ]
}

fn kwok(layout: &Layout) -> Flags {
    let kubeconfig = layout.kubeconfig_of(Component::Kwok).display().to_string();
    vec![
        ("kubeconfig", kubeconfig),
        ("config", config(layout, "kwok.yaml")),
        ("manage-nodes-with-label-selector", simulated::SELECTOR.to_owned()),
        ("node-ip", simulated::NODE_IP.to_owned()),
        ("node-lease-duration-seconds", "40".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(component: Component) -> String {
        let (program, arguments) = command(component, &Plan::example());
        format!("{}\n{}\n", program.display(), arguments.join("\n"))
    }

    #[test]
    fn every_component_is_started_with_exactly_these_arguments() {
        let all: Vec<String> =
            Component::ALL.into_iter().chain([Component::Kwok]).map(lines).collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn the_api_server_asks_everybody_who_they_are_and_what_they_may() {
        let lines = lines(Component::Apiserver);
        let has = |argument: &str| lines.lines().any(|line| line == argument);
        assert!(has("--authorization-mode=Node,RBAC"));
        assert!(has("--enable-admission-plugins=NodeRestriction"));
        assert!(has("--client-ca-file=/cluster/pki/ca.crt"));
        assert!(has("--kubelet-certificate-authority=/cluster/pki/ca.crt"));
        // anonymous requests are the authentication configuration's, which excludes the flag
        assert!(!lines.contains("anonymous-auth") && !lines.contains("disable-admission"));
        assert!(!lines.contains("insecure") && !lines.contains("AlwaysAllow"));
    }

    #[test]
    fn etcd_answers_nobody_without_a_certificate_of_its_own_authority() {
        let lines = lines(Component::Etcd);
        assert!(lines.contains("--client-cert-auth=true\n"));
        assert!(lines.contains("--peer-client-cert-auth=true\n"));
        assert!(lines.contains("--trusted-ca-file=/cluster/pki/etcd-ca.crt\n"));
        let urls = lines.lines().filter(|line| line.contains("-urls="));
        assert!(urls.clone().all(|line| line.contains("=https://127.0.0.1:")));
        assert_eq!(urls.count(), 4);
    }
}
