//! What of a session reaches the MCP server when a worker meets it anew, and what the client hears.

use crate::{
    client::{Client, body_of, forwarded, grant},
    worker::{Options, Worker},
};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use patchbay_core::{
    id::{Epoch, TenantUid},
    pin::Role,
    session::{GOOD_FOR, Opening, SessionKeys, SessionRoots, open, seal},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn keys() -> SessionKeys {
    let roots = SessionRoots::generate(Timestamp::now()).unwrap();
    roots.keys(&TenantUid::parse("t1").unwrap(), Timestamp::now()).unwrap()
}

async fn bound(worker: &Worker, keys: &SessionKeys) -> Client {
    let gateway = worker.connect(Role::Gateway).await;
    let (status, answer) = gateway.bind_all("t1", 1, grant(), Some(keys.clone())).await;
    assert_eq!(status, 200, "{answer}");
    gateway
}

/// What a worker answers: status, session id, and body.
async fn say(
    client: &Client,
    session: Option<&str>,
    message: &Value,
) -> (StatusCode, String, Value) {
    let headers = session.map(|session| ("mcp-session-id", session));
    let headers: Vec<_> =
        headers.into_iter().chain([("content-type", "application/json")]).collect();
    let (status, id, body) = ask(client, Method::POST, "", &headers, &message.to_string()).await;
    (status, id, serde_json::from_str(&body).unwrap_or_default())
}

async fn ask(
    client: &Client,
    method: Method,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (StatusCode, String, String) {
    let mut request = forwarded(method, query);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.send(request.body(body.to_owned()).unwrap()).await.unwrap();
    let status = response.status();
    let id = response.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
    let body = String::from_utf8(body_of(response).await.to_vec()).unwrap();
    (status, id.unwrap_or_default(), body)
}

/// A `GET` of a session, from after an event; the event that it brings.
async fn listen(client: &Client, session: &str, after: Option<&str>) -> (StatusCode, String) {
    let after = after.map(|after| ("last-event-id", after));
    let headers: Vec<_> = after.into_iter().chain([("mcp-session-id", session)]).collect();
    let (status, _, text) = ask(client, Method::GET, "", &headers, "").await;
    let id = text.lines().find_map(|line| line.strip_prefix("id: "));
    (status, id.unwrap_or_default().to_owned())
}

/// Ends a session.
async fn end(client: &Client, session: &str) -> StatusCode {
    ask(client, Method::DELETE, "", &[("mcp-session-id", session)], "").await.0
}

fn heard(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(session, said)| ((*session).to_owned(), (*said).to_owned())).collect()
}

fn initialize() -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": { "roots": {} }, "unknown": [1.0],
    } })
}

fn call() -> Value {
    json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {} })
}

async fn begun(client: &Client) -> String {
    let (status, id, answer) = say(client, None, &initialize()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["result"]["params"]["unknown"], json!([1.0]));
    id
}

#[tokio::test]
async fn a_session_of_an_earlier_worker_begins_as_it_did_once_for_all_that_come_together() {
    let keys = keys();
    let first = Worker::ready(Options::default()).await;
    let id = begun(&bound(&first, &keys).await).await;
    assert!(open(&keys, &id, Timestamp::now()).is_ok(), "{id}");
    drop(first);

    let second = Worker::ready(Options::default()).await;
    let gateway = bound(&second, &keys).await;
    let calls = (0..10).map(|_| (gateway.clone(), id.clone()));
    let calls: JoinSet<_> =
        calls.map(|(gateway, id)| async move { say(&gateway, Some(&id), &call()).await }).collect();
    for (status, _, answer) in calls.join_all().await {
        assert_eq!((status, &answer["result"]["session"]), (StatusCode::OK, &json!("own-1")));
    }
    let heard = second.witness.heard().await;
    assert_eq!(heard.len(), 11, "{heard:?}");
    assert_eq!(heard[0], ("own-1".to_owned(), "notifications/initialized".to_owned()));
    assert!(heard[1..].iter().all(|(_, method)| method == "tools/call"), "{heard:?}");
}

