//! `docs/install.md`, followed on a cluster of its own with nothing in it.

use crate::chart::render;
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
    repository::repository,
};
use serde_json::{Value, json};
use std::{fs, path::Path};
use tokio::process::Command;

/// The namespace in the documentation.
const NAMESPACE: &str = "patchbay";

/// What the document asks for: commands, and values.
struct Guide {
    commands: Vec<String>,
    values: Vec<Value>,
}

fn guide() -> anyhow::Result<Guide> {
    let text = fs::read_to_string(repository().join("docs/install.md"))?;
    let mut guide = Guide { commands: Vec::new(), values: Vec::new() };
    for block in text.split("\n\n").filter(|block| block.starts_with("    ")) {
        let lines: Vec<_> =
            block.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
        let is_command = |line: &&str| line.starts_with("helm ") || line.starts_with("kubectl ");
        if lines.iter().all(is_command) {
            guide.commands.extend(lines.into_iter().map(str::to_owned));
        } else {
            guide.values.push(serde_saphyr::from_str(&lines.join("\n"))?);
        }
    }
    Ok(guide)
}

impl Guide {
    /// The command that begins so.
    fn command(&self, beginning: &str) -> anyhow::Result<&str> {
        let mut found = self.commands.iter().filter(|command| command.starts_with(beginning));
        let command = found.next().with_context(|| format!("the document has no `{beginning}`"))?;
        ensure!(found.next().is_none(), "more than one `{beginning}`");
        Ok(command)
    }

    /// All values together, as they come together in the reader's file, up to a step.
    fn file(&self, steps: usize) -> Value {
        let mut all = json!({});
        for values in self.values.iter().take(steps) {
            if let (Some(all), Some(more)) = (all.as_object_mut(), values.as_object()) {
                all.extend(more.clone());
            }
        }
        all
    }
}

/// Runs a command of the document, in a directory that has the reader's file and the chart.
async fn follow(cluster: &Cluster, directory: &Path, command: &str) -> anyhow::Result<String> {
    let mut words = command.split_whitespace();
    let mut program: Command = match words.next() {
        Some("helm") => cluster.helm(),
        _ => cluster.kubectl(),
    };
    let words = words.map(|word| word.trim_matches('\''));
    let output = program.args(words).current_dir(directory).output().await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

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
    let guide = guide()?;
    ensure!(guide.values.len() == 4, "{}", guide.values.len());
    let rendered = render(guide.file(4)).await?;
    ensure!(rendered.names("WorkerClass") == ["notes", "quilt"]);
    ensure!(rendered.names("IdentityProvider") == ["cluster-users", "quilt", "staff"]);
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
    let guide = guide()?;
    let home = Home(tempfile::tempdir()?);
    let reader = tempfile::tempdir()?;
    std::os::unix::fs::symlink(path().parent().context("charts")?, reader.path().join("charts"))?;
    let write = |values: &Value| fs::write(reader.path().join("values.yaml"), values.to_string());
    let cluster = Cluster::up(home.0.path()).await?;
    let client = cluster.client().await?;
    let follow =
        async |beginning: &str| follow(&cluster, reader.path(), guide.command(beginning)?).await;

    follow("kubectl get nodes").await?;
    let discovery: Value = serde_json::from_str(&follow("kubectl get --raw").await?)?;
    let mut with_classes = guide.file(3);
    with_classes["clusterUsers"]["issuer"] = discovery["issuer"].clone();
    // what the two commands of step 2 printed
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
    write(&first)?;
    let said = follow("helm install").await?;
    ensure!(said.contains("There is no class yet"), "{said}");
    let label = "kubectl label namespace";
    ensure!(said.contains(guide.command(label)?), "{said}");
    follow(label).await?;
    let namespace = Api::<Namespace>::all(client.clone()).get(NAMESPACE).await?;
    let labels = namespace.metadata.labels.context("no labels")?;
    ensure!(labels["pod-security.kubernetes.io/enforce"] == "restricted");

    follow("kubectl --namespace patchbay rollout status").await?;

    write(&with_classes)?;
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
    call(&cluster, guide.command("kubectl --namespace patchbay port-forward")?).await?;
    let tenants = follow("kubectl --namespace patchbay get tenants").await?;
    ensure!(tenants.contains("system:serviceaccount:patchbay:default"), "{tenants}");

    let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE];
    let uninstall = cluster.helm().args(uninstall).output().await?;
    ensure!(uninstall.status.success(), "{}", String::from_utf8_lossy(&uninstall.stderr));
    // a kind that is gone has no list
    ensure!(classes.list(&ListParams::default()).await?.items.is_empty());
    // installed again, all comes at once
    run(&cluster, &["install", RELEASE], NAMESPACE, &with_classes).await?;
    cluster.down()
}
