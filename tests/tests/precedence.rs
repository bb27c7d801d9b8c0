//! Every way to prove who one is, alone and beside every other: an API key decides before a bearer, and whatever decides
//! decides alone. A failure never moves on to the other credential, and that one is shown to nobody; nor to the
//! machine's own AWS identity, which is one user's who proves who they are like everybody (KEY-2).

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use patchbay_core::digest::Digest;
use patchbay_tests::{
    binaries,
    catalog::{Catalog, Config, record::Bearers, world::World},
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    mcp::McpClient,
    secrets::Secrets,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr};
use tokio::process::Command;

const CLASS: &str = "fixture";
const KEY: &[u8] = b"only servers hold these 32 bytes";

/// One credential, and what it is alone.
struct Credential {
    what: &'static str,
    value: String,
    outcome: Outcome,
    /// Whether the catalog is asked about it.
    is_asked: bool,
}

/// Whom a credential makes somebody, or why nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Is(&'static str),
    Refused(&'static str),
}

use Outcome::{Is, Refused};

fn token(expires_in: i64) -> anyhow::Result<String> {
    let end = jiff::Timestamp::now().as_second() + expires_in;
    let claims =
        json!({ "iss": "https://staff.example", "aud": "patchbay", "sub": "carol", "exp": end });
    let key = EncodingKey::from_secret(KEY);
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

async fn catalog() -> anyhow::Result<Catalog> {
    let config = Config { bearers: Bearers::Verbatim, ..Config::default() };
    Catalog::start(config, World::without_aws(&["alice"])).await
}

/// A controller of the fixture with all three ways in.
async fn start(catalog: &Catalog, keys: &std::path::Path) -> anyhow::Result<Controller> {
    fs::create_dir(keys.join("staff"))?;
    fs::write(keys.join("staff/hmac"), KEY)?;
    let mut documents = fixture_documents(CLASS, 3, &["bob"], "")?;
    let origins = json!({
        "origin": catalog.url(), "registry": catalog.registry_url(), "caBundle": catalog.ca_pem(),
    });
    for (name, way) in [
        ("catalog", json!({ "introspection": { "catalog": origins } })),
        (
            "staff",
            json!({ "jwt": {
                "issuer": "https://staff.example", "audiences": ["patchbay"], "algorithms": ["HS256"],
                "jwks": { "secretRef": { "name": "staff", "key": "hmac" } },
            } }),
        ),
    ] {
        let mut spec = json!({ "classes": [CLASS] });
        spec.as_object_mut().context("spec")?.extend(way.as_object().context("way")?.clone());
        documents.push(provider(name, &spec));
    }
    let secrets = keys.display().to_string();
    ControllerConfig::new(documents).args(&["--provider-secrets", &secrets]).start().await
}

async fn outcome(client: &McpClient) -> anyhow::Result<String> {
    let answer = client.modern_call("recall", json!({ "key": "me" })).await?;
    match answer.reason() {
        Some(reason) => Ok(reason),
        None => Ok(client.call("recall", json!({ "key": "me" })).await?["memory"].to_string()),
    }
}

fn expected(outcome: Outcome) -> String {
    match outcome {
        Is(user) => Value::from(user).to_string(),
        Refused(reason) => reason.to_owned(),
    }
}

#[tokio::test]
async fn each_mode_alone_and_every_pair_follows_the_precedence_and_never_falls_back()
-> anyhow::Result<()> {
    let (catalog, keys) = (catalog().await?, tempfile::tempdir()?);
    let controller = start(&catalog, keys.path()).await?;
    let url = controller.url(CLASS);
    let credential =
        |what, value: String, outcome, is_asked| Credential { what, value, outcome, is_asked };
    let alices = catalog.credentials().api_key("alice").expose_secret().to_owned();
    let hers = catalog.credentials().token("alice")?.expose_secret().to_owned();
    let in_key_header = [
        credential("a pb_ key", api_key("bob"), Is("bob"), false),
        credential("a qk_ key", alices.clone(), Is("alice"), true),
        credential("a bad pb_ key", api_key("bob") + "x", Refused("invalid_api_key"), false),
        credential(
            "a bad qk_ key",
            "qk_nobody-s-key-at-all".into(),
            Refused("invalid_api_key"),
            true,
        ),
        credential("a token for a key", token(3600)?, Refused("credential_not_accepted"), false),
    ];
    let as_bearer = [
        credential("a pb_ key", api_key("bob"), Is("bob"), false),
        credential("a qk_ key", alices, Is("alice"), true),
        credential("a token", token(3600)?, Is("carol"), false),
        credential("a token that ended", token(-3600)?, Refused("expired_credential"), false),
        credential("a catalog's token", hers, Is("alice"), true),
        credential(
            "an unknown bearer",
            "nobody-s-opaque-bearer".into(),
            Refused("invalid_credential"),
            true,
        ),
    ];
    let by_key = |it: &Credential| McpClient::with_headers(url, &[("x-api-key", &it.value)]);

    // each user says once who they are
    for it in in_key_header.iter().filter(|it| matches!(it.outcome, Is(_))) {
        let Is(user) = it.outcome else { continue };
        by_key(it).call("remember", json!({ "key": "me", "value": user })).await?;
    }
    let carol = McpClient::bearer(url, &token(3600)?);
    carol.call("remember", json!({ "key": "me", "value": "carol" })).await?;

    for it in &in_key_header {
        let told = outcome(&by_key(it)).await?;
        ensure!(told == expected(it.outcome), "{} as an API key: {told}", it.what);
    }
    for it in &as_bearer {
        let told = outcome(&McpClient::bearer(url, &it.value)).await?;
        ensure!(told == expected(it.outcome), "{} as a bearer: {told}", it.what);
    }
    for key in &in_key_header {
        for bearer in &as_bearer {
            catalog.record().clear();
            let authorization = format!("Bearer {}", bearer.value);
            let headers = [("x-api-key", key.value.as_str()), ("authorization", &authorization)];
            let told = outcome(&McpClient::with_headers(url, &headers)).await?;
            let pair = format!("{} beside {}", key.what, bearer.what);
            ensure!(told == expected(key.outcome), "{pair}: {told}");
            let asked: Vec<_> =
                catalog.record().all().into_iter().filter_map(|seen| seen.bearer).collect();
            let is_its_own = |it: &String| key.is_asked && *it == key.value;
            ensure!(asked.iter().all(is_its_own), "{pair}: the catalog saw {}", asked.len());
        }
    }
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
async fn start_beside_own_identity(keys: &std::path::Path) -> anyhow::Result<Controller> {
    fs::create_dir(keys.join("staff"))?;
    fs::write(keys.join("staff/hmac"), KEY)?;
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
    let spec = json!({ "classes": classes, "jwt": {
        "issuer": "https://staff.example", "audiences": ["patchbay"], "algorithms": ["HS256"],
        "jwks": { "secretRef": { "name": "staff", "key": "hmac" } },
    } });
    documents.push(provider("staff", &spec));
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
