//! What the components read: their configuration, as text. Pure; [`super::Cluster`] writes it.

use super::{
    addons,
    addresses::Addresses,
    certificates::Pair,
    layout::{Layout, Plan},
};
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::path::Path;

/// The image that holds a pod's namespaces. It is made here and imported; no registry has it.
pub(super) const PAUSE_IMAGE: &str = "patchbay.dev/pause:1";

/// Where kubelet looks for volume plugins, and finds none.
pub(super) const VOLUME_PLUGINS: &str = "/var/lib/kubelet/volume-plugins";

/// The objects that are in the cluster from the start.
pub(super) const ADDONS: &str = "addons.json";

/// A configuration file: its name, and what is in it.
pub(super) type File = (&'static str, String);

/// All configuration files.
pub(super) fn all(plan: &Plan) -> Vec<File> {
    let Plan { layout, programs, addresses, .. } = plan;
    vec![
        ("containerd.toml", containerd(layout, programs)),
        ("registries/_default/hosts.toml", registries()),
        ("cni/pods.conflist", text(&cni(*addresses))),
        ("kubelet.json", text(&kubelet(plan))),
        ("authentication.json", text(&authentication())),
        ("audit.json", text(&audit())),
        (ADDONS, text(&addons::all(*addresses))),
        ("kwok.yaml", include_str!("kwok.yaml").to_owned()),
        // for the name server itself, and whoever asks for the node's: there is none. An empty file would give
        // them the host's
        ("resolv.conf", "options ndots:1\n".to_owned()),
    ]
}

fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// How `user` reaches the API server.
pub(super) fn kubeconfig(addresses: Addresses, authority: &str, user: &Pair) -> String {
    let data = |pem: &str| BASE64.encode(pem.as_bytes());
    text(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "patchbay", "cluster": {
            "server": addresses.api_endpoint(),
            "certificate-authority-data": data(authority),
        }}],
        "users": [{ "name": "patchbay", "user": {
            "client-certificate-data": data(&user.certificate),
            "client-key-data": data(&user.key),
        }}],
        "contexts": [{ "name": "patchbay", "context": { "cluster": "patchbay", "user": "patchbay" } }],
        "current-context": "patchbay",
    }))
}

fn containerd(layout: &Layout, programs: &Path) -> String {
    let programs = programs.display();
    let cni = layout.config("cni");
    let registries = layout.config("registries");
    format!(
        r#"version = 2
# below are directories that the node has of its own
root = "/var/lib/containerd"
state = "/run/containerd"
# lowering it is not allowed everywhere
oom_score = 0

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{programs}/cni"
conf_dir = "{}"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{programs}/runc"
SystemdCgroup = false
"#,
        cni.display(),
        registries.display(),
    )
}

/// Every registry is a closed port, so that a pull fails at once and in one way. A file that names no host
/// is passed over, and the registry itself asked.
fn registries() -> String {
    "server = \"https://127.0.0.1:1\"\n\n[host.\"https://127.0.0.1:1\"]\n".to_owned()
}

/// A link of its own per pod. The default route ends at the node, which has none.
fn cni(addresses: Addresses) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni",
                "ranges": [[{
                    "subnet": addresses.pods(),
                    "gateway": addresses.pod_gateway(),
                }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

fn kubelet(plan: &Plan) -> Value {
    let Plan { layout, addresses, cgroup, .. } = plan;
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node(),
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": layout.pki("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": layout.pki("kubelet.crt"),
        "tlsPrivateKeyFile": layout.pki("kubelet.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // what is turned over is compressed and then thrown away, and a test that looks for a secret would miss it
        "containerLogMaxSize": "1Gi",
        "volumePluginDir": VOLUME_PLUGINS,
        "resolvConf": layout.config("resolv.conf"),
        "clusterDNS": [addresses.dns()],
        "clusterDomain": addons::DOMAIN,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        // it would change the host's; the node shows it what it wants to see
        "protectKernelDefaults": true,
        "maxPods": 400,
        // images are imported once and cannot be pulled again, and the disk is the host's
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
    })
}

/// Nobody is anonymous, but for what a probe asks, and for the keys that tokens are verified with: those are
/// still for service accounts only, until a role binding says otherwise.
fn authentication() -> Value {
    let paths =
        ["/livez", "/readyz", "/healthz", "/.well-known/openid-configuration", "/openid/v1/jwks"];
    let conditions: Vec<Value> = paths.iter().map(|path| json!({ "path": path })).collect();
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": { "enabled": true, "conditions": conditions },
    })
}

/// Who asked for what; for the objects of this project also with which words. Never what is in a Secret or
/// which token was issued.
fn audit() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": true,
        "rules": [
            { "level": "RequestResponse", "resources": [{ "group": "patchbay.dev" }] },
            { "level": "Metadata" },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> String {
        let mut files = all(&Plan::example()).into_iter();
        files.find(|file| file.0 == name).unwrap().1
    }

    fn value(name: &str) -> Value {
        serde_json::from_str(&file(name)).unwrap()
    }

    #[test]
    fn every_configuration_file_is_exactly_this() {
        let files = all(&Plan::example());
        let shown: Vec<_> =
            files.iter().map(|(name, content)| format!("# {name}\n{content}")).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_kubelet_answers_only_those_whom_the_api_server_allows() {
        let kubelet = value("kubelet.json");
        assert_eq!(kubelet["authentication"]["anonymous"]["enabled"], false);
        assert_eq!(kubelet["authorization"]["mode"], "Webhook");
        assert_eq!(kubelet.get("readOnlyPort"), None, "off unless it is named");
    }

    #[test]
    fn nothing_leaves_the_machine_for_an_image() {
        let registries = file("registries/_default/hosts.toml");
        let urls: Vec<_> = registries.split('"').filter(|each| each.contains("://")).collect();
        assert_eq!(urls, ["https://127.0.0.1:1"; 2]);
        assert!(registries.contains("[host."));
        let containerd = file("containerd.toml");
        assert!(containerd.contains("config_path = \"/cluster/config/registries\""));
        assert!(containerd.contains("sandbox_image = \"patchbay.dev/pause:1\""));
    }

    #[test]
    fn an_anonymous_request_can_ask_for_health_and_verification_keys_only() {
        let conditions = &value("authentication.json")["anonymous"]["conditions"];
        let paths: Vec<_> =
            conditions.as_array().unwrap().iter().map(|each| &each["path"]).collect();
        assert_eq!(
            paths,
            [
                "/livez",
                "/readyz",
                "/healthz",
                "/.well-known/openid-configuration",
                "/openid/v1/jwks"
            ]
        );
    }

    #[test]
    fn the_audit_log_has_the_words_of_this_projects_objects_only() {
        let policy = value("audit.json");
        let rules = policy["rules"].as_array().unwrap();
        let spoken: Vec<_> = rules.iter().filter(|rule| rule["level"] != "Metadata").collect();
        assert_eq!(spoken.len(), 1);
        assert_eq!(spoken[0]["resources"], json!([{ "group": "patchbay.dev" }]));
    }
}
