//! alice with the real `quilt-mcp` and AWS keys that her token carries, that it is exchanged for, or that are her
//! machine's, before a strict AWS. The gateway's own environment is full of keys, and none of them is used where none should be.

use anyhow::{Context, ensure};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use patchbay_tests::{
    controller::{Controller, ControllerConfig},
    mcp::McpClient,
    quilt::{AUDIENCE, CLASS, QuiltWorld},
    secrets::Secrets,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// A gateway whose environment, and whose files of profiles, hold the keys of somebody who may assume every role.
async fn start(
    world: &QuiltWorld,
    documents: Vec<String>,
    home: &Path,
    aws: &str,
) -> anyhow::Result<Controller> {
    let key = &world.aws.registry_key;
    let (id, secret) = (&key.access_key_id, key.secret_access_key.expose_secret());
    let profiles = home.join("credentials");
    let profile = format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    fs::write(&profiles, format!("[default]\n{profile}[owner]\n{profile}"))?;
    ControllerConfig::new(documents)
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_SHARED_CREDENTIALS_FILE", &profiles.display().to_string())
        .env("AWS_PROFILE", "owner")
        .env("AWS_ENDPOINT_URL", aws)
        // whatever could be told of a request is told
        .env("PATCHBAY_LOG", "info,aws_smithy_runtime=trace,aws_config=trace,aws_sdk_sts=trace")
        .start()
        .await
}

async fn read(client: &McpClient) -> anyhow::Result<String> {
    let asked = json!({ "s3_uri": "s3://b-alice/notes/alice.txt" });
    Ok(client.call("bucket_object_text", asked).await?.to_string())
}

/// Why a client gets no worker.
async fn refusal(client: &McpClient) -> anyhow::Result<(StatusCode, String)> {
    let answer = client.modern_call("bucket_list", json!({})).await?;
    let reason = answer.reason().with_context(|| format!("{} is no refusal", answer.status))?;
    Ok((answer.status, reason))
}

fn texts(keys: &Value) -> Vec<String> {
    ["secret_access_key", "session_token"].map(|it| keys[it].as_str().unwrap_or("").into()).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_carries_keys_gives_those_and_no_other_ones() -> anyhow::Result<()> {
    let (world, home) = (QuiltWorld::start().await?, tempfile::tempdir()?);
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let credentials = json!({ "source": "inlineClaims" });
    let documents = world.documents_with_keys(1, aws.endpoint(), &credentials).await?;
    let controller = start(&world, documents, home.path(), aws.endpoint()).await?;
    let url = controller.url(CLASS);

    let carrying = |keys: &Value| world.token_saying("alice", &json!({ "aws_credentials": keys }));
    let one = aws.keys_of(&world.aws, "alice").await?;
    let other = aws.keys_of(&world.aws, "alice").await?;
    let tokens = [carrying(&one)?, carrying(&other)?];
    for token in [&tokens[0], &tokens[1], &tokens[0]] {
        let said = read(&McpClient::bearer(url, token)).await?;
        ensure!(said.contains("only alice may read"), "{said}");
    }
    ensure!(controller.tenants().await?.len() == 1, "new keys made another tenant");

    let with = |name: &str, value: Value| {
        let mut keys = one.clone();
        keys[name] = value;
        carrying(&keys)
    };
    let long_term = &world.aws.registry_key;
    let long_term = json!({
        "access_key_id": long_term.access_key_id,
        "secret_access_key": long_term.secret_access_key.expose_secret(),
    });
    let ended = Timestamp::now() - SignedDuration::from_mins(1);
    for (credential, reason) in [
        (world.token("alice")?, "aws_keys_missing"),
        (world.token("bob")?, "aws_keys_missing"),
        (carrying(&long_term)?, "aws_keys_long_term"),
        (with("expiration", json!(ended))?, "aws_keys_expired"),
        (with("region", json!("eu-west-1"))?, "aws_keys_unusable"),
        (world.api_key("alice"), "aws_token_required"),
    ] {
        let told = refusal(&McpClient::bearer(url, &credential)).await?;
        ensure!(told == (StatusCode::FORBIDDEN, reason.to_owned()), "{told:?} and not {reason}");
    }
    ensure!(controller.tenants().await?.len() == 1, "who was refused has a worker");
    ensure!(aws.sessions().len() == 2, "the gateway asked STS: {:?}", aws.sessions());
    let asked = world.catalog.record().all();
    let was_asked = asked.iter().any(|seen| seen.path == "/api/auth/get_credentials");
    ensure!(!was_asked, "the registry was asked for keys");
    let mut secrets = Secrets::default();
    for secret in texts(&one).iter().chain(&texts(&other)).chain(&tokens) {
        secrets.add("a key, or a token that carries one", secret)?;
    }
    secrets.not_in("the log", &controller.logs())
}

/// What the tokens of the world's catalog name AWS.
const AWS: &str = "sts.amazonaws.com";

/// What alice's token grants her of her bucket, whose role allows everything there.
const READING: [&str; 4] =
    ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:GetBucketLocation"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_for_aws_too_is_exchanged_and_nobody_signs() -> anyhow::Result<()> {
    let (world, home) = (QuiltWorld::start().await?, tempfile::tempdir()?);
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let issuer = world.catalog.url().to_owned();
    aws.trust(&world.aws, &issuer, AWS, world.catalog.credentials().key());
    let role = |user: &str| {
        let user = world.aws.users.iter().find(|it| it.name == user);
        user.and_then(|user| user.role_arn.clone()).context("no role")
    };
    let roles =
        json!({ "alice": role("alice")?, "bob": "arn:aws:iam::123456789012:role/nobody-s" });
    let credentials = json!({
        "source": "webIdentity",
        "webIdentity": { "audience": AWS },
        "assumeRole": {
            "roleMap": { "roles": roles }, "endpoint": aws.endpoint(),
            "claims": { "buckets": "buckets", "permissions": "permissions" },
        },
    });
    let mut documents = world.documents_with_keys(1, aws.endpoint(), &credentials).await?;
    let mut tokens: Value = serde_json::from_str(&documents[1])?;
    tokens["spec"]["jwt"]["authorityClaims"] = json!(["buckets", "permissions"]);
    documents[1] = tokens.to_string();
    let controller = start(&world, documents, home.path(), aws.endpoint()).await?;
    let url = controller.url(CLASS);

    let said = json!({ "buckets": ["b-alice"], "permissions": READING });
    let for_aws = |user: &str| {
        let mut said = said.clone();
        said["aud"] = json!([AUDIENCE, issuer, AWS]);
        world.token_saying(user, &said)
    };
    let token = for_aws("alice")?;
    let alice = McpClient::bearer(url, &token);
    let said_by_her = read(&alice).await?;
    ensure!(said_by_her.contains("only alice may read"), "{said_by_her}");
    let put = json!({ "bucket": "b-alice", "items": [{ "key": "new.txt", "text": "new" }] });
    let put = alice.modern_call("bucket_objects_put", put).await?.text();
    let refused = aws.refused();
    let is_denied = refused.iter().any(|it| it.starts_with("s3:PutObject arn:aws:s3:::b-alice/"));
    ensure!(is_denied, "she wrote: {put} {refused:?}");

    let sessions = aws.sessions();
    let [session] = sessions.as_slice() else { anyhow::bail!("{sessions:?}") };
    ensure!(session.by_token && session.name.starts_with("mcp-alice-"), "{session:?}");
    ensure!(session.role == role("alice")? && session.duration == 900, "{session:?}");
    ensure!(session.policy.as_ref().is_some_and(|it| it.contains("b-alice")), "{session:?}");

    for (credential, reason) in [
        (world.token_saying("alice", &said)?, "aws_token_audience"),
        (world.api_key("alice"), "aws_token_required"),
        // a role that trusts nobody
        (for_aws("bob")?, "role_denied"),
        (for_aws("carol")?, "role_denied"),
    ] {
        let told = refusal(&McpClient::bearer(url, &credential)).await?;
        ensure!(told == (StatusCode::FORBIDDEN, reason.to_owned()), "{told:?} and not {reason}");
    }
    // AWS was asked for bob, and said so
    let refused = aws.refused();
    ensure!(refused.iter().any(|it| it == "AccessDenied"), "{refused:?}");
    ensure!(controller.tenants().await?.len() == 1, "who was refused has a worker");
    Secrets::new(&[("alice's token", &token)])?.not_in("the log", &controller.logs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machines_own_keys_are_its_users_and_long_term_ones_never_leave_it()
-> anyhow::Result<()> {
    let (world, home) = (QuiltWorld::start().await?, tempfile::tempdir()?);
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    aws.own(&world.aws, "alice")?;
    let whose = json!({ "issuer": world.catalog.url(), "subject": "alice" });
    let credentials = json!({ "source": "ambient", "ambient": whose });
    let documents = world.documents_with_keys(1, aws.endpoint(), &credentials).await?;
    let controller = start(&world, documents, home.path(), aws.endpoint()).await?;
    let url = controller.url(CLASS);
    for credential in [world.token("alice")?, world.api_key("alice")] {
        let said = read(&McpClient::bearer(url, &credential)).await?;
        ensure!(said.contains("only alice may read"), "{said}");
    }
    let told = refusal(&McpClient::bearer(url, &world.token("bob")?)).await?;
    ensure!(told == (StatusCode::FORBIDDEN, "aws_ambient_user".into()), "{told:?}");
    let sessions = aws.sessions();
    let [session] = sessions.as_slice() else { anyhow::bail!("{sessions:?}") };
    ensure!((session.name.as_str(), session.duration) == ("own", 3600), "{session:?}");
    ensure!(controller.tenants().await?.len() == 1, "bob has a worker");
    let secret = world.aws.registry_key.secret_access_key.expose_secret();
    Secrets::new(&[("the owner's key", secret)])?.not_in("the log", &controller.logs())
}
