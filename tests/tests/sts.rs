//! STS that says it is asked too often, fails, or never answers, while users come for keys of roles: how often it is asked
//! then, what each of them is told, and that it takes no restart to go on.

use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use http::StatusCode;
use patchbay_tests::{
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    mcp::McpClient,
    moto::Moto,
    strict_aws::{StrictAws, StsFault},
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

const CLASS: &str = "fixture";
/// More than calls to STS are under way at a time.
const USERS: usize = 32;
/// Calls to STS that a gateway has under way at a time, and tries of one (docs/aws.md).
const CALLS: usize = 16;
const TRIES: usize = 3;
/// For all tries of one call to STS (docs/aws.md), and a loaded machine.
const LIMIT: Duration = Duration::from_secs(10 + 10);

struct Scene {
    aws: StrictAws,
    controller: Controller,
    _moto: Moto,
}

/// A class whose users have keys of one role, each in a session of their own.
async fn start() -> anyhow::Result<Scene> {
    let moto = Moto::start().await?;
    let world = moto.set_up(&["alice"]).await?;
    let aws = StrictAws::start(moto.endpoint()).await?;
    let role = world.users[0].role_arn.as_deref().context("no role")?;
    let assume =
        json!({ "role": role, "endpoint": aws.endpoint(), "sessionPolicy": "whenClaimed" });
    let fields = format!("  credentials: {{ source: assumeRole, assumeRole: {assume} }}");
    let names: Vec<String> = (0..USERS).map(user).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let key = &world.registry_key;
    let controller = ControllerConfig::new(fixture_documents(CLASS, 1, &names, &fields)?)
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose_secret())
        .start()
        .await?;
    Ok(Scene { aws, controller, _moto: moto })
}

fn user(number: usize) -> String {
    format!("user{number}")
}

impl Scene {
    fn client(&self, number: usize) -> McpClient {
        let key = api_key(&user(number));
        McpClient::with_headers(self.controller.url(CLASS), &[("x-api-key", &key)])
    }

    /// A first contact that gets no keys is told so, and when to come back.
    async fn is_put_off(&self, number: usize) -> anyhow::Result<()> {
        let answer = self.client(number).modern_call("whoami", json!({})).await?;
        let told = (answer.status, answer.reason().unwrap_or_default());
        let expected = (StatusCode::SERVICE_UNAVAILABLE, "grant_unavailable".to_owned());
        ensure!(told == expected, "{number}: {told:?} {}", answer.text());
        ensure!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        Ok(())
    }

    /// Once STS works, so does a first contact: by itself, and soon.
    async fn goes_on(&self) -> anyhow::Result<()> {
        self.aws.sts_does(None);
        let is_served = async || {
            let answer = self.client(0).modern_call("whoami", json!({})).await?;
            ensure!(
                answer.status.is_success()
                    || answer.reason().as_deref() == Some("grant_unavailable"),
                "{}",
                answer.text()
            );
            Ok(answer.status.is_success())
        };
        self.controller.eventually("STS is asked again", is_served).await?;
        ensure!(self.aws.sessions().len() == 1, "{:?}", self.aws.sessions());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_sts_is_not_asked_by_everybody_who_comes() -> anyhow::Result<()> {
    let scene = start().await?;
    scene.aws.sts_does(Some(StsFault::Throttling));
    for told in join_all((0..USERS).map(|number| scene.is_put_off(number))).await {
        told?;
    }
    // who was under way when STS first complained, and nobody who came after them
    let asked = scene.aws.asked_sts();
    ensure!((TRIES..=CALLS * TRIES).contains(&asked), "{asked} times for {USERS} users");
    ensure!(scene.controller.tenants().await?.is_empty(), "somebody has a worker");
    scene.goes_on().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sts_that_fails_or_never_answers_is_asked_a_few_times_and_the_user_is_told_in_time()
-> anyhow::Result<()> {
    let scene = start().await?;
    for fault in [StsFault::Failing, StsFault::Silent] {
        scene.aws.sts_does(Some(fault));
        let before = scene.aws.asked_sts();
        let begun = Instant::now();
        scene.is_put_off(0).await?;
        ensure!(begun.elapsed() < LIMIT, "{fault:?}: after {:?}", begun.elapsed());
        let asked = scene.aws.asked_sts() - before;
        ensure!((2..=TRIES).contains(&asked), "{fault:?}: {asked} times");
    }
    scene.goes_on().await
}
