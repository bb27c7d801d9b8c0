//! Every way to prove who one is, alone and beside every other: an API key decides before a bearer, and whatever decides
//! decides alone. A failure never moves on to the other credential, and that one is shown to nobody; nor to the
//! machine's own AWS identity, which is one user's who proves who they are like everybody (KEY-2).

use anyhow::{Context, ensure};
use patchbay_core::digest::Digest;
use patchbay_tests::{
    binaries,
    catalog::Catalog,
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    mcp::McpClient,
    precedence::{
        ENTRY, KEY, SECRET, WITH_KEY, catalog, is_followed_at, outcome, staff, token, ways,
    },
    secrets::Secrets,
};
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, path::Path};
use tokio::process::Command;

const CLASS: &str = "fixture";

/// A controller of the fixture with all three ways in.
async fn start(catalog: &Catalog, secrets: &Path) -> anyhow::Result<Controller> {
    place_key(secrets)?;
    let mut documents = fixture_documents(CLASS, 3, &[WITH_KEY], "")?;
    documents.extend(ways(catalog, CLASS).iter().map(|(name, spec)| provider(name, spec)));
    let secrets = secrets.display().to_string();
    ControllerConfig::new(documents).args(&["--provider-secrets", &secrets]).start().await
}

fn place_key(secrets: &Path) -> anyhow::Result<()> {
    fs::create_dir(secrets.join(SECRET))?;
    Ok(fs::write(secrets.join(SECRET).join(ENTRY), KEY)?)
}

#[tokio::test]
async fn each_mode_alone_and_every_pair_follows_the_precedence_and_never_falls_back()
-> anyhow::Result<()> {
    let (catalog, secrets) = (catalog().await?, tempfile::tempdir()?);
    let controller = start(&catalog, secrets.path()).await?;
    is_followed_at(controller.url(CLASS), &catalog).await?;
    ensure!(controller.tenants().await?.len() == 3, "{:?}", controller.tenants().await?);
    Ok(())
}

/// What the process that starts a controller has in its environment.
const OWN_KEYS: [(&str, &str); 4] = [
    ("AWS_ACCESS_KEY_ID", "ASIAOWNIDENTITY"),
    ("AWS_SECRET_ACCESS_KEY", "the-owner-s-secret-key"),
    ("AWS_SESSION_TOKEN", "the-owner-s-session-token"),
    ("AWS_REGION", "eu-west-1"),
];

/// A controller with three classes of the fixture: one that gives bob the machine's own AWS identity, one that takes
/// keys from tokens, and one that gives no keys; and the same ways in to all of them.
async fn start_beside_own_identity(keys: &Path) -> anyhow::Result<Controller> {
    place_key(keys)?;
    let mut documents = Vec::new();
    let ambient =
        "  credentials: { source: ambient, ambient: { issuer: urn:owners, subject: bob } }";
    for (class, credentials) in
        [("own", ambient), ("carried", "  credentials: { source: inlineClaims }"), ("bare", "")]
    {
        documents.extend(fixture_documents(class, 1, &[], credentials)?.into_iter().take(1));
    }
    let classes = ["own", "carried", "bare"];
    let digest = |user| format!("sha256:{}", Digest::of(api_key(user).as_bytes()));
    let entry = |user| json!({ "id": user, "subject": user, "digest": digest(user) });
    for (name, way) in [
        ("owners", json!({ "issuer": "urn:owners", "keys": [entry("bob"), entry("alice")] })),
        (
            "others",
            json!({ "issuer": "urn:others", "keys": [{
            "id": "mallory", "subject": "bob", "digest": digest("mallory"),
        }] }),
        ),
    ] {
        let spec = json!({ "classes": classes, "apiKeys": way });
        documents.push(provider(name, &spec));
    }
    documents.push(provider("staff", &json!({ "classes": classes, "jwt": staff() })));
    let secrets = keys.display().to_string();
    let config = ControllerConfig::new(documents).args(&["--provider-secrets", &secrets]);
    OWN_KEYS.iter().fold(config, |config, (name, value)| config.env(name, value)).start().await
}

fn provider(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": { "name": name }, "spec": spec,
    })
    .to_string()
}

/// The AWS keys that a worker's server finds where SDKs look.
async fn found_keys(client: &McpClient) -> anyhow::Result<String> {
    let at = json!({ "path": "/home/worker/.patchbay/aws-token" });
    let token = client.call("read_file", at).await?;
    let token = token["text"].as_str().with_context(|| token.to_string())?;
    let request = format!(
        "GET /.patchbay/aws-credentials HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
    );
    Ok(client.call("proxy_request", json!({ "request": request })).await?.to_string())
}

