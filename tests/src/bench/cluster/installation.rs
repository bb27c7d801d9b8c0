//! The installation that is measured: a namespace, its operator and gateways, its tenants, and doubles for workers.

use crate::{
    cluster::{Component, simulated, until, until_within},
    evidence::Evidence as _,
    pods::{
        Gateway, GatewayConfig, OperatorProcess, Stage, audit,
        doubles::Doubles,
        users::{CLASS, key, name, provider},
    },
};
use anyhow::Context;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_crds::{
    Tenant, WorkerClass,
    marks::{FIRST_CONTACT, PROVISIONED_BY},
    tenant::Phase,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// The addresses of all doubles.
const RANGE: &str = "127.90.0.0/16";
/// Requests at one time that make what is measured.
const AT_ONCE: usize = 16;
/// How long the operator may take to tell thousands of tenants where they are.
const ALL_TOLD: Duration = Duration::from_mins(10);

/// The installation.
pub(super) struct Installation {
    pub(super) stage: Stage,
    pub(super) doubles: Doubles,
    pub(super) config: GatewayConfig,
    operator: OperatorProcess,
    tenants: Api<Tenant>,
    classes: Api<WorkerClass>,
}

impl Installation {
    /// With so many users who may come.
    pub(super) async fn make(users: usize) -> anyhow::Result<Self> {
        let stage = Stage::simulated("bench").await?;
        let place = &stage.place;
        // of a run that was interrupted
        place.cluster.end_simulation().await?;
        // it goes through all pods whenever one changes, and no policy matters to what is not run
        place.cluster.kill(Component::Firewall)?;
        place.cluster.simulate_node("bench", RANGE).await?;
        let operator = OperatorProcess::start(&stage)?;
        operator.leads().await?;
        let doubles = Doubles::play(&stage)?;
        let mut class = simulated::placement();
        // nobody leaves while the others are measured
        class["idleTimeout"] = "1d".into();
        class["warm"] = 0.into();
        stage.declare(CLASS, class).await?;
        let config = GatewayConfig::make(&stage).await?;
        let (client, namespace) = (place.client.clone(), place.name.clone());
        let users: Vec<String> = (0..users).map(user).collect();
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let providers = Api::namespaced(client.clone(), &namespace);
        providers.create(&PostParams::default(), &provider("keys", &users, &json!({}))?).await?;
        let (tenants, classes) =
            (Api::namespaced(client.clone(), &namespace), Api::namespaced(client, &namespace));
        Ok(Self { stage, doubles, config, operator, tenants, classes })
    }

    /// Makes tenants whose users called once and have not come back; returns when all have a status.
    pub(super) async fn put_to_sleep(&self, count: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        stream::iter(0..count)
            .map(async |number| {
                let mut tenant = Tenant::for_key(&key(&format!("sleeper{number}"))?);
                let mark = [(PROVISIONED_BY.to_owned(), FIRST_CONTACT.to_owned())];
                tenant.metadata.labels = Some(mark.into());
                anyhow::Ok(self.tenants.create(&PostParams::default(), &tenant).await.map(drop)?)
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        // by the operator's own count: to read all of them again and again would be most of the load
        until_within(ALL_TOLD, "all tenants have a status", async || {
            Ok(self.operator_writes("TenantStatus").await? >= count)
        })
        .await
        .with_logs(|| self.operator.text())?;
        Ok(begun.elapsed())
    }

    /// Scales the class, and waits until all of it is there.
    pub(super) async fn fill(&self, warm: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let change = Patch::Merge(json!({ "spec": { "warm": warm } }));
        self.classes.patch(CLASS, &PatchParams::default(), &change).await?;
        self.full(warm, 0).await?;
        Ok(begun.elapsed())
    }

    /// Waits until so many workers are warm, so many are somebody's, and none is on its way.
    pub(super) async fn full(&self, warm: usize, bound: usize) -> anyhow::Result<()> {
        let what = format!("{warm} workers are warm and {bound} bound");
        let is_full = self
            .doubles
            .until(&what, |counts| (counts.warm, counts.bound, counts.others) == (warm, bound, 0));
        is_full.await.with_logs(|| self.operator.text())
    }

    /// Two of them, and how long the first took to be ready.
    pub(super) async fn gateways(&self) -> anyhow::Result<([Gateway; 2], Duration)> {
        let begun = Instant::now();
        let one = self.config.start().await?;
        let ready = begun.elapsed();
        Ok(([one, self.config.start().await?], ready))
    }

    /// Waits until the operator has marked all workers of users, and told all users' tenants.
    pub(super) async fn all_followed_up(
        &self,
        users: usize,
        scale: super::Scale,
    ) -> anyhow::Result<()> {
        self.full(scale.warm, users).await?;
        for number in 0..users {
            let name = name(&user(number))?;
            until("the tenant is told that it is ready", async || {
                let tenant = self.tenants.get(name.as_str()).await?;
                Ok(tenant.status.and_then(|status| status.phase) == Some(Phase::Ready))
            })
            .await?;
        }
        Ok(())
    }

    /// Where the audit log ends now.
    pub(super) fn audit_mark(&self) -> anyhow::Result<u64> {
        audit::end(&self.stage.place.cluster)
    }

    pub(super) fn operator_pid(&self) -> anyhow::Result<u32> {
        self.operator.pid().context("the operator has ended")
    }

    /// How many writes of a kind the operator counts.
    pub(super) async fn operator_writes(&self, kind: &str) -> anyhow::Result<usize> {
        let page = self.operator.page("/metrics").await?.text();
        let line = format!("patchbay_operator_api_writes_total{{write=\"{kind}\"}} ");
        let value = page.lines().find_map(|each| each.strip_prefix(&line));
        Ok(value.map(str::parse).transpose()?.unwrap_or_default())
    }

    /// Ends the operator, and has another one follow: how long it takes to lead, and then to have passed over
    /// everything.
    pub(super) async fn replace_operator(&mut self) -> anyhow::Result<(Duration, Duration)> {
        let next = OperatorProcess::start(&self.stage)?;
        let begun = Instant::now();
        std::mem::replace(&mut self.operator, next).terminate().await?;
        self.operator.leads().await?;
        let led = begun.elapsed();
        let begun = Instant::now();
        let pass = format!("patchbay_operator_reconciles_total{{class=\"{CLASS}\"}}");
        until("it has passed over everything", async || {
            Ok(self.operator.page("/metrics").await?.text().contains(&pass))
        })
        .await?;
        Ok((led, begun.elapsed()))
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.operator.terminate().await?;
        let cluster = self.stage.place.cluster;
        cluster.end_simulation().await?;
        cluster.start(Component::Firewall).await?;
        let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(self.stage.place.client);
        namespaces.delete(&self.stage.place.name, &kube::api::DeleteParams::default()).await?;
        Ok(())
    }
}

/// A user's name.
pub(super) fn user(number: usize) -> String {
    format!("user{number}")
}
