//! The chart, installed by Helm on a real cluster. It must not know what is tried there.

use crate::{
    cluster::{Cluster, Strict, until},
    pods::{stage::ensure_kinds, watched},
    repository::repository,
};
use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use tokio::{net::TcpStream, process::Command};

/// What tests call their release.
pub const RELEASE: &str = "patchbay";

/// The gateways' Service, whose name a gateway answers to.
pub const SERVICE: &str = "patchbay-gateway";

/// Where the chart is.
pub fn path() -> PathBuf {
    repository().join("charts/patchbay")
}

/// Runs Helm on the chart with these values; what it says.
pub async fn run(
    cluster: &Cluster,
    command: &[&str],
    namespace: &str,
    values: &Value,
) -> anyhow::Result<String> {
    run_by(cluster.helm(), command, namespace, values).await
}

/// The same with whatever Helm this is.
pub async fn run_by(
    mut helm: Command,
    command: &[&str],
    namespace: &str,
    values: &Value,
) -> anyhow::Result<String> {
    let directory = tempfile::tempdir()?;
    // JSON is YAML
    let file = directory.path().join("values.yaml");
    fs::write(&file, values.to_string())?;
    helm.args(command).arg(path()).args(["--namespace", namespace]).arg("--values").arg(&file);
    let output = helm.output().await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm {}: {complaint}", command.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// An image, `NAME:TAG`, as values of the chart.
pub fn image(name: &str) -> anyhow::Result<Value> {
    // a registry may have a port
    let (repository, tag) = name.rsplit_once(':').context("no tag")?;
    Ok(json!({ "repository": repository, "tag": tag }))
}

/// Values with which the chart is installed on a cluster: these images, by `NAME:TAG`, and whose addresses are whose.
pub fn values(cluster: &Cluster, controller: &str, worker: &str) -> anyhow::Result<Value> {
    let mut own = image(controller)?;
    own["pullPolicy"] = json!("Never");
    let addresses = cluster.addresses()?;
    let ranges = [addresses.pods(), addresses.services(), format!("{}/32", addresses.node())];
    Ok(json!({ "image": own, "workerImage": image(worker)?, "cluster": { "ranges": ranges } }))
}

/// A release in a namespace of its own, on a cluster that has the kinds.
pub struct Release {
    /// Where it is.
    pub place: Strict,
}

impl Release {
    /// Installs it.
    pub async fn install(name: &str, values: Value) -> anyhow::Result<Self> {
        Self::install_in(Strict::make(name).await?, values).await
    }

    /// The same in a namespace that has what the values name.
    pub async fn install_in(place: Strict, values: Value) -> anyhow::Result<Self> {
        ensure_kinds(&place.client).await?;
        let release = Self { place };
        release.helm(&["install", RELEASE], values).await?;
        Ok(release)
    }

    /// Waits until every replica of its programs is ready, and the node leads to the gateways.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let deployments =
            || Api::<Deployment>::namespaced(self.place.client.clone(), &self.place.name);
        for component in ["operator", "gateway"] {
            let name = format!("{RELEASE}-{component}");
            let all = watched::one(deployments(), name, "all replicas are ready", |found| {
                let wanted = found.and_then(|it| it.spec.as_ref()?.replicas);
                let status = found.and_then(|it| it.status.as_ref());
                wanted.is_some() && status.and_then(|status| status.ready_replicas) == wanted
            });
            if let Err(error) = all.await {
                return Err(error.context(self.told().await?));
            }
        }
        self.service().await.map(drop)
    }

    /// Where the gateways' Service is, `ADDRESS:PORT`, as soon as a connection to it is taken: a node leads there
    /// a while after the first gateway was ready, and until then knows no such address.
    pub async fn service(&self) -> anyhow::Result<String> {
        let services = Api::<Service>::namespaced(self.place.client.clone(), &self.place.name);
        let spec = services.get(SERVICE).await?.spec.context("no specification")?;
        let port = spec.ports.and_then(|ports| Some(ports.first()?.port)).context("no port")?;
        let address = format!("{}:{port}", spec.cluster_ip.context("no address")?);
        until(&format!("{address} leads to a gateway"), async || {
            Ok(TcpStream::connect(&address).await.map(|_| true)?)
        })
        .await?;
        Ok(address)
    }

    /// What is there and what the programs said, for failures.
    pub async fn told(&self) -> anyhow::Result<String> {
        let there =
            self.place.kubectl(&["get", "pods,workerclasses,tenants", "-o", "wide"]).await?;
        let all = "--selector=app.kubernetes.io/part-of=patchbay";
        // a container that has not started yet says nothing, and must not keep the others from being heard
        let each = ["--all-containers", "--ignore-errors", "--prefix", "--tail=40"];
        let logs = self.place.kubectl(&[&["logs", all], &each[..]].concat()).await;
        Ok(format!("{there}\n{}", logs.unwrap_or_else(|error| format!("{error:#}"))))
    }

    /// Runs Helm on it; the kinds are the suite's.
    pub async fn helm(&self, command: &[&str], mut values: Value) -> anyhow::Result<String> {
        values["crds"] = json!({ "install": false });
        run(&self.place.cluster, command, &self.place.name, &values).await
    }

    /// A client of one of its accounts.
    pub async fn client_of(&self, component: &str) -> anyhow::Result<Client> {
        self.place.cluster.client_as(&self.user(component)).await
    }

    /// The account of a component.
    pub fn user(&self, component: &str) -> String {
        format!("system:serviceaccount:{}:{RELEASE}-{component}", self.place.name)
    }

    /// Gives an account a right on Patchbay's objects that the chart does not give it.
    pub async fn grant(&self, component: &str, what: &str, verb: &str) -> anyhow::Result<()> {
        let (name, part) = what.split_once('/').unwrap_or((what, ""));
        let resource = format!("--resource={name}.patchbay.dev/{part}");
        let verb = format!("--verb={verb}");
        self.place.kubectl(&["create", "role", "more", &verb, &resource]).await?;
        let account = format!("--serviceaccount={}:{RELEASE}-{component}", self.place.name);
        self.place
            .kubectl(&["create", "rolebinding", "more", "--role=more", &account])
            .await
            .map(drop)
    }

    /// Takes it away.
    pub async fn end(self) -> anyhow::Result<()> {
        self.place.helm(&["uninstall", RELEASE]).await?;
        self.place.end().await
    }
}
