//! MCP servers that speak on their standard streams, through a gateway and a worker's bridge: one program for each
//! session, one for all requests without sessions, and what becomes of clients when a program misbehaves.

mod clients;
mod ends;

use anyhow::{Context, bail, ensure};
use http::{Method, StatusCode};
use patchbay_tests::{
    binaries,
    controller::{Controller, ControllerConfig, api_key, stdio_documents},
    http::{Answer, Http},
    mcp::{McpClient, modern_message, rpc_response, tool_result},
    quilt::{CLASS as QUILT, QuiltWorld, isolation::listing},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{sleep, timeout};

const CLASS: &str = "spoken";
const PATIENCE: Duration = Duration::from_secs(20);

async fn controller(class_fields: &str) -> anyhow::Result<(Controller, McpClient)> {
    let documents = stdio_documents("fixture-server", CLASS, 1, &["alice"], class_fields)?;
    let controller = ControllerConfig::new(documents).start().await?;
    let client = McpClient::bearer(controller.url(CLASS), &api_key("alice"));
    Ok((controller, client))
}

/// The same, where a shell does `script`, whose `$0` is the fixture.
async fn scripted(script: &str) -> anyhow::Result<(Controller, McpClient)> {
    let mut documents = stdio_documents("fixture-server", CLASS, 1, &["alice"], "")?;
    let server = binaries::path("fixture-server")?.display().to_string();
    let command = json!(["/bin/sh", "-c", script, server]);
    documents[0] = documents[0].replace(&format!("[{server}, --stdio]"), &command.to_string());
    let controller = ControllerConfig::new(documents).start().await?;
    let client = McpClient::bearer(controller.url(CLASS), &api_key("alice"));
    Ok((controller, client))
}

/// The program that answers a client.
async fn pid(answer: impl Future<Output = anyhow::Result<Value>>) -> anyhow::Result<u64> {
    let who = answer.await?;
    who["pid"].as_u64().with_context(|| format!("{who}"))
}

/// Waits until these are the programs of the worker, by another one: processes are gone when they are gone, and nobody
/// tells.
async fn programs(client: &McpClient, wanted: impl Fn(&[u64]) -> bool) -> anyhow::Result<()> {
    let waiting = async {
        while !wanted(&running(client).await?) {
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, waiting).await.context("the programs stay as they are")?
}

/// The processes of the worker.
async fn running(client: &McpClient) -> anyhow::Result<Vec<u64>> {
    let listed = client.call("list_dir", json!({ "path": "/proc" })).await?;
    let names = listed["entries"].as_array().with_context(|| format!("{listed}"))?;
    let name =
        |entry: &Value| entry.as_str().or_else(|| entry["name"].as_str())?.parse::<u64>().ok();
    Ok(names.iter().filter_map(name).collect())
}

/// Waits until a call of `await_value` is with the program whose counters these are.
async fn awaited(
    controller: &Controller,
    counters: impl AsyncFn() -> anyhow::Result<Value>,
) -> anyhow::Result<()> {
    let is_awaited = async || Ok(counters().await?["awaiting"] == 1);
    controller.eventually("a call awaits a value", is_awaited).await
}

fn code(answer: &Answer) -> anyhow::Result<i64> {
    let response = rpc_response(answer)?;
    response["error"]["code"].as_i64().with_context(|| format!("no error: {response}"))
}

#[tokio::test]
async fn each_session_has_a_program_of_its_own_and_requests_without_one_share_theirs()
-> anyhow::Result<()> {
    let (_controller, client) = controller("").await?;
    let shared = pid(client.call("whoami", json!({}))).await?;
    ensure!(shared == pid(client.call("whoami", json!({}))).await?);
    let (one, other) = (client.initialize().await?, client.initialize().await?);
    let of_one = pid(one.call("whoami", json!({}))).await?;
    let of_other = pid(other.call("whoami", json!({}))).await?;
    ensure!(of_one != of_other && of_one != shared && of_other != shared);
    one.call("remember", json!({ "key": "k", "value": "one's" })).await?;
    let recalled = other.call("recall", json!({ "key": "k" })).await?;
    ensure!(recalled["memory"].is_null(), "{recalled}");

    // the end of a session is the end of its program, and of nothing else
    ensure!(one.send(Method::DELETE).await?.status() == StatusCode::NO_CONTENT);
    programs(&client, |running| !running.contains(&of_one) && running.contains(&of_other)).await?;
    let late = one.raw_call("whoami", json!({})).await?;
    ensure!(late.status == StatusCode::NOT_FOUND, "{}", late.status);
    ensure!(one.send(Method::DELETE).await?.status() == StatusCode::NOT_FOUND);
    ensure!(of_other == pid(other.call("whoami", json!({}))).await?);
    Ok(())
}

#[tokio::test]
async fn a_session_that_nobody_uses_has_no_program_and_one_that_is_used_keeps_its_own()
-> anyhow::Result<()> {
    let (_controller, client) = controller("  idleTimeout: 2s\n").await?;
    let (used, unused) = (client.initialize().await?, client.initialize().await?);
    let of_used = pid(used.call("whoami", json!({}))).await?;
    let of_unused = pid(unused.call("whoami", json!({}))).await?;
    let using = async {
        loop {
            if let Err(error) = used.call("echo", json!({ "text": "x" })).await {
                return error;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let gone = |running: &[u64]| !running.contains(&of_unused) && running.contains(&of_used);
    tokio::select! {
        error = using => return Err(error),
        ended = programs(&client, gone) => ended?,
    }
    // it goes on in another
    ensure!(pid(unused.call("whoami", json!({}))).await? != of_unused);
    Ok(())
}

#[tokio::test]
async fn many_sessions_may_begin_at_once_and_of_too_many_the_one_idle_for_longest_gives_way()
-> anyhow::Result<()> {
    // as many as there may be
    const MOST: usize = 32;
    let (_controller, client) = controller("").await?;
    let first = client.initialize().await?;
    let of_first = pid(first.call("whoami", json!({}))).await?;
    let others = futures_util::future::try_join_all((1..MOST).map(|_| client.initialize()));
    let others = others.await?;
    let mut pids = BTreeSet::new();
    for session in &others {
        pids.insert(pid(session.call("whoami", json!({}))).await?);
    }
    ensure!(pids.len() == others.len(), "{pids:?}");
    let one_more = client.initialize().await?;
    pid(one_more.call("whoami", json!({}))).await?;
    for session in &others {
        ensure!(pids.contains(&pid(session.call("whoami", json!({}))).await?));
    }
    // its program made room, and it goes on in another
    ensure!(pid(first.call("whoami", json!({}))).await? != of_first);
    Ok(())
}

#[tokio::test]
async fn a_program_that_ends_is_told_to_who_waits_and_replaced_for_who_comes() -> anyhow::Result<()>
{
    let (controller, client) = controller("").await?;
    let first = pid(client.call("whoami", json!({}))).await?;
    let waiting = client.modern_call("await_value", json!({ "key": "never" }));
    let ending = async {
        awaited(&controller, async || client.call("counters", json!({})).await).await?;
        client.modern_call("exit", json!({ "code": 3 })).await
    };
    let (waited, ended) = tokio::try_join!(waiting, ending)?;
    for answer in [ended, waited] {
        ensure!(answer.status == StatusCode::BAD_GATEWAY, "{} {}", answer.status, answer.text());
        ensure!(code(&answer)? == -32013, "{}", answer.text());
    }
    ensure!(first != pid(client.call("whoami", json!({}))).await?);

    // of a session the program is its own, and the session goes on in another
    let session = client.initialize().await?;
    let own = pid(session.call("whoami", json!({}))).await?;
    let answer = session.raw_call("exit", json!({ "code": 3 })).await?;
    ensure!(code(&answer)? == -32013, "{}", answer.text());
    ensure!(pid(session.call("whoami", json!({}))).await? != own);
    // both ended with the code that they were told to end with
    controller
        .eventually("the ends are told", async || {
            let told =
                |line: &&str| line.contains("an MCP server ended") && line.contains(r#"code\":3"#);
            Ok(controller.logs().lines().filter(told).count() >= 2)
        })
        .await
}

#[tokio::test]
async fn what_is_no_message_is_passed_over_and_floods_of_it_hold_up_nobody() -> anyhow::Result<()> {
    let (_controller, client) = controller("").await?;
    let session = client.initialize().await?;
    for text in ["Welcome!\n", "{\"half\":\n", "\n\n[1,2]\n{}\n", "{\"jsonrpc\":\"2.0\"}\n"] {
        session.call("print", json!({ "text": text })).await?;
        client.call("print", json!({ "text": text })).await?;
    }
    let flood = "a line of a log that nobody reads\n".repeat(100_000);
    session.call("print", json!({ "text": flood })).await?;
    let said = session.call("echo", json!({ "text": "still here" })).await?;
    ensure!(said["text"] == "still here", "{said}");
    Ok(())
}

#[tokio::test]
async fn long_messages_pass_and_one_that_is_too_long_ends_its_program() -> anyhow::Result<()> {
    let (_controller, client) = controller("").await?;
    let text = "0123456789abcdef".repeat(400_000);
    let said = client.call("echo", json!({ "text": text })).await?;
    ensure!(said["text"].as_str().is_some_and(|said| said == text), "not what was sent");
    let long = json!({ "text": "0123456789abcdef", "times": 10 * 1024 * 1024 / 16 });
    let said = client.call("repeat", long.clone()).await?;
    ensure!(said["text"].as_str().map(str::len) == Some(10 * 1024 * 1024));
    let session = client.initialize().await?;
    let said = session.call("repeat", long).await?;
    ensure!(said["text"].as_str().map(str::len) == Some(10 * 1024 * 1024));
    let too_long = json!({ "text": "0123456789abcdef", "times": 2 * 1024 * 1024 });
    let answer = session.raw_call("repeat", too_long).await?;
    ensure!(code(&answer)? == -32013, "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn a_program_that_does_nothing_any_more_holds_up_no_other_session() -> anyhow::Result<()> {
    let (controller, client) = controller("").await?;
    let (frozen, other) = (client.initialize().await?, client.initialize().await?);
    let of_frozen = pid(frozen.call("whoami", json!({}))).await?;
    let mark = "/tmp/frozen";
    let freezing = frozen.raw_call("freeze", json!({ "path": mark }));
    let others = async {
        let is_frozen =
            async || Ok(other.call("read_file", json!({ "path": mark })).await?["error"].is_null());
        controller.eventually("it is frozen", is_frozen).await?;
        // more than its pipe holds, none of which it reads
        let text = "x".repeat(64 * 1024);
        let unread = (0..8).map(|_| frozen.raw_call("echo", json!({ "text": text })));
        let unread = futures_util::future::join_all(unread);
        tokio::pin!(unread);
        tokio::select! {
            _ = &mut unread => bail!("it is not frozen"),
            said = other.call("echo", json!({ "text": "y" })) => ensure!(said?["text"] == "y"),
        }
        client.call("echo", json!({ "text": "z" })).await?;
        // its input ends, it is asked to end, it is ended
        let deleted = frozen.send(Method::DELETE).await?.status();
        ensure!(deleted == StatusCode::NO_CONTENT, "{deleted}");
        programs(&client, |running| !running.contains(&of_frozen)).await?;
        for answer in unread.await {
            answer?;
        }
        Ok(())
    };
    let (answer, others) = tokio::join!(freezing, others);
    others?;
    ensure!(code(&answer?)? == -32013, "who waits is told");
    Ok(())
}

#[tokio::test]
async fn requests_without_a_session_may_have_the_same_id_and_in_a_session_one_at_a_time_may()
-> anyhow::Result<()> {
    let (controller, client) = controller("").await?;
    let call = |key: &str| {
        let arguments = json!({ "key": key });
        let mut message = modern_message("tools/call", "await_value", &arguments);
        message["id"] = json!("same");
        message["params"]["_meta"]["progressToken"] = json!("same");
        message
    };
    let calls = async {
        let [one, other] = ["one", "other"].map(|key| {
            let message = call(key);
            let client = &client;
            async move { client.modern("tools/call", "await_value", &message).await }
        });
        tokio::try_join!(one, other)
    };
    let telling = async {
        for key in ["other", "one"] {
            client.call("remember", json!({ "key": key, "value": format!("{key}'s") })).await?;
        }
        anyhow::Ok(())
    };
    let ((one, other), ()) = tokio::try_join!(calls, telling)?;
    for (answer, wanted) in [(&one, "one's"), (&other, "other's")] {
        ensure!(rpc_response(answer)?["id"] == "same", "{}", answer.text());
        ensure!(tool_result(answer)?["value"] == wanted, "{}", answer.text());
    }

    let session = client.initialize().await?;
    let waiting = json!({
        "jsonrpc": "2.0", "id": 77, "method": "tools/call",
        "params": { "name": "await_value", "arguments": { "key": "mine" } },
    });
    let headers = [("mcp-session-id", &*session.id), ("mcp-protocol-version", "2025-11-25")];
    let again = async {
        awaited(&controller, async || session.call("counters", json!({})).await).await?;
        let refused = client.post(&headers, &waiting).await?;
        session.call("remember", json!({ "key": "mine", "value": "told" })).await?;
        Ok(refused)
    };
    let (first, second) = tokio::try_join!(client.post(&headers, &waiting), again)?;
    ensure!(second.status == StatusCode::BAD_REQUEST, "{} {}", second.status, second.text());
    ensure!(tool_result(&first)?["value"] == "told", "{}", first.text());
    Ok(())
}

#[tokio::test]
async fn what_is_no_request_of_this_endpoint_is_told_so() -> anyhow::Result<()> {
    let (controller, client) = controller("").await?;
    let url = controller.url(CLASS);
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let session = client.initialize().await?;
    let legacy = [("mcp-session-id", &*session.id), ("mcp-protocol-version", "2025-11-25")];
    for (headers, message, status) in [
        (&[][..], list.clone(), StatusCode::BAD_REQUEST),
        (&[("mcp-session-id", "none")], list.clone(), StatusCode::NOT_FOUND),
        (
            &[legacy[0], ("mcp-protocol-version", "1999-01-01")],
            list.clone(),
            StatusCode::BAD_REQUEST,
        ),
        (&legacy, json!([list]), StatusCode::BAD_REQUEST),
        (&legacy, json!({ "neither": "nor" }), StatusCode::BAD_REQUEST),
        (&legacy, json!([]), StatusCode::BAD_REQUEST),
        (&legacy, list.clone(), StatusCode::OK),
    ] {
        let answer = client.post(headers, &message).await?;
        ensure!(answer.status == status, "{headers:?} {message}: {}", answer.status);
    }
    let http = Http::default();
    let send = async |method: Method, headers: &[(&str, &str)], body: &str| {
        let bearer = format!("Bearer {}", api_key("alice"));
        let all: Vec<_> = [("authorization", bearer.as_str())]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        anyhow::Ok(http.send(method, url, &all, body.to_owned()).await?.status)
    };
    let json_only = [("content-type", "application/json"), ("accept", "application/json")];
    ensure!(send(Method::POST, &json_only, "{}").await? == StatusCode::NOT_ACCEPTABLE);
    let both = ("accept", "application/json, text/event-stream");
    let plain = [("content-type", "text/plain"), both];
    ensure!(send(Method::POST, &plain, "{}").await? == StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let broken = [("content-type", "application/json"), both];
    ensure!(send(Method::POST, &broken, "{").await? == StatusCode::BAD_REQUEST);
    let modern = [("mcp-protocol-version", "2026-07-28"), both];
    ensure!(send(Method::GET, &modern, "").await? == StatusCode::METHOD_NOT_ALLOWED);
    Ok(())
}

#[tokio::test]
async fn a_program_that_takes_its_time_to_start_is_of_the_era_that_it_speaks() -> anyhow::Result<()>
{
    // longer than servers take that pass over what they do not know
    let (_controller, client) = scripted("sleep 12; exec \"$0\" --stdio").await?;
    let said = client.call("echo", json!({ "text": "modern" })).await?;
    ensure!(said["text"] == "modern", "{said}");
    let said = client.initialize().await?.call("echo", json!({ "text": "a session" })).await?;
    ensure!(said["text"] == "a session", "{said}");
    Ok(())
}

#[tokio::test]
async fn a_program_that_ends_at_a_question_it_does_not_know_serves_sessions() -> anyhow::Result<()>
{
    let script = "read -r first; case \"$first\" in *server/discover*) exit 1;; esac; \
                  { printf '%s\\n' \"$first\"; exec cat; } | exec \"$0\" --stdio";
    let (_controller, client) = scripted(script).await?;
    // a client of the other era is told so in a way that is no modern server's, and begins a session
    let modern = client.modern_call("whoami", json!({})).await?;
    ensure!(modern.status == StatusCode::BAD_REQUEST, "{} {}", modern.status, modern.text());
    ensure!(code(&modern)? == -32000, "{}", modern.text());
    let said = client.initialize().await?.call("echo", json!({ "text": "served" })).await?;
    ensure!(said["text"] == "served", "{said}");
    Ok(())
}

#[tokio::test]
async fn a_call_that_was_cancelled_does_not_keep_its_session() -> anyhow::Result<()> {
    let (controller, client) = controller("").await?;
    let session = client.initialize().await?;
    let headers = [("mcp-session-id", &*session.id), ("mcp-protocol-version", "2025-11-25")];
    let call = json!({
        "jsonrpc": "2.0", "id": 5, "method": "tools/call",
        "params": { "name": "await_value", "arguments": { "key": "never" } },
    });
    let cancelled = json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 5 },
    });
    let cancelling = async {
        awaited(&controller, async || session.call("counters", json!({})).await).await?;
        client.post(&headers, &cancelled).await
    };
    // the stream of the call ends
    let both = async { tokio::try_join!(client.post(&headers, &call), cancelling) };
    let (ended, told) = timeout(PATIENCE, both).await.context("the call goes on")??;
    ensure!(told.status == StatusCode::ACCEPTED, "{}", told.status);
    ensure!(!ended.text().contains("\"result\""), "{}", ended.text());
    // and its id is free
    ensure!(
        client
            .post(&headers, &json!({ "jsonrpc": "2.0", "id": 5, "method": "ping" }))
            .await?
            .status
            == StatusCode::OK
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quilt_mcp_acts_as_its_user_on_standard_streams_too() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let mut documents = world.documents(1).await?;
    let mut class: Value = serde_json::from_str(&documents[0])?;
    class["spec"]["transport"] = json!("stdio");
    documents[0] = class.to_string();
    let controller = ControllerConfig::new(documents).start().await?;
    let client = McpClient::bearer(controller.url(QUILT), &world.token("alice")?);
    let session = client.initialize().await?;
    let mine = session.call("bucket_objects_list", listing("b-alice")).await?;
    ensure!(mine.to_string().contains("notes/alice.txt"), "{mine}");
    let hers = session.raw_call("bucket_objects_list", listing("b-bob")).await?;
    ensure!(!hers.text().contains("notes/bob.txt"), "{}", hers.text());
    let modern = client.modern_call("bucket_objects_list", listing("b-alice")).await?;
    ensure!(modern.text().contains("notes/alice.txt"), "{} {}", modern.status, modern.text());
    Ok(())
}
