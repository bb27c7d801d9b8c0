//! alice with the real `quilt-mcp` and AWS keys that her token carries, that it is exchanged for, or that are her
//! machine's, before a strict AWS. The gateway's own environment is full of keys, and none of them is used where none should be.

use anyhow::ensure;
use http::StatusCode;
use patchbay_tests::{
    controller::{Controller, ControllerConfig},
    mcp::McpClient,
    quilt::{CLASS, QuiltWorld, keys},
    secrets::Secrets,
    served::Served,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret;
use serde_json::json;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_carries_keys_gives_those_and_no_other_ones() -> anyhow::Result<()> {
    let (world, home) = (QuiltWorld::start().await?, tempfile::tempdir()?);
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let credentials = json!({ "source": "inlineClaims" });
    let documents = world.documents_with_keys(1, aws.endpoint(), &credentials, &[]).await?;
    let controller = start(&world, documents, home.path(), aws.endpoint()).await?;
    let served = Served::by_one(controller.url(CLASS));
    let secrets = keys::carried_keys_are_the_only_ones(&world, &aws, &served).await?;
    // neither did new keys make another tenant, nor is there one of somebody who was refused
    ensure!(controller.tenants().await?.len() == 1, "somebody else has a worker");
    secrets.not_in("the log", &controller.logs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_for_aws_too_is_exchanged_and_nobody_signs() -> anyhow::Result<()> {
    let (world, home) = (QuiltWorld::start().await?, tempfile::tempdir()?);
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let (endpoint, authority) = (aws.endpoint(), &keys::AUTHORITY);
    let credentials = keys::of_own_tokens(&world, endpoint)?;
    let documents = world.documents_with_keys(1, endpoint, &credentials, authority).await?;
    let controller = start(&world, documents, home.path(), aws.endpoint()).await?;
    let served = Served::by_one(controller.url(CLASS));
    let token = keys::own_tokens_are_exchanged(&world, &aws, &served).await?;
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
    let documents = world.documents_with_keys(1, aws.endpoint(), &credentials, &[]).await?;
    let controller = start(&world, documents, home.path(), aws.endpoint()).await?;
    let url = controller.url(CLASS);
    for credential in [world.token("alice")?, world.api_key("alice")] {
        keys::she_reads(&McpClient::bearer(url, &credential)).await?;
    }
    let told = keys::refusal(&McpClient::bearer(url, &world.token("bob")?)).await?;
    ensure!(told == (StatusCode::FORBIDDEN, "aws_ambient_user".into()), "{told:?}");
    let sessions = aws.sessions();
    let [session] = sessions.as_slice() else { anyhow::bail!("{sessions:?}") };
    ensure!((session.name.as_str(), session.duration) == ("own", 3600), "{session:?}");
    ensure!(controller.tenants().await?.len() == 1, "bob has a worker");
    let secret = world.aws.registry_key.secret_access_key.expose_secret();
    Secrets::new(&[("the owner's key", secret)])?.not_in("the log", &controller.logs())
}
