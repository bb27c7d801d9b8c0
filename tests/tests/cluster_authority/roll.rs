//! A root that gives way to the next one while users call through two gateways: published beside the old one, taken by
//! workers, shown by the operator and by gateways, and at last the only one.

use super::{Authority, enrolling, files, held, look, usable};
use anyhow::{Context, ensure};
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use patchbay_crds::{IdentityProvider, Tenant, tenant::TenantAssignment};
use patchbay_gateway::forward::pinned::GatewayCertificate;
use patchbay_operator::authority::Terms;
use patchbay_tests::{
    cluster::until,
    controller::api_key,
    evidence::Evidence as _,
    load::Load,
    mcp::McpClient,
    pods::{
        Gateway, GatewayConfig, OperatorProcess, Stage,
        stage::address,
        users::{CLASS, has_its_own, name, provider},
    },
};
use serde_json::json;
use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
/// The next root is there after half an hour and signs a minute later; the old one goes twenty minutes after that, and
/// what it signed is good until then.
const TERMS: Terms = Terms {
    root: Duration::from_hours(2),
    lead: Duration::from_mins(90),
    seen_within: MINUTE,
    certificate: Duration::from_mins(20),
    renewal: Duration::from_mins(10),
};
/// Who call all the time.
const BOUND: [&str; 2] = ["alice", "bob"];
/// What a program says when it has taken a certificate.
const TAKEN: &str = "a certificate is used from now on";

/// A namespace with an operator and two gateways, whose certificates are exchanged as those of a mounted Secret are.
struct World {
    stage: Stage,
    operator: OperatorProcess,
    config: GatewayConfig,
    gateways: [Gateway; 2],
}

impl World {
    async fn make(
        stage: Stage,
        operators: &(String, String),
        gateways: (String, String),
        users: &[&str],
    ) -> anyhow::Result<Self> {
        let operator = OperatorProcess::start_certified(&stage, operators)?;
        operator.leads().await?;
        stage.declare(CLASS, json!({ "warm": 1 })).await?;
        let client = stage.place.client.clone();
        let providers = Api::<IdentityProvider>::namespaced(client, &stage.place.name);
        let keys = provider("keys", users, &json!({}))?;
        providers.create(&PostParams::default(), &keys).await?;
        let config = GatewayConfig::make(&stage).await?.certified(gateways);
        let (one, two) = tokio::try_join!(config.start(), config.start())?;
        Ok(Self { stage, operator, config, gateways: [one, two] })
    }

    fn logs(&self) -> String {
        let [one, two] = &self.gateways;
        format!("{}\n{}\n{}", one.logs(), two.logs(), self.operator.text())
    }

    /// Callers of a user who has a worker; each call goes through one gateway and then through the other.
    fn calling(&self, user: &'static str) -> Load {
        let urls = self.gateways.each_ref().map(|gateway| format!("{}/mcp", gateway.url));
        Load::begin(&api_key(user), move |key| {
            let urls = urls.clone();
            async move {
                for url in &urls {
                    let client = McpClient::bearer(url, &key);
                    let me = client.call("recall", json!({ "key": "me" })).await?.to_string();
                    ensure!(me.contains(&format!("\"{user}\"")), "{user}: {me}");
                }
                Ok(())
            }
        })
    }

    /// Who has a worker goes on, and somebody new is served by both gateways, on connections that are made for it.
    async fn serves(&self, loads: &mut [Load; 2], newcomer: &str) -> anyhow::Result<()> {
        let [one, two] = self.gateways.each_ref().map(|it| it.client(&api_key(newcomer)));
        let told = async {
            has_its_own(&one, newcomer).await?;
            let me = two.call("recall", json!({ "key": "me" })).await?.to_string();
            ensure!(me.contains(&format!("\"{newcomer}\"")), "{newcomer}: {me}");
            for load in loads {
                load.goes_on(3).await?;
            }
            anyhow::Ok(())
        };
        told.await.with_logs(|| self.logs())
    }

    async fn assignment(&self, user: &str) -> anyhow::Result<TenantAssignment> {
        let client = self.stage.place.client.clone();
        let tenants = Api::<Tenant>::namespaced(client, &self.stage.place.name);
        tenants.get(name(user)?.as_str()).await?.spec.assignment.context("no assignment")
    }

    /// All workers, those that nobody has as well.
    async fn workers(&self) -> anyhow::Result<Vec<Pod>> {
        let labels = ListParams::default().labels("app.kubernetes.io/component=worker");
        Ok(self.stage.place.pods().list(&labels).await?.items)
    }

