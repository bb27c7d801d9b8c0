//! Each switch of the values, alone: what it adds, takes away or changes. Those of rights and keys are in `powers`.

use crate::chart::{AnyPod, Direction, render};
use anyhow::{Context, ensure};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, Pod, Service, ServiceAccount},
        networking::v1::Ingress,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

#[tokio::test]
async fn names_follow_the_release_unless_somebody_says_otherwise() -> anyhow::Result<()> {
    ensure!(
        render(json!({ "fullnameOverride": "mcp" })).await?.names("Deployment")
            == ["mcp-gateway", "mcp-operator"]
    );
    ensure!(
        render(json!({ "nameOverride": "mcp" })).await?.names("Deployment")
            == ["patchbay-mcp-gateway", "patchbay-mcp-operator"]
    );
    // the longest name that Helm takes is cut, and what is behind it still fits
    let long = "a".repeat(53);
    for name in render(json!({ "fullnameOverride": long })).await?.names("Secret") {
        ensure!(name.len() <= 63, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn an_image_is_known_by_its_digest_or_tag_or_the_charts_version() -> anyhow::Result<()> {
    let digest = format!("sha256:{}", "0".repeat(64));
    for (image, expected) in [
        (json!({}), "patchbay.dev/patchbay:0.1.0".to_owned()),
        (json!({ "repository": "r.example/p", "tag": "1" }), "r.example/p:1".to_owned()),
        (json!({ "tag": "1", "digest": digest }), format!("patchbay.dev/patchbay@{digest}")),
    ] {
        let rendered = render(json!({ "image": image, "workerImage": image })).await?;
        for name in ["patchbay-gateway", "patchbay-operator"] {
            ensure!(rendered.container(name)?.image.as_ref() == Some(&expected), "{expected}");
        }
    }
    let rendered =
        render(json!({ "workerImage": { "repository": "r.example/w", "tag": "2" } })).await?;
    let operator = rendered.arguments("patchbay-operator")?;
    ensure!(operator.contains(&"--worker-image=r.example/w:2".to_owned()), "{operator:?}");
    Ok(())
}

#[tokio::test]
async fn every_pod_pulls_with_the_same_secrets_and_workers_do_too() -> anyhow::Result<()> {
    let rendered = render(json!({
        "imagePullSecrets": ["a", "b"], "clusterUsers": { "enabled": true, "classes": ["c"] },
    }))
    .await?;
    for pod in rendered.pods()? {
        let names: Vec<_> =
            pod.spec.image_pull_secrets.into_iter().flatten().map(|it| it.name).collect();
        ensure!(names == ["a", "b"], "{}", pod.of);
    }
    let operator = rendered.arguments("patchbay-operator")?;
    for flag in ["--image-pull-secret=a", "--image-pull-secret=b"] {
        ensure!(operator.contains(&flag.to_owned()), "{operator:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_operator_is_told_what_workers_never_reach_and_where_names_are() -> anyhow::Result<()> {
    let told = async |values| {
        let arguments = render(values).await?.arguments("patchbay-operator")?;
        let is_it =
            |flag: &&String| flag.starts_with("--cluster-range=") || flag.starts_with("--dns=");
        anyhow::Ok(arguments.iter().filter(is_it).cloned().collect::<Vec<_>>())
    };
    let cluster = json!({ "ranges": ["10.0.0.0/16", "fd00::/48"], "dns": ["10.0.0.10/32"] });
    let flags = told(json!({ "cluster": cluster })).await?;
    let expected =
        ["--cluster-range=10.0.0.0/16", "--cluster-range=fd00::/48", "--dns=10.0.0.10/32"];
    ensure!(flags == expected, "{flags:?}");
    // nobody said where the cluster is: it is somewhere in what is private
    let ranges = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];
    let flags = told(json!({})).await?;
    ensure!(flags == ranges.map(|range| format!("--cluster-range={range}")), "{flags:?}");
    Ok(())
}

#[tokio::test]
async fn both_programs_hold_a_first_request_equally_long() -> anyhow::Result<()> {
    let rendered = render(json!({ "holdSeconds": 7, "log": "debug" })).await?;
    for name in ["patchbay-gateway", "patchbay-operator"] {
        ensure!(rendered.arguments(name)?.contains(&"--hold=7s".to_owned()), "{name}");
        let env = rendered.container(name)?.env.context("no environment")?;
        let log =
            env.iter().find(|it| it.name == "PATCHBAY_LOG").and_then(|it| it.value.as_deref());
        ensure!(log == Some("debug"), "{name}");
        let namespace = env.iter().find(|it| it.name == "PATCHBAY_NAMESPACE");
        let source = namespace.and_then(|it| it.value_from.as_ref()?.field_ref.as_ref());
        ensure!(source.map(|it| it.field_path.as_str()) == Some("metadata.namespace"), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_platform_may_choose_who_the_programs_are_but_not_root() -> anyhow::Result<()> {
    let rendered = render(json!({ "runAs": { "user": null, "group": null } })).await?;
    for pod in rendered.pods()? {
        let context = pod.spec.security_context.context("no security context")?;
        ensure!(context.run_as_user.is_none() && context.fs_group.is_none(), "{}", pod.of);
        ensure!(context.run_as_non_root == Some(true), "{}", pod.of);
    }
    Ok(())
}

#[tokio::test]
async fn the_gateway_alone_has_the_variables_that_somebody_adds() -> anyhow::Result<()> {
    let secret = json!({ "secretKeyRef": { "name": "aws", "key": "id" } });
    let added = json!([{ "name": "AWS_ACCESS_KEY_ID", "valueFrom": secret }]);
    let rendered = render(json!({ "gateway": { "extraEnv": added } })).await?;
    for (name, wanted) in [("patchbay-gateway", 1), ("patchbay-operator", 0)] {
        let env = rendered.container(name)?.env.context("no environment")?;
        ensure!(env.iter().any(|it| it.name == "PATCHBAY_LOG"), "{name}: {env:?}");
        let found: Vec<_> = env.iter().filter(|it| it.name == "AWS_ACCESS_KEY_ID").collect();
        ensure!(found.len() == wanted, "{name}: {env:?}");
        for variable in found {
            let source = variable.value_from.as_ref().and_then(|it| it.secret_key_ref.as_ref());
            ensure!(source.is_some_and(|it| it.name == "aws" && it.key == "id"), "{variable:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_gateway_ends_tls_where_it_has_a_certificate() -> anyhow::Result<()> {
    let plain = render(json!({})).await?;
    let arguments = plain.arguments("patchbay-gateway")?;
    ensure!(arguments.contains(&"--insecure-listen".to_owned()), "{arguments:?}");
    ensure!(!arguments.iter().any(|it| it.starts_with("--tls")), "{arguments:?}");

    let tls = render(json!({ "gateway": { "tls": { "secretName": "web" } } })).await?;
    let arguments = tls.arguments("patchbay-gateway")?;
    ensure!(!arguments.contains(&"--insecure-listen".to_owned()), "{arguments:?}");
    for flag in ["--tls-cert=/etc/patchbay/tls/tls.crt", "--tls-key=/etc/patchbay/tls/tls.key"] {
        ensure!(arguments.contains(&flag.to_owned()), "{arguments:?}");
    }
    let volumes = tls.pod_spec("patchbay-gateway")?.volumes.context("no volumes")?;
    let secrets: Vec<_> =
        volumes.iter().filter_map(|it| it.secret.as_ref()?.secret_name.as_deref()).collect();
    ensure!(secrets == ["patchbay-gateway-link", "patchbay-session-keys", "web"], "{secrets:?}");
    let port = |service: Service| service.spec?.ports?.first().map(|it| it.port);
    // the test knows the name that is in the certificate, and of the Secret no more than whom to trust
    let mut values = json!({
        "gateway": { "publicUrl": "https://mcp.example.com", "tls": { "secretName": "web", "hasAuthority": true } },
        "clusterUsers": { "enabled": true, "classes": ["notes"], "issuer": "https://issuer.example.com" },
    });
    let contact = async |values: &Value| {
        let pods = render(values.clone()).await?.pods()?;
        let is_it = |pod: &AnyPod| pod.of == "Pod/patchbay-contact-test";
        Ok::<_, anyhow::Error>(pods.into_iter().find(is_it).context("no such pod")?.spec)
    };
    let spec = contact(&values).await?;
    let arguments = spec.containers[0].args.clone().context("no arguments")?;
    for argument in [
        "--url=https://mcp.example.com/mcp",
        "--connect=patchbay-gateway.patchbay-system.svc:443",
        "--ca-file=/var/run/secrets/authority/ca.crt",
    ] {
        ensure!(arguments.contains(&argument.to_owned()), "{arguments:?}");
    }
    let volume = spec.volumes.into_iter().flatten().find_map(|volume| volume.secret);
    let items = volume.and_then(|secret| secret.items).context("no Secret")?;
    ensure!(items.len() == 1 && items[0].key == "ca.crt", "{items:?}");
    values["gateway"]["tls"] = json!({});
    let arguments = contact(&values).await?.containers[0].args.clone().context("no arguments")?;
    let internal = "--url=http://patchbay-gateway.patchbay-system.svc:8080/mcp";
    ensure!(arguments.contains(&internal.to_owned()), "{arguments:?}");
    ensure!(port(plain.one("patchbay-gateway")?) == Some(8080));
    ensure!(port(tls.one("patchbay-gateway")?) == Some(443));
    Ok(())
}

#[tokio::test]
async fn the_gateway_answers_to_every_name_that_leads_to_it() -> anyhow::Result<()> {
    let names = async |values| {
        let arguments = render(values).await?.arguments("patchbay-gateway")?;
        let value = |flag: &str| -> Vec<String> {
            arguments.iter().filter_map(|it| it.strip_prefix(flag)).map(str::to_owned).collect()
        };
        anyhow::Ok((value("--allowed-host="), value("--public-url="), value("--allowed-origin=")))
    };
    let own = [
        "patchbay-gateway",
        "patchbay-gateway.patchbay-system",
        "patchbay-gateway.patchbay-system.svc",
        "patchbay-gateway.patchbay-system.svc.cluster.local",
    ];
    let (hosts, url, origins) = names(json!({})).await?;
    ensure!(hosts == own && url.is_empty() && origins.is_empty(), "{hosts:?}");
    let ingress = json!({ "enabled": true, "host": "a.example.com", "tlsSecretName": "web" });
    let route =
        json!({ "enabled": true, "parentRefs": [{ "name": "g" }], "hostnames": ["b.example.com"] });
    let gateway =
        json!({ "allowedHosts": ["c.example.com"], "allowedOrigins": ["https://app.example.com"] });
    let (hosts, url, origins) =
        names(json!({ "ingress": ingress, "httpRoute": route, "gateway": gateway })).await?;
    ensure!(hosts[4..] == ["a.example.com", "b.example.com", "c.example.com"], "{hosts:?}");
    ensure!(url == ["https://a.example.com"], "{url:?}");
    ensure!(origins == ["https://app.example.com"], "{origins:?}");
    let gateway = json!({ "publicUrl": "https://d.example.com" });
    let (_, url, _) = names(json!({ "ingress": ingress, "gateway": gateway })).await?;
    ensure!(url == ["https://d.example.com"], "{url:?}");
    Ok(())
}

#[tokio::test]
async fn an_autoscaler_takes_the_place_of_a_number_of_replicas() -> anyhow::Result<()> {
    ensure!(render(json!({})).await?.names("HorizontalPodAutoscaler").is_empty());
    let rendered = render(json!({ "gateway": { "autoscaling": { "enabled": true } } })).await?;
    let scaler: HorizontalPodAutoscaler = rendered.one("patchbay-gateway")?;
    let spec = scaler.spec.context("no spec")?;
    ensure!(spec.scale_target_ref.name == "patchbay-gateway");
    ensure!((spec.min_replicas, spec.max_replicas) == (Some(2), 10));
    let gateway = rendered.object("Deployment", "patchbay-gateway")?;
    ensure!(
        gateway["spec"]["replicas"].is_null(),
        "an upgrade would undo what the autoscaler said"
    );
    Ok(())
}

#[tokio::test]
async fn pods_are_placed_and_marked_as_the_values_say() -> anyhow::Result<()> {
    for part in ["gateway", "operator"] {
        let own = json!({
            "podLabels": { "team": "a" }, "podAnnotations": { "note": "b" },
            "priorityClassName": "high", "nodeSelector": { "pool": "c" },
            "tolerations": [{ "key": "d", "operator": "Exists" }],
            "affinity": { "podAntiAffinity": {} },
            "topologySpreadConstraints": [
                { "topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule" },
                { "topologyKey": "row", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway",
                  "labelSelector": { "matchLabels": { "team": "a" } } },
            ],
            "serviceAccount": { "annotations": { "role": "e" } },
        });
        let rendered = render(json!({ part: own })).await?;
        let name = format!("patchbay-{part}");
        let template = &rendered.object("Deployment", &name)?["spec"]["template"];
        ensure!(template["metadata"]["labels"]["team"] == "a");
        ensure!(template["metadata"]["annotations"] == json!({ "note": "b" }));
        let spec = rendered.pod_spec(&name)?;
        ensure!(spec.priority_class_name.as_deref() == Some("high"));
        ensure!(spec.node_selector.context("no selector")?["pool"] == "c");
        ensure!(spec.tolerations.context("none")?[0].key.as_deref() == Some("d"));
        ensure!(spec.affinity.context("none")?.pod_anti_affinity.is_some());
        let spread = spec.topology_spread_constraints.context("none")?;
        ensure!(spread[0].topology_key == "rack" && spread[0].max_skew == 2);
        let selected = |index: usize| {
            spread[index].label_selector.as_ref().and_then(|it| it.match_labels.clone())
        };
        // whose pods are spread is said by whoever says nothing of it, and left to who does
        let own = rendered.one::<Deployment>(&name)?.spec.and_then(|it| it.selector.match_labels);
        ensure!(own.is_some() && selected(0) == own, "{:?}", selected(0));
        ensure!(selected(1) == Some([("team".to_owned(), "a".to_owned())].into()));
        let account: ServiceAccount = rendered.one(&name)?;
        ensure!(account.metadata.annotations.context("none")?["role"] == "e");
    }
    Ok(())
}

#[tokio::test]
async fn network_policies_let_in_and_out_whom_the_values_list() -> anyhow::Result<()> {
    let off = render(json!({ "networkPolicy": { "enabled": false } })).await?;
    ensure!(off.names("NetworkPolicy").is_empty());

    let peer = json!({ "podSelector": { "matchLabels": { "a": "b" } } });
    let rendered = render(json!({ "networkPolicy": {
        "clients": [peer], "metrics": [],
        "apiServer": { "cidrs": ["10.1.0.1/32"], "ports": [6443] },
        "providers": { "cidrs": [] },
    }}))
    .await?;
    let named = |name: &str| IntOrString::String(name.into());
    let clients = rendered.peers_at("patchbay-gateway", Direction::In, &named("http"))?;
    let of_a_test = |component: &str| {
        json!({ "podSelector": { "matchLabels": {
            "app.kubernetes.io/name": "patchbay", "app.kubernetes.io/instance": "patchbay",
            "app.kubernetes.io/component": component,
        }}})
    };
    let expected = json!([[peer, of_a_test("verify-test"), of_a_test("contact-test")]]);
    ensure!(clients == Some(expected), "{clients:?}");
    for name in ["patchbay-gateway", "patchbay-operator"] {
        // no list means nobody, and not everybody
        ensure!(rendered.peers_at(name, Direction::In, &named("admin"))?.is_none(), "{name}");
        let api = rendered.peers_at(name, Direction::Out, &IntOrString::Int(6443))?;
        ensure!(
            api == Some(json!([[{ "ipBlock": { "cidr": "10.1.0.1/32" } }]])),
            "{name}: {api:?}"
        );
        ensure!(rendered.peers_at(name, Direction::Out, &IntOrString::Int(443))?.is_none());
    }
    Ok(())
}

#[tokio::test]
async fn an_ingress_buffers_nothing_and_leads_every_path_to_the_gateway() -> anyhow::Result<()> {
    ensure!(render(json!({})).await?.names("Ingress").is_empty());
    let ingress = json!({ "enabled": true, "className": "nginx", "host": "mcp.example.com",
        "tlsSecretName": "web" });
    let ingress: Ingress = render(json!({ "ingress": ingress })).await?.one("patchbay")?;
    let annotations = ingress.metadata.annotations.context("no annotations")?;
    let annotation =
        |name: &str| annotations[&format!("nginx.ingress.kubernetes.io/{name}")].as_str();
    ensure!(
        annotation("proxy-buffering") == "off" && annotation("proxy-request-buffering") == "off"
    );
    ensure!(
        annotation("proxy-read-timeout") == "86400" && annotation("proxy-send-timeout") == "86400"
    );
    let spec = ingress.spec.context("no spec")?;
    ensure!(spec.ingress_class_name.as_deref() == Some("nginx"));
    let tls = spec.tls.context("no TLS")?;
    ensure!(tls[0].hosts == Some(vec!["mcp.example.com".into()]));
    ensure!(tls[0].secret_name.as_deref() == Some("web"));
    let rule = spec.rules.and_then(|it| it.into_iter().next()).context("no rule")?;
    ensure!(rule.host.as_deref() == Some("mcp.example.com"));
    let paths = rule.http.context("no paths")?.paths;
    ensure!(
        paths.len() == 1 && paths[0].path.as_deref() == Some("/") && paths[0].path_type == "Prefix"
    );
    ensure!(
        paths[0].backend.service.as_ref().map(|it| it.name.as_str()) == Some("patchbay-gateway")
    );
    Ok(())
}

#[tokio::test]
async fn a_route_has_no_time_out() -> anyhow::Result<()> {
    ensure!(render(json!({})).await?.names("HTTPRoute").is_empty());
    let parent = json!({ "name": "public", "namespace": "gateways" });
    let route =
        json!({ "enabled": true, "parentRefs": [parent], "hostnames": ["mcp.example.com"] });
    let rendered = render(json!({ "httpRoute": route })).await?;
    let spec = &rendered.object("HTTPRoute", "patchbay")?["spec"];
    ensure!(
        spec["parentRefs"] == json!([parent]) && spec["hostnames"] == json!(["mcp.example.com"])
    );
    let rule = &spec["rules"][0];
    ensure!(rule["timeouts"] == json!({ "request": "0s", "backendRequest": "0s" }), "{rule}");
    ensure!(rule["backendRefs"] == json!([{ "name": "patchbay-gateway", "port": 8080 }]), "{rule}");
    Ok(())
}

#[tokio::test]
async fn the_dashboard_is_found_by_its_label() -> anyhow::Result<()> {
    ensure!(render(json!({})).await?.names("ConfigMap").is_empty());
    let monitoring = json!({ "dashboard": { "enabled": true } });
    let map: ConfigMap =
        render(json!({ "monitoring": monitoring })).await?.one("patchbay-dashboard")?;
    ensure!(map.metadata.labels.context("no labels")?["grafana_dashboard"] == "1");
    ensure!(map.data.context("no data")?.contains_key("patchbay.json"));
    Ok(())
}

#[tokio::test]
async fn a_test_makes_a_first_contact_as_a_user_of_the_cluster() -> anyhow::Result<()> {
    ensure!(!render(json!({})).await?.names("Pod").contains(&"patchbay-contact-test".to_owned()));
    let values = json!({
        "classes": { "notes": { "image": "i", "command": ["/n"], "path": "/notes" } },
        "clusterUsers": { "enabled": true, "classes": ["notes"] },
    });
    let rendered = render(values).await?;
    let pod: Pod = rendered.one("patchbay-contact-test")?;
    ensure!(pod.metadata.annotations.context("no annotations")?["helm.sh/hook"] == "test");
    let spec = pod.spec.context("no spec")?;
    let arguments = spec.containers[0].args.clone().context("no arguments")?;
    ensure!(
        arguments
            == [
                "contact",
                "--url=http://patchbay-gateway.patchbay-system.svc:8080/notes",
                "--connect=patchbay-gateway.patchbay-system.svc:8080",
                "--token-file=/var/run/secrets/tokens/patchbay",
            ]
    );
    let volumes = spec.volumes.context("no volumes")?;
    let sources =
        volumes[0].projected.as_ref().and_then(|it| it.sources.as_ref()).context("none")?;
    let token = sources[0].service_account_token.as_ref().context("no token")?;
    ensure!(token.audience.as_deref() == Some("patchbay") && token.path == "patchbay");
    Ok(())
}
