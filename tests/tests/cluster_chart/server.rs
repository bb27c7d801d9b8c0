//! The chart on a real API server: installed, or asked what it would say.

use crate::chart::{NAMESPACE, render};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use patchbay_tests::{
    chart::{self, RELEASE, Release},
    cluster::{Cluster, default_directory, from, until},
    pods::stage::{ensure_defined, ensure_kinds},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Debug, fs};
use tokio::sync::OnceCell;

/// Where nothing but questions is asked of what Helm makes. It ends with the cluster.
const ASKED: &str = "rendered";

/// Fails unless the API server would take these objects as they are, without a word. What another's kind may be is
/// known from its published definition, and Pod Security is at its strictest.
pub(crate) async fn ask(cluster: &Cluster, objects: &[Value]) -> anyhow::Result<()> {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    let client = cluster.client().await?;
    PREPARED.get_or_try_init(async || prepare(cluster, &client).await).await?;
    // a pod's account has to be there, and what is only asked for does not come to be
    for pod in objects.iter().filter(|object| object["kind"] == "Pod") {
        let account = json!({ "metadata": { "name": pod["spec"]["serviceAccountName"] } });
        ensure_there(Api::<ServiceAccount>::namespaced(client.clone(), ASKED), account).await?;
    }
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("manifest.json");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    fs::write(&file, list.to_string())?;
    let mut kubectl = cluster.kubectl();
    // as Helm would
    kubectl.args(["apply", "--server-side", "--field-manager=helm", "--dry-run=server"]);
    kubectl.args(["--validate=strict", "--namespace", ASKED, "--output=name", "-f"]).arg(&file);
    let output = kubectl.output().await?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success() && said.is_empty(), "{said}");
    let taken = String::from_utf8(output.stdout)?.lines().count();
    ensure!(taken == objects.len(), "{taken} of {} objects were asked for", objects.len());
    Ok(())
}

/// Makes the kinds and the place.
async fn prepare(cluster: &Cluster, client: &Client) -> anyhow::Result<()> {
    ensure_kinds(client).await?;
    ensure_defined(client, cluster.others_definitions()?).await?;
    let namespace = json!({ "metadata": {
        "name": ASKED, "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
    }});
    ensure_there(Api::<Namespace>::all(client.clone()), namespace).await
}

/// Makes what another test may have made.
async fn ensure_there<K>(api: Api<K>, object: Value) -> anyhow::Result<()>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    match api.create(&PostParams::default(), &from(object)?).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        result => drop(result?),
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_takes_everything_that_the_chart_can_make_without_a_word()
-> anyhow::Result<()> {
    let mut values = crate::defaults::everything_and_others();
    for crds in [false, true] {
        values["crds"] = json!({ "install": crds });
        let rendered = render(values.clone()).await?;
        ensure!(rendered.objects().len() >= 40, "{}", rendered.objects().len());
        for kind in ["HTTPRoute", "ServiceMonitor", "PrometheusRule", "Certificate", "Issuer"] {
            ensure!(!rendered.names(kind).is_empty(), "no {kind} was asked for");
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_wrong_field_of_any_object_that_the_chart_makes_is_seen() -> anyhow::Result<()> {
    let cluster = Cluster::up(&default_directory()?).await?;
    let rendered = render(crate::defaults::everything_and_others()).await?;
    let mut kinds = BTreeSet::new();
    for object in rendered.objects() {
        let kind = object["kind"].as_str().context("no kind")?;
        // one of each
        if kinds.insert(kind) {
            let mut wrong = object.clone();
            wrong["metadata"]["lables"] = json!({});
            wrong["spce"] = json!({});
            let refused = ask(&cluster, &[wrong]).await.err();
            let said = refused.with_context(|| format!("a wrong {kind} is taken"))?.to_string();
            ensure!(said.contains("spce"), "{kind}: {said}");
        }
    }
    ensure!(kinds.len() >= 20, "{kinds:?}");
    // and of what a field may be, the definitions of others know as much
    for (kind, name, field, value) in [
        ("HTTPRoute", "patchbay", "/spec/rules/0/timeouts/request", json!("never")),
        ("Certificate", "patchbay-gateway", "/spec/usages/0", json!("anything")),
        ("ServiceMonitor", "patchbay", "/spec/endpoints/0/interval", json!("often")),
        ("PrometheusRule", "patchbay", "/spec/groups/0/rules/0/for", json!("a while")),
    ] {
        let mut wrong = rendered.object(kind, name)?.clone();
        *wrong.pointer_mut(field).with_context(|| format!("{kind} has no {field}"))? = value;
        ensure!(ask(&cluster, &[wrong]).await.is_err(), "a wrong {kind} is taken");
    }
    Ok(())
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
