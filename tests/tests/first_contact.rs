//! The one way through, black-box: API keys, real sandboxes, a small real MCP server.

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use http::{Method, StatusCode};
use patchbay_tests::{
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    http::{Answer, Http},
    mcp::McpClient,
    processes,
    sandbox::{self, Part},
    secrets::Secrets,
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, timeout};

const CLASS: &str = "fixture";

async fn start(warm: u32, users: &[&str]) -> anyhow::Result<Controller> {
    ControllerConfig::new(fixture_documents(CLASS, warm, users, "")?).start().await
}

fn client(controller: &Controller, user: &str) -> McpClient {
    McpClient::bearer(controller.url(CLASS), &api_key(user))
}

#[tokio::test]
async fn an_api_key_is_all_that_a_first_contact_needs() -> anyhow::Result<()> {
    let controller = start(1, &["alice"]).await?;
    // as exact as what is shown
    let begun = jiff::Timestamp::from_millisecond(jiff::Timestamp::now().as_millisecond())?;
    let modern = client(&controller, "alice").call("echo", json!({ "text": "hello" })).await?;
    ensure!(modern.to_string().contains("hello"), "{modern}");

    let by_header = McpClient::with_headers(
        controller.url(CLASS),
        &[("x-api-key", &api_key("alice")), ("authorization", "Bearer something-else")],
    );
    let session = by_header.initialize().await?;
    let legacy = session.call("echo", json!({ "text": "again" })).await?;
    ensure!(legacy.to_string().contains("again"), "{legacy}");

    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 1, "one user is one tenant: {tenants:?}");
    ensure!(tenants[0]["phase"] == "Ready" && tenants[0]["epoch"] == 1, "{tenants:?}");
    let last_activity: jiff::Timestamp =
        tenants[0]["lastActivity"].as_str().context("no activity")?.parse()?;
    ensure!(last_activity >= begun, "{last_activity} {begun}");
    Ok(())
}

#[tokio::test]
async fn two_users_never_meet() -> anyhow::Result<()> {
    let controller = start(2, &["alice", "bob"]).await?;
    let (alice, bob) = (client(&controller, "alice"), client(&controller, "bob"));
    alice.call("remember", json!({ "key": "k", "value": "alice's own" })).await?;
    bob.call("remember", json!({ "key": "k", "value": "bob's own" })).await?;
    let (a, b) = (
        alice.call("recall", json!({ "key": "k" })).await?,
        bob.call("recall", json!({ "key": "k" })).await?,
    );
    ensure!(a.to_string().contains("alice's own") && !a.to_string().contains("bob's"), "{a}");
    ensure!(b.to_string().contains("bob's own") && !b.to_string().contains("alice's"), "{b}");

    let workers: BTreeSet<_> =
        controller.tenants().await?.iter().map(|t| t["worker"].to_string()).collect();
    ensure!(workers.len() == 2, "{workers:?}");
    Ok(())
}

/// What follows the URL, the headers, and the reason that is given.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str);

#[tokio::test]
async fn without_a_valid_credential_nothing_happens() -> anyhow::Result<()> {
    let controller = start(1, &["alice"]).await?;
    let url = controller.url(CLASS).to_owned();
    let http = Http::default();
    let wrong_secret = api_key("alice") + "x";
    let bearer = |token: &str| format!("Bearer {token}");
    let (good, wrong, unknown) =
        (bearer(&api_key("alice")), bearer(&wrong_secret), bearer("pb_nobody_secret"));
    let cases: [Case<'_>; 11] = [
        ("", vec![], "missing_credential"),
        ("", vec![("authorization", &wrong)], "invalid_api_key"),
        ("", vec![("authorization", &unknown)], "invalid_api_key"),
        ("", vec![("x-api-key", &wrong_secret)], "invalid_api_key"),
        // the API key decides alone: a good bearer beside a bad key saves nothing
        ("", vec![("x-api-key", &wrong_secret), ("authorization", &good)], "invalid_api_key"),
        ("", vec![("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")], "credential_not_accepted"),
        ("", vec![("authorization", "Bearer qk_something")], "credential_not_accepted"),
        ("", vec![("authorization", "Basic YWxpY2U6eA==")], "malformed_credential"),
        ("", vec![("authorization", &good), ("authorization", &good)], "malformed_credential"),
        ("?access_token=x", vec![("authorization", &good)], "malformed_credential"),
        ("/deeper", vec![], "missing_credential"),
    ];
    for (suffix, headers, reason) in cases {
        let answer = http.send(Method::POST, &format!("{url}{suffix}"), &headers, "{}").await?;
        ensure!(answer.status == StatusCode::UNAUTHORIZED, "{headers:?}: {}", answer.text());
        ensure!(answer.headers.contains_key("www-authenticate"), "{headers:?}");
        ensure!(answer.reason().as_deref() == Some(reason), "{headers:?}: {}", answer.text());
        ensure!(!answer.text().contains("staple"), "{}", answer.text());
    }
    ensure!(controller.tenants().await?.is_empty(), "a worker was claimed");
    Ok(())
}

