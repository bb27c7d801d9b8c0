//! Who a token makes somebody, black-box: keys that are found, kept in files and rolled; enhanced tokens whose key every
//! browser holds; login codes.

use anyhow::{Context, ensure};
use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use patchbay_core::entitlement::SaidBy;
use patchbay_tests::{
    binaries,
    catalog::{Catalog, Config, fault::Fault, world::World},
    controller::{Controller, ControllerConfig, fixture_documents},
    enhanced::tenant,
    fed::fed,
    mcp::McpClient,
    moto::Moto,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path, process::Output, time::Duration};
use tempfile::TempDir;
use tokio::process::Command;

const CLASS: &str = "fixture";
const PATIENCE: Duration = Duration::from_mins(1);
/// As every browser of a catalog with enhanced tokens has it.
const BROWSERS_KEY: [u8; 32] = *b"every browser has these 32 bytes";

/// alice and bob, and no AWS.
async fn catalog() -> anyhow::Result<Catalog> {
    Catalog::start(Config::default(), World::without_aws(&["alice", "bob"])).await
}

/// A controller of the fixture with one more way in, and a directory of keys in which `hmac` is the browsers'.
async fn start(way: &Value) -> anyhow::Result<(Controller, TempDir)> {
    let keys = browsers_key()?;
    let controller = configured(way, Some(keys.path()))?.start().await?;
    Ok((controller, keys))
}

fn browsers_key() -> anyhow::Result<TempDir> {
    let keys = tempfile::tempdir()?;
    fs::create_dir(keys.path().join("quilt"))?;
    fs::write(keys.path().join("quilt/hmac"), BROWSERS_KEY)?;
    Ok(keys)
}

fn configured(way: &Value, keys: Option<&Path>) -> anyhow::Result<ControllerConfig> {
    configured_with(way, keys, "")
}

/// The same with further fields of the class.
fn configured_with(
    way: &Value,
    keys: Option<&Path>,
    fields: &str,
) -> anyhow::Result<ControllerConfig> {
    let mut documents = fixture_documents(CLASS, 1, &["unused"], fields)?;
    let mut spec = json!({ "classes": [CLASS] });
    spec.as_object_mut().context("spec")?.extend(way.as_object().context("way")?.clone());
    let provider = json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": { "name": "way" }, "spec": spec,
    });
    documents.push(provider.to_string());
    let config = ControllerConfig::new(documents);
    Ok(match keys {
        Some(keys) => config.args(&["--provider-secrets", &keys.display().to_string()]),
        None => config,
    })
}

/// The provider of enhanced tokens, with `more`.
fn enhanced(more: &Value) -> anyhow::Result<Value> {
    let mut jwt = json!({
        "issuer": "quilt-frontend", "audiences": ["quilt-mcp-server"], "format": "quiltEnhanced",
        "algorithms": ["HS256"], "jwks": { "secretRef": { "name": "quilt", "key": "hmac" } },
    });
    jwt.as_object_mut().context("jwt")?.extend(more.as_object().context("more")?.clone());
    Ok(json!({ "jwt": jwt }))
}

fn signed(claims: &Value, key: &[u8]) -> anyhow::Result<String> {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("frontend-enhanced".into());
    Ok(jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(key))?)
}

fn with(claims: &Value, changes: &Value) -> anyhow::Result<Value> {
    let mut claims = claims.clone();
    claims
        .as_object_mut()
        .context("claims")?
        .extend(changes.as_object().context("changes")?.clone());
    Ok(claims)
}

async fn call(controller: &Controller, token: &str) -> anyhow::Result<Value> {
    McpClient::bearer(controller.url(CLASS), token).call("whoami", json!({})).await
}

async fn refused(controller: &Controller, token: &str) -> anyhow::Result<(u16, String)> {
    let client = McpClient::bearer(controller.url(CLASS), token);
    let answer = client.modern_call("whoami", json!({})).await?;
    Ok((answer.status.as_u16(), answer.reason().unwrap_or_default()))
}

async fn tenants(controller: &Controller) -> anyhow::Result<BTreeSet<String>> {
    let tenants = controller.tenants().await?;
    Ok(tenants.iter().filter_map(|it| it["tenant"].as_str().map(str::to_owned)).collect())
}

