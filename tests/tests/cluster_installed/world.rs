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
    chart::RELEASE,
    cluster::{Strict, is_ready},
    installation::{Installed, Replica},
    mcp::McpClient,
    pods::watched,
    served::Served,
};
use serde_json::Value;
use std::sync::Arc;

/// An installation that is up.
pub(crate) struct Installation {
    pub(crate) installed: Installed,
    /// The gateway's replicas.
    pub(crate) replicas: [Replica; 2],
}

/// A tenant as it was when it was looked for.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) assignment: TenantAssignment,
}

impl Installation {
    /// Installs a release with these further values, and waits until it is up.
    pub(crate) async fn make(place: Strict, further: Value) -> anyhow::Result<Self> {
        let installed = Installed::make(place, further).await?;
        installed.release.ready().await?;
        let replicas = installed.replicas("gateway").await?;
        Ok(Self { installed, replicas })
    }

    /// A client of a class through one replica, which it addresses as clients in the cluster address them all.
    pub(crate) fn client(
        &self,
        replica: usize,
        path: &str,
        (header, credential): (&str, &str),
    ) -> anyhow::Result<McpClient> {
        let url = self.replicas.get(replica).context("no such replica")?.url();
        let host = self.host();
        let headers = [("host", host.as_str()), (header, credential)];
        Ok(McpClient::with_headers(&format!("{url}{path}"), &headers))
    }

    /// A class, by each of the replicas.
    pub(crate) fn served(&self, path: &str) -> Served {
        let urls = self.replicas.iter().map(|replica| format!("{}{path}", replica.url()));
        Served::by_all(urls.collect(), &self.host())
    }

    /// As what clients in the cluster address all replicas.
    fn host(&self) -> String {
        format!("{RELEASE}-gateway.{}.svc:8080", self.installed.release.place.name)
    }

    /// What a replica has logged.
    pub(crate) async fn logs(&self, replica: usize) -> anyhow::Result<String> {
        let pod = &self.replicas.get(replica).context("no such replica")?.pod;
        self.installed.release.place.kubectl(&["logs", pod]).await
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        self.installed.api()
    }

    pub(crate) fn tenants(&self) -> Api<Tenant> {
        self.installed.api()
    }

    pub(crate) fn classes(&self) -> Api<WorkerClass> {
        self.installed.api()
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
        self.installed.or_told(found.await).await?.context("it is gone")
    }

    /// Waits until a class has this many workers that nobody has, all of which a gateway may claim.
    pub(crate) async fn warm(&self, class: &str, count: usize) -> anyhow::Result<Vec<Arc<Pod>>> {
        let labels = format!("patchbay.dev/class={class},!{BOUND}");
        let found = watched::all(self.pods(), labels, "the pool is as wanted", |pods| {
            pods.len() == count && pods.iter().all(|pod| is_ready(pod))
        });
        let pods = self.installed.or_told(found.await).await?;
        let counted = watched::one(self.classes(), class, "they are counted", |class| {
            let status = class.and_then(|class| class.status.as_ref());
            status.is_some_and(|status| usize::try_from(status.warm).is_ok_and(|it| it == count))
        });
        self.installed.or_told(counted.await).await?;
        Ok(pods)
    }

    /// Waits until a pod is no more.
    pub(crate) async fn gone(&self, pod: &str) -> anyhow::Result<()> {
        let gone = watched::one(self.pods(), pod, "it is gone", |pod| pod.is_none());
        self.installed.or_told(gone.await).await.map(drop)
    }

    /// Changes a tenant, as an administrator would.
    pub(crate) async fn edit(&self, tenant: &str, change: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(change);
        self.tenants().patch(tenant, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}
