//! What a platform operator is told of who came, how, and why not (KEY-6, JWT-5): structured, and never a secret.

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use patchbay_tests::{
    binaries,
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    mcp::McpClient,
    quilt::{AUDIENCE, QuiltWorld},
    secrets::Secrets,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use tokio::process::Command;

const CLASS: &str = "fixture";
/// What an enhanced token has to allow for a tool.
const TOOLS: &str = "  tools: { permissions: { whoami: [], write_file: [\"s3:DeleteObject\", \"s3:PutObject\"] } }\n";
const KEY: &[u8] = b"only servers hold these 32 bytes";
/// What a token says and no line repeats.
const SUBJECT: &str = "alice.liddell@example.com";
const BUCKET: &str = "the-bucket-of-a-secret-project";

fn token(changes: &Value) -> anyhow::Result<String> {
    let end = jiff::Timestamp::now().as_second() + 3600;
    let mut claims = json!({
        "iss": "quilt-frontend", "aud": "quilt-mcp-server", "exp": end, "sub": SUBJECT, "org": "acme",
        "l": "write", "p": ["g", "p"], "b": [BUCKET], "r": ["ReadWriteQuiltV2-sales-prod"],
    });
    let changes = changes.as_object().context("changes")?.clone();
    claims.as_object_mut().context("claims")?.extend(changes);
    let key = EncodingKey::from_secret(KEY);
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

/// The lines with this message.
fn lines(controller: &Controller, message: &str) -> Vec<Value> {
    let logs = controller.logs();
    let lines = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// The same, once there are so many: what is logged is read a moment later, and what a worker logs after another one.
async fn told(controller: &Controller, message: &str, count: usize) -> anyhow::Result<Vec<Value>> {
    let is_told = async || Ok(lines(controller, message).len() >= count);
    controller.eventually(message, is_told).await?;
    Ok(lines(controller, message))
}

/// A controller with one more way in, and what is written for it.
struct World {
    controller: Controller,
    /// Holds `documents` and the providers' Secrets.
    place: TempDir,
}

async fn start() -> anyhow::Result<World> {
    let place = tempfile::tempdir()?;
    fs::create_dir(place.path().join("quilt"))?;
    fs::write(place.path().join("quilt/hmac"), KEY)?;
    let mut documents = fixture_documents(CLASS, 2, &["bob"], TOOLS)?;
    documents.push(
        json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
            "metadata": { "name": "front-end" },
            "spec": { "classes": [CLASS], "jwt": {
                "issuer": "quilt-frontend", "audiences": ["quilt-mcp-server"], "algorithms": ["HS256"],
                "jwks": { "secretRef": { "name": "quilt", "key": "hmac" } },
                "format": "quiltEnhanced", "keyHeldByServersOnly": true,
                "requiredClaims": { "org": "acme" },
            } },
        })
        .to_string(),
    );
    let secrets_of_providers = place.path().display().to_string();
    let written = place.path().join("documents");
    fs::create_dir(&written)?;
    for (n, document) in documents.iter().enumerate() {
        fs::write(written.join(format!("{n}.yaml")), document)?;
    }
    let config =
        ControllerConfig::new(documents).args(&["--provider-secrets", &secrets_of_providers]);
    Ok(World { controller: config.start().await?, place })
}

#[tokio::test]
async fn each_credential_is_told_of_once_and_each_refusal_says_what_was_presented_and_what_lacks()
-> anyhow::Result<()> {
    let World { controller, place: _place } = start().await?;
    let url = controller.url(CLASS).to_owned();

    let good = token(&json!({}))?;
    let alice = McpClient::bearer(&url, &good);
    alice.call("whoami", json!({})).await?;
    alice.call("whoami", json!({})).await?;
    let bobs = api_key("bob");
    McpClient::with_headers(&url, &[("x-api-key", &bobs)]).call("whoami", json!({})).await?;
    let without = token(&json!({ "org": "other" }))?;
    for refused in [
        McpClient::bearer(&url, &without),
        McpClient::bearer(&url, &token(&json!({ "iss": "nobody-s" }))?),
        McpClient::bearer(&url, "an-opaque-bearer-of-nobody"),
        McpClient::with_headers(&url, &[]),
    ] {
        let answer = refused.modern_call("whoami", json!({})).await?;
        ensure!(answer.status == 401, "{}", answer.text());
    }

    let modes: Vec<_> =
        lines(&controller, "serving").iter().map(|it| it["modes"].clone()).collect();
    ensure!(modes == [json!("api_key, jwt")], "{modes:?}");

    let told = told(&controller, "authenticated", 2).await?;
    let [hers, his] = &told[..] else { anyhow::bail!("not one line for each: {told:?}") };
    for (field, expected) in [
        ("provider", json!("front-end")),
        ("mode", json!("jwt")),
        ("decoded", json!("enhanced")),
        ("level", json!("write")),
        ("permissions", json!(2)),
        ("buckets", json!(1)),
        ("roles", json!(1)),
        ("said_by", json!("issuer")),
    ] {
        ensure!(hers[field] == expected, "{field}: {hers}");
    }
    ensure!(hers["request_id"].as_str().is_some_and(|id| id.len() == 32), "{hers}");
    ensure!(hers["expires_at"].is_string(), "{hers}");
    ensure!(his["mode"] == "api_key" && his["decoded"] == "none", "{his}");
    let tenants: Vec<_> =
        controller.tenants().await?.iter().map(|it| it["tenant"].clone()).collect();
    ensure!(tenants.contains(&hers["tenant"]) && tenants.contains(&his["tenant"]), "{told:?}");

    let refusals = self::told(&controller, "refused", 4).await?;
    let seen: Vec<_> = refusals
        .iter()
        .map(|it| [&it["reason"], &it["mode"], &it["provider"], &it["missing"]].map(Value::clone))
        .collect();
    ensure!(refusals.iter().all(|it| it["tenant"].is_null()), "{refusals:?}");
    let expected = [
        [json!("missing_claim"), json!("jwt"), json!("front-end"), json!("org")],
        [json!("unknown_issuer"), json!("jwt"), Value::Null, Value::Null],
        [json!("credential_not_accepted"), json!("opaque"), Value::Null, Value::Null],
        [json!("missing_credential"), json!("none"), Value::Null, Value::Null],
    ];
    ensure!(seen == expected, "{refusals:?}");

    let metrics = controller.metrics().await?;
    for (mode, outcome, count) in [
        ("jwt", "ok", 2),
        ("api_key", "ok", 1),
        ("jwt", "missing_claim", 1),
        ("jwt", "unknown_issuer", 1),
        ("opaque", "credential_not_accepted", 1),
        ("none", "missing_credential", 1),
    ] {
        let line = format!(
            "patchbay_gateway_authentications_total{{mode=\"{mode}\",outcome=\"{outcome}\"}} {count}"
        );
        ensure!(metrics.lines().any(|it| it == line), "{line} is not in {metrics}");
    }

    let secrets = Secrets::new(&[
        ("alice's token", &good),
        ("a token", &without),
        ("bob's key", &bobs),
        ("alice's name", SUBJECT),
        ("her bucket", BUCKET),
    ])?;
    secrets.not_in("the log", &controller.logs())?;
    secrets.not_in("the metrics", &metrics)
}

#[tokio::test]
async fn what_of_a_token_cannot_be_read_and_what_a_call_lacks_is_told() -> anyhow::Result<()> {
    let World { controller, place: _place } = start().await?;
    let url = controller.url(CLASS).to_owned();
    let unread = json!({ "b": { "_type": "zip", "_data": BUCKET }, "l": null });
    let unread = McpClient::bearer(&url, &token(&unread)?);
    unread.call("whoami", json!({})).await?;
    let authenticated = told(&controller, "authenticated", 1).await?;
    let [line] = &authenticated[..] else { anyhow::bail!("{authenticated:?}") };
    ensure!(line["decoded"] == "in_part" && line["buckets"] == 0, "{line}");
    ensure!(line["flaws"] == "no_level, unknown_form_of_buckets", "{line}");

    let alice = McpClient::bearer(&url, &token(&json!({}))?);
    let write = json!({ "path": "/tmp/x", "text": BUCKET });
    let answer = alice.modern_call("write_file", write).await?;
    ensure!(answer.reason().as_deref() == Some("permission_missing"), "{}", answer.text());
    let denied = told(&controller, "answered in the server's place", 1).await?;
    let [line] = &denied[..] else { anyhow::bail!("{denied:?}") };
    let said: Value = serde_json::from_str(line["fields"].as_str().context("no fields")?)?;
    ensure!(said["tool"] == "write_file" && said["missing"] == "s3:DeleteObject", "{line}");
    let request = &answer.json()?["error"]["data"]["requestId"];
    ensure!(said["request_id"] == *request, "{line} is not of {request}");
    Secrets::new(&[("her bucket", BUCKET)])?.not_in("the log", &controller.logs())
}

/// What tokens name AWS.
const AWS: &str = "sts.amazonaws.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_and_each_exchange_is_told_of_in_one_line_and_counted() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let aws = StrictAws::start(world.moto.endpoint()).await?;
    let catalog = &world.catalog;
    aws.trust(&world.aws, catalog.url(), AWS, catalog.credentials().key());
    let alice = world.aws.users.iter().find(|user| user.name == "alice");
    let role = alice.and_then(|user| user.role_arn.clone()).context("no role")?;
    let of_role = json!({
        "source": "assumeRole",
        "assumeRole": { "role": role, "endpoint": aws.endpoint(), "sessionPolicy": "whenClaimed" },
    });
    let roles = json!({ "alice": role, "bob": "arn:aws:iam::123456789012:role/nobody-s" });
    let of_token = json!({
        "source": "webIdentity",
        "webIdentity": { "audience": AWS },
        "assumeRole": {
            "roleMap": { "roles": roles }, "endpoint": aws.endpoint(), "sessionPolicy": "whenClaimed",
        },
    });
    let mut documents =
        fixture_documents("assuming", 1, &["alice"], &format!("  credentials: {of_role}\n"))?;
    let exchanging =
        fixture_documents("exchanging", 1, &[], &format!("  credentials: {of_token}\n"))?;
    documents.extend(exchanging.into_iter().take(1));
    let jwks = catalog.jwks();
    let provider = json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": { "name": "tokens" },
        "spec": { "classes": ["exchanging"], "jwt": {
            "issuer": catalog.url(), "audiences": [AUDIENCE], "jwks": jwks,
        } },
    });
    documents.push(provider.to_string());
    let key = &world.aws.registry_key;
    let secret = key.secret_access_key.expose_secret();
    let controller = ControllerConfig::new(documents)
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .start()
        .await?;

    let by_key = McpClient::bearer(controller.url("assuming"), &api_key("alice"));
    let for_aws = json!({ "aud": [AUDIENCE, AWS] });
    let hers = world.token_saying("alice", &for_aws)?;
    let by_token = McpClient::bearer(controller.url("exchanging"), &hers);
    for client in [&by_key, &by_token, &by_key, &by_token] {
        client.call("whoami", json!({})).await?;
    }
    let bob = world.token_saying("bob", &for_aws)?;
    let his = McpClient::bearer(controller.url("exchanging"), &bob);
    let refused = his.modern_call("whoami", json!({})).await?;
    ensure!(refused.reason().as_deref() == Some("role_denied"), "{}", refused.text());

    for (message, provider, mode) in [
        ("a role was assumed", "assuming-keys", "api_key"),
        ("a token was exchanged for keys", "tokens", "jwt"),
    ] {
        let exchanged = told(&controller, message, 1).await?;
        let [line] = &exchanged[..] else { anyhow::bail!("not one line: {exchanged:?}") };
        ensure!(line["role"] == role.as_str() && line["is_narrowed"] == false, "{line}");
        let span = &line["span"];
        ensure!(span["provider"] == provider && span["mode"] == mode, "{line}");
        let is_said = |name: &str| span[name].as_str().is_some_and(|it| !it.is_empty());
        ensure!(is_said("request_id") && is_said("tenant") && line["ends"].is_string(), "{line}");
    }
    // who is refused after they were known is told of by the tenant that they would have been
    let refusals = told(&controller, "refused", 1).await?;
    let [line] = &refusals[..] else { anyhow::bail!("{refusals:?}") };
    ensure!(line["reason"] == "role_denied" && line["provider"] == "tokens", "{line}");
    ensure!(line["tenant"].as_str().is_some_and(|it| it.starts_with("t-")), "{line}");

    let metrics = controller.metrics().await?;
    for (kind, outcome) in
        [("assume_role", "ok"), ("web_identity", "ok"), ("web_identity", "denied")]
    {
        let line =
            format!("patchbay_broker_credentials_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} 1");
        ensure!(metrics.lines().any(|it| it == line), "{line} is not in {metrics}");
    }
    let secrets = Secrets::new(&[
        ("alice's token", &hers),
        ("bob's token", &bob),
        ("alice's key", &api_key("alice")),
        ("the gateway's own secret", secret),
    ])?;
    secrets.not_in("the log", &controller.logs())?;
    secrets.not_in("the metrics", &metrics)
}

