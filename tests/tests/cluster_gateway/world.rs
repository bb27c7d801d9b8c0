//! A namespace with a class, users and gateways.

use anyhow::Context;
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_crds::{IdentityProvider, Tenant, tenant::TenantAssignment};
pub(crate) use patchbay_tests::pods::users::{CLASS, ISSUER, has_its_own, key, name, provider};
use patchbay_tests::pods::{GatewayConfig, OperatorProcess, PodWorker, Stage, audit, stage::Class};
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

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

    /// Adds another provider of the class.
    pub(crate) async fn provide(&self, name: &str, way: Value) -> anyhow::Result<()> {
        let mut spec = json!({ "classes": [CLASS] });
        let further = way.as_object().context("a way is an object")?.clone();
        spec.as_object_mut().context("an object")?.extend(further);
        let provider = IdentityProvider::new(name, serde_json::from_value(spec)?);
        self.providers.create(&PostParams::default(), &provider).await?;
        Ok(())
    }

    /// Makes a Secret with these entries.
    pub(crate) async fn secret(&self, name: &str, entries: &[(&str, &[u8])]) -> anyhow::Result<()> {
        let data =
            entries.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())));
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let secret = Secret { metadata, data: Some(data.collect()), ..Secret::default() };
        self.secrets().create(&PostParams::default(), &secret).await?;
        Ok(())
    }

    /// The namespace's Secrets.
    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.stage.place.client.clone(), &self.stage.place.name)
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
    pub(crate) fn writes(&self, user: &str) -> anyhow::Result<Vec<audit::Told>> {
        let mut all = audit::writes(&self.stage.place.cluster, &self.config.user())?;
        Ok(all.remove(name(user)?.as_str()).unwrap_or_default())
    }

    /// What users' claims took, by gateways and by the operator.
    pub(crate) fn claims(&self, users: &[&str]) -> anyhow::Result<Vec<audit::Claim>> {
        let log = audit::since(&self.stage.place.cluster, 0)?;
        let tenants = users.iter().map(|user| Ok(name(user)?.to_string()));
        let tenants: Vec<String> = tenants.collect::<anyhow::Result<_>>()?;
        let claims = audit::claims(&log, &self.stage.place.name, &self.config.user(), &tenants);
        Ok(claims.into_values().collect())
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
