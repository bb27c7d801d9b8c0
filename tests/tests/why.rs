//! What `patchbay why --token-file` says that a token would get where classes give AWS keys or exchange tokens: the role,
//! the session policy, and what the catalog or AWS would be shown. Nobody is asked for it, and it is what comes of it.

use anyhow::{Context as _, ensure};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use patchbay_tests::{
    binaries,
    controller::{ControllerConfig, api_key, fixture_documents, tenant_name},
    http::Http,
    mcp::McpClient,
    moto::Moto,
    secrets::Secrets,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;
use tokio::process::Command;

const KEY: &[u8] = b"only servers hold these 32 bytes";
const AWS: &str = "sts.amazonaws.com";
const READING: [&str; 3] = ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"];
/// Nobody is there, and nobody is asked.
const NOWHERE: &str = "https://127.0.0.1:9";

fn token(said: &Value) -> anyhow::Result<String> {
    let end = jiff::Timestamp::now().as_second() + 3600;
    let mut claims = json!({
        "iss": "https://staff.example", "aud": ["patchbay", AWS], "sub": "alice", "exp": end,
        "buckets": ["b-alice"], "permissions": READING,
    });
    let said = said.as_object().context("claims")?.clone();
    claims.as_object_mut().context("claims")?.extend(said);
    let key = EncodingKey::from_secret(KEY);
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

/// Classes by their source of credentials, and one way in to all of them.
struct Written {
    place: TempDir,
    documents: Vec<String>,
}

fn written(classes: &[(&str, Value)]) -> anyhow::Result<Written> {
    let place = tempfile::tempdir()?;
    fs::create_dir(place.path().join("staff"))?;
    fs::write(place.path().join("staff/hmac"), KEY)?;
    let mut documents = Vec::new();
    for (name, credentials) in classes {
        let fields = format!("  credentials: {credentials}");
        documents.extend(fixture_documents(name, 1, &[], &fields)?.into_iter().take(1));
    }
    let names: Vec<_> = classes.iter().map(|(name, _)| name).collect();
    let staff = json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": { "name": "staff" },
        "spec": { "classes": names, "jwt": {
            "issuer": "https://staff.example", "audiences": ["patchbay"], "algorithms": ["HS256"],
            "jwks": { "secretRef": { "name": "staff", "key": "hmac" } },
            "authorityClaims": ["aws_role", "buckets", "permissions"],
        } },
    });
    documents.push(staff.to_string());
    fs::write(place.path().join("documents.yaml"), documents.join("\n---\n"))?;
    Ok(Written { place, documents })
}

/// Whether somebody would be let in, and the lines that say what they would get in one class.
async fn why(place: &Path, class: &str, token: &str) -> anyhow::Result<(bool, Vec<String>)> {
    let file = place.join("token");
    fs::write(&file, token)?;
    let program = Command::new(binaries::path("patchbay")?)
        .args(["why", "--class", class, "--provider-secrets"])
        .arg(place)
        .arg("--token-file")
        .arg(&file)
        .arg("--file")
        .arg(place.join("documents.yaml"))
        .output()
        .await?;
    let told = String::from_utf8(program.stdout)?;
    let complaint = String::from_utf8(program.stderr)?;
    let secrets = Secrets::new(&[("the token", token)])?;
    secrets.not_in("what is told", &told)?;
    secrets.not_in("what is complained of", &complaint)?;
    ensure!(!told.is_empty(), "{complaint}");
    Ok((program.status.success(), told.lines().map(str::to_owned).collect()))
}

