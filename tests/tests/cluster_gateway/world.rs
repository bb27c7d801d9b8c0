//! A namespace with a class, users and gateways.

use anyhow::{Context, ensure};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_core::{
    digest::Digest,
    id::ClassName,
    tenant::{Authority, TenantKey, TenantName},
};
use patchbay_crds::{IdentityProvider, Tenant, tenant::TenantAssignment};
use patchbay_tests::{
    cluster::{Cluster, from},
    controller::api_key,
    mcp::McpClient,
    pods::{GatewayConfig, OperatorProcess, PodWorker, Stage, stage::Class},
};
use serde_json::{Value, json};
use std::path::Path;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) const CLASS: &str = "tools";
const PROVIDER: &str = "keys";

/// Whoever takes the API server away has the cluster alone.
static CLUSTER: RwLock<()> = RwLock::const_new(());

pub(crate) async fn shared() -> RwLockReadGuard<'static, ()> {
    CLUSTER.read().await
}

pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    CLUSTER.write().await
}

/// The namespace.
pub(crate) struct World {
    pub(crate) stage: Stage,
    /// What the test makes workers of by itself; none where there is an operator.
    class: Option<Class>,
    pub(crate) operator: Option<OperatorProcess>,
    pub(crate) config: GatewayConfig,
    pub(crate) tenants: Api<Tenant>,
    pub(crate) providers: Api<IdentityProvider>,
}

impl World {
    /// With a class of these further fields, and these users. The test is the operator.
    pub(crate) async fn make(name: &str, fields: Value, users: &[&str]) -> anyhow::Result<Self> {
        let stage = Stage::make(name).await?;
        let class = stage.class(CLASS, fields).await?;
        Self::with_users(stage, Some(class), None, users).await
    }

    /// The same with a real operator.
    pub(crate) async fn operated(
        name: &str,
        fields: Value,
        users: &[&str],
    ) -> anyhow::Result<Self> {
        let stage = Stage::bare(name).await?;
        let operator = OperatorProcess::start(&stage)?;
        operator.leads().await?;
        stage.declare(CLASS, fields).await?;
        Self::with_users(stage, None, Some(operator), users).await
    }

    async fn with_users(
        stage: Stage,
        class: Option<Class>,
        operator: Option<OperatorProcess>,
        users: &[&str],
    ) -> anyhow::Result<Self> {
        let config = GatewayConfig::make(&stage).await?;
        let client = stage.place.client.clone();
        let world = Self {
            tenants: Api::namespaced(client.clone(), &stage.place.name),
            providers: Api::namespaced(client, &stage.place.name),
            stage,
            class,
            operator,
            config,
        };
        world
            .providers
            .create(&PostParams::default(), &provider(PROVIDER, users, &json!({}))?)
            .await?;
        Ok(world)
    }

    /// A worker that any tenant may have. A gateway that is started after it knows of it: one is ready once it has
    /// listed all workers.
    pub(crate) async fn warm(&self) -> anyhow::Result<PodWorker> {
        let class = self.class.as_ref().context("the operator makes workers")?;
        self.stage.warm_worker(class).await
    }

    /// A user's tenant as it is.
    pub(crate) async fn tenant(&self, user: &str) -> anyhow::Result<Option<Tenant>> {
        Ok(self.tenants.get_opt(name(user)?.as_str()).await?)
    }

    /// What a user's tenant is assigned.
    pub(crate) async fn assignment(&self, user: &str) -> anyhow::Result<TenantAssignment> {
        let tenant = self.tenant(user).await?.with_context(|| format!("{user} has no tenant"))?;
        tenant.spec.assignment.with_context(|| format!("{user} has no assignment"))
    }

    /// Changes a user's tenant, as an administrator would.
    pub(crate) async fn edit(&self, user: &str, change: Value) -> anyhow::Result<()> {
        let name = name(user)?;
        let patch = Patch::Merge(change);
        self.tenants.patch(name.as_str(), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The writes of this namespace's gateways to a user's tenant: verb and status.
    pub(crate) fn writes(&self, user: &str) -> anyhow::Result<Vec<(String, u64)>> {
        writes(&self.stage.place.cluster, &self.config.user(), name(user)?.as_str())
    }

    /// What the operator said, for failures.
    pub(crate) fn operators_log(&self) -> String {
        self.operator.as_ref().map_or_else(String::new, OperatorProcess::text)
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        if let Some(operator) = self.operator {
            operator.terminate().await?;
        }
        self.stage.place.end().await
    }
}

fn writes(cluster: &Cluster, by: &str, tenant: &str) -> anyhow::Result<Vec<(String, u64)>> {
    let log = read(&cluster.audit_log())?;
    let entries = log.into_iter().filter(|entry| {
        let named = [&entry["objectRef"]["name"], &entry["requestObject"]["metadata"]["name"]];
        entry["user"]["username"] == by
            && entry["objectRef"]["resource"] == "tenants"
            && entry["stage"] == "ResponseComplete"
            && named.iter().any(|name| **name == tenant)
            && ["create", "patch", "update"].iter().any(|verb| entry["verb"] == *verb)
    });
    let told = |entry: Value| {
        let verb = entry["verb"].as_str().unwrap_or_default().to_owned();
        (verb, entry["responseStatus"]["code"].as_u64().unwrap_or_default())
    };
    Ok(entries.map(told).collect())
}

fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    // the last line may be half written
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A provider with a key for each user, and these further fields.
pub(crate) fn provider(
    name: &str,
    users: &[&str],
    further: &Value,
) -> anyhow::Result<IdentityProvider> {
    let keys: Vec<_> = users
        .iter()
        .map(|user| {
            let digest = Digest::of(api_key(user).as_bytes());
            json!({ "id": user, "subject": user, "digest": format!("sha256:{digest}") })
        })
        .collect();
    let mut spec = json!({ "classes": [CLASS], "apiKeys": { "issuer": ISSUER, "keys": keys } });
    let further = further.as_object().context("fields are an object")?.clone();
    spec.as_object_mut().context("an object")?.extend(further);
    from(json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": { "name": name }, "spec": spec,
    }))
}

const ISSUER: &str = "urn:test:users";

/// What makes a user's tenant.
pub(crate) fn key(user: &str) -> anyhow::Result<TenantKey> {
    Ok(TenantKey {
        issuer: ISSUER.into(),
        subject: user.into(),
        class: ClassName::parse(CLASS)?,
        authority: Authority::unrestricted(),
    })
}

/// A user's tenant's name.
pub(crate) fn name(user: &str) -> anyhow::Result<TenantName> {
    Ok(key(user)?.name())
}

/// A user keeps something with the worker, and finds it and nobody else's there.
pub(crate) async fn has_its_own(client: &McpClient, user: &str) -> anyhow::Result<()> {
    client.call("remember", json!({ "key": "me", "value": user })).await?;
    let me = client.call("recall", json!({ "key": "me" })).await?.to_string();
    ensure!(me.contains(&format!("\"{user}\"")), "{user}: {me}");
    Ok(())
}
