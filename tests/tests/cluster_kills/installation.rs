//! Patchbay as the chart installs it, with two replicas of each program, users with API keys and the fixture as
//! their MCP server. It must not know what is done to it.

use crate::{load::Load, values::values};
use anyhow::{Context, ensure};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::{Api, ResourceExt as _, api::ListParams};
use patchbay_crds::{Tenant, WorkerClass, tenant::TenantAssignment};
use patchbay_tests::{
    chart::{RELEASE, Release, SERVICE},
    cluster::{Cluster, Strict, default_directory, is_ready, until},
    controller::{api_key, tenant_name},
    mcp::McpClient,
    pods::containers::{self, kill},
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
    pub(crate) release: Release,
    values: Value,
    service: String,
    _alone: MutexGuard<'static, ()>,
}

/// A pod of one of its programs.
pub(crate) struct Replica {
    /// The pod's name.
    pub(crate) name: String,
    /// The name of its container, which is its program's.
    container: String,
    /// Where it listens, past the Service.
    url: String,
}

impl Replica {
    /// A user's client of this one, past the Service.
    pub(crate) fn client(&self, user: &str) -> McpClient {
        client(&self.url, user)
    }
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
        let cluster = Cluster::up(&default_directory()?).await?;
        let mut values = values(&cluster, users).await?;
        let class = values["classes"][CLASS].as_object_mut().context("an object")?;
        class.extend(fields.as_object().context("fields are an object")?.clone());
        let release = Release::install(name, values.clone()).await?;
        let service = format!("http://{}", release.service().await?);
        let installation = Self { release, values, service, _alone: alone };
        installation.until_whole().await?;
        Ok(installation)
    }

    /// Takes it away.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.release.end().await
    }

    pub(crate) fn place(&self) -> &Strict {
        &self.release.place
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.release.place.cluster
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.place().client.clone(), &self.place().name)
    }

    /// Upgrades it with this change of its values. Helm returns when the API server has it.
    pub(crate) async fn upgrade(&mut self, change: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
        change(&mut self.values);
        self.release.helm(&["upgrade", RELEASE], self.values.clone()).await.map(drop)
    }

    /// Waits until both programs have both replicas, of the present revision and no other, and workers are warm.
    pub(crate) async fn until_whole(&self) -> anyhow::Result<()> {
        let whole = until("both programs are whole, and workers are warm", async || {
            Ok(self.is_whole("gateway").await?
                && self.is_whole("operator").await?
                && self.warm().await? == WARM)
        });
        let whole = whole.await;
        if whole.is_err() { whole.context(self.release.told().await?) } else { Ok(()) }
    }

    async fn is_whole(&self, component: &str) -> anyhow::Result<bool> {
        let name = format!("{RELEASE}-{component}");
        let deployment = self.api::<Deployment>().get(&name).await?;
        let generation = deployment.metadata.generation;
        let status = deployment.status.unwrap_or_default();
        let counts = [status.replicas, status.updated_replicas, status.available_replicas];
        Ok(status.observed_generation == generation
            && counts == [Some(2); 3]
            && self.pods(component).await?.len() == 2)
    }

    async fn warm(&self) -> anyhow::Result<i32> {
        let status = self.api::<WorkerClass>().get(CLASS).await?.status;
        Ok(status.map_or(0, |status| status.warm))
    }

    /// The pods of a component, those that end as well.
    pub(crate) async fn pods(&self, component: &str) -> anyhow::Result<Vec<Pod>> {
        let labels = format!("app.kubernetes.io/component={component}");
        Ok(self.place().pods().list(&ListParams::default().labels(&labels)).await?.items)
    }

    /// The replicas of a component.
    pub(crate) async fn replicas<const N: usize>(
        &self,
        component: &str,
    ) -> anyhow::Result<[Replica; N]> {
        let replica = |pod: Pod| -> anyhow::Result<Replica> {
            let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
            let url = format!("http://{}:8080", ip.context("no address")?);
            Ok(Replica { name: pod.name_any(), container: component.to_owned(), url })
        };
        let pods = self.pods(component).await?.into_iter();
        let replicas = pods.map(replica).collect::<anyhow::Result<Vec<_>>>()?;
        replicas.try_into().map_err(|_| anyhow::anyhow!("not {N} of {component}"))
    }

    /// Ends a replica's process as the kernel would, and returns when that was.
    pub(crate) async fn kill(&self, replica: &Replica) -> anyhow::Result<Instant> {
        self.kill_container(&replica.name, &replica.container).await
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
        until(&format!("{} is ready again", replica.name), async || {
            let pod = self.place().pods().get(&replica.name).await?;
            let lives = containers::status(&pod, &replica.container).map(|it| it.restart_count);
            Ok(lives > Some(0) && is_ready(&pod))
        })
        .await?;
        Ok(since.elapsed())
    }

    /// Who leads: the name of an operator's pod.
    pub(crate) async fn leader(&self) -> anyhow::Result<String> {
        let lease = self.api::<Lease>().get("patchbay-operator").await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).context("nobody leads")?;
        // the pod's name, and what makes it this start's
        let (pod, _) = holder.rsplit_once('-').with_context(|| holder.clone())?;
        Ok(pod.to_owned())
    }

    /// A user's client by way of the Service's address.
    pub(crate) fn client(&self, user: &str) -> McpClient {
        client(&self.service, user)
    }

    /// Lets these users call by way of the Service's address.
    pub(crate) async fn load(&self, users: &[&str]) -> anyhow::Result<Load> {
        let begun =
            Load::begin(users.iter().map(|user| (*user, vec![self.client(user)])).collect());
        let begun = begun.await;
        if begun.is_err() { begun.context(self.release.told().await?) } else { begun }
    }

    /// A user comes for the first time and is answered, which took so long.
    pub(crate) async fn first_contact(&self, user: &str) -> anyhow::Result<Duration> {
        ensure!(self.tenant(user).await.is_err(), "{user} was here before");
        self.contact(&self.client(user)).await
    }

    /// A call is answered, which took so long.
    pub(crate) async fn contact(&self, client: &McpClient) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let called = client.call("echo", json!({ "text": "x" })).await;
        if called.is_err() {
            called.context(self.release.told().await?)?;
        }
        Ok(begun.elapsed())
    }

    /// A user's tenant.
    pub(crate) async fn tenant(&self, user: &str) -> anyhow::Result<Tenant> {
        let name = tenant_name(CLASS, user)?;
        Ok(self.api::<Tenant>().get(name.as_str()).await?)
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

fn client(url: &str, user: &str) -> McpClient {
    let bearer = format!("Bearer {}", api_key(user));
    let headers = [("authorization", bearer.as_str()), ("host", SERVICE)];
    McpClient::with_headers(&format!("{url}/{CLASS}"), &headers)
}
