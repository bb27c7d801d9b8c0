//! Users of clients that have no credential log in: official clients, the providers of the documentation, and an
//! authorization server that is strict.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use patchbay_tests::{
    clients::{LOGGING_IN, LogIn, McpProgram},
    controller::{Controller, ControllerConfig, fixture_documents},
    http::Http,
    login::LoginServer,
    mcp::McpClient,
    moto::python_environment,
    own_network,
    repository::{made_by, repository},
    tls_front::TlsFront,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

/// The provider of this name in docs/authentication.md that names an authorization server, where each address in it is
/// another one.
fn example(name: &str, addresses: &[(&str, &str)], ca_pem: &str) -> anyhow::Result<Value> {
    let page = fs::read_to_string(repository().join("docs/authentication.md"))?;
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let named = format!("metadata: {{ name: {name} }}");
    let is_it = |block: &&str| block.contains(&named) && block.contains("authorizationServer:");
    let example = blocks.into_iter().find(is_it).with_context(|| format!("no example {name}"))?;
    let mut example = example.to_owned();
    for (documented, real) in addresses {
        ensure!(example.contains(documented), "{name} has no {documented}");
        example = example.replace(documented, real);
    }
    let mut provider: Value = serde_saphyr::from_str(&example)?;
    provider["spec"]["jwt"]["jwks"]["caBundle"] = json!(ca_pem);
    Ok(provider)
}

/// A gateway of the fixture that clients know by another address than it listens on.
async fn behind(front: &TlsFront, class: &str, provider: &Value) -> anyhow::Result<Controller> {
    let mut documents = fixture_documents(class, 2, &["unused"], "")?;
    // where a class says no path of its own, as in the examples
    documents[0] = documents[0].replace(&format!("path: /{class}\n"), "path: /mcp\n");
    documents.push(provider.to_string());
    let config = ControllerConfig::new(documents).args(&["--public-url", front.url()]);
    let controller = config.start().await?;
    let address = controller.url(class).strip_prefix("http://").context("scheme")?;
    front.lead_to(address.strip_suffix("/mcp").context("path")?.parse()?);
    Ok(controller)
}

