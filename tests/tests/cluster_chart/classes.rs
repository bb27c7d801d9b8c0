//! The classes and providers that the chart makes, read by the code that reads a user's own.

use crate::chart::{Rendered, render};
use anyhow::{Context, anyhow, ensure};
use patchbay_core::class::Profile;
use patchbay_crds::{IdentityProvider, WorkerClass, validate};
use serde_json::{Value, json};

fn quilt(more: &Value) -> Value {
    let mut all = json!({
        "enabled": true, "image": "registry.example.com/quilt-mcp:0.22.0",
        "catalog": "catalog.example.com", "registry": "registry.example.com",
    });
    if let (Some(all), Some(more)) = (all.as_object_mut(), more.as_object()) {
        all.extend(more.clone());
    }
    json!({ "quilt": all })
}

fn class(rendered: &Rendered, name: &str) -> anyhow::Result<patchbay_core::class::WorkerClass> {
    let class: WorkerClass = rendered.one(name)?;
    validate::worker_class::validate(&class).map_err(|errors| anyhow!("{errors:?}"))
}

#[tokio::test]
async fn nobody_is_served_unless_a_class_is_described() -> anyhow::Result<()> {
    let rendered = render(json!({})).await?;
    ensure!(rendered.names("WorkerClass").is_empty());
    ensure!(rendered.names("IdentityProvider").is_empty());
    Ok(())
}

#[tokio::test]
async fn quilts_class_is_one_that_can_be_used_and_its_users_are_the_catalogs() -> anyhow::Result<()>
{
    let rendered = render(quilt(&json!({}))).await?;
    let class = class(&rendered, "quilt")?;
    ensure!(class.profile == Profile::Quilt && class.warm == 2);
    ensure!(class.egress.cidrs.len() == 1);
    let spec = &rendered.object("WorkerClass", "quilt")?["spec"];
    ensure!(
        spec["egress"]["hosts"]
            == json!([
                { "host": "s3.us-east-1.amazonaws.com" }, { "host": "sts.us-east-1.amazonaws.com" },
                { "host": "athena.us-east-1.amazonaws.com" }, { "host": "glue.us-east-1.amazonaws.com" },
            ])
    );
    let catalog = json!({
        "origin": "https://catalog.example.com", "registry": "https://registry.example.com",
        "region": "us-east-1",
    });
    ensure!(spec["credentials"] == json!({ "source": "catalog", "catalog": catalog }));

    let provider: IdentityProvider = rendered.one("quilt")?;
    let valid = validate::identity_provider::validate(&provider);
    ensure!(valid.is_ok(), "{:?}", valid.err());
    ensure!(provider.spec.classes == ["quilt"]);
    let asked = provider.spec.introspection.context("not asked")?.catalog;
    ensure!(asked.origin == "https://catalog.example.com" && asked.ca_bundle.is_none());
    Ok(())
}

#[tokio::test]
async fn quilts_values_reach_its_class() -> anyhow::Result<()> {
    let rendered = render(quilt(&json!({
        "path": "/quilt/mcp", "warm": 0, "idleTimeout": "1h", "memory": "2Gi", "region": "eu-west-1",
        "python": "/venv/bin/python", "caBundle": "PEM",
        "egress": { "hosts": ["b.s3.eu-west-1.amazonaws.com"], "cidrs": ["52.0.0.0/8"] },
        "extraSpec": { "limits": { "tenants": 5 }, "maxAge": "12h" },
    })))
    .await?;
    let spec = &rendered.object("WorkerClass", "quilt")?["spec"];
    ensure!(spec["path"] == "/quilt/mcp" && spec["warm"] == 0 && spec["idleTimeout"] == "1h");
    ensure!(spec["resources"] == json!({ "memory": "2Gi" }) && spec["maxAge"] == "12h");
    ensure!(spec["command"] == json!(["/venv/bin/python"]) && spec["limits"]["tenants"] == 5);
    let egress =
        json!({ "hosts": [{ "host": "b.s3.eu-west-1.amazonaws.com" }], "cidrs": ["52.0.0.0/8"] });
    ensure!(spec["egress"] == egress, "{spec}");
    ensure!(spec["credentials"]["catalog"]["region"] == "eu-west-1");
    ensure!(spec["credentials"]["catalog"]["caBundle"] == "PEM");
    let provider = rendered.object("IdentityProvider", "quilt")?;
    ensure!(provider["spec"]["introspection"]["catalog"]["caBundle"] == "PEM");
    Ok(())
}

