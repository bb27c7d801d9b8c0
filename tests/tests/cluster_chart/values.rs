//! What the schema refuses, with which words, and that it knows every value that there is.

use crate::chart::{refusal, render};
use anyhow::{Context, ensure};
use patchbay_tests::chart::path;
use serde_json::{Value, json};
use std::fs;

#[tokio::test]
async fn a_wrong_value_is_refused_and_named() -> anyhow::Result<()> {
    let quilt = |more: Value| {
        let mut all = json!({ "enabled": true, "image": "i", "catalog": "c.example", "registry": "r.example" });
        if let (Some(all), Some(more)) = (all.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        json!({ "quilt": all })
    };
    let cases = [
        (json!({ "replicas": 3 }), "'replicas' not allowed"),
        (json!({ "gateway": { "replica": 3 } }), "'replica' not allowed"),
        (json!({ "gateway": { "replicas": "3" } }), "/gateway/replicas"),
        (json!({ "gateway": { "replicas": 0 } }), "/gateway/replicas"),
        (json!({ "gateway": { "providerSecrets": ["A b"] } }), "/gateway/providerSecrets/0"),
        (json!({ "gateway": { "drainSeconds": -1 } }), "/gateway/drainSeconds"),
        (json!({ "gateway": { "extraEnv": [{ "value": "a" }] } }), "/gateway/extraEnv/0"),
        // what the chart itself says is said by values of their own
        (
            json!({ "gateway": { "extraEnv": [{ "name": "PATCHBAY_LOG" }] } }),
            "/gateway/extraEnv/0/name",
        ),
        (
            json!({ "gateway": { "publicUrl": "https://mcp.example.com/path" } }),
            "/gateway/publicUrl",
        ),
        (json!({ "gateway": { "publicUrl": "mcp.example.com" } }), "/gateway/publicUrl"),
        (
            json!({ "gateway": { "allowedHosts": ["https://a.example.com"] } }),
            "/gateway/allowedHosts/0",
        ),
        (
            json!({ "gateway": { "allowedOrigins": ["a.example.com"] } }),
            "/gateway/allowedOrigins/0",
        ),
        (json!({ "gateway": { "service": { "port": 70000 } } }), "/gateway/service/port"),
        (json!({ "gateway": { "service": { "type": "ExternalName" } } }), "/gateway/service/type"),
        (
            json!({ "gateway": { "resources": { "limits": { "memory": null } } } }),
            "/gateway/resources/limits",
        ),
        (json!({ "gateway": { "podAnnotations": { "a": true } } }), "/gateway/podAnnotations/a"),
        (json!({ "operator": { "watchNodes": "yes" } }), "/operator/watchNodes"),
        (json!({ "image": { "tag": "a:b" } }), "/image/tag"),
        (json!({ "image": { "digest": "sha256:0" } }), "/image/digest"),
        (json!({ "image": { "repository": "" } }), "/image/repository"),
        (json!({ "image": { "pullPolicy": "Sometimes" } }), "/image/pullPolicy"),
        (json!({ "imagePullSecrets": [{ "name": "a" }] }), "/imagePullSecrets/0"),
        (json!({ "cluster": { "ranges": ["10.0.0.0"] } }), "/cluster/ranges/0"),
        (json!({ "cluster": { "ranges": ["10.0.0.0/33"] } }), "/cluster/ranges/0"),
        (json!({ "cluster": { "ranges": ["fd00::/129"] } }), "/cluster/ranges/0"),
        (json!({ "cluster": { "ranges": "10.0.0.0/8" } }), "/cluster/ranges"),
        (json!({ "cluster": { "dns": ["kube-dns"] } }), "/cluster/dns/0"),
        (json!({ "runAs": { "user": 0 } }), "/runAs/user"),
        (json!({ "holdSeconds": "30s" }), "/holdSeconds"),
        (
            json!({ "controlPlane": { "certManager": { "duration": "90 days" } } }),
            "/controlPlane/certManager/duration",
        ),
        (
            json!({ "controlPlane": { "certManager": { "issuerRef": { "kind": "Issuer" } } } }),
            "/controlPlane/certManager/issuerRef",
        ),
        (
            json!({ "networkPolicy": { "apiServer": { "cidrs": [] } } }),
            "/networkPolicy/apiServer/cidrs",
        ),
        (json!({ "networkPolicy": { "clients": [{}] } }), "/networkPolicy/clients/0"),
        (json!({ "networkPolicy": { "clients": [{ "pods": {} }] } }), "'pods' not allowed"),
        (json!({ "ingress": { "enabled": true } }), "/ingress/host"),
        (json!({ "ingress": { "host": "*.example.com" } }), "/ingress/host"),
        (json!({ "httpRoute": { "enabled": true } }), "/httpRoute/parentRefs"),
        (
            json!({ "monitoring": { "prometheusRule": { "failedPercent": 101 } } }),
            "/monitoring/prometheusRule/failedPercent",
        ),
        (
            json!({ "monitoring": { "prometheusRule": { "runbooks": "docs" } } }),
            "/monitoring/prometheusRule/runbooks",
        ),
        (json!({ "quilt": { "enabled": true } }), "/quilt/image"),
        (quilt(json!({ "catalog": "https://c.example" })), "/quilt/catalog"),
        (quilt(json!({ "catalog": "c.example:0" })), "/quilt/catalog"),
        (quilt(json!({ "registry": "" })), "/quilt/registry"),
        (quilt(json!({ "warm": -1 })), "/quilt/warm"),
        (quilt(json!({ "idleTimeout": "soon" })), "/quilt/idleTimeout"),
        (quilt(json!({ "memory": "lots" })), "/quilt/memory"),
        (quilt(json!({ "egress": { "cidrs": ["everywhere"] } })), "/quilt/egress/cidrs/0"),
        (json!({ "clusterUsers": { "enabled": true } }), "/clusterUsers/classes"),
        (json!({ "classes": { "Notes": { "image": "i" } } }), "Notes"),
        (json!({ "classes": { "notes": {} } }), "/classes/notes"),
        (json!({ "providers": { "staff": [] } }), "/providers/staff"),
    ];
    for (values, said) in cases {
        let refusal = refusal(values.clone()).await?;
        ensure!(refusal.contains(said), "{values}: no `{said}` in {refusal}");
    }
    Ok(())
}

/// Holds values to what a schema says of them, at every depth.
fn compare(at: &str, values: &Value, schema: &Value, root: &Value) -> anyhow::Result<()> {
    let schema = schema["$ref"]
        .as_str()
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?))
        .unwrap_or(schema);
    let (Some(values), Some(known)) = (values.as_object(), schema["properties"].as_object()) else {
        return Ok(());
    };
    ensure!(schema["additionalProperties"] == json!(false), "{at} takes anything");
    for name in known.keys().filter(|name| *name != "global") {
        // an issuer's fields have no defaults
        ensure!(
            values.contains_key(name) || at.ends_with("issuerRef"),
            "{at}/{name} has no default"
        );
    }
    for (name, value) in values {
        let known = known.get(name).with_context(|| format!("{at}/{name} is not known"))?;
        compare(&format!("{at}/{name}"), value, known, root)?;
    }
    Ok(())
}

#[tokio::test]
async fn the_schema_knows_every_value_and_no_other() -> anyhow::Result<()> {
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(path().join("values.yaml"))?)?;
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(path().join("values.schema.json"))?)?;
    compare("", &values, &schema, &schema)
}

#[tokio::test]
async fn every_value_is_explained() -> anyhow::Result<()> {
    let text = fs::read_to_string(path().join("values.yaml"))?;
    let is_comment = |line: &str| line.trim_start().starts_with('#');
    let lines: Vec<_> = text.lines().collect();
    let mut explained = 0;
    for (index, line) in lines.iter().enumerate() {
        // a value of the first level; what is in it is explained there, or speaks for itself
        if line.starts_with(|first: char| first.is_ascii_lowercase()) {
            let before = index.checked_sub(1).and_then(|index| lines.get(index));
            ensure!(before.is_some_and(|before| is_comment(before)), "{line}");
            explained += 1;
        }
    }
    ensure!(explained >= 20, "{explained}");
    Ok(())
}

#[tokio::test]
async fn a_chart_that_uses_this_one_may_have_values_for_all() -> anyhow::Result<()> {
    render(json!({ "global": { "imageRegistry": "r.example" } })).await.map(drop)
}
