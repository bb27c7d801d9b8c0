//! alice and bob with the real `quilt-mcp` and AWS keys of roles that the gateway assumes for them, in front of a
//! strict AWS.

use anyhow::{Context, ensure};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use patchbay_tests::{
    controller::{Controller, ControllerConfig},
    mcp::McpClient,
    quilt::{CLASS, Era, QuiltWorld, call, sdk_calls},
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What alice's token grants her of her bucket, whose role allows everything there.
const READING: [&str; 4] =
    ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:GetBucketLocation"];

/// A class whose users' keys are of the roles that moto has for them, at the strict AWS.
async fn controller(world: &QuiltWorld, aws: &StrictAws) -> anyhow::Result<Controller> {
    let mut documents = world.documents(1).await?;
    let roles: Value =
        world.aws.users.iter().map(|user| (user.name.clone(), json!(user.role_arn))).collect();
    let uri: http::Uri = aws.endpoint().parse()?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    let spec = &mut class["spec"];
    spec["env"]["AWS_ENDPOINT_URL"] = json!(aws.endpoint());
    spec["egress"]["hosts"] =
        json!([{ "host": uri.host(), "port": uri.port_u16(), "plainHttp": true }]);
    spec["credentials"]["source"] = json!("assumeRole");
    spec["credentials"]["assumeRole"] = json!({
        "roleMap": { "roles": roles },
        "endpoint": aws.endpoint(),
        "tags": { "team": "biology" },
        "claims": { "buckets": "buckets", "permissions": "permissions" },
    });
    documents[0] = class.to_string();
    let mut tokens: Value = serde_json::from_str(&documents[1])?;
    tokens["spec"]["jwt"]["authorityClaims"] = json!(["buckets", "permissions"]);
    documents[1] = tokens.to_string();
    let key = &world.aws.registry_key;
    ControllerConfig::new(documents)
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose_secret())
        .start()
        .await
}

fn token(world: &QuiltWorld, user: &str, said: &Value) -> anyhow::Result<String> {
    let credentials = world.catalog.credentials();
    let mut claims = credentials.claims(user, Timestamp::now(), SignedDuration::from_hours(1));
    let said = said.as_object().context("no claims")?.clone();
    claims.as_object_mut().context("no claims")?.extend(said);
    credentials.key().sign(&claims)
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
        token(&world, "alice", &json!({ "buckets": ["b-alice"], "permissions": READING }))?;
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
    let writer =
        token(&world, "alice", &json!({ "buckets": ["b-alice"], "permissions": permissions }))?;
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
    let logs = controller.logs();
    for secret in [world.aws.registry_key.secret_access_key.expose_secret(), &reader, &writer] {
        ensure!(!logs.contains(secret), "in the log");
    }
    Ok(())
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
        let client = McpClient::bearer(url, &token(&world, user, &said)?);
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
    const LOAD: Duration = Duration::from_mins(2);
    let world = QuiltWorld::start().await?;
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    aws.keys_live_for(LIFETIME);
    let controller = controller(&world, &aws).await?;
    let said = json!({ "buckets": ["b-alice"], "permissions": READING });
    let client = McpClient::bearer(controller.url(CLASS), &token(&world, "alice", &said)?);
    let end = Instant::now() + LOAD;
    let mut calls = 0;
    while Instant::now() < end {
        let read = json!({ "s3_uri": "s3://b-alice/notes/alice.txt" });
        let result = client.call("bucket_object_text", read).await?;
        ensure!(result.to_string().contains("only alice may read"), "call {calls}: {result}");
        calls += 1;
        // a user's pace, not a wait for something
        sleep(Duration::from_millis(200)).await;
    }
    let sessions = aws.sessions();
    ensure!(sessions.len() >= 3, "{calls} calls, {sessions:?}");
    ensure!(!aws.refused().iter().any(|it| it == "expired"), "{:?}", aws.refused());
    ensure!(sessions.len() <= 6, "one renewal per half of a life: {sessions:?}");
    Ok(())
}