#[tokio::test]
async fn a_session_that_its_server_let_go_of_goes_on_and_the_request_is_said_again() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let id = begun(&gateway).await;
    assert_eq!(say(&gateway, Some(&id), &call()).await.2["result"]["session"], "own-1");
    worker.witness.forget().await;
    assert_eq!(say(&gateway, Some(&id), &call()).await.2["result"]["session"], "own-2");
    let heard = worker.witness.heard().await;
    let calls = heard.iter().filter(|(_, method)| method == "tools/call").count();
    assert_eq!(calls, 2, "{heard:?}");
}

#[tokio::test]
async fn a_server_that_is_not_what_it_was_takes_up_no_session_and_is_left_none() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let id = begun(&gateway).await;
    worker.witness.forget().await;
    worker.witness.change().await;
    let (status, _, answer) = say(&gateway, Some(&id), &call()).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!(-32001)));
    let left = heard(&[("own-2", "DELETE")]);
    assert_eq!(worker.witness.heard().await, left);
    // it stays another, and is not asked again
    assert_eq!(say(&gateway, Some(&id), &call()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(worker.witness.heard().await, left);
    // the client's next one is of the server as it is
    let id = begun(&gateway).await;
    assert_eq!(say(&gateway, Some(&id), &call()).await.2["result"]["session"], "own-3");
}

#[tokio::test]
async fn what_ended_is_of_another_key_or_of_a_later_worker_reaches_no_server() {
    let (own, strange) = (keys(), keys());
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &own).await;
    let now = Timestamp::now();
    let opening = |epoch: u64, ends_at: Timestamp| Opening {
        params: "{}".to_owned(),
        version: "2025-11-25".to_owned(),
        facts: [0; 16],
        epoch: Epoch(epoch),
        ends_at,
    };
    for (what, id) in [
        ("too old", seal(&own, &opening(1, now - SignedDuration::from_secs(1)))),
        ("of another key", seal(&strange, &opening(1, now + GOOD_FOR))),
        ("of a later worker", seal(&own, &opening(2, now + GOOD_FOR))),
    ] {
        let (status, _, answer) = say(&gateway, Some(&id.unwrap()), &call()).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{what}: {answer}");
    }
    assert!(!worker.witness.seen().await.contains(&"POST /mcp".to_owned()));
}

#[tokio::test]
async fn a_server_that_cannot_begin_a_session_now_is_said_to_be_busy_and_may_later() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let id = begun(&gateway).await;
    worker.witness.forget().await;
    worker.witness.refuse("initialize").await;
    for _ in 0..2 {
        let (status, _, answer) = say(&gateway, Some(&id), &call()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    }
    worker.witness.refuse("nothing").await;
    assert_eq!(say(&gateway, Some(&id), &call()).await.2["result"]["session"], "own-2");
}

#[tokio::test]
async fn a_session_that_begins_again_does_so_though_its_client_gives_up() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let id = begun(&gateway).await;
    worker.witness.forget().await;
    worker.witness.take_time().await;
    let (own, of_it) = (gateway.clone(), id.clone());
    let impatient = tokio::spawn(async move { say(&own, Some(&of_it), &call()).await });
    worker.witness.saw("BEGUN /mcp").await;
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    // whoever comes next on this connection comes after that is known
    let elsewhere = json!({ "jsonrpc": "2.0", "id": 3, "method": "ping" });
    assert_eq!(say(&gateway, Some("unknown"), &elsewhere).await.0, StatusCode::NOT_FOUND);
    worker.witness.release().await;
    assert_eq!(say(&gateway, Some(&id), &call()).await.2["result"]["session"], "own-2");
}

