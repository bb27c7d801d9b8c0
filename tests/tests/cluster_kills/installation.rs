//! Patchbay as the chart installs it, with two replicas of each program, users with API keys and the fixture as
//! their MCP server. It must not know what is done to it.

use crate::{load::Load, values::values};
use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::ResourceExt as _;
use patchbay_crds::{Tenant, WorkerClass, tenant::TenantAssignment};
use patchbay_tests::{
    chart::{RELEASE, SERVICE},
    cluster::{Cluster, Strict, is_ready, until},
    controller::{api_key, tenant_name},
    installation::{Installed, Replica},
    mcp::McpClient,
    pods::{
        containers::{self, kill},
        images,
    },
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// The users' class.
pub(crate) const CLASS: &str = "tools";
/// How many workers wait for a user.
pub(crate) const WARM: i32 = 2;

/// Whoever takes parts of the cluster away has it alone.
static CLUSTER: Mutex<()> = Mutex::const_new(());

/// The installation.
pub(crate) struct Installation {
    pub(crate) installed: Installed,
    service: String,
    _alone: MutexGuard<'static, ()>,
}

impl Installation {
    /// Installs it for these users, and waits until it is whole.
    pub(crate) async fn make(name: &str, users: &[&str]) -> anyhow::Result<Self> {
        Self::make_with(name, users, json!({})).await
    }

    /// The same, with these further fields of the class.
    pub(crate) async fn make_with(
        name: &str,
        users: &[&str],
        fields: Value,
    ) -> anyhow::Result<Self> {
        let alone = CLUSTER.lock().await;
        let place = Strict::make(name).await?;
        let values = values(images::import(&place.cluster).await?, users, fields)?;
        let installed = Installed::make(place, values).await?;
        let service = format!("http://{}", installed.release.service().await?);
        let installation = Self { installed, service, _alone: alone };
        installation.until_whole().await?;
        Ok(installation)
    }

    /// Takes it away.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.installed.end().await
    }

    pub(crate) fn place(&self) -> &Strict {
        &self.installed.release.place
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.place().cluster
    }

    /// Upgrades it with this change of its values. Helm returns when the API server has it.
    pub(crate) async fn upgrade(&mut self, change: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
        self.installed.upgrade(change).await
    }

    /// Waits until both programs have both replicas, of the present revision and no other, and workers are warm.
    pub(crate) async fn until_whole(&self) -> anyhow::Result<()> {
        let whole = until("both programs are whole, and workers are warm", async || {
            Ok(self.is_whole("gateway").await?
                && self.is_whole("operator").await?
                && self.warm().await? == WARM)
        });
        self.installed.or_told(whole.await).await
    }

    async fn is_whole(&self, component: &str) -> anyhow::Result<bool> {
        let name = format!("{RELEASE}-{component}");
        let deployment = self.installed.api::<Deployment>().get(&name).await?;
        let generation = deployment.metadata.generation;
        let status = deployment.status.unwrap_or_default();
        let counts = [status.replicas, status.updated_replicas, status.available_replicas];
        Ok(status.observed_generation == generation
            && counts == [Some(2); 3]
            && self.pods(component).await?.len() == 2)
    }

    async fn warm(&self) -> anyhow::Result<i32> {
        let status = self.installed.api::<WorkerClass>().get(CLASS).await?.status;
        Ok(status.map_or(0, |status| status.warm))
    }

    /// The pods of a component, those that end as well.
    pub(crate) async fn pods(&self, component: &str) -> anyhow::Result<Vec<Pod>> {
        self.installed.pods_of(component).await
    }

    /// The replicas of a component.
    pub(crate) async fn replicas<const N: usize>(
        &self,
        component: &str,
    ) -> anyhow::Result<[Replica; N]> {
        self.installed.replicas(component).await
    }

    /// Ends a replica's process as the kernel would, and returns when that was.
    pub(crate) async fn kill(&self, replica: &Replica) -> anyhow::Result<Instant> {
        self.kill_container(&replica.pod, &replica.component).await
    }

    /// The same of any container.
    pub(crate) async fn kill_container(
        &self,
        pod: &str,
        container: &str,
    ) -> anyhow::Result<Instant> {
        let pod = self.place().pods().get(pod).await?;
        let at = Instant::now();
        kill(&pod, container).await?;
        Ok(at)
    }

    /// How long after `since` a replica was ready again, in another life of its process.
    pub(crate) async fn until_restarted(
        &self,
        replica: &Replica,
        since: Instant,
    ) -> anyhow::Result<Duration> {
        until(&format!("{} is ready again", replica.pod), async || {
            let pod = self.place().pods().get(&replica.pod).await?;
            let lives = containers::status(&pod, &replica.component).map(|it| it.restart_count);
            Ok(lives > Some(0) && is_ready(&pod))
        })
        .await?;
        Ok(since.elapsed())
    }

    /// Who leads: the name of an operator's pod.
    pub(crate) async fn leader(&self) -> anyhow::Result<String> {
        let holder = self.leading_process().await?;
        // the pod's name, and what makes it this start's
        let (pod, _) = holder.rsplit_once('-').with_context(|| holder.clone())?;
        Ok(pod.to_owned())
    }

    /// The process that leads, which has another name after each start.
    pub(crate) async fn leading_process(&self) -> anyhow::Result<String> {
        let lease = self.installed.api::<Lease>().get("patchbay-operator").await?;
        lease.spec.and_then(|spec| spec.holder_identity).context("nobody leads")
    }

    /// A user's client by way of the Service's address.
    pub(crate) fn client(&self, user: &str) -> McpClient {
        client(&self.service, user)
    }

    /// Lets these users call by way of the Service's address.
    pub(crate) async fn load(&self, users: &[&str]) -> anyhow::Result<Load> {
        let begun =
            Load::begin(users.iter().map(|user| (*user, vec![self.client(user)])).collect());
        self.installed.or_told(begun.await).await
    }

    /// A user comes for the first time and is answered, which took so long.
    pub(crate) async fn first_contact(&self, user: &str) -> anyhow::Result<Duration> {
        ensure!(self.tenant(user).await.is_err(), "{user} was here before");
        self.contact(&self.client(user)).await
    }

    /// A call is answered, which took so long.
    pub(crate) async fn contact(&self, client: &McpClient) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.installed.or_told(client.call("echo", json!({ "text": "x" })).await).await?;
        Ok(begun.elapsed())
    }

    /// A user's tenant.
    pub(crate) async fn tenant(&self, user: &str) -> anyhow::Result<Tenant> {
        let name = tenant_name(CLASS, user)?;
        Ok(self.installed.api::<Tenant>().get(name.as_str()).await?)
    }

    /// What a user's tenant is assigned.
    pub(crate) async fn assignment(&self, user: &str) -> anyhow::Result<TenantAssignment> {
        self.tenant(user).await?.spec.assignment.with_context(|| format!("{user} has no worker"))
    }

    /// How long after `since` the pool was full again, of other workers than `used`.
    pub(crate) async fn until_refilled(
        &self,
        used: &TenantAssignment,
        since: Instant,
    ) -> anyhow::Result<Duration> {
        until("the pool is full again", async || {
            let free = self.free().await?;
            Ok(i32::try_from(free.len())? == WARM
                && free.iter().all(|pod| pod.uid() != Some(used.uid.clone())))
        })
        .await?;
        Ok(since.elapsed())
    }

    /// The workers that a user may be given: ready, and with a recorded key.
    pub(crate) async fn free(&self) -> anyhow::Result<Vec<Pod>> {
        let mut workers = self.pods("worker").await?;
        workers.retain(|pod| {
            let is_bound = pod.labels().contains_key("patchbay.dev/bound");
            let is_enrolled = pod.annotations().contains_key(patchbay_crds::marks::FINGERPRINT);
            is_ready(pod) && is_enrolled && !is_bound && pod.metadata.deletion_timestamp.is_none()
        });
        Ok(workers)
    }
}

/// A user's client of whatever is at a URL: the Service, or one gateway.
pub(crate) fn client(url: &str, user: &str) -> McpClient {
    let bearer = format!("Bearer {}", api_key(user));
    let headers = [("authorization", bearer.as_str()), ("host", SERVICE)];
    McpClient::with_headers(&format!("{url}/{CLASS}"), &headers)
}