/// Each client, and who uses it.
fn clients_and_users() -> impl Iterator<Item = (McpProgram, &'static str)> {
    LOGGING_IN.into_iter().zip(["alice", "bob"].into_iter().cycle())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_clients_without_a_credential_log_their_users_in_and_use_a_worker()
-> anyhow::Result<()> {
    let login = LoginServer::start(json!({ "org": "example" })).await?;
    let front = TlsFront::open(login.ca()).await?;
    let resource = format!("{}/mcp", front.url());
    login.protect(&resource);
    let addresses =
        [("https://login.example.com", login.url()), ("https://mcp.example.com", front.url())];
    let staff = example("staff", &addresses, login.ca().pem())?;
    let controller = behind(&front, "notes", &staff).await?;

    for (program, user) in clients_and_users() {
        let name = program.name();
        let before = login.seen().len();
        let cookie = login.session(user);
        let asked = LogIn {
            url: &resource,
            ca_pem: login.ca().pem(),
            cookie: &cookie,
            tool: "remember",
            arguments: json!({ "key": name, "value": user }),
        };
        let seen = program.log_in(&asked).await.with_context(|| format!("{:?}", login.seen()))?;
        ensure!(seen.tools.iter().any(|tool| tool == "whoami"), "{name}: {seen:?}");
        ensure!(program.protocol() == Some(seen.protocol.as_str()), "{name}: {seen:?}");
        let asked: Vec<_> = login.seen().split_off(before);
        let flow: Vec<_> = asked.iter().filter(|path| !path.starts_with("/.well-known")).collect();
        ensure!(flow == ["/register", "/authorize", "/token"], "{name}: {asked:?}");
    }

    // each user has a worker, whichever client they came by
    let tenants = controller.tenants().await?;
    let workers: BTreeSet<_> = tenants.iter().map(|it| it["worker"].to_string()).collect();
    ensure!(workers.len() == 2 && tenants.len() == 2, "{tenants:?}");
    for (program, user) in clients_and_users() {
        let client = McpClient::bearer(controller.url("notes"), &login.token(user, &resource)?);
        let kept = client.call("recall", json!({ "key": program.name() })).await?;
        ensure!(kept.to_string().contains(user), "{}: {kept}", program.name());
    }
    Ok(())
}

async fn refusal(controller: &Controller, class: &str, token: &str) -> anyhow::Result<String> {
    let url = controller.url(class);
    let bearer = format!("Bearer {token}");
    let answer =
        Http::default().send(Method::POST, url, &[("authorization", &bearer)], "{}").await?;
    ensure!(answer.status == StatusCode::UNAUTHORIZED, "{} {}", answer.status, answer.text());
    let challenge = answer.headers.get("www-authenticate").context("challenge")?.to_str()?;
    ensure!(challenge.contains("resource_metadata="), "{challenge}");
    answer.reason().context("no reason")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_same_login_made_for_somebody_else_is_refused() -> anyhow::Result<()> {
    let login = LoginServer::start(json!({ "org": "example" })).await?;
    let front = TlsFront::open(login.ca()).await?;
    let addresses =
        [("https://login.example.com", login.url()), ("https://mcp.example.com", front.url())];
    let staff = example("staff", &addresses, login.ca().pem())?;
    let controller = behind(&front, "notes", &staff).await?;
    for audience in [front.url(), &format!("{}/mcp/", front.url()), "https://other.example/mcp"] {
        let token = login.token("alice", audience)?;
        let reason = refusal(&controller, "notes", &token).await?;
        ensure!(reason == "wrong_audience", "{audience}: {reason}");
    }
    ensure!(controller.tenants().await?.is_empty(), "a worker was claimed");
    Ok(())
}

const CONNECT: &str = "connect.example.com";

/// The example to the letter, in a network in which its host is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_quilt_connect_takes_its_tokens_and_with_the_gateway_as_audience_logs_in()
-> anyhow::Result<()> {
    // nothing can be installed in there
    python_environment("quilt").await?;
    made_by("node-env", &["clients"]).await?;
    let this =
        "the_example_of_quilt_connect_takes_its_tokens_and_with_the_gateway_as_audience_logs_in";
    if !own_network::is_inside(this, &[CONNECT]).await? {
        return Ok(());
    }
    let login = LoginServer::start_as(CONNECT, own_network::at(443)).await?;
    let front = TlsFront::open(login.ca()).await?;
    let resource = format!("{}/mcp", front.url());
    login.protect(&resource);
    let mut connect = example("quilt-connect", &[], login.ca().pem())?;
    {
        let controller = behind(&front, "quilt", &connect).await?;
        let theirs = login.token("alice", &format!("https://{CONNECT}/mcp/platform"))?;
        let client = McpClient::bearer(controller.url("quilt"), &theirs);
        client.call("echo", json!({ "text": "a token of Connect's own" })).await?;
        let ours = login.token("alice", &resource)?;
        ensure!(refusal(&controller, "quilt", &ours).await? == "wrong_audience");
    }

    let audiences = connect["spec"]["jwt"]["audiences"].as_array_mut().context("audiences")?;
    audiences.push(json!(resource));
    let controller = behind(&front, "quilt", &connect).await?;
    for program in LOGGING_IN {
        let cookie = login.session("alice");
        let asked = LogIn {
            url: &resource,
            ca_pem: login.ca().pem(),
            cookie: &cookie,
            tool: "echo",
            arguments: json!({ "text": "a token for the gateway" }),
        };
        let seen = program.log_in(&asked).await.with_context(|| format!("{:?}", login.seen()))?;
        ensure!(seen.said().contains("a token for the gateway"), "{}: {seen:?}", program.name());
    }
    ensure!(controller.tenants().await?.len() == 1, "one user is one tenant");
    Ok(())
}
