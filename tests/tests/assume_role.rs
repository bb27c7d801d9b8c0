//! alice and bob with the real `quilt-mcp` and AWS keys of roles that the gateway assumes for them, in front of a
//! strict AWS.

use anyhow::ensure;
use http::StatusCode;
use jiff::SignedDuration;
use patchbay_tests::{
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    mcp::McpClient,
    quilt::{
        CLASS, Era, QuiltWorld,
        keys::{self, READING},
        sdk_calls,
    },
    secrets::Secrets,
    served::Served,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn controller(world: &QuiltWorld, aws: &StrictAws) -> anyhow::Result<Controller> {
    world.controller_of_roles(1, aws, &json!({ "team": "biology" })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alices_claims_deny_her_what_her_role_would_allow() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let controller = controller(&world, &aws).await?;
    let url = controller.url(CLASS);
    let ask = async |token: &str, calls: &[Value]| {
        let bearer = format!("Bearer {token}");
        Ok(sdk_calls(url, ("Authorization", &bearer), Era::Modern, calls).await?.said())
    };
    let [reader, writer] = keys::claims_deny_what_the_role_allows(&world, &aws, 1, ask).await?;
    let own = world.aws.registry_key.secret_access_key.expose_secret();
    let secrets =
        [("the gateway's key", own), ("alice's token", &reader), ("her other token", &writer)];
    Secrets::new(&secrets)?.not_in("the log", &controller.logs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gets_no_keys_is_told_why() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let controller = controller(&world, &aws).await?;
    let url = controller.url(CLASS);
    let many: Vec<String> = (0..200).map(|index| format!("bucket-number-{index}")).collect();
    for (user, said, reason) in [
        ("alice", json!({}), "role_denied"),
        ("carol", json!({ "buckets": ["b-alice"], "permissions": READING }), "role_denied"),
        ("alice", json!({ "buckets": many, "permissions": READING }), "policy_too_large"),
    ] {
        let client = McpClient::bearer(url, &world.token_saying(user, &said)?);
        let answer = client.modern_call("bucket_list", json!({})).await?;
        let got = (answer.status, answer.reason().unwrap_or_default());
        ensure!(got == (StatusCode::FORBIDDEN, reason.to_owned()), "{got:?} and not {reason}");
    }
    ensure!(
        aws.sessions().is_empty() && controller.tenants().await?.is_empty(),
        "something was made"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_renewed_under_load_and_no_call_fails() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let controller = controller(&world, &aws).await?;
    let served = Served::by_one(controller.url(CLASS));
    keys::are_renewed_under_load(&world, &aws, &served).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_renewed_during_one_call_that_outlasts_them() -> anyhow::Result<()> {
    const LIFETIME: SignedDuration = SignedDuration::from_secs(20);
    const CALL_MILLISECONDS: u64 = 28_000;
    let world = QuiltWorld::start().await?;
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    aws.keys_live_for(LIFETIME);
    let role = world.aws.users.first().and_then(|user| user.role_arn.as_deref());
    let assume =
        json!({ "role": role, "endpoint": aws.endpoint(), "sessionPolicy": "whenClaimed" });
    let fields = format!("  credentials: {{ source: assumeRole, assumeRole: {assume} }}");
    let key = &world.aws.registry_key;
    let controller = ControllerConfig::new(fixture_documents("fixture", 1, &["alice"], &fields)?)
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose_secret())
        .start()
        .await?;
    let url = controller.url("fixture");
    let alice = McpClient::with_headers(url, &[("x-api-key", &api_key("alice"))]);
    alice.call("sleep", json!({ "ms": CALL_MILLISECONDS })).await?;
    let sessions = aws.sessions();
    // with the call, and whenever half of a life is over: no call to STS is made for nothing
    ensure!((2..=3).contains(&sessions.len()), "{sessions:?}");
    // and each is told of by the one request that it was for
    let logs = controller.logs();
    let told = logs.lines().filter(|line| line.contains("\"a role was assumed\""));
    let told: Vec<Value> = told.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let requests: BTreeSet<_> = told.iter().map(|it| it["span"]["request_id"].as_str()).collect();
    ensure!(told.len() == sessions.len() && requests.len() == 1, "{told:?}");
    ensure!(requests.iter().flatten().all(|id| id.len() == 32), "{told:?}");
    Ok(())
}