#[tokio::test]
async fn an_issuers_keys_are_found_by_its_own_document_alone() -> anyhow::Result<()> {
    let catalog = catalog().await?;
    let way = |issuer: &str| {
        json!({ "jwt": {
            "issuer": issuer, "audiences": ["https://patchbay.example"],
            "jwks": { "discovery": true, "caBundle": catalog.ca_pem() },
        } })
    };
    let controller = configured(&way(catalog.url()), None)?.start().await?;
    call(&controller, catalog.credentials().token("alice")?.expose_secret()).await?;
    ensure!(tenants(&controller).await?.len() == 1);
    let paths: Vec<_> = catalog.record().all().into_iter().map(|seen| seen.path).collect();
    ensure!(paths == ["/.well-known/openid-configuration", "/.well-known/jwks.json"], "{paths:?}");

    // the same document is nothing to an issuer of another spelling
    let spelt = format!("{}/", catalog.url());
    let other = configured(&way(&spelt), None)?.start().await?;
    let now = jiff::Timestamp::now();
    let claims = catalog.credentials().claims("alice", now, jiff::SignedDuration::from_hours(1));
    let token = catalog.credentials().key().sign(&with(&claims, &json!({ "iss": spelt }))?)?;
    ensure!(refused(&other, &token).await? == (503, "provider_unavailable".into()));
    ensure!(other.logs().contains("of another issuer"), "{}", other.logs());
    // and who issues to nobody here is told so
    let elsewhere =
        catalog.credentials().key().sign(&with(&claims, &json!({ "iss": "https://x" }))?)?;
    ensure!(refused(&controller, &elsewhere).await? == (401, "unknown_issuer".into()));
    Ok(())
}

#[tokio::test]
async fn what_a_browser_can_sign_gains_nothing() -> anyhow::Result<()> {
    let catalog = catalog().await?;
    let (controller, _keys) = start(&enhanced(&json!({ "catalog": catalog.origins() }))?).await?;
    let grants = json!({ "p": ["g", "l"], "b": ["b-alice"], "l": "read", "r": ["R"] });
    let claims = with(&catalog.credentials().enhanced_claims("alice"), &grants)?;
    let alice = tenant(CLASS, catalog.url(), "alice", &grants, SaidBy::Holder)?;
    let own = signed(&claims, &BROWSERS_KEY)?;
    call(&controller, &own).await?;
    ensure!(tenants(&controller).await? == [alice.clone()].into(), "alice is not herself");

    // she is alice whatever else she signs: the same tenant, the same worker
    let forged = json!({
        "sub": "bob", "id": "bob", "role_arn": "arn:aws:iam::123456789012:role/admin",
        "session_tags": { "tenant": "bob" }, "email": "bob@example.com",
    });
    call(&controller, &signed(&with(&claims, &forged)?, &BROWSERS_KEY)?).await?;
    ensure!(tenants(&controller).await? == [alice.clone()].into(), "a claim made her another");

    // more than she may is another worker of hers, and nobody else's
    let more = json!({ "p": ["g", "p"], "b": ["*"], "l": "admin", "r": ["AdminQuilt"] });
    call(&controller, &signed(&with(&claims, &more)?, &BROWSERS_KEY)?).await?;
    let admin = tenant(CLASS, catalog.url(), "alice", &more, SaidBy::Holder)?;
    ensure!(tenants(&controller).await? == [alice, admin].into());

    // what the catalog does not know is nobody's, and what is not signed is not even asked
    let stranger = with(&claims, &json!({ "uuid": "00000000-0000-4000-8000-000000000000" }))?;
    let stranger = signed(&stranger, &BROWSERS_KEY)?;
    ensure!(refused(&controller, &stranger).await? == (401, "invalid_credential".into()));
    catalog.record().clear();
    let unsigned = signed(&claims, &[7; 32])?;
    ensure!(refused(&controller, &unsigned).await? == (401, "invalid_credential".into()));
    ensure!(catalog.record().all().is_empty(), "a forged token was shown around");

    // a catalog that cannot be asked is no verdict
    catalog.faults().set(Fault::Down);
    let session = with(&catalog.credentials().enhanced_claims("bob"), &grants)?;
    let bob = signed(&session, &BROWSERS_KEY)?;
    ensure!(refused(&controller, &bob).await? == (503, "provider_unavailable".into()));
    catalog.faults().clear();
    call(&controller, &bob).await?;
    ensure!(!controller.logs().contains("every browser has"), "the key is in the log");
    Ok(())
}

