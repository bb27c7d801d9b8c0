//! Who is served, and what of a request reaches the MCP server.

use crate::{
    client::{Authority, body_of, forwarded, url},
    within,
    worker::{Options, Worker},
};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use patchbay_core::{
    link::{EPOCH_HEADER, MAX_BIND_BYTES, TENANT_HEADER},
    pin::Role,
};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

#[tokio::test]
async fn a_bound_tenant_is_served_and_its_message_passes_whole() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.connect(Role::Gateway).await;
    let bound = (StatusCode::OK, json!({"outcome": "bound"}));
    assert_eq!(gateway.bind("t1", 1).await, bound);
    let kept = (StatusCode::OK, json!({"outcome": "kept"}));
    assert_eq!(gateway.bind("t1", 1).await, kept);

    let body = "x".repeat(3_000_000);
    let request = forwarded(Method::PUT, "/echo?a=b%20c&d")
        .header("mcp-session-id", "s")
        .header("authorization", "Bearer client")
        .header("cookie", "a=b")
        .body(body.clone())
        .unwrap();
    let response = gateway.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["mcp-session-id"], "session");
    assert!(!response.headers().contains_key("keep-alive"));
    let seen: serde_json::Value = serde_json::from_slice(&body_of(response).await).unwrap();
    assert_eq!(seen["method"], "PUT");
    assert_eq!(seen["url"], "/mcp/echo?a=b%20c&d");
    assert_eq!(seen["length"], body.len());
    let headers = json!({
        "content-length": body.len().to_string(),
        "host": format!("127.0.0.1:{}", worker.witness.port),
        "mcp-session-id": "s",
    });
    assert_eq!(seen["headers"], headers);
}

