//! What the chart makes when nobody says anything.

use crate::chart::{Direction, render};
use anyhow::{Context, ensure};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{PodSpec, Secret, Service, ServiceAccount},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use patchbay_core::pin::Role;
use patchbay_tests::{
    chart::{RELEASE, path},
    cluster::{Cluster, default_directory},
};
use serde_json::{Value, json};

const PARTS: [&str; 2] = ["patchbay-gateway", "patchbay-operator"];

/// Everything that the chart can make at once.
pub(crate) fn everything() -> Value {
    json!({
        "imagePullSecrets": ["pull"],
        "cluster": { "ranges": ["10.0.0.0/16", "fd00::/48"], "dns": ["10.0.0.10/32"] },
        "gateway": { "autoscaling": { "enabled": true }, "tls": { "secretName": "tls" } },
        "ingress": { "enabled": true, "className": "nginx", "host": "mcp.example.com", "tlsSecretName": "web" },
        "quilt": {
            "enabled": true, "image": "registry.example.com/quilt-mcp:0.22.0",
            "catalog": "catalog.example.com", "registry": "registry.example.com",
        },
        "classes": { "notes": { "image": "registry.example.com/notes:1", "command": ["/notes"], "path": "/notes" } },
        "providers": { "staff": { "classes": ["notes"], "jwt": {
            "issuer": "https://login.example.com", "audiences": ["https://mcp.example.com"],
            "jwks": { "url": "https://login.example.com/keys" },
        }}},
        "clusterUsers": { "enabled": true, "classes": ["notes"] },
        "monitoring": { "dashboard": { "enabled": true } },
    })
}

/// The same, with what needs kinds of others.
pub(crate) fn everything_and_others() -> Value {
    let mut values = everything();
    values["monitoring"] = json!({
        "dashboard": { "enabled": true }, "serviceMonitor": { "enabled": true },
        "prometheusRule": { "enabled": true },
    });
    values["httpRoute"] = json!({
        "enabled": true, "parentRefs": [{ "name": "public" }], "hostnames": ["mcp.example.com"],
    });
    values["controlPlane"] = json!({ "certManager": { "enabled": true } });
    values
}