#[tokio::test]
async fn a_catalog_and_an_aws_of_ones_own_are_where_the_values_say() -> anyhow::Result<()> {
    let rendered = render(quilt(&json!({
        "catalog": "catalog.corp.example:8443", "registry": "registry.corp.example:9443",
        "extraSpec": {
            "env": { "AWS_ENDPOINT_URL": "http://s3.corp.example:9000" },
            "egress": { "hosts": [{ "host": "s3.corp.example", "port": 9000, "plainHttp": true }] },
        },
    })))
    .await?;
    class(&rendered, "quilt")?;
    let spec = &rendered.object("WorkerClass", "quilt")?["spec"];
    let (catalog, egress) = (&spec["credentials"]["catalog"], &spec["egress"]);
    ensure!(catalog["origin"] == "https://catalog.corp.example:8443", "{spec}");
    ensure!(catalog["registry"] == "https://registry.corp.example:9443", "{spec}");
    // instead of AWS's own, and within the same ranges
    ensure!(egress["hosts"].as_array().is_some_and(|hosts| hosts.len() == 1), "{spec}");
    ensure!(egress["cidrs"] == json!(["0.0.0.0/0"]), "{spec}");
    let provider: IdentityProvider = rendered.one("quilt")?;
    let asked = provider.spec.introspection.context("not asked")?.catalog;
    ensure!(asked.origin == "https://catalog.corp.example:8443");
    Ok(())
}

#[tokio::test]
async fn a_pool_that_an_autoscaler_sizes_is_left_alone() -> anyhow::Result<()> {
    let mut values = quilt(&json!({ "warm": null }));
    values["classes"] = json!({ "notes": { "image": "i", "command": ["/notes"], "warm": null } });
    let rendered = render(values).await?;
    for class in ["quilt", "notes"] {
        let spec = &rendered.object("WorkerClass", class)?["spec"];
        ensure!(spec.get("image").is_some() && spec.get("warm").is_none(), "{spec}");
    }
    Ok(())
}

#[tokio::test]
async fn classes_and_providers_of_the_values_are_passed_on_as_they_are() -> anyhow::Result<()> {
    let notes = json!({ "image": "i", "command": ["/notes"], "warm": 3, "path": "/notes" });
    let staff = json!({ "classes": ["notes"], "jwt": {
        "issuer": "https://login.example.com", "audiences": ["a"], "jwks": { "discovery": true },
    }});
    let rendered =
        render(json!({ "classes": { "notes": notes }, "providers": { "staff": staff } })).await?;
    ensure!(rendered.object("WorkerClass", "notes")?["spec"] == notes);
    ensure!(rendered.object("IdentityProvider", "staff")?["spec"] == staff);
    class(&rendered, "notes").map(drop)
}

#[tokio::test]
async fn users_of_the_cluster_show_a_token_that_is_for_patchbay() -> anyhow::Result<()> {
    let users =
        json!({ "enabled": true, "classes": ["notes"], "issuer": "https://issuer.example" });
    let rendered = render(json!({ "clusterUsers": users })).await?;
    let expected = json!({ "classes": ["notes"], "jwt": {
        "issuer": "https://issuer.example", "audiences": ["patchbay"], "jwks": { "cluster": true },
    }});
    ensure!(rendered.object("IdentityProvider", "cluster-users")?["spec"] == expected);
    Ok(())
}