#[tokio::test]
async fn clients_that_must_log_in_are_told_where() -> anyhow::Result<()> {
    let mut documents = fixture_documents(CLASS, 1, &["alice"], "")?;
    documents.push(
        json!({
            "apiVersion": "patchbay.dev/v1alpha1",
            "kind": "IdentityProvider",
            "metadata": { "name": "login" },
            "spec": { "classes": [CLASS], "jwt": {
                "issuer": "https://issuer.example", "audiences": ["patchbay"],
                "jwks": { "url": "https://issuer.example/jwks.json" },
                "authorizationServer": "https://login.example",
            } },
        })
        .to_string(),
    );
    let controller = ControllerConfig::new(documents).start().await?;
    let (url, http) = (controller.url(CLASS).to_owned(), Http::default());
    let base = url.strip_suffix(&format!("/{CLASS}")).context("url")?;
    let well_known = format!("{base}/.well-known/oauth-protected-resource");
    for at in [well_known.clone(), format!("{well_known}/{CLASS}")] {
        let answer = http.get(&at, &[]).await?;
        ensure!(answer.status == StatusCode::OK, "{at}: {}", answer.status);
        let document = answer.json()?;
        ensure!(document["resource"] == url.as_str(), "{document}");
        ensure!(
            document["authorization_servers"] == json!(["https://login.example"]),
            "{document}"
        );
    }
    let refused = http.send(Method::POST, &url, &[], "{}").await?;
    let challenge = refused.headers.get("www-authenticate").context("challenge")?.to_str()?;
    let expected = format!("resource_metadata=\"{well_known}/{CLASS}\"");
    ensure!(challenge.contains(&expected), "{challenge}");
    Ok(())
}

#[tokio::test]
async fn a_warm_first_contact_starts_nothing() -> anyhow::Result<()> {
    let controller = start(1, &["alice"]).await?;
    let before = jiff::Timestamp::now().as_millisecond();
    let who = client(&controller, "alice").call("whoami", json!({})).await?;
    let started = who["started"].as_i64().with_context(|| format!("no start in {who}"))?;
    ensure!(started < before, "the worker was started for the request: {started} {before}");
    Ok(())
}

#[tokio::test]
async fn a_request_that_meets_the_workers_exit_is_answered_by_the_next_worker() -> anyhow::Result<()>
{
    let documents = fixture_documents(CLASS, 2, &["alice"], "  idleTimeout: 1s\n")?;
    let controller = ControllerConfig::new(documents).start().await?;
    let alice = client(&controller, "alice");
    // around the moment at which the worker leaves: some meet it alive, some leaving, some gone
    for offset in [-4, -2, -1, 0, 1, 2, 4, 8] {
        let call = alice.call("remember", json!({ "key": "k", "value": offset.to_string() })).await;
        call.with_context(|| format!("at {offset} ms\n{}", controller.logs()))?;
        let wait = Duration::from_millis(1000_u64.saturating_add_signed(offset));
        tokio::time::sleep(wait).await;
    }
    let epoch = controller.tenants().await?[0]["epoch"].as_u64().context("epoch")?;
    ensure!(epoch > 1, "no worker ever left");
    Ok(())
}

