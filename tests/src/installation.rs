//! Patchbay as the chart installs it, with the images that users get: its values, its objects, and the replicas of its
//! programs. It must not know who its users are, nor what is done to it.

use crate::{
    chart::{self, RELEASE, Release},
    cluster::{Strict, is_ready},
    pods::{
        images::{self, Images},
        roots,
    },
};
use anyhow::Context;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{Api, Resource, ResourceExt as _, api::ListParams};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};

/// Where gateways listen.
const PORT: u16 = 8080;

/// An installation.
pub struct Installed {
    /// Its release, and where it is.
    pub release: Release,
    values: Value,
}

/// A pod of one of its programs.
pub struct Replica {
    /// The pod's name.
    pub pod: String,
    /// The component, by which its container is called too.
    pub component: String,
    /// Where it is, past the Service.
    pub address: IpAddr,
}

impl Replica {
    /// A gateway's URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.address, PORT))
    }
}

impl Installed {
    /// Installs a release with these further values. Helm returns when the API server has it.
    pub async fn make(place: Strict, further: Value) -> anyhow::Result<Self> {
        let worker = &images::import(&place.cluster).await?.worker;
        let controller = roots::controller(&place.cluster).await?;
        let values = with(chart::values(&place.cluster, &controller, worker)?, further)?;
        let release = Release::install_in(place, values.clone()).await?;
        Ok(Self { release, values })
    }

    /// Takes it away.
    pub async fn end(self) -> anyhow::Result<()> {
        self.release.end().await
    }

    /// Upgrades it with this change of its values. Helm returns when the API server has it.
    pub async fn upgrade(&mut self, change: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
        change(&mut self.values);
        self.release.helm(&["upgrade", RELEASE], self.values.clone()).await.map(drop)
    }

    /// Its objects of a kind.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.release.place.client.clone(), &self.release.place.name)
    }

    /// The pods of a component, those that end as well.
    pub async fn pods_of(&self, component: &str) -> anyhow::Result<Vec<Pod>> {
        let labels = format!("app.kubernetes.io/component={component}");
        Ok(self.api::<Pod>().list(&ListParams::default().labels(&labels)).await?.items)
    }

    /// The replicas of a component that are ready; it is an error if there are others than so many.
    pub async fn replicas<const N: usize>(&self, component: &str) -> anyhow::Result<[Replica; N]> {
        let mut pods = self.pods_of(component).await?;
        pods.retain(is_ready);
        let replica = |pod: Pod| -> anyhow::Result<Replica> {
            let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
            let address = ip.context("no address")?.parse()?;
            Ok(Replica { pod: pod.name_any(), component: component.to_owned(), address })
        };
        let replicas = pods.into_iter().map(replica).collect::<anyhow::Result<Vec<_>>>()?;
        replicas.try_into().map_err(|_| anyhow::anyhow!("not {N} of {component}"))
    }

    /// A failure with what the installation says of itself.
    pub async fn or_told<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => Err(error.context(self.release.told().await?)),
        }
    }
}

/// A class of the fixture server, as a value of the chart, with these further fields.
pub fn class(images: &Images, path: &str, further: Value) -> anyhow::Result<Value> {
    let class = json!({
        "image": images.fixture, "command": ["/fixture-server"], "path": path,
        "server": { "readyPath": "/healthz" }, "resources": { "memory": "128Mi" },
        "tmpfs": { "home": "4Mi", "tmp": "4Mi", "run": "1Mi" },
    });
    with(class, further)
}

/// An object with further fields in their places.
pub fn with(mut object: Value, further: Value) -> anyhow::Result<Value> {
    let all = object.as_object_mut().context("not an object")?;
    let Value::Object(further) = further else {
        anyhow::bail!("not an object: {further}");
    };
    all.extend(further);
    Ok(object)
}
