//! A server of the transport of 2024: one address for its stream, and another for messages.

use crate::{
    client::Client,
    within,
    worker::{Options, Worker},
};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use patchbay_core::{class::TenantLimits, link::LeaveReason, pin::Role, tools::ToolPolicy};
use serde_json::{Value, json};

const AT: &str = "/messages?session_id=a";

/// A stream that has told where messages are sent.
async fn opened(gateway: &Client) -> Response<Incoming> {
    let mut stream = gateway.call(Method::GET, "/sse", "").await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    let named = "event: endpoint\ndata: messages?session_id=a\n\n";
    assert_eq!(next(&mut stream).await, named, "as it is from outside");
    stream
}

async fn next(stream: &mut Response<Incoming>) -> String {
    let frame = within(stream.body_mut().frame()).await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

/// The message of an event.
async fn message(stream: &mut Response<Incoming>) -> Value {
    let event = next(stream).await;
    let data = event.strip_prefix("event: message\ndata: ").expect(&event);
    serde_json::from_str(data).unwrap()
}

fn asks(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

async fn says(gateway: &Client, method: &str, params: &Value) -> StatusCode {
    gateway.call(Method::POST, AT, &asks(method, params)).await.unwrap().status()
}

#[tokio::test]
async fn what_is_denied_is_answered_on_the_stream_and_never_listed_there() {
    let tools =
        ToolPolicy { deny: ["drop".to_owned()].into(), hide_denied: true, ..ToolPolicy::default() };
    let worker = Worker::ready(Options { tools: Some(tools), ..Options::default() }).await;
    let gateway = worker.bound().await;
    let mut stream = opened(&gateway).await;
    let status = says(&gateway, "tools/call", &json!({ "name": "drop" })).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let told = message(&mut stream).await;
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!(1), &json!(-32009)), "{told}");
    // also where nobody listens, or not under this name
    for path in [AT, "/messages", "/messages?session_id=%61", "/messages?session_id=a&x"] {
        let denied = asks("tools/call", &json!({ "name": "drop" }));
        let status = gateway.call(Method::POST, path, &denied).await.unwrap().status();
        let expected = if path == AT { StatusCode::ACCEPTED } else { StatusCode::OK };
        assert_eq!(status, expected, "{path}");
    }
    assert_eq!(worker.witness.seen().await, ["GET /mcp/sse"], "the server saw no byte of them");
    message(&mut stream).await;

    assert_eq!(says(&gateway, "tools/list", &json!({})).await, StatusCode::ACCEPTED);
    let listed = message(&mut stream).await;
    assert_eq!(listed["result"]["tools"], json!([{ "name": "echo" }]), "{listed}");
    assert_eq!(listed["result"]["nextCursor"], "c");
}

#[tokio::test]
async fn a_call_runs_until_its_answer_has_passed_and_the_worker_stays_for_it() {
    let limits = TenantLimits { concurrent_calls: Some(1), ..TenantLimits::default() };
    let options = Options { limits, idle_timeout_seconds: 1, ..Options::default() };
    let worker = Worker::ready(options).await;
    let operator = worker.connect(Role::Operator).await;
    let in_flight = async || {
        let (_, status) = operator.control(Method::GET, "/v1/status", Vec::new()).await;
        status["inFlight"].clone()
    };
    // the end of a message's own response is told to the agent as soon as it is read, not before
    let only_the_call = async || while in_flight().await != 1 {};
    let gateway = worker.bound().await;
    let mut stream = opened(&gateway).await;
    let call = json!({ "name": "echo" });
    assert_eq!(says(&gateway, "tools/call", &call).await, StatusCode::ACCEPTED);
    within(only_the_call()).await;
    // its place among its user's calls is taken as well
    assert_eq!(says(&gateway, "tools/call", &call).await, StatusCode::TOO_MANY_REQUESTS);
    // asked to leave when it is idle, it is not
    let (status, _) = operator.control(Method::POST, "/v1/drain?when=idle", Vec::new()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    within(only_the_call()).await;
    worker.witness.release().await;
    assert_eq!(message(&mut stream).await["id"], 1);
    let reason = worker.left().await.reason;
    assert_eq!(reason, LeaveReason::Drained);
}

#[tokio::test]
async fn a_worker_whose_clients_only_listen_is_idle() {
    let options = Options { idle_timeout_seconds: 1, ..Options::default() };
    let worker = Worker::ready(options).await;
    let gateway = worker.bound().await;
    let _stream = opened(&gateway).await;
    assert_eq!(worker.left().await.reason, LeaveReason::Idle);
}

#[tokio::test]
async fn who_would_be_led_away_hears_nothing_and_the_log_says_why() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;
    let stream = gateway.call(Method::GET, "/led-away/sse", "").await.unwrap();
    let heard = within(stream.into_body().collect()).await.unwrap().to_bytes();
    assert!(heard.is_empty(), "{heard:?}");
    worker.logged("names an endpoint for messages that is not below").await;
}
