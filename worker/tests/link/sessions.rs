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
    let mut request = forwarded(Method::POST, "").header("content-type", "application/json");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    let response = client.send(request.body(message.to_string()).unwrap()).await.unwrap();
    let status = response.status();
    let id = response.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
    let body = serde_json::from_slice(&body_of(response).await).unwrap_or_default();
    (status, id.unwrap_or_default(), body)
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
    let heard = worker.witness.heard().await;
    assert_eq!(heard, [("own-2".to_owned(), "DELETE".to_owned())]);
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