    /// Waits until every worker that there is now takes all of `shown`, with whatever it then says of the role, and
    /// refuses all of `refused`.
    async fn all_trust(
        &self,
        shown: &[(&GatewayCertificate, StatusCode)],
        refused: &[&GatewayCertificate],
    ) -> anyhow::Result<()> {
        for pod in self.workers().await? {
            let name = pod.name_any();
            look(&self.stage, &name).await?;
            until(&format!("{name} trusts the roots of the moment"), async || {
                let pod = self.stage.place.pods().get(&name).await?;
                for (certificate, status) in shown {
                    if enrolling(address(&pod)?, certificate).await? != *status {
                        return Ok(false);
                    }
                }
                for certificate in refused {
                    let Err(error) = enrolling(address(&pod)?, certificate).await else {
                        return Ok(false);
                    };
                    let told = format!("{error:#}");
                    ensure!(told.contains("UnknownCA"), "refused for another reason: {told}");
                }
                Ok(true)
            })
            .await?;
        }
        Ok(())
    }

    /// Gives the operator and the gateways these certificates, and waits until they have taken them.
    async fn exchange(
        &self,
        operators: &(String, String),
        gateways: &(String, String),
    ) -> anyhow::Result<()> {
        self.operator.exchange_certificate(operators)?;
        for gateway in &self.gateways {
            gateway.exchange_certificate(gateways)?;
        }
        until("all have taken their new certificates", async || {
            let [one, two] = self.gateways.each_ref().map(Gateway::logs);
            let all = [one, two, self.operator.text()];
            Ok(all.iter().all(|log| log.matches(TAKEN).count() == 2))
        })
        .await
        .with_logs(|| self.logs())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_is_rolled_under_load_and_no_request_fails() -> anyhow::Result<()> {
    let stage = Stage::bare("authority-roll").await?;
    let mut authority = Authority::of(&stage, TERMS).await?;
    let begun = Timestamp::now();
    let first = authority.keeper.pass(begun).await?;
    let old = (held(&first.operator)?, authority.gateway().await?);
    let users = ["alice", "bob", "carol", "dora", "erin", "frank", "gina"];
    let gateways = authority.gateways_files().await?;
    let mut world = World::make(stage, &files(&first.operator), gateways, &users).await?;
    for user in BOUND {
        let client = world.gateways[0].client(&api_key(user));
        has_its_own(&client, user).await.with_logs(|| world.logs())?;
    }
    let assigned = [world.assignment("alice").await?, world.assignment("bob").await?];
    let mut loads = BOUND.map(|user| world.calling(user));
    world.serves(&mut loads, "carol").await?;

    // published beside the old one, and signs nothing
    let introduced = authority.keeper.pass(begun + 30 * MINUTE).await?;
    ensure!(introduced.operator.issuer == first.operator.issuer, "it signs too early");
    ensure!(authority.published().await? == 2);
    world.serves(&mut loads, "dora").await?;

    // it signs; nobody is shown that before every worker has read it
    let promoted = authority.keeper.pass(begun + 31 * MINUTE).await?;
    ensure!(promoted.operator.issuer != first.operator.issuer);
    let gateways = authority.gateways_files().await?;
    let new = (held(&promoted.operator)?, usable(&gateways)?);
    let taken = [
        (&new.0, StatusCode::OK),
        (&new.1, StatusCode::FORBIDDEN),
        (&old.0, StatusCode::OK),
        (&old.1, StatusCode::FORBIDDEN),
    ];
    world.all_trust(&taken, &[]).await.with_logs(|| world.logs())?;
    world.exchange(&files(&promoted.operator), &gateways).await?;
    world.serves(&mut loads, "erin").await?;

    // all that the old one signed has ended, and it goes
    authority.keeper.pass(begun + 51 * MINUTE).await?;
    ensure!(authority.published().await? == 1);
    world.all_trust(&taken[..2], &[&old.0, &old.1]).await.with_logs(|| world.logs())?;
    for newcomer in ["frank", "gina"] {
        world.serves(&mut loads, newcomer).await?;
    }

    // a gateway that is started now reaches those who were here before all this
    world.config = world.config.certified(gateways);
    let third = world.config.start().await?;
    for (user, before) in BOUND.into_iter().zip(assigned) {
        let me = third.client(&api_key(user)).call("recall", json!({ "key": "me" })).await;
        let me = me.with_logs(|| third.logs())?.to_string();
        ensure!(me.contains(&format!("\"{user}\"")), "{user}: {me}");
        let now = world.assignment(user).await?;
        ensure!(now == before, "{user} was moved: {before:?} {now:?}");
    }
    for (user, load) in BOUND.iter().zip(&mut loads) {
        load.goes_on(3).await.with_logs(|| world.logs())?;
        println!("{user}: {} calls through both gateways, 0 failed", load.answered());
    }
    drop(loads);
    world.operator.terminate().await?;
    world.stage.place.end().await
}
