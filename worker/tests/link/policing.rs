//! What a tenant's requests are held to: tools, the claims in the grant, and limits.

use crate::{
    client::{Client, body_of, forwarded, grant},
    within,
    worker::{Options, Worker},
};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use patchbay_core::{
    allowed::Allowed,
    class::{Profile, TenantLimits},
    digest::Digest,
    enhanced::Level,
    grant::{CatalogGrant, Grant},
    link::{EPOCH_HEADER, REFUSAL_HEADER, TENANT_HEADER},
    pin::Role,
    tools::ToolPolicy,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn denying(tool: &str) -> Options {
    let tools = ToolPolicy { deny: set(&[tool]), hide_denied: true, ..ToolPolicy::default() };
    Options { tools: Some(tools), ..Options::default() }
}

fn tool_call(tool: &str, arguments: &Value) -> String {
    json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": { "name": tool, "arguments": arguments },
    })
    .to_string()
}

/// The answer is the MCP server's own place in it: a JSON-RPC error, and no refusal of the link's.
async fn error(response: Response<Incoming>) -> Value {
    assert!(!response.headers().contains_key(REFUSAL_HEADER), "{response:?}");
    let body: Value = serde_json::from_slice(&body_of(response).await).unwrap();
    assert_eq!(body["jsonrpc"], "2.0", "{body}");
    body
}

async fn reason(gateway: &Client, path: &str, body: &str) -> (StatusCode, String) {
    let response = gateway.call(Method::POST, path, body).await.unwrap();
    let status = response.status();
    let body = body_of(response).await;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    (status, body["error"]["data"]["reason"].as_str().unwrap_or("passed").to_owned())
}

#[tokio::test]
async fn a_denied_call_is_answered_and_the_server_sees_no_byte_of_it() {
    let worker = Worker::ready(denying("drop")).await;
    let gateway = worker.bound().await;
    let request = forwarded(Method::POST, "/echo")
        .header("patchbay-request-id", "r-1")
        .body(tool_call("drop", &json!({ "secret": "hunter2" })))
        .unwrap();
    let response = gateway.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answer = error(response).await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32009)));
    let data = json!({ "reason": "tool_not_offered", "requestId": "r-1" });
    assert_eq!(answer["error"]["data"], data);
    assert!(!answer.to_string().contains("hunter2") && !worker.logs().contains("hunter2"));

    // whatever a header says, and however a forgiving server would read it
    let as_other = forwarded(Method::POST, "/echo")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "echo")
        .body(tool_call("drop", &json!({})))
        .unwrap();
    let response = gateway.send(as_other).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(error(response).await["error"]["code"], -32020);
    let twice = r#"{"id":1,"method":"tools/call","params":{"name":"echo","name":"drop"}}"#;
    let other_case = r#"{"id":1,"Method":"tools/call","method":"ping","params":{"name":"drop"}}"#;
    for body in [twice, other_case] {
        let refused = (StatusCode::BAD_REQUEST, "message_ambiguous".to_owned());
        assert_eq!(reason(&gateway, "/echo", body).await, refused);
    }
    for method in [Method::PUT, Method::DELETE, Method::GET] {
        let response = gateway.call(method, "/echo", &tool_call("drop", &json!({}))).await.unwrap();
        assert_eq!(
            error(response).await["error"]["code"],
            -32009,
            "a body is judged by what it is"
        );
    }
    let zipped = forwarded(Method::POST, "/echo").header("content-encoding", "gzip");
    let response = gateway.send(zipped.body("x").unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let batch = format!("[{},{}]", tool_call("echo", &json!({})), tool_call("drop", &json!({})));
    let answers = error_list(&gateway, &batch).await;
    assert_eq!(answers, ["batch_denied", "tool_not_offered"]);
    assert_eq!(worker.witness.seen().await, [""; 0]);
}