#[tokio::test]
async fn what_a_server_does_not_find_besides_a_session_costs_no_session() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let id = begun(&gateway).await;
    worker.witness.refuse("get").await;
    assert_eq!(listen(&gateway, &id, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(say(&gateway, Some(&id), &call()).await.2["result"]["session"], "own-1");
    let said = heard(&[("own-1", "GET"), ("own-1", "ping"), ("own-1", "tools/call")]);
    assert_eq!(worker.witness.heard().await, said);
}

#[tokio::test]
async fn nothing_begins_for_an_answer_or_a_word_about_a_request_of_before() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let id = begun(&gateway).await;
    worker.witness.forget().await;
    for message in [
        json!({ "jsonrpc": "2.0", "id": 7, "result": {} }),
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {} }),
        json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {} }),
    ] {
        let (status, _, answer) = say(&gateway, Some(&id), &message).await;
        assert_eq!((status, answer), (StatusCode::ACCEPTED, Value::Null), "{message}");
    }
    assert_eq!(worker.witness.heard().await, []);
    // and that it has begun is not said twice to the server
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(say(&gateway, Some(&id), &initialized).await.0, StatusCode::ACCEPTED);
    let once = heard(&[("own-2", "notifications/initialized")]);
    assert_eq!(worker.witness.heard().await, once);
}

#[tokio::test]
async fn a_session_begins_again_where_it_began() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let kind = ("content-type", "application/json");
    let post = async |session: &str, message: Value| {
        let named = [kind, ("mcp-session-id", session)];
        let headers = if session.is_empty() { &named[..1] } else { &named[..] };
        ask(&gateway, Method::POST, "?toolset=b", headers, &message.to_string()).await
    };
    let (_, id, _) = post("", initialize()).await;
    worker.witness.forget().await;
    let (status, _, answer) = post(&id, call()).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let began = json!({ "session": "own-2", "query": "toolset=b" });
    assert_eq!((status, &answer["result"]), (StatusCode::OK, &began));
}

#[tokio::test]
async fn an_event_of_before_is_named_to_no_server_and_one_of_after_is() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let id = begun(&gateway).await;
    let (_, first) = listen(&gateway, &id, None).await;
    assert_eq!(listen(&gateway, &id, Some(&first)).await.0, StatusCode::OK);
    worker.witness.forget().await;
    assert_eq!(say(&gateway, Some(&id), &call()).await.2["result"]["session"], "own-2");
    // the client comes back for what came after it, though another request began the session
    let (_, second) = listen(&gateway, &id, Some(&first)).await;
    listen(&gateway, &id, Some(&second)).await;
    let (after_first, after_second) = (format!("GET after {first}"), format!("GET after {second}"));
    let streams: Vec<_> = worker.witness.heard().await;
    let streams: Vec<_> = streams.iter().filter(|(_, said)| said.starts_with("GET")).collect();
    let said = heard(&[
        ("own-1", "GET"),
        ("own-1", &after_first),
        ("own-2", "GET"),
        ("own-2", &after_second),
    ]);
    assert_eq!(streams, said.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_session_that_its_client_ended_stays_so_and_one_that_its_server_keeps_goes_on() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    let id = begun(&gateway).await;
    worker.witness.refuse("delete").await;
    assert_eq!(end(&gateway, &id).await, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(say(&gateway, Some(&id), &call()).await.2["result"]["session"], "own-1");
    worker.witness.refuse("nothing").await;
    assert_eq!(end(&gateway, &id).await, StatusCode::NO_CONTENT);
    for _ in 0..2 {
        assert_eq!(say(&gateway, Some(&id), &call()).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(end(&gateway, &id).await, StatusCode::NOT_FOUND);
    let calls = worker.witness.heard().await;
    assert_eq!(calls.last(), heard(&[("own-1", "DELETE")]).last(), "{calls:?}");
}

#[tokio::test]
async fn an_id_that_was_not_made_here_is_for_the_server_to_judge() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = bound(&worker, &keys()).await;
    begun(&gateway).await;
    let (status, _, answer) = say(&gateway, Some("own-1"), &call()).await;
    assert_eq!((status, &answer["result"]["session"]), (StatusCode::OK, &json!("own-1")));
    assert_eq!(say(&gateway, Some("own-7"), &call()).await.0, StatusCode::NOT_FOUND);
}