#[tokio::test]
async fn trailers_and_the_first_event_of_an_open_stream_pass_at_once() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;
    let request = forwarded(Method::POST, "/trailers").header("te", "trailers").body("").unwrap();
    let response = gateway.send(request).await.unwrap();
    let body = within(response.into_body().collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-checksum"], "1");

    let mut stream = gateway.call(Method::GET, "/stream", "").await.unwrap();
    let event = within(stream.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(event.into_data().unwrap(), "data: 1\n\n");
}

#[tokio::test]
async fn another_tenant_or_epoch_is_refused_and_the_server_sees_no_byte_of_it() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.connect(Role::Gateway).await;
    let misdirected = async |tenant: &str, epoch: &str| {
        let request = Request::post(url("/mcp-server/echo"))
            .header(TENANT_HEADER, tenant)
            .header(EPOCH_HEADER, epoch)
            .body("body")
            .unwrap();
        let response = gateway.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
        let body: serde_json::Value = serde_json::from_slice(&body_of(response).await).unwrap();
        assert_eq!(body, json!({"reason": "misdirected"}));
    };
    misdirected("t1", "1").await; // nobody is bound yet

    assert_eq!(gateway.bind("t1", 1).await.0, StatusCode::OK);
    let other_tenant = (StatusCode::CONFLICT, json!({"reason": "otherTenant"}));
    assert_eq!(gateway.bind("t2", 1).await, other_tenant);
    let other_epoch = (StatusCode::CONFLICT, json!({"reason": "otherEpoch"}));
    assert_eq!(gateway.bind("t1", 2).await, other_epoch);
    misdirected("t2", "1").await;
    misdirected("t1", "2").await;
    let nobody = Request::post(url("/mcp-server/echo")).body("").unwrap();
    assert_eq!(gateway.send(nobody).await.unwrap().status(), StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(worker.witness.seen().await, [""; 0]);

    let response = gateway.call(Method::POST, "/echo", "").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(worker.witness.seen().await, ["POST /mcp/echo"]);
}

#[tokio::test]
async fn a_role_opens_its_own_paths_alone() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.connect(Role::Gateway).await;
    let operator = worker.connect(Role::Operator).await;
    for (method, path) in [
        (Method::GET, "/v1/enrol"),
        (Method::GET, "/v1/status"),
        (Method::POST, "/v1/drain"),
        (Method::POST, "/v1/retire"),
    ] {
        let (status, _) = gateway.control(method, path, Vec::new()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(operator.bind("t1", 1).await.0, StatusCode::FORBIDDEN);
    for path in ["/v1/reserve", "/v1/release"] {
        let (status, _) = operator.control(Method::POST, path, Vec::new()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    let response = operator.call(Method::POST, "/echo", "").await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let (status, _) = gateway.control(Method::POST, "/v1/other", Vec::new()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let (status, body) = operator.control(Method::GET, "/v1/status", Vec::new()).await;
    let anonymous = json!({"phase": "anonymous", "inFlight": 0});
    assert_eq!((status, body), (StatusCode::OK, anonymous));
}

#[tokio::test]
async fn of_gateways_that_want_one_worker_the_first_keeps_it_until_it_lets_go() {
    let worker = Worker::ready(Options::default()).await;
    let gateways = [worker.connect(Role::Gateway).await, worker.connect(Role::Gateway).await];
    let [alice, bob] = ["a", "b"].map(|it| format!(r#"{{"tenant":"t-{}"}}"#, it.repeat(20)));
    let ask = async |gateway: usize, path: &str, body: &str| {
        let body = body.as_bytes().to_vec();
        gateways[gateway].control(Method::POST, path, body).await
    };
    assert_eq!(ask(0, "/v1/reserve", &alice).await.0, StatusCode::NO_CONTENT);
    let refused = json!({"reason": "reserved"});
    assert_eq!(ask(1, "/v1/reserve", &bob).await, (StatusCode::CONFLICT, refused.clone()));
    // the same user through another replica is no other user
    assert_eq!(ask(1, "/v1/reserve", &alice).await.0, StatusCode::NO_CONTENT);
    let operator = worker.connect(Role::Operator).await;
    let retired = operator.control(Method::POST, "/v1/retire", Vec::new()).await;
    assert_eq!(retired, (StatusCode::CONFLICT, refused));
    assert_eq!(ask(0, "/v1/release", &alice).await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(1, "/v1/reserve", &bob).await.0, StatusCode::NO_CONTENT);
    assert_eq!(gateways[1].bind("t1", 1).await.0, StatusCode::OK);
    let taken = json!({"reason": "otherTenant"});
    assert_eq!(ask(0, "/v1/reserve", &alice).await, (StatusCode::CONFLICT, taken));
    for (body, status) in [
        ("{}", StatusCode::BAD_REQUEST),
        (r#"{"tenant":"alice"}"#, StatusCode::BAD_REQUEST),
        (&*"x".repeat(2000), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        for path in ["/v1/reserve", "/v1/release"] {
            assert_eq!(ask(0, path, body).await.0, status, "{path}");
        }
    }
}

#[tokio::test]
async fn an_operator_is_shown_the_token_of_the_moment_and_nothing_where_there_is_none() {
    let token = tempfile::NamedTempFile::new().unwrap();
    let options = Options { token: Some(token.path().to_owned()), ..Options::default() };
    let worker = Worker::ready(options).await;
    let operator = worker.connect(Role::Operator).await;
    for (token_now, phase) in [("first", "anonymous"), ("second", "bound")] {
        std::fs::write(token.path(), token_now).unwrap();
        let (status, body) = operator.control(Method::GET, "/v1/enrol", Vec::new()).await;
        assert_eq!((status, body), (StatusCode::OK, json!({"token": token_now, "phase": phase})));
        worker.bound().await;
    }
    assert!(!worker.logs().contains("first") && !worker.logs().contains("second"));

    let worker = Worker::ready(Options::default()).await;
    let operator = worker.connect(Role::Operator).await;
    let (status, _) = operator.control(Method::GET, "/v1/enrol", Vec::new()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_forwarded_path_never_becomes_a_control_path() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;
    for rest in ["/../v1/bind", "/%2e%2e/v1/bind", "//v1/bind"] {
        let response = gateway.call(Method::POST, rest, "{}").await.unwrap();
        let seen: serde_json::Value = serde_json::from_slice(&body_of(response).await).unwrap();
        assert_eq!(seen["url"], format!("/mcp{rest}"), "the MCP server answered it");
    }
}

#[tokio::test]
async fn both_processes_closed_themselves_before_they_began() {
    let worker = Worker::ready(Options::default()).await;
    for process in [&worker.agent, &worker.host] {
        // non-dumpable cannot be seen by a privileged test; the core limit is set in the same step
        let pid = process.id().unwrap();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let words: Vec<_> = core.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{core}");
    }
}

#[tokio::test]
async fn a_bind_that_is_too_long_or_no_bind_changes_nothing() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.connect(Role::Gateway).await;
    let long = vec![b' '; MAX_BIND_BYTES + 1];
    let (status, _) = gateway.control(Method::POST, "/v1/bind", long).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = gateway.control(Method::POST, "/v1/bind", b"{}".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(gateway.bind("t2", 1).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_control_plane_is_not_heard() {
    let worker = Worker::ready(Options::default()).await;
    let stranger = Authority::new().credential(Role::Gateway);
    let none = (None, "CertificateRequired");
    for (credential, why) in [none, (Some(stranger), "DecryptError")] {
        let mut tls = worker.tls(credential).await;
        let refusal = within(tls.read_u8()).await.unwrap_err();
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
    assert_eq!(worker.witness.seen().await, [""; 0]);
}

#[tokio::test]
async fn the_server_learns_at_once_that_its_client_has_gone() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;

    let call = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.call(Method::POST, "/hang", "").await.map(drop) }
    });
    worker.witness.saw("POST /mcp/hang").await;
    call.abort();
    worker.witness.saw("closed /mcp/hang").await;

    let stream = gateway.call(Method::GET, "/stream", "").await.unwrap();
    worker.witness.saw("GET /mcp/stream").await;
    drop(stream);
    worker.witness.saw("closed /mcp/stream").await;
}

#[tokio::test]
async fn the_servers_way_out_is_answered_by_the_agent() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;
    let response = gateway.call(Method::POST, "/proxy", "").await.unwrap();
    let answer = body_of(response).await;
    assert!(answer.starts_with(b"HTTP/1.1 403 Forbidden\r\n"), "{answer:?}");
}