/// What is told under a name.
fn told<'a>(lines: &'a [String], what: &str) -> anyhow::Result<&'a str> {
    let start = format!("  {what:<12} ");
    let line = lines.iter().find_map(|line| line.strip_prefix(&start));
    line.with_context(|| format!("no {what} in {lines:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_and_the_policy_that_are_told_are_those_that_sts_is_asked_for()
-> anyhow::Result<()> {
    let moto = Moto::start().await?;
    let world = moto.set_up(&["alice"]).await?;
    let aws = StrictAws::start(moto.endpoint()).await?;
    let role = world.users[0].role_arn.as_deref().context("no role")?;
    let claimed = json!({ "source": "assumeRole", "assumeRole": {
        "roleClaim": { "claim": "aws_role", "roles": [role] },
        "endpoint": aws.endpoint(),
        "claims": { "buckets": "buckets", "permissions": "permissions" },
    } });
    let Written { place, documents } = written(&[("claimed", claimed)])?;
    let token = token(&json!({ "aws_role": role }))?;
    let (is_good, lines) = why(place.path(), "claimed", &token).await?;
    ensure!(is_good, "{lines:?}");
    ensure!(aws.asked_sts() == 0, "STS was asked");

    let key = &world.registry_key;
    let controller = ControllerConfig::new(documents)
        .args(&["--provider-secrets", &place.path().display().to_string()])
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", key.secret_access_key.expose_secret())
        .start()
        .await?;
    McpClient::bearer(controller.url("claimed"), &token).call("whoami", json!({})).await?;
    let sessions = aws.sessions();
    let [session] = sessions.as_slice() else { anyhow::bail!("{sessions:?}") };
    ensure!(told(&lines, "AWS role")? == session.role && session.role == role, "{lines:?}");
    ensure!(Some(told(&lines, "policy")?) == session.policy.as_deref(), "{lines:?} {session:?}");
    let policy: Value = serde_json::from_str(told(&lines, "policy")?)?;
    ensure!(policy.to_string().contains("arn:aws:s3:::b-alice"), "{policy}");
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 1 && tenants[0]["tenant"] == told(&lines, "tenant")?, "{tenants:?}");
    Ok(())
}

#[tokio::test]
async fn what_each_source_would_show_to_whom_is_told_and_so_is_why_there_would_be_nothing()
-> anyhow::Result<()> {
    const ROLE: &str = "arn:aws:iam::123456789012:role/reader";
    let claims = json!({ "buckets": "buckets", "permissions": "permissions" });
    let catalog = json!({ "origin": NOWHERE, "registry": "https://127.0.0.2:9" });
    let with_catalog = |exchange: Value| {
        let mut catalog = catalog.clone();
        catalog["exchange"] = exchange;
        catalog
    };
    let exchange = json!({
        "tokenEndpoint": "https://127.0.0.3:9/token", "audience": "quilt-catalog",
        "client": { "id": "patchbay", "secretRef": { "name": "staff", "key": "client" } },
    });
    let Written { place, .. } = written(&[
        (
            "mapped",
            json!({ "source": "assumeRole", "assumeRole": {
            "roleMap": { "roles": { "alice": ROLE } }, "claims": claims,
        } }),
        ),
        (
            "whole",
            json!({ "source": "assumeRole", "assumeRole": {
            "role": ROLE, "sessionPolicy": "whenClaimed",
        } }),
        ),
        (
            "shown",
            json!({
                "source": "webIdentity", "webIdentity": { "audience": AWS },
                "assumeRole": { "role": ROLE, "claims": claims },
            }),
        ),
        ("carried", json!({ "source": "inlineClaims" })),
        ("exchanged", json!({ "source": "catalog", "catalog": with_catalog(exchange.clone()) })),
        (
            "both",
            json!({
                "source": "assumeRole", "catalog": with_catalog(exchange),
                "assumeRole": { "role": ROLE, "claims": claims },
            }),
        ),
    ])?;
    let plain = token(&json!({}))?;
    let told_in = async |class: &str, token: &str| why(place.path(), class, token).await;

    for class in ["mapped", "shown", "both"] {
        let (is_good, lines) = told_in(class, &plain).await?;
        ensure!(is_good && told(&lines, "AWS role")? == ROLE, "{class}: {lines:?}");
        let policy: Value = serde_json::from_str(told(&lines, "policy")?)?;
        let text = policy.to_string();
        ensure!(text.contains("arn:aws:s3:::b-alice"), "{class}: {policy}");
        ensure!(text.contains("s3:GetObject") && !text.contains("s3:PutObject"), "{policy}");
    }
    let (is_good, lines) = told_in("whole", &plain).await?;
    ensure!(is_good && told(&lines, "policy")? == "none: all that the role may do", "{lines:?}");
    let (_, lines) = told_in("shown", &plain).await?;
    ensure!(told(&lines, "by")? == "the token itself, which AWS would be shown", "{lines:?}");

    let asked = format!(
        "{NOWHERE} is shown a token for `quilt-catalog`, which https://127.0.0.3:9/token would be asked for"
    );
    for class in ["exchanged", "both"] {
        let (is_good, lines) = told_in(class, &plain).await?;
        ensure!(is_good && told(&lines, "catalog")? == asked, "{class}: {lines:?}");
    }
    let for_it = token(&json!({ "aud": ["patchbay", "quilt-catalog"] }))?;
    let (_, lines) = told_in("exchanged", &for_it).await?;
    let as_it_is = format!("{NOWHERE} is shown the credential as it is");
    ensure!(told(&lines, "catalog")? == as_it_is, "{lines:?}");

    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(30);
    let carrying = token(&json!({ "aws_credentials": {
        "access_key_id": "ASIACARRIED", "secret_access_key": "the-secret-key-in-a-token",
        "session_token": "the-session-token-in-a-token", "expiration": end.as_second(),
    } }))?;
    let (is_good, lines) = told_in("carried", &carrying).await?;
    let keys = told(&lines, "AWS keys")?;
    ensure!(is_good && keys.starts_with("the token's own, until "), "{lines:?}");
    let secrets = Secrets::new(&[
        ("the key", "the-secret-key-in-a-token"),
        ("the session", "the-session-token-in-a-token"),
        // a part of the token is a secret too
        ("its payload", &BASE64URL_NOPAD.encode(b"the-secret-key-in-a-token")),
    ])?;
    secrets.not_in("what is told", &lines.join("\n"))?;

    // and why there would be nothing
    let unmapped = token(&json!({ "sub": "mallory" }))?;
    let not_for_aws = token(&json!({ "aud": "patchbay" }))?;
    for (class, token, what) in [
        ("mapped", &unmapped, "no AWS role"),
        ("shown", &not_for_aws, "aud"),
        ("carried", &plain, "AWS keys"),
    ] {
        let (is_good, lines) = told_in(class, token).await?;
        let keys = told(&lines, "AWS keys")?;
        ensure!(!is_good && keys.starts_with("none: ") && keys.contains(what), "{class}: {keys}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_asks_for_a_tenant_without_a_cluster_is_told_where_one_machine_shows_it()
-> anyhow::Result<()> {
    let controller =
        ControllerConfig::new(fixture_documents("fixture", 1, &["alice"], "")?).start().await?;
    let client = McpClient::bearer(controller.url("fixture"), &api_key("alice"));
    client.call("echo", json!({ "text": "x" })).await?;
    let tenant = tenant_name("fixture", "alice")?;
    let nowhere = tempfile::tempdir()?;
    let program = Command::new(binaries::path("patchbay")?)
        .args(["why", tenant.as_str()])
        .env_clear()
        .env("HOME", nowhere.path())
        .output()
        .await?;
    let told = String::from_utf8(program.stderr)?;
    ensure!(!program.status.success() && program.stdout.is_empty(), "{told}");
    for word in ["`patchbay local`", "--admin-listen", "--token-file FILE"] {
        ensure!(told.contains(word), "{told} does not say {word}");
    }
    // what it names is there, at this one's own address
    let page = told.split_once("http://127.0.0.1:9090").context("no page")?.1;
    let page = page.split(' ').next().context("no path")?;
    let shown = Http::default().get(&format!("{}{page}", controller.admin), &[]).await?;
    let shown = shown.json()?;
    ensure!(shown[0]["tenant"] == tenant.as_str() && shown[0]["phase"] == "Ready", "{shown}");
    Ok(())
}