#[tokio::test]
async fn the_machines_own_identity_is_one_users_by_name_and_nobody_falls_back_to_it()
-> anyhow::Result<()> {
    let keys = tempfile::tempdir()?;
    let controller = start_beside_own_identity(keys.path()).await?;
    let by_key = |url: &str, key: &str| McpClient::with_headers(url, &[("x-api-key", key)]);
    let (bob, alice, mallory) = (api_key("bob"), api_key("alice"), api_key("mallory"));
    let own = controller.url("own");
    let found = found_keys(&by_key(own, &bob)).await?;
    ensure!(
        found.contains("ASIAOWNIDENTITY") && found.contains("the-owner-s-session-token"),
        "{found}"
    );

    // whoever is not bob of his own issuer is refused, by whatever they are known, and nobody without a credential is he
    for (presented, reason) in [
        (vec![("x-api-key", alice.clone())], "aws_ambient_user"),
        (vec![("x-api-key", mallory)], "aws_ambient_user"),
        (vec![("authorization", format!("Bearer {}", token(3600)?))], "aws_ambient_user"),
        (
            vec![("x-api-key", alice), ("authorization", format!("Bearer {bob}"))],
            "aws_ambient_user",
        ),
        (vec![("x-api-key", bob.clone() + "x")], "invalid_api_key"),
        (
            vec![("x-api-key", bob.clone() + "x"), ("authorization", format!("Bearer {bob}"))],
            "invalid_api_key",
        ),
        (vec![("authorization", format!("Bearer {}", token(-3600)?))], "expired_credential"),
        (vec![], "missing_credential"),
    ] {
        let presented: Vec<_> =
            presented.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let told = outcome(&McpClient::with_headers(own, &presented)).await?;
        ensure!(told == reason, "{reason}: {told}");
    }
    // and no other class ever gives it, to bob neither
    let carried = controller.url("carried");
    ensure!(outcome(&by_key(carried, &bob)).await? == "aws_token_required");
    let bearer = McpClient::bearer(carried, &token(3600)?);
    ensure!(outcome(&bearer).await? == "aws_keys_missing");
    let bare = by_key(controller.url("bare"), &bob);
    let at = json!({ "path": "/home/worker/.patchbay/aws-token" });
    let there = bare.call("read_file", at).await?;
    ensure!(there["text"].is_null(), "{there}");
    let inside = bare.call("whoami", json!({})).await?.to_string();
    ensure!(inside.contains("HTTP_PROXY") && !inside.contains("AWS_ACCESS_KEY_ID"), "{inside}");

    let metrics = controller.metrics().await?;
    let ok = r#"authentications_total{mode="ambient",outcome="ok"}"#;
    ensure!(metrics.contains(ok), "not counted");
    ensure!(metrics.contains("patchbay_ambient_identity 1"), "not shown");
    let logs = controller.logs();
    for shown in [r#""condition":"AmbientIdentity""#, "api_key, jwt, ambient"] {
        ensure!(logs.contains(shown), "{shown} is not in the log");
    }
    let secrets = Secrets::new(&OWN_KEYS[1..3])?;
    secrets.not_in("the log", &logs)?;
    secrets.not_in("the metrics", &metrics)
}

#[tokio::test]
async fn the_doctor_tells_temporary_keys_from_long_term_ones() -> anyhow::Result<()> {
    let [id, secret, token, _] = OWN_KEYS;
    for (with_token, said) in [(true, "temporary keys;"), (false, "long-term keys,")] {
        let mut doctor = Command::new(binaries::path("patchbay")?);
        doctor.arg("doctor").envs([id, secret]).env_remove(token.0);
        if with_token {
            doctor.env(token.0, token.1);
        }
        let told = String::from_utf8(doctor.output().await?.stdout)?;
        let line = told.lines().find(|line| line.contains("own AWS identity"));
        ensure!(line.is_some_and(|line| line.starts_with("ok") && line.contains(said)), "{told}");
        Secrets::new(&[secret, token])?.not_in("what it tells", &told)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_for_others_does_not_give_its_own_identity() -> anyhow::Result<()> {
    let ambient =
        "  credentials: { source: ambient, ambient: { issuer: urn:owners, subject: bob } }";
    let documents = fixture_documents(CLASS, 1, &["bob"], ambient)?;
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let admin = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = ControllerConfig::new(documents).listen(everywhere, admin);
    let told = config.args(&["--insecure-listen"]).refusal().await?;
    ensure!(told.contains("`fixture`") && told.contains("listen on a loopback address"), "{told}");
    Ok(())
}