#[tokio::test]
async fn what_a_token_would_get_and_why_it_is_refused_is_told_without_using_it()
-> anyhow::Result<()> {
    let World { controller, place } = start().await?;
    let secrets = place.path().display().to_string();
    let why = async |token: &str| {
        let file = place.path().join("token");
        fs::write(&file, token)?;
        let program = Command::new(binaries::path("patchbay")?)
            .args(["why", "--provider-secrets", &secrets])
            .arg("--token-file")
            .arg(&file)
            .arg("--file")
            .arg(place.path().join("documents"))
            .output()
            .await?;
        let told = String::from_utf8_lossy(&program.stdout).into_owned();
        anyhow::Ok((program.status.success(), told))
    };
    let good = token(&json!({}))?;
    let (is_good, told) = why(&good).await?;
    ensure!(controller.tenants().await?.is_empty(), "somebody was let in");
    McpClient::bearer(controller.url(CLASS), &good).call("whoami", json!({})).await?;
    let tenants = controller.tenants().await?;
    let hers = tenants.first().and_then(|it| it["tenant"].as_str()).context("no tenant")?;
    for line in [
        format!("  user         {SUBJECT}, as quilt-frontend says"),
        format!("  tenant       {hers}"),
        "  level        write".to_owned(),
        "  permissions  s3:GetObject, s3:PutObject".to_owned(),
        format!("  buckets      {BUCKET}"),
    ] {
        ensure!(told.lines().any(|it| it == line), "{line} is not in {told}");
    }
    ensure!(is_good, "{told}");
    Secrets::new(&[("the token", &good)])?.not_in("what is told of it", &told)?;
    let (is_good, told) = why(&token(&json!({ "org": "other" }))?).await?;
    ensure!(!is_good && told.contains("missing_claim") && told.contains("`org`"), "{told}");
    Ok(())
}
