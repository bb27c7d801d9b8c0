//! An installation by somebody who has the rights of one namespace, as the last part of `docs/install.md` says it.

use crate::guide::{Reader, guides};
use anyhow::{Context, ensure};
use patchbay_tests::{
    chart::{self, Release},
    cluster::{Cluster, Strict, default_directory},
    pods::images::{self, import_controller},
};
use serde_json::{Value, json};

/// Who installs it, in the document too.
const INSTALLER: Option<&str> = Some("carol");

/// What is in the reader's file: a class, users of the cluster, and what is left to an administrator.
async fn file(cluster: &Cluster, left: &Value) -> anyhow::Result<Value> {
    let images = images::import(cluster).await?;
    let mut values = chart::values(cluster, &import_controller(cluster).await?, &images.worker)?;
    values["classes"] = json!({ "notes": {
        "image": images.fixture, "command": ["/fixture-server"],
        "server": { "readyPath": "/healthz" }, "resources": { "memory": "128Mi" },
        "tmpfs": { "home": "4Mi", "tmp": "4Mi", "run": "1Mi" },
    }});
    let issuer = cluster.addresses()?.api_url();
    values["clusterUsers"] = json!({ "enabled": true, "classes": ["notes"], "issuer": issuer });
    let all = values.as_object_mut().context("values are an object")?;
    all.extend(left.as_object().context("values are an object")?.clone());
    Ok(values)
}

#[tokio::test]
async fn the_rights_of_a_namespace_are_enough_once_an_administrator_has_made_the_rest()
-> anyhow::Result<()> {
    let [guide, apart] = guides()?;
    let cluster = Cluster::up(&default_directory()?).await?;
    let client = cluster.client().await?;
    let name = format!("apart-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let release = Release { place: Strict { cluster, client, name } };
    let Strict { cluster, name, .. } = &release.place;
    let values = file(cluster, &apart.file(1)).await?;
    let mut everything = values.clone();
    for left in ["crds", "rbac", "admissionPolicies", "operator"] {
        everything[left] = json!({});
    }

    let reader = Reader::new(cluster, name)?;
    reader.write(&values)?;
    for beginning in [
        "kubectl create namespace",
        "kubectl label namespace",
        "kubectl apply --server-side",
        "helm template",
        "kubectl apply --namespace",
        "kubectl create rolebinding patchbay-installer",
        "kubectl create role ",
        "kubectl create rolebinding patchbay-classes",
    ] {
        reader.run(apart.follow(beginning)?).await?;
    }
    apart.ensure_followed()?;

    let install = guide.command("helm install")?.replace("--create-namespace ", "");
    reader.write(&everything)?;
    let refused = reader.run_as(INSTALLER, &install).await.err().context("she may do anything")?;
    ensure!(refused.to_string().contains("forbidden"), "{refused}");
    reader.write(&values)?;
    reader.run_as(INSTALLER, &install).await?;

    release.ready().await?;
    for beginning in ["kubectl --namespace patchbay rollout", "kubectl --namespace patchbay wait"] {
        reader.run_as(INSTALLER, guide.command(beginning)?).await?;
    }
    let said = match reader.run_as(INSTALLER, guide.command("helm test")?).await {
        Ok(said) => said,
        Err(error) => return Err(error.context(release.told().await?)),
    };
    ensure!(said.contains("tools/list   ok"), "{said}");
    ensure!(said.contains("the cluster enforces NetworkPolicies"), "{said}");
    let tenants = guide.command("kubectl --namespace patchbay get tenants")?;
    let tenants = reader.run_as(INSTALLER, tenants).await?;
    ensure!(tenants.contains("contact-test"), "{tenants}");
    reader.run_as(INSTALLER, "helm uninstall patchbay --namespace patchbay").await?;
    reader.run("kubectl delete --namespace patchbay --filename rights.yaml").await?;
    release.place.end().await
}
