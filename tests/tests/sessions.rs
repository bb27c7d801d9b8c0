//! Sessions that outlive their worker: what a client with an id from before a kill, a sleep or a crash meets, and whom an
//! id is worth nothing to.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use patchbay_tests::{
    controller::{
        Controller, ControllerConfig, api_key, fixture_documents, server_documents, stdio_documents,
    },
    http::{Answer, read_until},
    mcp::{McpClient, legacy_call, messages, rpc_response},
    quilt::{CLASS as QUILT, QuiltWorld, isolation::listing},
    sandbox::{self, Part},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Whatever is to be told at once is told within this on a loaded machine, and long before anything times out.
const SOON: Duration = Duration::from_secs(30);

const FIXTURE: &str = "fixture";
/// The same, spoken to on its standard streams.
const SPOKEN: &str = "spoken";
const USERS: [&str; 2] = ["alice", "bob"];

async fn start(class_fields: &str) -> anyhow::Result<Controller> {
    let mut documents = fixture_documents(FIXTURE, 2, &USERS, class_fields)?;
    documents.extend(stdio_documents("fixture-server", SPOKEN, 2, &USERS, class_fields)?);
    ControllerConfig::new(documents).start().await
}

fn client(controller: &Controller, class: &str, user: &str) -> McpClient {
    McpClient::bearer(controller.url(class), &api_key(user))
}

/// The program that answers.
async fn pid(answer: impl Future<Output = anyhow::Result<Value>>) -> anyhow::Result<Value> {
    Ok(answer.await?["started"].clone())
}

fn is_over(answer: &Answer) -> anyhow::Result<bool> {
    let response = rpc_response(answer)?;
    Ok(answer.status == StatusCode::NOT_FOUND && response["error"]["code"] == -32001)
}

