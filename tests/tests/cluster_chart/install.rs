//! `docs/install.md`, followed on a cluster of its own with nothing in it.

use crate::{
    chart::render,
    guide::{NAMESPACE, Reader, guides},
};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::ListParams};
use patchbay_crds::WorkerClass;
use patchbay_tests::{
    anywhere::Forward,
    chart::{RELEASE, path, run, values},
    cluster::Cluster,
    mcp::McpClient,
    pods::images,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

/// A directory for a cluster, which is taken down however the test ends.
struct Home(tempfile::TempDir);

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = Cluster::take_down(self.0.path()) {
            eprintln!("the cluster is left: {error:#}");
        }
    }
}

#[tokio::test]
async fn every_value_in_the_document_is_one_that_the_chart_takes() -> anyhow::Result<()> {
    let [guide, apart] = guides()?;
    ensure!(guide.values.len() == 4, "{}", guide.values.len());
    let rendered = render(guide.file(4)).await?;
    ensure!(rendered.names("WorkerClass") == ["notes", "quilt"]);
    ensure!(rendered.names("IdentityProvider") == ["cluster-users", "quilt", "staff"]);
    ensure!(apart.values.len() == 1, "{}", apart.values.len());
    // what is left is a namespace's
    let rendered = render(apart.file(1)).await?;
    let kinds: BTreeSet<_> =
        rendered.objects().iter().filter_map(|object| object["kind"].as_str()).collect();
    let of_the_cluster = |kind: &&str| {
        let prefixes = ["Cluster", "ValidatingAdmission", "CustomResource", "Role"];
        prefixes.iter().any(|prefix| kind.starts_with(prefix))
    };
    ensure!(!kinds.iter().any(of_the_cluster), "{kinds:?}");
    Ok(())
}

/// Brings the images where the document's cluster would pull them from.
async fn publish(cluster: &Cluster, values: &Value) -> anyhow::Result<()> {
    let chart: Value = serde_saphyr::from_str(&fs::read_to_string(path().join("Chart.yaml"))?)?;
    let version = chart["appVersion"].as_str().context("the chart has no version")?;
    let name = |of: &str| {
        let repository = values[of]["repository"].as_str().context("no repository")?;
        anyhow::Ok(format!("{repository}:{version}"))
    };
    let notes = &values["classes"]["notes"];
    let server = notes["image"].as_str().context("no image")?;
    let command = notes["command"][0].as_str();
    for made in [
        images::controller().await?.published_as(&name("image")?, None)?,
        images::worker()?.published_as(&name("workerImage")?, None)?,
        images::fixture().await?.published_as(server, command)?,
    ] {
        made.import(cluster).await?;
    }
    Ok(())
}

/// Goes the way to the gateway that the document shows, from another port, and calls a tool as a user of the cluster.
async fn call(cluster: &Cluster, command: &str) -> anyhow::Result<()> {
    let words = command.split_whitespace().skip(1).map(|word| word.replace("8080:", ":"));
    let mut way = cluster.kubectl();
    way.args(words);
    let way = Forward::begin(way).await?;
    let token = ["--namespace", NAMESPACE, "create", "token", "default", "--audience", "patchbay"];
    let token = cluster.kubectl().args(token).output().await?;
    ensure!(token.status.success(), "{}", String::from_utf8_lossy(&token.stderr));
    let token = String::from_utf8(token.stdout)?;
    let url = format!("{}/mcp", way.url.replace("127.0.0.1", "localhost"));
    let said =
        McpClient::bearer(&url, token.trim()).call("echo", json!({ "text": "hello" })).await?;
    ensure!(said.to_string().contains("hello"), "{said}");
    Ok(())
}

#[tokio::test]
async fn from_nothing_to_a_first_tool_call_and_back() -> anyhow::Result<()> {
    let [guide, _] = guides()?;
    let home = Home(tempfile::tempdir()?);
    let cluster = Cluster::up(home.0.path()).await?;
    let client = cluster.client().await?;
    let reader = Reader::new(&cluster, NAMESPACE)?;
    let follow = async |beginning: &str| reader.run(guide.follow(beginning)?).await;

    follow("kubectl get nodes").await?;
    let services = cluster.addresses()?.services();
    ensure!(follow("kubectl get servicecidrs").await?.contains(&services));
    follow("kubectl get pods").await?;
    let refused = follow("kubectl create service").await.err().context("it has the address")?;
    let range = format!("The range of valid IPs is {services}");
    ensure!(refused.to_string().contains(&range), "{refused}");
    let discovery: Value = serde_json::from_str(&follow("kubectl get --raw").await?)?;
    let mut with_classes = guide.file(3);
    with_classes["clusterUsers"]["issuer"] = discovery["issuer"].clone();
    // what the commands of step 2 printed
    let ranges = values(&cluster, "c:1", "w:1")?["cluster"]["ranges"].clone();
    with_classes["cluster"]["ranges"] = ranges.clone();
    publish(&cluster, &with_classes).await?;

    // all at once is too much at once, and Patchbay says so
    let refused =
        run(&cluster, &["install", RELEASE, "--create-namespace"], NAMESPACE, &with_classes).await;
    let refused = refused.err().context("taken")?.to_string();
    ensure!(refused.contains("the cluster does not know Patchbay's kinds yet"), "{refused}");

    let mut first = guide.file(2);
    first["cluster"]["ranges"] = ranges;
    reader.write(&first)?;
    let said = follow("helm install").await?;
    ensure!(said.contains("There is no class yet"), "{said}");
    let label = "kubectl label namespace";
    ensure!(said.contains(guide.command(label)?), "{said}");
    follow(label).await?;
    let namespace = Api::<Namespace>::all(client.clone()).get(NAMESPACE).await?;
    let labels = namespace.metadata.labels.context("no labels")?;
    ensure!(labels["pod-security.kubernetes.io/enforce"] == "restricted");

    follow("kubectl --namespace patchbay rollout status").await?;
    let explained = follow("kubectl explain workerclass.spec").await?;
    ensure!(explained.contains("idleTimeout"), "{explained}");

    reader.write(&with_classes)?;
    let said = follow("helm upgrade").await?;
    ensure!(!said.contains(label), "{said}");
    ensure!(said.contains(&format!("kubectl --namespace {NAMESPACE} get workerclasses")), "{said}");
    ensure!(said.contains("http://localhost:8080/mcp"), "{said}");
    ensure!(said.contains(guide.command("kubectl --namespace patchbay port-forward")?), "{said}");
    let classes = Api::<WorkerClass>::namespaced(client, NAMESPACE);
    ensure!(classes.get_opt("notes").await?.is_some());
    follow("kubectl --namespace patchbay wait").await?;

    let said = follow("helm test").await?;
    ensure!(said.contains("tools/list   ok"), "{said}");
    call(&cluster, guide.follow("kubectl --namespace patchbay port-forward")?).await?;
    let tenants = follow("kubectl --namespace patchbay get tenants").await?;
    ensure!(tenants.contains("system:serviceaccount:patchbay:default"), "{tenants}");
    guide.ensure_followed()?;

    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE];
    let uninstall = cluster.helm().args(uninstall).output().await?;
    ensure!(uninstall.status.success(), "{}", String::from_utf8_lossy(&uninstall.stderr));
    // a kind that is gone has no list
    ensure!(classes.list(&ListParams::default()).await?.items.is_empty());
    // installed again, all comes at once
    run(&cluster, &["install", RELEASE], NAMESPACE, &with_classes).await?;
    cluster.down()
}
