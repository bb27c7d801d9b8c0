//! The chart as Helm renders it, as objects of their types.

use crate::server;
use anyhow::{Context, ensure};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, Pod, PodSpec},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use patchbay_tests::{
    chart::{RELEASE, run},
    cluster::{Cluster, default_directory, from},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The namespace of what is only rendered.
pub(crate) const NAMESPACE: &str = "patchbay-system";

/// Objects that Helm made.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// As Helm wrote them.
    pub(crate) text: String,
    objects: Vec<Value>,
}

/// A pod that the chart makes, or a Deployment of it would.
#[derive(Debug)]
pub(crate) struct AnyPod {
    /// Whose it is, such as `Deployment/patchbay-gateway`.
    pub(crate) of: String,
    pub(crate) spec: PodSpec,
}

/// What Helm makes of these values, and the API server has taken to the last object.
pub(crate) async fn render(values: Value) -> anyhow::Result<Rendered> {
    let cluster = Cluster::up(&default_directory()?).await?;
    let rendered = template(&cluster, values.clone()).await?;
    server::ask(&cluster, rendered.objects()).await.with_context(|| values.to_string())?;
    Ok(rendered)
}

/// What Helm makes of these values, whatever a server says of it.
async fn template(cluster: &Cluster, values: Value) -> anyhow::Result<Rendered> {
    let text = run(cluster, &["template", RELEASE], NAMESPACE, &values).await?;
    let all: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let objects = all.into_iter().filter(|object| !object.is_null()).collect();
    Ok(Rendered { text, objects })
}

/// Why Helm refuses these values.
pub(crate) async fn refusal(values: Value) -> anyhow::Result<String> {
    let cluster = Cluster::up(&default_directory()?).await?;
    let refused = template(&cluster, values.clone()).await.err();
    Ok(refused.with_context(|| format!("taken: {values}"))?.to_string())
}

impl Rendered {
    /// The names of a kind's objects, in order.
    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let of_kind = self.objects.iter().filter(|object| object["kind"] == kind);
        let mut names: Vec<_> =
            of_kind.filter_map(|it| it["metadata"]["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        names
    }

    /// Every object, as it is written.
    pub(crate) fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// One object, as it is written.
    pub(crate) fn object(&self, kind: &str, name: &str) -> anyhow::Result<&Value> {
        let is_it = |it: &&Value| it["kind"] == kind && it["metadata"]["name"] == name;
        let mut found = self.objects.iter().filter(is_it);
        let object = found.next().with_context(|| format!("no {kind} {name}"))?;
        ensure!(found.next().is_none(), "more than one {kind} {name}");
        Ok(object)
    }

    /// One object of its type, whose name is its Rust name too.
    pub(crate) fn one<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<T> {
        let path = std::any::type_name::<T>();
        let kind = path.rsplit("::").next().unwrap_or(path);
        from(self.object(kind, name)?.clone())
    }

    /// The one container of a Deployment.
    pub(crate) fn container(&self, deployment: &str) -> anyhow::Result<Container> {
        let mut spec = self.pod_spec(deployment)?;
        ensure!(spec.containers.len() == 1);
        spec.containers.pop().context("no container")
    }

    /// What pods of a Deployment are.
    pub(crate) fn pod_spec(&self, deployment: &str) -> anyhow::Result<PodSpec> {
        let deployment: Deployment = self.one(deployment)?;
        deployment.spec.and_then(|spec| spec.template.spec).context("no pod")
    }

    /// The arguments of a Deployment's container.
    pub(crate) fn arguments(&self, deployment: &str) -> anyhow::Result<Vec<String>> {
        self.container(deployment)?.args.context("no arguments")
    }

    /// Every pod that could come of it.
    pub(crate) fn pods(&self) -> anyhow::Result<Vec<AnyPod>> {
        let mut pods = Vec::new();
        for name in self.names("Deployment") {
            pods.push(AnyPod { spec: self.pod_spec(&name)?, of: format!("Deployment/{name}") });
        }
        for name in self.names("Pod") {
            let spec = self.one::<Pod>(&name)?.spec.context("no spec")?;
            pods.push(AnyPod { of: format!("Pod/{name}"), spec });
        }
        Ok(pods)
    }

    /// The ports, by name or number, to which a policy lets in or out, with the peers as they are written.
    pub(crate) fn peers_at(
        &self,
        policy: &str,
        direction: Direction,
        port: &IntOrString,
    ) -> anyhow::Result<Option<Value>> {
        let policy: NetworkPolicy = self.one(policy)?;
        let spec = policy.spec.context("no spec")?;
        let rules: Vec<_> = match direction {
            Direction::In => spec
                .ingress
                .into_iter()
                .flatten()
                .map(|rule| (rule.ports, serde_json::to_value(rule.from)))
                .collect(),
            Direction::Out => spec
                .egress
                .into_iter()
                .flatten()
                .map(|rule| (rule.ports, serde_json::to_value(rule.to)))
                .collect(),
        };
        let mut peers = Vec::new();
        for (ports, whom) in rules {
            if ports
                .context("a rule for all ports")?
                .iter()
                .any(|it| it.port.as_ref() == Some(port))
            {
                peers.push(whom?);
            }
        }
        Ok((!peers.is_empty()).then_some(Value::Array(peers)))
    }
}

/// Which way a connection is made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    In,
    Out,
}