#[tokio::test]
async fn nothing_but_the_mcp_path_is_there() -> anyhow::Result<()> {
    let controller = start(1, &["alice"]).await?;
    let (url, http) = (controller.url(CLASS).to_owned(), Http::default());
    let base = url.strip_suffix(&format!("/{CLASS}")).context("url")?;
    let key = api_key("alice");
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/fixture",
        "/.well-known/openid-configuration",
        "/fixture/.well-known/oauth-authorization-server",
    ] {
        let answer = http.get(&format!("{base}{path}"), &[]).await?;
        ensure!(answer.status == StatusCode::NOT_FOUND, "{path}: {}", answer.status);
    }
    for path in ["/", "/healthz", "/metrics", "/v1/bind", "/tenants", "/fixtures"] {
        let nobody = http.get(&format!("{base}{path}"), &[]).await?;
        ensure!(nobody.status == StatusCode::UNAUTHORIZED, "{path}: {}", nobody.status);
        let alice = http.get(&format!("{base}{path}"), &[("x-api-key", &key)]).await?;
        ensure!(alice.status == StatusCode::NOT_FOUND, "{path}: {}", alice.status);
    }
    // the worker's control paths are out of reach through the route, however they are spelt
    for path in ["/../v1/bind", "/..%2fv1/bind", "/%2e%2e/v1/status", "//v1/drain"] {
        let answer =
            http.send(Method::POST, &format!("{url}{path}"), &[("x-api-key", &key)], "{}").await?;
        ensure!(answer.status.is_client_error(), "{path}: {} {}", answer.status, answer.text());
        let ours = ["bound", "otherTenant", "anonymous", "unknown field"];
        ensure!(!ours.iter().any(|word| answer.text().contains(word)), "{path}: {}", answer.text());
    }
    client(&controller, "alice").call("echo", json!({ "text": "still there" })).await?;
    Ok(())
}

