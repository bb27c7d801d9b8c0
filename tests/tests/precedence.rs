//! Every way to prove who one is, alone and beside every other: an API key decides before a bearer, and whatever decides
//! decides alone. A failure never moves on to the other credential, and that one is shown to nobody (KEY-2).

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use patchbay_tests::{
    catalog::{Catalog, Config, record::Bearers, world::World},
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    mcp::McpClient,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::fs;

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
        let provider = json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
            "metadata": { "name": name }, "spec": spec,
        });
        documents.push(provider.to_string());
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