#[tokio::test]
async fn a_session_goes_on_after_whatever_of_its_worker_was_killed() -> anyhow::Result<()> {
    let controller = start("").await?;
    for class in [FIXTURE, SPOKEN] {
        let alice = client(&controller, class, "alice");
        let session = alice.initialize().await?;
        ensure!(session.id.starts_with("pbs1.") && session.id.len() <= 2048, "{}", session.id);
        let mut before = pid(session.call("whoami", json!({}))).await?;
        for part in [Part::Agent, Part::Server, Part::Server] {
            sandbox::kill_of(&controller, class, "alice", part).await?;
            let now = pid(session.call("whoami", json!({}))).await;
            let now = now.with_context(|| format!("{class} {part:?}\n{}", controller.logs()))?;
            ensure!(now != before, "{class}: the same program");
            before = now;
        }
        let again = pid(session.call("whoami", json!({}))).await?;
        ensure!(again == before, "{class}: it was taken up twice");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_goes_on_after_its_user_was_asleep() -> anyhow::Result<()> {
    let controller = start("  idleTimeout: 1s\n").await?;
    for class in [FIXTURE, SPOKEN] {
        let alice = client(&controller, class, "alice");
        let session = alice.initialize().await?;
        session.call("remember", json!({ "key": "k", "value": "v" })).await?;
        controller
            .eventually("the worker idles out", async || {
                Ok(controller.worker_of(class, "alice").await.is_err())
            })
            .await?;
        let many = (0..20).map(|_| session.call("recall", json!({ "key": "k" })));
        let said = futures_util::future::try_join_all(many).await?;
        // what a server remembered is gone with it
        ensure!(said.iter().all(|one| one["memory"].is_null()), "{said:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_id_is_worth_nothing_to_anybody_else_nor_changed_nor_once_it_was_ended()
-> anyhow::Result<()> {
    let controller = start("").await?;
    for class in [FIXTURE, SPOKEN] {
        let (alice, bob) = (client(&controller, class, "alice"), client(&controller, class, "bob"));
        let session = alice.initialize().await?;
        let stolen = bob.resume(&session.id).raw_call("sleep", json!({ "ms": 1 })).await?;
        ensure!(is_over(&stolen)?, "{class}: {} {}", stolen.status, stolen.text());
        // his worker was asked for nothing but the session that is not there, and hers for nothing
        let own = bob.call("counters", json!({})).await?;
        ensure!(own["started"] == 0, "{class}: {own}");
        let hers = session.call("counters", json!({})).await?;
        ensure!(hers["started"] == 0, "{class}: {hers}");

        let end = session.id.len() - 1;
        let last = if session.id.ends_with('A') { "B" } else { "A" };
        let changed = format!("{}{last}", &session.id[..end]);
        for other in [&*changed, "pbs1.", "pbs1.AAAA"] {
            let answer = alice.resume(other).raw_call("echo", json!({ "text": "x" })).await?;
            ensure!(is_over(&answer)?, "{class}: {other}: {} {}", answer.status, answer.text());
        }
        // what has no such form, the server judges, in its own words
        let none = alice.resume("none").raw_call("echo", json!({ "text": "x" })).await?;
        ensure!(none.status == StatusCode::NOT_FOUND, "{class}: {} {}", none.status, none.text());

        let ended = session.send(Method::DELETE).await?;
        ensure!(ended.status().is_success(), "{class}: {}", ended.status());
        let late = session.raw_call("echo", json!({ "text": "x" })).await?;
        ensure!(is_over(&late)?, "{class}: {} {}", late.status, late.text());
        alice.initialize().await?.call("echo", json!({ "text": "again" })).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_runs_when_its_worker_is_killed_is_told_so_at_once() -> anyhow::Result<()> {
    let controller = start("").await?;
    // what is longer than the gateway remembers too
    let long = 100 * 1024;
    for (class, part, length) in [
        (FIXTURE, Part::Server, 0),
        (FIXTURE, Part::Agent, 0),
        (FIXTURE, Part::Agent, long),
        (SPOKEN, Part::Server, 0),
        (SPOKEN, Part::Agent, 0),
        (SPOKEN, Part::Agent, long),
    ] {
        let alice = client(&controller, class, "alice");
        let session = alice.initialize().await?;
        let killing = async {
            controller
                .eventually("the call runs", async || {
                    Ok(session.call("counters", json!({})).await?["started"] == 1)
                })
                .await?;
            sandbox::kill_of(&controller, class, "alice", part).await
        };
        let padding = "x".repeat(length);
        let call = session.raw_call("sleep", json!({ "ms": 600_000, "padding": padding }));
        let (call, _) = tokio::try_join!(call, killing)
            .with_context(|| format!("{class} {part:?}\n{}", controller.logs()))?;
        let error = &rpc_response(&call)?["error"];
        // the gateway's word, or the bridge's, where the agent lives on for a moment
        let is_told = error["code"] == -32008 && error["data"]["reason"] == "worker_broke"
            || class == SPOKEN && error["code"] == -32013;
        ensure!(is_told, "{class} {part:?}: {} {}", call.status, call.text());
        session.call("echo", json!({ "text": "it goes on" })).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_question_to_the_user_is_told_to_be_void_when_its_worker_is_killed() -> anyhow::Result<()>
{
    let program = "conformance-server";
    let mut documents = server_documents(program, FIXTURE, 2, &USERS, "")?;
    documents.extend(stdio_documents(program, SPOKEN, 2, &USERS, "")?);
    let controller = ControllerConfig::new(documents).start().await?;
    let parts = [Part::Server, Part::Agent];
    for (class, part) in parts.map(|part| [(FIXTURE, part), (SPOKEN, part)]).into_iter().flatten() {
        let alice = client(&controller, class, "alice");
        let session = alice.initialize_with(&json!({ "elicitation": {} })).await?;
        let call = legacy_call("test_elicitation", &json!({ "message": "Who are you?" }));
        let mut answer = session.say(&call).await?;
        let question = |came: &str| messages(came).find(|it| it["method"] == "elicitation/create");
        let came = read_until(&mut answer, SOON, |came| question(came).is_some()).await?;
        let question = question(&came).context("no question")?;

        sandbox::kill_of(&controller, class, "alice", part).await?;
        let told = |came: &str| messages(came).find(|it| it["id"] == call["id"]);
        let came = read_until(&mut answer, SOON, |came| told(came).is_some()).await;
        let came = came.with_context(|| format!("{class} {part:?}\n{}", controller.logs()))?;
        let told = told(&came).context("nothing is told")?;
        ensure!(told["error"]["code"].is_i64(), "{class} {part:?}: {told}");

        // what the user says comes too late, and is no more than that
        let action = json!({ "action": "decline" });
        let late = json!({ "jsonrpc": "2.0", "id": question["id"], "result": action });
        let late = timeout(SOON, session.say(&late)).await.context("it hangs")??;
        ensure!(!late.status().is_server_error(), "{class} {part:?}: {}", late.status());
        session.call("test_simple_text", json!({})).await.context("it does not go on")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_session_whose_beginning_is_too_long_for_an_id_ends_with_its_worker() -> anyhow::Result<()>
{
    let controller = start("").await?;
    let alice = client(&controller, FIXTURE, "alice");
    let message = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "x".repeat(2000), "version": "0" },
        },
    });
    let answer = alice.post(&[], &message).await?;
    let id = answer.headers.get("mcp-session-id").context("no session id")?.to_str()?;
    ensure!(!id.starts_with("pbs1."), "{id}");
    let session = alice.resume(id);
    let headers = [("mcp-session-id", id), ("mcp-protocol-version", "2025-11-25")];
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    alice.post(&headers, &initialized).await?;
    session.call("echo", json!({ "text": "here" })).await?;
    let told = async || Ok(controller.logs().contains("a session will end with this worker"));
    controller.eventually("it is said", told).await?;

    sandbox::kill_of(&controller, FIXTURE, "alice", Part::Server).await?;
    let late = session.raw_call("echo", json!({ "text": "x" })).await?;
    ensure!(is_over(&late)?, "{} {}", late.status, late.text());
    alice.initialize().await?.call("echo", json!({ "text": "again" })).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quilt_mcp_goes_on_for_its_user_and_with_its_users_rights() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = ControllerConfig::new(world.documents(2).await?).start().await?;
    let client = McpClient::bearer(controller.url(QUILT), &world.token("alice")?);
    let session = client.initialize().await?;
    session.call("bucket_objects_list", listing("b-alice")).await?;
    let tenants = controller.tenants().await?;
    let worker = tenants[0]["worker"].as_str().context("no worker")?.to_owned();
    sandbox::kill(&controller, &worker, Part::Server).await?;
    controller
        .eventually("the end is known", async || {
            Ok(controller.tenants().await?[0]["worker"] != worker)
        })
        .await?;
    let mine = session.call("bucket_objects_list", listing("b-alice")).await?;
    ensure!(mine.to_string().contains("notes/alice.txt"), "{mine}");
    let hers = session.raw_call("bucket_objects_list", listing("b-bob")).await?;
    ensure!(!hers.text().contains("notes/bob.txt"), "{}", hers.text());
    Ok(())
}
