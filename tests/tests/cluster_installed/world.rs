//! An installation by the chart, as users and administrators see it: each replica of the gateway at its own
//! address, tenants, workers, and the class's status.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use patchbay_crds::{Tenant, WorkerClass, marks::BOUND, tenant::TenantAssignment};
use patchbay_tests::{
    chart::{self, RELEASE, Release},
    cluster::{Strict, is_ready},
    mcp::McpClient,
    pods::{images, roots, watched},
};
use serde_json::{Value, json};
use std::{net::IpAddr, sync::Arc};

/// An installation that is up.
pub(crate) struct Installation {
    pub(crate) release: Release,
    /// The gateway's replicas.
    pub(crate) replicas: [Replica; 2],
    values: Value,
}

/// One replica of the gateway.
pub(crate) struct Replica {
    pub(crate) pod: String,
    pub(crate) address: IpAddr,
}

/// A tenant as it was when it was looked for.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) assignment: TenantAssignment,
}

impl Installation {
    /// Installs a release with the images of one and these further values, and waits until it is up.
    pub(crate) async fn make(place: Strict, further: Value) -> anyhow::Result<Self> {
        let worker = &images::import(&place.cluster).await?.worker;
        let controller = roots::controller(&place.cluster).await?;
        let values = with(chart::values(&place.cluster, &controller, worker)?, further)?;
        let release = Release::install_in(place, values.clone()).await?;
        release.ready().await?;
        let selector = ListParams::default().labels("app.kubernetes.io/component=gateway");
        let pods = release.place.pods().list(&selector).await?;
        let mut replicas = Vec::new();
        for pod in pods.items.iter().filter(|pod| is_ready(pod)) {
            let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
            let address = ip.context("no address")?.parse()?;
            replicas.push(Replica { pod: pod.name_any(), address });
        }
        let replicas = replicas.try_into();
        let replicas = replicas.map_err(|_| anyhow::anyhow!("not two replicas"))?;
        Ok(Self { release, replicas, values })
    }

    /// Upgrades it to other values, of which these differ.
    pub(crate) async fn upgrade(&mut self, further: Value) -> anyhow::Result<()> {
        self.values = with(self.values.take(), further)?;
        self.release.helm(&["upgrade", RELEASE], self.values.clone()).await.map(drop)
    }

    /// A client of a class through one replica, which it addresses as clients in the cluster address them all.
    pub(crate) fn client(
        &self,
        replica: usize,
        path: &str,
        (header, credential): (&str, &str),
    ) -> anyhow::Result<McpClient> {
        let Replica { address, .. } = self.replicas.get(replica).context("no such replica")?;
        let host = format!("{RELEASE}-gateway.{}.svc:8080", self.release.place.name);
        let headers = [("host", host.as_str()), (header, credential)];
        Ok(McpClient::with_headers(&format!("http://{address}:8080{path}"), &headers))
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        self.release.place.pods()
    }

    pub(crate) fn tenants(&self) -> Api<Tenant> {
        Api::namespaced(self.release.place.client.clone(), &self.release.place.name)
    }

    pub(crate) fn classes(&self) -> Api<WorkerClass> {
        Api::namespaced(self.release.place.client.clone(), &self.release.place.name)
    }

    /// The tenant of a user who has one worker, or had one.
    pub(crate) async fn tenant(&self, subject: &str) -> anyhow::Result<Seen> {
        let all = self.tenants().list(&ListParams::default()).await?;
        let mut of_user = all.into_iter().filter(|it| it.spec.identity.subject == subject);
        let tenant = of_user.next().with_context(|| format!("{subject} has no tenant"))?;
        ensure!(of_user.next().is_none(), "{subject} has two tenants");
        Ok(Seen {
            name: tenant.name_any(),
            uid: tenant.uid().context("no UID")?,
            assignment: tenant.spec.assignment.context("no assignment")?,
        })
    }

    /// Waits until `is_so` of a tenant.
    pub(crate) async fn until(
        &self,
        tenant: &str,
        what: &str,
        is_so: impl Fn(&Tenant) -> bool,
    ) -> anyhow::Result<Tenant> {
        let found = watched::one(self.tenants(), tenant, what, |it| it.is_some_and(&is_so));
        self.or_told(found.await).await?.context("it is gone")
    }

    /// Waits until a class has this many workers that nobody has, all of which a gateway may claim.
    pub(crate) async fn warm(&self, class: &str, count: usize) -> anyhow::Result<Vec<Arc<Pod>>> {
        let labels = format!("patchbay.dev/class={class},!{BOUND}");
        let found = watched::all(self.pods(), labels, "the pool is as wanted", |pods| {
            pods.len() == count && pods.iter().all(|pod| is_ready(pod))
        });
        let pods = self.or_told(found.await).await?;
        let counted = watched::one(self.classes(), class, "they are counted", |class| {
            let status = class.and_then(|class| class.status.as_ref());
            status.is_some_and(|status| usize::try_from(status.warm).is_ok_and(|it| it == count))
        });
        self.or_told(counted.await).await?;
        Ok(pods)
    }

    /// Waits until a pod is no more.
    pub(crate) async fn gone(&self, pod: &str) -> anyhow::Result<()> {
        let gone = watched::one(self.pods(), pod, "it is gone", |pod| pod.is_none());
        self.or_told(gone.await).await.map(drop)
    }

    /// Changes a tenant, as an administrator would.
    pub(crate) async fn edit(&self, tenant: &str, change: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(change);
        self.tenants().patch(tenant, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// A failure with what the installation says of itself.
    pub(crate) async fn or_told<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => Err(error.context(self.release.told().await?)),
        }
    }
}

/// Values with further ones in their places.
fn with(mut values: Value, further: Value) -> anyhow::Result<Value> {
    let all = values.as_object_mut().context("values are an object")?;
    let Value::Object(further) = further else {
        anyhow::bail!("values are an object: {}", json!(further))
    };
    all.extend(further);
    Ok(values)
}