#[tokio::test]
async fn the_admin_pages_are_refused_by_a_rebound_name_and_to_a_foreign_page() -> anyhow::Result<()>
{
    let controller = start(1, &["alice"]).await?;
    let admin = format!("{}/tenants", controller.admin);
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let answer = Http::default().get(&admin, &[(name, value)]).await?;
        ensure!(answer.status == StatusCode::FORBIDDEN, "{name}: {}", answer.status);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_is_large_goes_through() -> anyhow::Result<()> {
    let controller = start(1, &["alice"]).await?;
    let alice = client(&controller, "alice");
    let large = "x".repeat(2 << 20);
    let echoed = alice.call("echo", json!({ "text": large })).await?.to_string();
    ensure!(echoed.len() >= large.len(), "only {} bytes came back", echoed.len());

    let too_large = "x".repeat((8 << 20) + 1);
    let answer = alice.modern_call("echo", json!({ "text": too_large })).await?;
    ensure!(answer.status == StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.status);
    ensure!(answer.reason().as_deref() == Some("body_too_large"), "{}", answer.text());

    let many: Vec<_> = (0..120).map(|n| (format!("x-h{n}"), "v".to_owned())).collect();
    let many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let answer = alice.post(&many, &json!({})).await?;
    ensure!(answer.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{}", answer.status);
    let long = "v".repeat(33 * 1024);
    let answer = alice.post(&[("x-long", &long)], &json!({})).await?;
    ensure!(answer.status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{}", answer.status);
    Ok(())
}

#[tokio::test]
async fn many_first_contacts_of_one_user_claim_one_worker() -> anyhow::Result<()> {
    let controller = start(3, &["alice"]).await?;
    let calls = (0..20).map(|_| {
        let alice = client(&controller, "alice");
        async move { alice.call("whoami", json!({})).await }
    });
    let answers = try_join_all(calls).await?;
    let hosts: BTreeSet<_> = answers.iter().map(|who| who["started"].to_string()).collect();
    ensure!(hosts.len() == 1, "{hosts:?}");
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 1 && tenants[0]["epoch"] == 1, "{tenants:?}");
    Ok(())
}

#[tokio::test]
async fn many_users_at_once_never_share_a_worker() -> anyhow::Result<()> {
    let users: Vec<String> = (0..12).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    // fewer warm workers than users: some wait, and are held
    let controller = start(3, &names).await?;
    let calls = names.iter().map(|user| {
        let client = client(&controller, user);
        async move {
            client.call("remember", json!({ "key": "me", "value": *user })).await?;
            let who = client.call("whoami", json!({})).await?;
            let me = client.call("recall", json!({ "key": "me" })).await?;
            ensure!(me.to_string().contains(&format!("\"{user}\"")), "{user}: {me}");
            ensure!(!who.to_string().contains("pb_"), "{who}");
            Ok(())
        }
    });
    try_join_all(calls).await?;
    let tenants = controller.tenants().await?;
    let workers: BTreeSet<_> = tenants.iter().map(|t| t["worker"].to_string()).collect();
    ensure!(workers.len() == users.len(), "{tenants:?}");
    Ok(())
}

#[tokio::test]
async fn a_killed_worker_costs_what_its_server_remembered_and_nothing_else() -> anyhow::Result<()> {
    let controller = start(2, &["alice", "bob"]).await?;
    let (alice, bob) = (client(&controller, "alice"), client(&controller, "bob"));
    bob.call("remember", json!({ "key": "k", "value": "kept" })).await?;
    let session = alice.initialize().await?;
    session.call("remember", json!({ "key": "k", "value": "lost" })).await?;
    let worker = controller.worker_of(CLASS, "alice").await?;
    sandbox::kill(&controller, &worker, Part::Server).await?;

    let after = alice.call("recall", json!({ "key": "k" })).await?;
    ensure!(!after.to_string().contains("lost"), "the new worker remembers: {after}");
    let after = session.call("recall", json!({ "key": "k" })).await?;
    ensure!(!after.to_string().contains("lost"), "{after}");
    let kept = bob.call("recall", json!({ "key": "k" })).await?;
    ensure!(kept.to_string().contains("kept"), "{kept}");
    Ok(())
}

#[tokio::test]
async fn whichever_part_of_a_worker_is_killed_the_next_request_has_another_worker()
-> anyhow::Result<()> {
    let controller = start(2, &["alice"]).await?;
    let alice = client(&controller, "alice");
    for part in [Part::Agent, Part::Server, Part::Agent, Part::Server] {
        alice.call("echo", json!({ "text": "before" })).await?;
        let worker = sandbox::kill_of(&controller, CLASS, "alice", part).await?;
        let after = alice.call("echo", json!({ "text": "after" })).await;
        after.with_context(|| format!("{part:?} of {worker}: {}", controller.logs()))?;
        ensure!(controller.worker_of(CLASS, "alice").await? != worker, "{part:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_meets_a_kill_is_lost_only_where_the_server_was_given_it()
-> anyhow::Result<()> {
    let controller = start(3, &["alice"]).await?;
    let alice = client(&controller, "alice");
    for round in 0..30 {
        alice.call("echo", json!({ "text": "before" })).await?;
        let worker = controller.worker_of(CLASS, "alice").await?;
        let dying = sandbox::strike(&controller, &worker, Part::Server)?;
        // at once: what the dying server was given is not sent again, for it may have had an effect
        match alice.modern_call("echo", json!({ "text": "met" })).await {
            Ok(met) if met.status.is_success() => {}
            Ok(met) => explain_loss(&controller, &met)
                .await
                .with_context(|| format!("round {round}: {} {}", met.status, met.text()))?,
            // the server had begun to answer
            Err(error) if broke_off(&error) => {}
            Err(error) => return Err(error),
        }
        controller
            .eventually("the server is gone", async || Ok(!processes::any_alive(&dying)))
            .await?;
    }
    Ok(())
}

/// Whether an answer broke off, at its first byte or later.
fn broke_off(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<hyper::Error>)
}

/// A refused request may have had an effect only if its MCP server was given it, and the agent says so; had
/// the agent itself broken off, nobody could know.
async fn explain_loss(controller: &Controller, refused: &Answer) -> anyhow::Result<()> {
    ensure!(refused.reason().as_deref() == Some("worker_broke"));
    let request = refused.json()?["error"]["data"]["requestId"].as_str().map(str::to_owned);
    let request = request.context("no request id")?;
    let gave_up =
        |line: &str| line.contains("the MCP server did not answer") && line.contains(&request);
    controller
        .eventually("the agent says so", async || Ok(controller.logs().lines().any(gave_up)))
        .await
}

#[tokio::test]
async fn a_controller_on_another_loopback_address_answers_there() -> anyhow::Result<()> {
    let address = |port| std::net::SocketAddr::from(([127, 0, 0, 9], port));
    let documents = fixture_documents(CLASS, 1, &["alice"], "")?;
    let controller =
        ControllerConfig::new(documents).listen(address(0), address(0)).start().await?;
    ensure!(controller.url(CLASS).starts_with("http://127.0.0.9:"), "{}", controller.url(CLASS));
    client(&controller, "alice").call("echo", json!({ "text": "x" })).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_controller_leaves_no_sandbox_and_a_terminated_one_leaves_nothing()
-> anyhow::Result<()> {
    let mut controller = start(2, &["alice"]).await?;
    client(&controller, "alice").call("echo", json!({ "text": "x" })).await?;
    let children = processes::descendants(controller.pid().context("pid")?);
    let pids: Vec<u32> = children.iter().map(|process| process.pid).collect();
    ensure!(pids.len() >= 8, "agent and server of at least two workers: {children:?}");
    controller.kill().await?;
    controller.eventually("no sandbox survives", async || Ok(!processes::any_alive(&pids))).await?;

    let mut controller = start(1, &["alice"]).await?;
    ensure!(controller.terminate().await?, "{}", controller.logs());
    let left: Vec<_> = std::fs::read_dir(controller.run_dir())?.collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_call_in_the_server() -> anyhow::Result<()> {
    let controller = start(1, &["alice"]).await?;
    let alice = client(&controller, "alice");
    let begun = alice.call("counters", json!({})).await?;
    ensure!(begun["cancelled"] == 0, "{begun}");
    let call = alice.call("sleep", json!({ "ms": 600_000 }));
    ensure!(timeout(Duration::from_millis(300), call).await.is_err(), "the call ended");
    controller
        .eventually("the server saw the cancellation", async || {
            Ok(alice.call("counters", json!({})).await?["cancelled"] == 1)
        })
        .await
}

#[tokio::test]
async fn an_idle_worker_leaves_although_a_stream_is_open_and_the_next_request_wakes_another()
-> anyhow::Result<()> {
    let documents = fixture_documents(CLASS, 1, &["alice"], "  idleTimeout: 2s\n")?;
    let controller = ControllerConfig::new(documents).start().await?;
    let alice = client(&controller, "alice");
    let session = alice.initialize().await?;
    let stream = session.send(Method::GET).await?;
    ensure!(stream.status() == StatusCode::OK, "{}", stream.status());

    // a call that is longer than the idle timeout is no idleness
    let begun = Instant::now();
    session.call("sleep", json!({ "ms": 3500 })).await?;
    ensure!(begun.elapsed() >= Duration::from_millis(3500));
    ensure!(controller.tenants().await?[0]["phase"] == "Ready");

    controller
        .eventually("the worker idles out", async || {
            let tenants = controller.tenants().await?;
            Ok(tenants[0]["phase"] == "Asleep" && tenants[0]["why"] == "idle")
        })
        .await?;
    alice.call("echo", json!({ "text": "woken" })).await?;
    ensure!(controller.tenants().await?[0]["epoch"] == 2);
    Ok(())
}

#[tokio::test]
async fn an_api_key_is_nowhere_but_in_the_request() -> anyhow::Result<()> {
    let controller = start(1, &["alice"]).await?;
    let alice = client(&controller, "alice");
    let who = alice.call("whoami", json!({})).await?.to_string();
    let wrong = McpClient::bearer(controller.url(CLASS), &(api_key("alice") + "x"));
    wrong.modern_call("echo", json!({})).await?;
    let secret = Secrets::new(&[("alice's key", "correct-horse-battery-staple")])?;
    secret.not_in("the server's environment", &who)?;
    secret.not_in("the log", &controller.logs())?;
    secret.not_in("the metrics", &controller.metrics().await?)?;
    for process in processes::descendants(controller.pid().context("pid")?) {
        secret.not_in(&format!("the arguments of {}", process.pid), &process.argv)?;
        secret.not_in(&format!("the environment of {}", process.pid), &process.environ)?;
    }
    Ok(())
}