async fn error_list(gateway: &Client, batch: &str) -> Vec<String> {
    let response = gateway.call(Method::POST, "/echo", batch).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let answers: Vec<Value> = serde_json::from_slice(&body_of(response).await).unwrap();
    answers.iter().map(|it| it["error"]["data"]["reason"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_judged_passes_as_it_came() {
    let worker = Worker::ready(denying("drop")).await;
    let gateway = worker.bound().await;
    let padding = "x".repeat(2_000_000);
    let body = format!(
        " {{\"params\" : {{\"arguments\":{{\"n\":1.50e+2,\"t\":\"\\u0041{padding}\"}},\r\n \"name\":\"echo\"}},\
         \"id\":\"a\",\"method\":\"tools/call\" }}\n"
    );
    let request = forwarded(Method::POST, "/echo")
        .header("content-type", "application/json")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "echo")
        .header("mcp-session-id", "s");
    let response = gateway.send(request.body(body.clone()).unwrap()).await.unwrap();
    let seen: Value = serde_json::from_slice(&body_of(response).await).unwrap();
    assert_eq!(seen["digest"], Digest::of(body.as_bytes()).to_string());
    assert_eq!(seen["headers"]["content-length"], body.len().to_string());
    assert_eq!(seen["headers"]["mcp-name"], "echo");
    // nothing to judge: an end of a session, a stream, a message without a body
    for method in [Method::DELETE, Method::GET, Method::POST] {
        let response = gateway.call(method, "/echo", "").await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let long = "x".repeat(8 * 1024 * 1024 + 1);
    let refused = (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large".to_owned());
    assert_eq!(reason(&gateway, "/echo", &long).await, refused);
}

#[tokio::test]
async fn another_tenants_request_is_refused_before_anything_is_judged() {
    let worker = Worker::ready(denying("drop")).await;
    let gateway = worker.bound().await;
    for body in ["{", "x", ""] {
        let request = http::Request::post("https://worker/mcp-server/echo")
            .header(TENANT_HEADER, "t2")
            .header(EPOCH_HEADER, "1")
            .body(body.to_owned())
            .unwrap();
        let response = gateway.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
    }
}

#[tokio::test]
async fn the_claims_in_the_grant_decide() {
    let relay = patchbay_core::boot::RelayBoot {
        catalog: Some(patchbay_core::boot::RelayCatalog {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            ca_bundle: None,
        }),
        ..Default::default()
    };
    for (allowed, expected) in [
        (None, ["passed", "passed", "passed", "tool_not_offered"]),
        (
            Some(Allowed {
                level: Level::Read,
                permissions: set(&["s3:GetObject"]),
                buckets: set(&["b-alice"]),
            }),
            ["passed", "bucket_denied", "permission_missing", "tool_not_offered"],
        ),
        (
            Some(Allowed::default()),
            ["permission_missing", "permission_missing", "permission_missing", "tool_not_offered"],
        ),
    ] {
        // what the profile withholds and asks for needs no word of the class
        let options =
            Options { profile: Profile::Quilt, relay: relay.clone(), ..Options::default() };
        let worker = Worker::ready(options).await;
        let gateway = worker.connect(Role::Gateway).await;
        let catalog = CatalogGrant {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example".into(),
            bearer: "b".into(),
            lease: None,
        };
        let grant = Grant { allowed, catalog: Some(catalog), ..grant() };
        let (status, body) = gateway.bind_with("t1", 1, grant).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let mut reasons = Vec::new();
        for (tool, arguments) in [
            ("bucket_object_text", json!({ "s3_uri": "s3://b-alice/k" })),
            ("bucket_object_text", json!({ "s3_uri": "s3://b-bob/k" })),
            ("admin_user_get", json!({ "name": "bob" })),
            ("catalog_configure", json!({ "catalog_url": "https://evil.example" })),
        ] {
            reasons.push(reason(&gateway, "/echo", &tool_call(tool, &arguments)).await.1);
        }
        assert_eq!(reasons, expected);
    }
}

#[tokio::test]
async fn denied_tools_are_not_listed_in_either_form_of_an_answer() {
    let worker = Worker::ready(denying("drop")).await;
    let gateway = worker.bound().await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    for (path, is_stream) in [("/tools", false), ("/tools-stream", true)] {
        let request = forwarded(Method::POST, path).header("accept-encoding", "gzip");
        let response = gateway.send(request.body(list.clone()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = String::from_utf8(body_of(response).await.to_vec()).unwrap();
        assert!(body.contains("echo") && body.contains("\"nextCursor\":\"c\""), "{body}");
        assert!(!body.contains("drop"), "{body}");
        assert_eq!(body.starts_with("event: message\ndata: {"), is_stream, "{body}");
        // what was not asked for as a list is not looked through
        let other = json!({ "jsonrpc": "2.0", "id": 1, "method": "prompts/list" }).to_string();
        let response = gateway.call(Method::POST, path, &other).await.unwrap();
        let body = String::from_utf8(body_of(response).await.to_vec()).unwrap();
        assert!(body.contains("drop"), "{body}");
    }
    // the server's answer to this is no list, nor any JSON
    let unreadable = (StatusCode::BAD_GATEWAY, "tools_unreadable".to_owned());
    assert_eq!(reason(&gateway, "/echo", &list).await, unreadable);
}

#[tokio::test]
async fn as_many_calls_run_as_the_class_says_and_a_place_is_free_when_one_ends() {
    let limits = TenantLimits { concurrent_calls: Some(1), ..TenantLimits::default() };
    let worker = Worker::ready(Options { limits, ..Options::default() }).await;
    let gateway = worker.bound().await;
    let call = tool_call("slow", &json!({}));
    let first = tokio::spawn({
        let (gateway, call) = (gateway.clone(), call.clone());
        async move { gateway.call(Method::POST, "/slow", &call).await.unwrap().status() }
    });
    worker.witness.saw("POST /mcp/slow").await;
    // a header that calls it a ping gains nothing
    for header in ["tools/call", "ping"] {
        let request = forwarded(Method::POST, "/echo").header("mcp-method", header);
        let response = gateway.send(request.body(call.clone()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()["retry-after"], "1");
        let answer = error(response).await;
        assert_eq!(answer["error"]["data"]["reason"], "too_many_calls");
    }
    for free in [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }),
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled" }),
        json!({ "jsonrpc": "2.0", "id": 1, "result": {} }),
    ] {
        let (status, _) = reason(&gateway, "/echo", &free.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{free}");
    }
    let stream = gateway.call(Method::GET, "/stream", "").await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    worker.witness.release().await;
    assert_eq!(within(first).await.unwrap(), StatusCode::OK);
    // the answer's end is told to the agent as soon as it is read, not before
    let again = async {
        while gateway.call(Method::POST, "/echo", &call).await.unwrap().status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    within(again).await;
}

#[tokio::test]
async fn too_many_requests_in_a_second_are_told_when_to_come_back() {
    let limits = TenantLimits { requests_per_second: Some(1), ..TenantLimits::default() };
    let worker = Worker::ready(Options { limits, ..Options::default() }).await;
    let gateway = worker.bound().await;
    let call = tool_call("echo", &json!({}));
    // a batch counts as many as it has, and what is more than a second's worth is owed for
    let batch = format!("[{call},{call},{call}]");
    assert_eq!(reason(&gateway, "/echo", &batch).await.0, StatusCode::OK);
    let response = gateway.call(Method::POST, "/echo", &call).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&seconds), "{seconds}");
    assert_eq!(error(response).await["error"]["data"]["reason"], "too_many_requests");
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
    assert_eq!(reason(&gateway, "/echo", &ping).await.0, StatusCode::OK);
    // what is awaited is the time that the worker named
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(reason(&gateway, "/echo", &call).await.0, StatusCode::OK);
}