#[tokio::test]
async fn a_role_that_a_browser_can_sign_is_refused_before_aws_hears_of_it() -> anyhow::Result<()> {
    let catalog = catalog().await?;
    let moto = Moto::start().await?;
    let accounts = moto.set_up(&["alice"]).await?;
    let aws = StrictAws::start(moto.endpoint()).await?;
    let role = accounts.users[0].role_arn.as_deref().context("no role")?;
    let source = json!({ "source": "assumeRole", "assumeRole": {
        "roleClaim": { "claim": "roles", "roles": [role] }, "endpoint": aws.endpoint(),
    } });
    let (way, keys) = (enhanced(&json!({ "catalog": catalog.origins() }))?, browsers_key()?);
    let own = &accounts.registry_key;
    let controller = configured_with(&way, Some(keys.path()), &format!("  credentials: {source}"))?
        .env("AWS_ACCESS_KEY_ID", &own.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", own.secret_access_key.expose_secret())
        .start()
        .await?;
    // the class takes this role from a claim, and the catalog says that she is alice
    let grants = json!({ "p": ["g"], "b": ["b-alice"], "l": "read", "r": [role] });
    let claims = with(&catalog.credentials().enhanced_claims("alice"), &grants)?;
    let answer = refused(&controller, &signed(&claims, &BROWSERS_KEY)?).await?;
    ensure!(answer == (403, "role_denied".into()), "{answer:?}\n{}", controller.logs());
    ensure!(aws.asked_sts() == 0 && tenants(&controller).await?.is_empty(), "something was made");
    Ok(())
}

#[tokio::test]
async fn the_two_forms_of_the_same_claims_are_one_tenant_and_do_not_flap() -> anyhow::Result<()> {
    let catalog = catalog().await?;
    let (controller, _keys) = start(&enhanced(&json!({ "catalog": catalog.origins() }))?).await?;
    let session = catalog.credentials().enhanced_claims("alice");
    let short = json!({
        "s": "w", "l": "write", "p": ["g", "l"], "r": ["R"],
        "b": { "_type": "groups", "_data": { "quilt": ["raw", "sandbox"] } },
    });
    let long = json!({
        "scope": "w", "level": "write", "permissions": ["s3:ListBucket", "s3:GetObject"],
        "roles": ["R"], "buckets": ["quilt-sandbox", "quilt-raw"],
    });
    let tokens = [
        signed(&with(&session, &short)?, &BROWSERS_KEY)?,
        signed(&with(&session, &long)?, &BROWSERS_KEY)?,
    ];
    let mut started = BTreeSet::new();
    for token in tokens.iter().cycle().take(6) {
        started.insert(call(&controller, token).await?["started"].to_string());
    }
    ensure!(started.len() == 1, "another worker: {started:?}");
    let all = controller.tenants().await?;
    ensure!(all.len() == 1 && all[0]["epoch"] == 1, "{all:?}");

    let fewer = with(&short, &json!({ "b": ["quilt-raw"] }))?;
    let fewer = signed(&with(&session, &fewer)?, &BROWSERS_KEY)?;
    started.insert(call(&controller, &fewer).await?["started"].to_string());
    ensure!(started.len() == 2 && tenants(&controller).await?.len() == 2);
    Ok(())
}

#[tokio::test]
async fn where_only_servers_hold_the_key_the_token_names_its_user_and_the_log_says_so()
-> anyhow::Result<()> {
    let (controller, keys) = start(&enhanced(&json!({ "keyHeldByServersOnly": true }))?).await?;
    ensure!(controller.logs().contains("KeyHeldByServersOnly"), "{}", controller.logs());
    let end = jiff::Timestamp::now().as_second() + 3600;
    let claims = json!({
        "iss": "quilt-frontend", "aud": "quilt-mcp-server", "sub": "carol", "exp": end, "p": ["g"],
    });
    let old = signed(&claims, &BROWSERS_KEY)?;
    call(&controller, &old).await?;
    let carol = tenant(CLASS, "quilt-frontend", "carol", &claims, SaidBy::Issuer)?;
    ensure!(tenants(&controller).await? == [carol.clone()].into());

    // the key rolls without a restart, and the last good one stays meanwhile
    let file = keys.path().join("quilt/hmac");
    fs::write(&file, "short")?;
    controller
        .eventually("a bad key is told", async || Ok(controller.logs().contains("5 bytes long")))
        .await?;
    call(&controller, &old).await?;
    let next = [9; 32];
    fs::write(&file, next)?;
    let new = signed(&claims, &next)?;
    controller
        .eventually("the new key counts", async || Ok(refused(&controller, &new).await?.0 == 200))
        .await?;
    ensure!(refused(&controller, &old).await? == (401, "invalid_credential".into()));
    ensure!(tenants(&controller).await? == [carol].into(), "the key made another tenant");
    Ok(())
}

#[tokio::test]
async fn keys_that_are_not_there_are_refused_at_start_with_field_and_fix() -> anyhow::Result<()> {
    let way = || enhanced(&json!({ "keyHeldByServersOnly": true }));
    let told = configured(&way()?, None)?.refusal().await?;
    ensure!(
        told.contains("spec.jwt.jwks.secretRef") && told.contains("--provider-secrets"),
        "{told}"
    );
    let keys = tempfile::tempdir()?;
    let told = configured(&way()?, Some(keys.path()))?.refusal().await?;
    ensure!(told.contains("`way`") && told.contains("quilt/hmac"), "{told}");
    fs::create_dir(keys.path().join("quilt"))?;
    fs::write(keys.path().join("quilt/hmac"), "too short to be a key")?;
    let told = configured(&way()?, Some(keys.path()))?.refusal().await?;
    ensure!(told.contains("at least 32 random bytes") && !told.contains("too short to"), "{told}");
    Ok(())
}

async fn login(catalog: &Catalog, arguments: &[&str], code: &str) -> anyhow::Result<Output> {
    let ca = tempfile::NamedTempFile::new()?;
    fs::write(ca.path(), catalog.ca_pem())?;
    let mut program = Command::new(binaries::path("patchbay")?);
    program.args(["login", "--catalog", catalog.url(), "--ca-file"]).arg(ca.path()).args(arguments);
    fed(program, code, PATIENCE).await
}

#[tokio::test]
async fn a_login_code_is_refused_with_a_word_of_login_which_makes_a_key_of_it_once()
-> anyhow::Result<()> {
    let catalog = catalog().await?;
    let way = json!({ "introspection": { "catalog": catalog.origins() } });
    let controller = configured(&way, None)?.start().await?;
    let code = catalog.credentials().login_code("alice");
    let code = code.expose_secret();

    let client = McpClient::bearer(controller.url(CLASS), code);
    let answer = client.modern_call("whoami", json!({})).await?;
    ensure!(answer.status == StatusCode::UNAUTHORIZED, "{}", answer.text());
    ensure!(answer.reason().as_deref() == Some("login_code"), "{}", answer.text());
    ensure!(answer.text().contains("patchbay login"), "{}", answer.text());
    ensure!(catalog.record().all().is_empty(), "the code was shown to the catalog");

    let arguments = ["--name", "laptop", "--expires-in-days", "7"];
    let done = login(&catalog, &arguments, &format!("{code}\n")).await?;
    let (out, told) =
        (String::from_utf8(done.stdout)?, String::from_utf8_lossy(&done.stderr).into_owned());
    ensure!(done.status.success(), "{told}");
    let key = out.trim_end();
    ensure!(key.starts_with("qk_") && out.lines().count() == 1, "it printed something else");
    ensure!(!told.contains(key) && !told.contains(code), "a secret is on standard error");
    ensure!(told.contains("in 7 days"), "{told}");
    let asked: Vec<_> = catalog.record().all().into_iter().map(|seen| seen.path).collect();
    ensure!(asked == ["/config.json", "/api/token", "/graphql"], "{asked:?}");
    call(&controller, key).await?;

    let again = login(&catalog, &["--registry", catalog.registry_url()], code).await?;
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(!again.status.success() && again.stdout.is_empty(), "a code was good twice");
    ensure!(told.contains("refuses the code") && !told.contains(code), "{told}");
    let empty = login(&catalog, &[], "\n").await?;
    ensure!(String::from_utf8_lossy(&empty.stderr).contains("it is empty"));
    Ok(())
}

async fn make_api_key(arguments: &[&str]) -> anyhow::Result<Output> {
    let mut program = Command::new(binaries::path("patchbay")?);
    program.args(["api-key", "--subject", "alice", "--id", "laptop"]).args(arguments);
    fed(program, "", PATIENCE).await
}

#[tokio::test]
async fn an_api_key_is_good_by_the_entry_that_is_made_with_it_and_none_is_made_for_the_past()
-> anyhow::Result<()> {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let made = make_api_key(&["--expires-at", &end.to_string()]).await?;
    let (key, told) = (String::from_utf8(made.stdout)?, String::from_utf8(made.stderr)?);
    let key = key.trim_end();
    ensure!(made.status.success() && !told.contains(key), "{told}");
    let entry = told.lines().find_map(|line| line.trim().strip_prefix("- "));
    let entry: Value = serde_json::from_str(entry.context("no entry")?)?;
    let way = json!({ "apiKeys": { "keys": [entry] } });
    let controller = configured(&way, None)?.start().await?;
    call(&controller, key).await?;

    let past = "2020-01-01T00:00:00Z";
    let none = make_api_key(&["--expires-at", past]).await?;
    let told = String::from_utf8(none.stderr)?;
    ensure!(!none.status.success() && none.stdout.is_empty(), "a key that has ended was made");
    for word in ["--expires-at", past, "name a time to come"] {
        ensure!(told.contains(word), "{told} does not say {word}");
    }
    Ok(())
}
