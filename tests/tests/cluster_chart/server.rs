//! The chart on a real API server: installed, or asked what it would say.

use crate::chart::NAMESPACE;
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use patchbay_tests::{
    chart::{self, RELEASE, Release},
    cluster::{Cluster, default_directory, until},
};
use serde_json::{Value, json};
use std::fs;

/// Whether the API server itself knows a kind, or Patchbay's definitions make it known.
fn is_known(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    group.is_empty()
        || !group.contains('.')
        || group.ends_with(".k8s.io") && group != "gateway.networking.k8s.io"
        || group == "patchbay.dev"
}

#[tokio::test]
async fn the_api_server_takes_everything_that_the_chart_can_make_without_a_word()
-> anyhow::Result<()> {
    let mut values = crate::defaults::everything();
    let release = Release::install("strict", json!({})).await?;
    // a pod's account has to be there, and what is only asked for does not come to be
    for account in ["patchbay-verify-test", "patchbay-contact-test"] {
        release.place.kubectl(&["create", "serviceaccount", account]).await?;
    }
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("manifest.yaml");
    for crds in [false, true] {
        values["crds"] = json!({ "install": crds });
        let arguments = ["template", RELEASE];
        let text =
            chart::run(&release.place.cluster, &arguments, &release.place.name, &values).await?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        let known: Vec<_> =
            objects.into_iter().filter(|it| !it.is_null() && is_known(it)).collect();
        ensure!(known.len() >= 30, "{}", known.len());
        fs::write(
            &file,
            json!({ "apiVersion": "v1", "kind": "List", "items": known }).to_string(),
        )?;
        let mut kubectl = release.place.cluster.kubectl();
        // as Helm would: what this manifest leaves out goes
        kubectl.args(["apply", "--server-side", "--field-manager=helm", "--dry-run=server"]);
        kubectl.args(["--validate=strict", "--namespace", &release.place.name, "-f"]).arg(&file);
        let output = kubectl.output().await?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success() && said.is_empty(), "{said}");
    }
    release.end().await
}

#[tokio::test]
async fn pods_of_the_chart_are_admitted_where_only_restricted_ones_are() -> anyhow::Result<()> {
    let release =
        Release::install("admitted", json!({ "gateway": { "tls": { "secretName": "web" } } }))
            .await?;
    // a refused pod is not there
    until("both programs' pods are made", async || {
        let pods = release.place.pods().list(&ListParams::default()).await?;
        Ok(pods.items.len() == 4)
    })
    .await?;
    release.end().await
}

#[tokio::test]
async fn an_upgrade_leaves_the_control_planes_keys_alone_and_so_does_a_rollback()
-> anyhow::Result<()> {
    let release = Release::install("upgrade", json!({})).await?;
    // as the operator does, with the operator's rights
    let client = release.client_of("operator").await?;
    let secrets = Api::<Secret>::namespaced(client, &release.place.name);
    let names = ["patchbay-control-plane-ca", "patchbay-gateway-link", "patchbay-session-keys"];
    for name in names {
        let filled = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "stringData": { "tls.crt": "certificate", "tls.key": "key" },
        });
        let params = PatchParams::apply("patchbay-operator").force();
        secrets.patch(name, &params, &Patch::Apply(&filled)).await?;
    }
    for (number, way) in ["--server-side=true", "--server-side=false"].into_iter().enumerate() {
        let values = json!({ "gateway": { "drainSeconds": 10 + number } });
        release.helm(&["upgrade", RELEASE, way, "--force-conflicts=false"], values).await?;
        for name in names {
            let data = secrets.get(name).await?.data.context("its data is gone")?;
            ensure!(data.len() == 2 && data["tls.key"].0 == b"key", "{name}, {way}: {data:?}");
        }
    }
    release.place.helm(&["rollback", RELEASE, "1"]).await?;
    for name in names {
        ensure!(secrets.get(name).await?.data.is_some(), "{name}");
    }
    release.end().await
}

#[tokio::test]
async fn whoever_installs_it_is_told_what_workers_reach_and_do_not() -> anyhow::Result<()> {
    let cluster = Cluster::up(&default_directory()?).await?;
    let told = async |values: Value| {
        let values = json!({ "cluster": values, "crds": { "install": false } });
        let dry = ["install", RELEASE, "--dry-run=client"];
        let said = chart::run(&cluster, &dry, NAMESPACE, &values).await?;
        anyhow::Ok(said.split("NOTES:").nth(1).context("no notes")?.to_owned())
    };
    let (all, none) = ("has all of 10.0.0.0/8: workers reach nothing there", "is empty");
    let notes = told(json!({})).await?;
    ensure!(notes.contains(all) && !notes.contains(none), "{notes}");
    let notes = told(json!({ "ranges": [] })).await?;
    ensure!(!notes.contains(all) && notes.contains(none), "{notes}");
    let notes = told(json!({ "ranges": ["10.0.0.0/16"] })).await?;
    ensure!(!notes.contains(all) && !notes.contains(none), "{notes}");
    Ok(())
}