#[tokio::test]
async fn helm_finds_nothing_to_say_about_the_chart() -> anyhow::Result<()> {
    let cluster = Cluster::up(&default_directory()?).await?;
    let output = cluster.helm().args(["lint", "--strict"]).arg(path()).output().await?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && !said.contains("[WARNING]"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_default_manifest_is_as_it_was_reviewed() -> anyhow::Result<()> {
    let rendered = render(json!({ "crds": { "install": false } })).await?;
    insta::assert_snapshot!(rendered.text);
    Ok(())
}

#[tokio::test]
async fn every_object_says_whose_it_is_and_those_of_the_cluster_name_the_namespace()
-> anyhow::Result<()> {
    let rendered = render(everything_and_others()).await?;
    for object in rendered.objects() {
        let labels = &object["metadata"]["labels"];
        let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
        ensure!(labels["app.kubernetes.io/part-of"] == "patchbay", "{what}");
        ensure!(labels["app.kubernetes.io/instance"] == RELEASE, "{what}");
        ensure!(object["metadata"]["namespace"].is_null(), "{what}: Helm puts it there");
        let kind = object["kind"].as_str().context("a kind")?;
        let is_the_clusters =
            kind.starts_with("Cluster") || kind.starts_with("ValidatingAdmission");
        let name = object["metadata"]["name"].as_str().context("a name")?;
        ensure!(name.ends_with(".patchbay-system") == is_the_clusters, "{what}");
    }
    Ok(())
}

fn ensure_restricted(of: &str, spec: &PodSpec) -> anyhow::Result<()> {
    let pod = spec.security_context.as_ref().context("no security context")?;
    ensure!(pod.run_as_non_root == Some(true), "{of} may be root");
    ensure!(pod.run_as_user == Some(10001) && pod.run_as_group == Some(10001), "{of}");
    let seccomp = pod.seccomp_profile.as_ref().map(|profile| profile.type_.as_str());
    ensure!(seccomp == Some("RuntimeDefault"), "{of}: {seccomp:?}");
    for shared in [spec.host_network, spec.host_pid, spec.host_ipc, spec.share_process_namespace] {
        ensure!(shared != Some(true), "{of} shares a namespace");
    }
    ensure!(spec.enable_service_links == Some(false), "{of}");
    ensure!(spec.init_containers.is_none(), "{of}");
    for container in &spec.containers {
        let own = container.security_context.as_ref().context("no security context")?;
        ensure!(own.read_only_root_filesystem == Some(true), "{of}");
        ensure!(own.allow_privilege_escalation == Some(false), "{of}");
        ensure!(own.privileged != Some(true) && own.run_as_user.is_none(), "{of}");
        let capabilities = own.capabilities.as_ref().context("no capabilities")?;
        ensure!(capabilities.drop == Some(vec!["ALL".to_owned()]), "{of}");
        ensure!(capabilities.add.is_none(), "{of}");
        let resources = container.resources.as_ref().context("no resources")?;
        let limits = resources.limits.as_ref().context("no limits")?;
        ensure!(limits.contains_key("memory") && limits.contains_key("ephemeral-storage"), "{of}");
        let requests = resources.requests.as_ref().context("no requests")?;
        ensure!(requests.contains_key("memory") && requests.contains_key("cpu"), "{of}");
        for variable in container.env.iter().flatten() {
            let source = variable.value_from.as_ref();
            let is_secret = source.is_some_and(|source| source.secret_key_ref.is_some());
            ensure!(!is_secret, "{of} has a secret in {}", variable.name);
        }
        ensure!(container.env_from.is_none(), "{of}");
        ensure!(container.ports.iter().flatten().all(|port| port.host_port.is_none()), "{of}");
    }
    for volume in spec.volumes.iter().flatten() {
        ensure!(volume.host_path.is_none(), "{of} mounts the node's {}", volume.name);
        for mount in spec.containers.iter().flat_map(|it| it.volume_mounts.iter().flatten()) {
            ensure!(mount.read_only == Some(true), "{of} may write to {}", mount.name);
        }
        if let Some(secret) = &volume.secret {
            ensure!(secret.default_mode == Some(0o440), "{of}: {}", volume.name);
            ensure!(secret.items.is_some(), "{of} starts without {}", volume.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_pod_of_the_chart_has_no_right_on_its_node() -> anyhow::Result<()> {
    for values in [json!({}), everything_and_others()] {
        let pods = render(values).await?.pods()?;
        ensure!(pods.len() >= PARTS.len(), "{pods:?}");
        for pod in pods {
            ensure_restricted(&pod.of, &pod.spec)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn only_pods_that_speak_to_the_api_server_have_a_token_for_it() -> anyhow::Result<()> {
    let rendered = render(everything()).await?;
    for pod in rendered.pods()? {
        let has_one = pod.spec.automount_service_account_token;
        let wants_one = pod.of.starts_with("Deployment/") || pod.of == "Pod/patchbay-verify-test";
        ensure!(has_one == Some(wants_one), "{}: {has_one:?}", pod.of);
        let account = pod.spec.service_account_name.context("the default account")?;
        let account: ServiceAccount = rendered.one(&account)?;
        ensure!(account.automount_service_account_token == Some(false), "{}", pod.of);
    }
    Ok(())
}

#[tokio::test]
async fn a_rollout_and_a_nodes_drain_take_no_replica_before_its_successor() -> anyhow::Result<()> {
    let rendered = render(json!({ "gateway": { "drainSeconds": 100 } })).await?;
    for name in PARTS {
        let deployment: Deployment = rendered.one(name)?;
        let spec = deployment.spec.context("no spec")?;
        ensure!(spec.replicas == Some(2), "{name}");
        let strategy = spec.strategy.and_then(|it| it.rolling_update).context("no strategy")?;
        ensure!(strategy.max_unavailable == Some(IntOrString::Int(0)), "{name}");
        let selector = spec.selector.match_labels.context("no labels")?;
        let labels = spec.template.metadata.and_then(|it| it.labels).context("no labels")?;
        ensure!(selector.iter().all(|(key, value)| labels.get(key) == Some(value)), "{name}");
        let pod = spec.template.spec.context("no pod")?;
        let spread = pod.topology_spread_constraints.context("not spread")?;
        let keys: Vec<_> = spread.iter().map(|each| each.topology_key.as_str()).collect();
        ensure!(keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"], "{keys:?}");

        let budget: PodDisruptionBudget = rendered.one(name)?;
        let budget = budget.spec.context("no spec")?;
        ensure!(budget.max_unavailable == Some(IntOrString::Int(1)), "{name}");
        ensure!(budget.selector.and_then(|it| it.match_labels) == Some(selector), "{name}");
    }
    let gateway = rendered.pod_spec("patchbay-gateway")?;
    ensure!(gateway.termination_grace_period_seconds == Some(115));
    ensure!(rendered.arguments("patchbay-gateway")?.contains(&"--drain=100s".to_owned()));
    // the program drains by itself
    ensure!(rendered.container("patchbay-gateway")?.lifecycle.is_none());
    Ok(())
}

#[tokio::test]
async fn both_programs_are_asked_at_their_admin_port_how_they_are() -> anyhow::Result<()> {
    let rendered = render(json!({})).await?;
    for name in PARTS {
        let container = rendered.container(name)?;
        let asked = |probe: Option<k8s_openapi::api::core::v1::Probe>| {
            let get = probe.and_then(|probe| probe.http_get)?;
            Some((get.path?, get.port))
        };
        let admin = IntOrString::String("admin".into());
        ensure!(
            asked(container.readiness_probe) == Some(("/readyz".into(), admin.clone())),
            "{name}"
        );
        ensure!(asked(container.liveness_probe) == Some(("/livez".into(), admin)), "{name}");
        let ports: Vec<_> = container.ports.into_iter().flatten().collect();
        ensure!(
            ports.iter().any(|it| it.name.as_deref() == Some("admin") && it.container_port == 9090)
        );
        ensure!(rendered.arguments(name)?.contains(&"--admin-listen=0.0.0.0:9090".to_owned()));
    }
    Ok(())
}

#[tokio::test]
async fn users_reach_no_port_but_the_gateways() -> anyhow::Result<()> {
    let rendered = render(everything()).await?;
    let service: Service = rendered.one("patchbay-gateway")?;
    let ports = service.spec.and_then(|spec| spec.ports).context("no ports")?;
    ensure!(ports.len() == 1 && ports[0].target_port == Some(IntOrString::String("http".into())));
    for name in PARTS {
        let metrics: Service = rendered.one(&format!("{name}-metrics"))?;
        let kind = metrics.spec.context("no spec")?;
        ensure!(kind.type_.is_none() && kind.cluster_ip.as_deref() == Some("None"), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn policies_name_every_port_and_keep_both_programs_from_instance_metadata()
-> anyhow::Result<()> {
    let rendered = render(json!({ "cluster": { "dns": ["10.0.0.10/32"] } })).await?;
    let port = IntOrString::Int;
    let named = |name: &str| IntOrString::String(name.into());
    for name in PARTS {
        let metrics = rendered.peers_at(name, Direction::In, &named("admin"))?;
        let monitoring = json!([[{ "namespaceSelector":
            { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }]]);
        ensure!(metrics == Some(monitoring), "{name}: {metrics:?}");
        let workers = rendered.peers_at(name, Direction::Out, &port(7443))?;
        let expected = json!([[{ "podSelector": { "matchLabels": {
            "app.kubernetes.io/component": "worker", "app.kubernetes.io/part-of": "patchbay" } } }]]);
        ensure!(workers == Some(expected), "{name}: {workers:?}");
        let dns = rendered.peers_at(name, Direction::Out, &port(53))?.context("no names")?;
        ensure!(dns.to_string().contains("10.0.0.10/32"), "{name}: {dns}");
        for number in [443, 6443] {
            let out = rendered.peers_at(name, Direction::Out, &port(number))?.context("nowhere")?;
            let blocks = out.to_string();
            ensure!(
                blocks.matches("169.254.0.0/16").count() == blocks.matches("0.0.0.0/0").count()
            );
        }
    }
    let users = rendered.peers_at("patchbay-gateway", Direction::In, &named("http"))?;
    ensure!(users == Some(json!([null])), "everybody: {users:?}");
    ensure!(rendered.peers_at("patchbay-operator", Direction::In, &named("http"))?.is_none());
    Ok(())
}

#[tokio::test]
async fn the_control_planes_secrets_are_empty_for_the_operator_to_fill() -> anyhow::Result<()> {
    let rendered = render(json!({})).await?;
    let secrets = ["patchbay-control-plane-ca", "patchbay-gateway-link", "patchbay-session-keys"];
    ensure!(rendered.names("Secret") == secrets);
    for name in rendered.names("Secret") {
        let secret: Secret = rendered.one(&name)?;
        ensure!(secret.data.is_none() && secret.string_data.is_none(), "{name}");
    }
    let operator = rendered.arguments("patchbay-operator")?;
    for flag in [
        "--ca-secret=patchbay-control-plane-ca",
        "--gateway-link-secret=patchbay-gateway-link",
        "--session-secret=patchbay-session-keys",
    ] {
        ensure!(operator.contains(&flag.to_owned()), "{operator:?}");
    }
    ensure!(rendered.pod_spec("patchbay-operator")?.volumes.is_none());
    Ok(())
}

#[tokio::test]
async fn certificates_of_cert_manager_name_the_roles_that_workers_know() -> anyhow::Result<()> {
    let rendered = render(everything_and_others()).await?;
    for (part, role) in [("gateway", Role::Gateway), ("operator", Role::Operator)] {
        let certificate = rendered.object("Certificate", &format!("patchbay-{part}"))?;
        let spec = &certificate["spec"];
        ensure!(spec["uris"] == json!([role.uri()]), "{spec}");
        ensure!(spec["usages"] == json!(["digital signature", "client auth"]), "{spec}");
        // another name in it would be another way to be known
        for other in ["commonName", "dnsNames", "ipAddresses", "emailAddresses"] {
            ensure!(spec[other].is_null(), "{spec}");
        }
    }
    Ok(())
}
