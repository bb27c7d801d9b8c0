//! The catalog double proven by the real client: quilt3 talks to it, and to moto with the keys that
//! it hands out. Then what quilt3 cannot show: refusals, faults and the record.

use anyhow::{Context, Result, ensure};
use http::{Request, StatusCode, header};
use patchbay_tests::{
    catalog::{Catalog, Config, fault::Fault, record::Origin, world::World},
    fed::fed,
    https::Client,
    moto::{Moto, python_environment},
    repository::repository,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

const PATIENCE: Duration = Duration::from_mins(3);

/// alice and bob with a bucket each, and an AWS at whose address nobody listens.
fn world_without_aws() -> Value {
    let member = |name: &str, is_admin| {
        json!({
            "name": name,
            "email": format!("{name}@example.com"),
            "isAdmin": is_admin,
            "roleArn": format!("arn:aws:iam::123456789012:role/role-{name}"),
            "buckets": [{ "name": format!("b-{name}"), "objects": [], "packages": [] }],
        })
    };
    json!({
        "awsEndpoint": "http://127.0.0.1:1",
        "region": "us-east-1",
        "registryKey": { "accessKeyId": "none", "secretAccessKey": "none" },
        "users": [member("alice", true), member("bob", false)],
    })
}

/// For everything but AWS keys.
async fn without_aws() -> Result<(Catalog, Client)> {
    let world: World = serde_json::from_value(world_without_aws())?;
    let catalog = Catalog::start(Config::default(), world).await?;
    let client = Client::trusting(catalog.ca_pem())?;
    Ok((catalog, client))
}

async fn ask_me(catalog: &Catalog, client: &Client, bearer: &str) -> Result<(StatusCode, Value)> {
    let request = Request::post(format!("{}/graphql", catalog.registry_url()))
        .header(header::AUTHORIZATION, format!("Bearer {bearer}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(json!({ "query": "{ me { name } }" }).to_string().into())?;
    let response = timeout(PATIENCE, client.send(request)).await??;
    Ok((response.status(), serde_json::from_slice(response.body())?))
}

async fn get(client: &Client, url: String, bearer: Option<&SecretString>) -> Result<(u16, Value)> {
    let mut request = Request::get(url);
    if let Some(bearer) = bearer {
        let value = format!("Bearer {}", bearer.expose_secret());
        request = request.header(header::AUTHORIZATION, value);
    }
    let response = timeout(PATIENCE, client.send(request.body(<_>::default())?)).await??;
    Ok((response.status().as_u16(), serde_json::from_slice(response.body())?))
}

/// What quilt3 reports when it uses the catalog as `own`.
async fn quilt3(catalog: &Catalog, bearer: &SecretString, own: &str, other: &str) -> Result<Value> {
    let environment = python_environment("quilt").await?;
    let home = tempfile::tempdir()?;
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, catalog.ca_pem())?;
    let mut program = Command::new(environment.join("bin/python"));
    program
        .arg(repository().join("tests/python/quilt3_session.py"))
        .env_clear()
        .env("HOME", home.path())
        .env("REQUESTS_CA_BUNDLE", &ca)
        .env("AWS_ENDPOINT_URL", &catalog.world().aws_endpoint)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("QUILT_DISABLE_USAGE_METRICS", "1");
    let asked = json!({
        "catalog": catalog.url(), "bearer": bearer.expose_secret(), "own": own, "other": other,
    });
    let output = fed(program, &asked.to_string(), PATIENCE).await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "quilt3_session.py failed: {complaint}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn error(report: &Value, step: &str) -> String {
    report[step]["error"].as_str().unwrap_or("no error").to_owned()
}

#[tokio::test]
async fn quilt3_uses_the_catalog_and_moto_as_each_user_and_sees_only_their_own() -> Result<()> {
    let moto = Moto::start().await?;
    let catalog = Catalog::start(Config::default(), moto.set_up(&["alice", "bob"]).await?).await?;
    let alice = catalog.credentials().token("alice")?;
    let bob = catalog.credentials().api_key("bob");

    let report = quilt3(&catalog, &alice, "alice", "bob").await?;
    let ok = |step: &str| &report[step]["ok"];
    assert_eq!(*ok("log_in"), json!([catalog.url(), catalog.registry_url()]), "{report}");
    assert_eq!(*ok("own_object"), "a note that only alice may read\n", "{report}");
    assert!(error(&report, "other_object").contains("AccessDenied"), "{report}");
    assert_eq!(*ok("own_package"), json!(["README.md", "measurements.csv"]), "{report}");
    assert!(error(&report, "other_package").contains("AccessDenied"), "{report}");
    let found = ok("search_own").as_array().map_or(0, Vec::len);
    assert_eq!(found, 4, "an object, a package and its two files: {report}");
    assert_eq!(*ok("search_other"), json!([]), "{report}");
    assert!(error(&report, "search_all").contains("index patterns"), "{report}");
    assert_eq!(*ok("buckets"), json!(["b-alice"]), "{report}");
    assert_eq!(*ok("users"), json!(["alice", "bob"]), "{report}");
    assert_eq!(*ok("roles"), json!(["role-alice", "role-bob"]), "{report}");
    assert_eq!(*ok("user_life"), json!(["carol", "c@example.com", 1, null]), "{report}");
    assert_eq!(*ok("settings"), json!(["alice", true]), "{report}");
    assert_eq!(*ok("tables"), json!([["u", "schema: []"]]), "{report}");

    let expected = catalog.record().bearer(alice.expose_secret());
    let registry_calls: Vec<_> =
        catalog.record().all().into_iter().filter(|seen| seen.origin == Origin::Registry).collect();
    assert!(!registry_calls.is_empty());
    for call in registry_calls {
        assert_eq!(call.bearer.as_ref(), Some(&expected), "{call:?}");
    }

    let report = quilt3(&catalog, &bob, "bob", "alice").await?;
    assert_eq!(report["own_object"]["ok"], "a note that only bob may read\n", "{report}");
    assert!(error(&report, "other_object").contains("AccessDenied"), "{report}");
    assert_eq!(report["buckets"]["ok"], json!(["b-bob"]), "{report}");
    assert!(error(&report, "users").contains("Unauthorized"), "{report}");

    let client = Client::trusting(catalog.ca_pem())?;
    let url = format!("{}/api/auth/get_credentials", catalog.registry_url());
    let (_, first) = get(&client, url.clone(), Some(&bob)).await?;
    let (_, second) = get(&client, url, Some(&bob)).await?;
    assert_eq!(first["AccessKeyId"], second["AccessKeyId"], "the set is kept while it is fresh");
    Ok(())
}

#[tokio::test]
async fn every_spoilt_credential_is_refused() -> Result<()> {
    let (catalog, client) = without_aws().await?;
    let mint = catalog.credentials();
    let revoked = mint.api_key("alice");
    mint.revoke(&revoked);
    let claims = |seconds: i64| {
        let lifetime = jiff::SignedDuration::from_secs(seconds);
        mint.claims("alice", jiff::Timestamp::now(), lifetime)
    };
    let mut for_the_gateway_alone = claims(60);
    for_the_gateway_alone["aud"] = json!(["https://patchbay.example"]);
    let spoilt = [
        String::new(),
        "made-up".to_owned(),
        "qk_made-up".to_owned(),
        revoked.expose_secret().to_owned(),
        mint.key().sign(&claims(-1))?,
        mint.key().sign(&for_the_gateway_alone)?,
        mint.key().forge_unsigned(&claims(60)),
        mint.key().forge_with_public_key(&claims(60))?,
    ];
    for bearer in spoilt {
        let (status, answer) = ask_me(&catalog, &client, &bearer).await?;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{bearer}");
        assert_eq!(answer, json!({ "message": "unauthorized" }));
    }
    let good = mint.token("alice")?;
    let (status, answer) = ask_me(&catalog, &client, good.expose_secret()).await?;
    assert_eq!((status, &answer["data"]["me"]["name"]), (StatusCode::OK, &json!("alice")));
    Ok(())
}

#[tokio::test]
async fn the_two_origins_serve_different_things() -> Result<()> {
    let (catalog, client) = without_aws().await?;
    let (status, keys) =
        get(&client, format!("{}/.well-known/jwks.json", catalog.url()), None).await?;
    assert_eq!((status, &keys["keys"][0]["kty"]), (200, &json!("RSA")));
    let (status, config) = get(&client, format!("{}/config.json", catalog.url()), None).await?;
    assert_eq!((status, &config["registryUrl"]), (200, &json!(catalog.registry_url())));
    let bearer = catalog.credentials().token("alice")?;
    let misplaced = format!("{}/api/auth/get_credentials", catalog.url());
    assert_eq!(get(&client, misplaced, Some(&bearer)).await?.0, 404);
    let misplaced = format!("{}/config.json", catalog.registry_url());
    assert_eq!(get(&client, misplaced, Some(&bearer)).await?.0, 404);
    Ok(())
}

#[tokio::test]
async fn faults_come_and_go() -> Result<()> {
    let (catalog, client) = without_aws().await?;
    let bearer = catalog.credentials().token("bob")?;
    let status = async |fault: Fault| {
        catalog.faults().set(fault);
        let (status, _) = ask_me(&catalog, &client, bearer.expose_secret()).await?;
        Ok::<_, anyhow::Error>(status.as_u16())
    };
    assert_eq!(status(Fault::InternalError).await?, 500);
    assert_eq!(status(Fault::TooManyRequests).await?, 429);
    let delay = Duration::from_millis(50);
    let before = tokio::time::Instant::now();
    assert_eq!(status(Fault::Slow(delay)).await?, 200);
    assert!(before.elapsed() >= delay);
    assert!(status(Fault::Down).await.is_err(), "the connection is closed");
    catalog.faults().clear();
    let (status, _) = ask_me(&catalog, &client, bearer.expose_secret()).await?;
    assert_eq!(status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn the_record_is_readable_on_the_control_port_and_holds_no_bearer() -> Result<()> {
    let (catalog, client) = without_aws().await?;
    let bearer = catalog.credentials().api_key("alice");
    ask_me(&catalog, &client, bearer.expose_secret()).await?;
    let url = format!("{}/__double/requests", catalog.control_url());
    let answer = patchbay_tests::http::Http::default().get(&url, &[]).await?;
    let seen = answer.json()?;
    assert_eq!(seen[0]["operation"], "me");
    assert_eq!(seen[0]["path"], "/graphql");
    assert_eq!(seen[0]["bearer"], catalog.record().bearer(bearer.expose_secret()));
    assert!(!answer.text().contains(bearer.expose_secret()));
    Ok(())
}

#[tokio::test]
async fn the_demo_program_says_where_it_is_and_keeps_credentials_to_its_owner() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncBufReadExt, BufReader};

    let folder = tempfile::tempdir()?;
    let (ca, credentials) = (folder.path().join("ca.pem"), folder.path().join("credentials.json"));
    let mut process = Command::new(env!("CARGO_BIN_EXE_demo-catalog"))
        .args(["--catalog", "127.0.0.1:0", "--registry", "127.0.0.1:0"])
        .args(["--gateway-audience", "http://127.0.0.1:8080"])
        .arg("--ca-out")
        .arg(&ca)
        .arg("--credentials-out")
        .arg(&credentials)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = process.stdin.take().context("standard input is piped")?;
    stdin.write_all(world_without_aws().to_string().as_bytes()).await?;
    drop(stdin);
    let stdout = process.stdout.take().context("standard output is piped")?;
    let line = timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await??;
    let ready: Value = serde_json::from_str(&line.context("it ended before it was ready")?)?;

    assert_eq!(std::fs::metadata(&credentials)?.permissions().mode() & 0o777, 0o600);
    let credentials: Value = serde_json::from_slice(&std::fs::read(&credentials)?)?;
    let client = Client::trusting(&std::fs::read_to_string(&ca)?)?;
    for kind in ["tokens", "apiKeys"] {
        let bearer = SecretString::from(credentials[kind]["bob"].as_str().context("a credential")?);
        let registry = ready["registryUrl"].as_str().context("a URL")?;
        let search = format!("{registry}/api/search?index=b-bob&action=search&query=x");
        assert_eq!(get(&client, search, Some(&bearer)).await?.0, 200, "{kind}");
    }
    Ok(())
}
