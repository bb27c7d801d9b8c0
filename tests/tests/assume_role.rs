//! alice and bob with the real `quilt-mcp` and AWS keys of roles that the gateway assumes for them, in front of a
//! strict AWS.

use anyhow::ensure;
use http::StatusCode;
use jiff::SignedDuration;
use patchbay_tests::{
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    load::Load,
    mcp::McpClient,
    quilt::{CLASS, Era, QuiltWorld, call, sdk_calls},
    secrets::Secrets,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// What alice's token grants her of her bucket, whose role allows everything there.
const READING: [&str; 4] =
    ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:GetBucketLocation"];

async fn controller(world: &QuiltWorld, aws: &StrictAws) -> anyhow::Result<Controller> {
    world.controller_of_roles(1, aws, &json!({ "team": "biology" })).await
}

fn is_denied(said: &str) -> bool {
    let said = said.to_lowercase();
    said.contains("accessdenied") || said.contains("access denied") || said.contains("403")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alices_claims_deny_her_what_her_role_would_allow() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let controller = controller(&world, &aws).await?;
    let url = controller.url(CLASS).to_owned();
    let reader =
        world.token_saying("alice", &json!({ "buckets": ["b-alice"], "permissions": READING }))?;
    let put = call(
        "bucket_objects_put",
        json!({ "bucket": "b-alice", "items": [{ "key": "new.txt", "text": "new" }] }),
    );
    let calls = [
        call("bucket_object_text", json!({ "s3_uri": "s3://b-alice/notes/alice.txt" })),
        put.clone(),
        call("bucket_object_text", json!({ "s3_uri": "s3://b-bob/notes/bob.txt" })),
        call("search_catalog", json!({ "query": "note", "scope": "global" })),
    ];
    let bearer = format!("Bearer {reader}");
    let report = sdk_calls(&url, ("Authorization", &bearer), Era::Modern, &calls).await?;
    let said = report.said();
    ensure!(said[0].contains("only alice may read"), "{report:?}");
    ensure!(is_denied(&said[1]), "she wrote: {report:?}");
    ensure!(is_denied(&said[2]), "she read bob's: {report:?}");
    ensure!(said[3].contains("alice"), "no search: {report:?}");
    let refused = aws.refused();
    ensure!(
        refused.iter().any(|it| it.starts_with("s3:PutObject arn:aws:s3:::b-alice/")),
        "{refused:?}"
    );

    // her role does allow it: a token that grants it is another worker, with other keys
    let permissions = [&READING[..], &["s3:PutObject"]].concat();
    let writer = world
        .token_saying("alice", &json!({ "buckets": ["b-alice"], "permissions": permissions }))?;
    let bearer = format!("Bearer {writer}");
    let report = sdk_calls(&url, ("Authorization", &bearer), Era::Modern, &[put]).await?;
    ensure!(!is_denied(&report.said()[0]) && report.said()[0].contains("new.txt"), "{report:?}");

    let sessions = aws.sessions();
    ensure!(sessions.len() == 2, "{sessions:?}");
    for session in &sessions {
        ensure!(
            session.name.starts_with("mcp-alice-") && session.role.ends_with("/role-alice"),
            "{session:?}"
        );
        ensure!(session.source_identity.as_deref() == Some("alice"), "{session:?}");
        ensure!(session.duration == 900, "{session:?}");
        ensure!(
            session.tags["patchbay:subject"] == "alice" && session.tags["team"] == "biology",
            "{session:?}"
        );
        ensure!(session.transitive.iter().eq(session.tags.keys()), "{session:?}");
        ensure!(session.tags["patchbay:issuer"] == world.catalog.url(), "{session:?}");
        ensure!(session.policy.as_ref().is_some_and(|it| it.contains("b-alice")), "{session:?}");
    }
    let asked = world.catalog.record().all();
    ensure!(
        asked.iter().all(|seen| seen.path != "/api/auth/get_credentials"),
        "the registry was asked for keys"
    );
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
    /// Short, so that several generations are seen, and long enough for renewals to begin before calls would wait for them.
    const LIFETIME: SignedDuration = SignedDuration::from_secs(90);
    const CAP: Duration = Duration::from_mins(4);
    let world = QuiltWorld::start().await?;
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    aws.keys_live_for(LIFETIME);
    let controller = controller(&world, &aws).await?;
    let said = json!({ "buckets": ["b-alice"], "permissions": READING });
    let token = world.token_saying("alice", &said)?;
    let client = McpClient::bearer(controller.url(CLASS), &token);
    let begun = Instant::now();
    let mut load = Load::begin(&token, move |_| {
        let client = client.clone();
        async move {
            let read = json!({ "s3_uri": "s3://b-alice/notes/alice.txt" });
            let result = client.call("bucket_object_text", read).await?;
            ensure!(result.to_string().contains("only alice may read"), "{result}");
            Ok(())
        }
    });
    // the first keys, and two that took their place
    while aws.sessions().len() < 3 {
        ensure!(begun.elapsed() < CAP, "{:?}", aws.sessions());
        load.goes_on(1).await?;
    }
    load.goes_on(2).await?;
    // each was good for half of its life before others were asked for; an end is told in whole seconds, so a life may be one less
    let two_halves = (LIFETIME - SignedDuration::from_secs(1)).unsigned_abs();
    ensure!(begun.elapsed() >= two_halves, "after {:?}", begun.elapsed());
    // that it refuses those that have ended is shown by its own tests
    ensure!(!aws.refused().iter().any(|it| it == "expired"), "{:?}", aws.refused());
    Ok(())
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
