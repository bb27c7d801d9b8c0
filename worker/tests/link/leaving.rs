//! How a worker leaves: nothing admitted is lost, nothing new is begun, and the reason is told.

use crate::{
    client::{Client, body_of, forwarded},
    within,
    worker::{Options, Worker},
};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use patchbay_core::{
    boot::ReportLine,
    link::{Farewell, LeaveReason},
    pin::Role,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::{error::Error as _, time::Duration};
use tokio::process::Child;

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Sends a request that a leaving worker must refuse in a way that allows a replay.
async fn is_refused_unread(client: &Client) {
    // more than a stream's window: the rest of it can only be sent if the worker reads
    let request = forwarded(Method::POST, "/echo").body("x".repeat(200_000)).unwrap();
    let error = client.send(request).await.unwrap_err();
    let reason = error.source().and_then(|it| it.downcast_ref::<h2::Error>()).unwrap().reason();
    assert_eq!(reason, Some(h2::Reason::REFUSED_STREAM));
}

/// Begins a call, makes the worker leave by `leave`, and follows it to its end.
async fn leaves_in_order(leave: impl AsyncFnOnce(&Worker)) -> Farewell {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;
    let operator = worker.connect(Role::Operator).await;
    let mut stream = gateway.call(Method::GET, "/stream", "").await.unwrap();
    within(stream.body_mut().frame()).await.unwrap().unwrap();
    let call = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.call(Method::POST, "/slow", "").await }
    });
    worker.witness.saw("POST /mcp/slow").await;

    leave(&worker).await;
    // the operator's connection is told to go away, which is how this test knows that it leaves
    operator.closed().await;
    is_refused_unread(&worker.connect(Role::Gateway).await).await;
    let operator = worker.connect(Role::Operator).await;
    let (_, status) = operator.control(Method::GET, "/v1/status", Vec::new()).await;
    assert_eq!((&status["phase"], &status["inFlight"]), (&json!("leaving"), &json!(1)));
    assert_eq!(worker.witness.seen().await, ["GET /mcp/stream", "POST /mcp/slow"]);

    worker.witness.release().await;
    let response = call.await.unwrap().unwrap();
    assert_eq!(body_of(response).await, "done");
    assert_eq!(body_of(stream).await, "", "the stream ends, as streams do");
    let (farewell, agent, host) = worker.ended().await;
    assert!(agent.success() && host.success());
    farewell
}

#[tokio::test]
async fn the_parent_is_told_of_the_bind_once() {
    let mut worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;
    assert!(worker.says_that_it_is_bound().await);
    let (status, answer) = gateway.bind("t1", 1).await;
    assert_eq!(status, 200, "{answer}");
    drop(gateway);
    signal(&worker.agent, Signal::TERM);
    assert!(!worker.says_that_it_is_bound().await, "told twice");
}

#[tokio::test]
async fn a_drained_worker_finishes_its_call_and_refuses_new_ones_unread() {
    let farewell = leaves_in_order(async |worker| {
        let operator = worker.connect(Role::Operator).await;
        let (status, _) = operator.control(Method::POST, "/v1/drain", Vec::new()).await;
        assert_eq!(status, StatusCode::ACCEPTED);
    })
    .await;
    assert_eq!(farewell.reason, LeaveReason::Drained);
    assert!(farewell.last_activity.is_some());
}

#[tokio::test]
async fn sigterm_drains_too() {
    let farewell = leaves_in_order(async |worker| signal(&worker.agent, Signal::TERM)).await;
    assert_eq!(farewell.reason, LeaveReason::Drained);
}

#[tokio::test]
async fn a_pod_that_is_asked_to_end_finishes_its_call_whichever_part_hears_it_first() {
    for host_first in [true, false] {
        let options = Options { agent_leaves_seconds: Some(25), ..Options::default() };
        let worker = Worker::ready(options).await;
        let gateway = worker.bound().await;
        let call = tokio::spawn(async move { gateway.call(Method::POST, "/slow", "").await });
        worker.witness.saw("POST /mcp/slow").await;
        let parts = [&worker.host, &worker.agent];
        for part in if host_first { parts } else { [parts[1], parts[0]] } {
            signal(part, Signal::TERM);
        }
        worker.witness.release().await;
        assert_eq!(body_of(call.await.unwrap().unwrap()).await, "done");
        let (farewell, agent, host) = worker.ended().await;
        assert_eq!(farewell.reason, LeaveReason::Drained);
        assert!(agent.success() && host.success());
    }
}

#[tokio::test]
async fn a_host_whose_agent_does_not_leave_ends_the_server_when_the_time_is_over() {
    for (limit, signals) in [(1, 1), (600, 2)] {
        let options = Options { agent_leaves_seconds: Some(limit), ..Options::default() };
        let mut worker = Worker::ready(options).await;
        for _ in 0..signals {
            signal(&worker.host, Signal::TERM);
            // the second is lost in the first where it comes before the first was taken
            worker.logged("waiting for the agent to leave").await;
        }
        assert!(within(worker.host.wait()).await.unwrap().success());
        assert_eq!(worker.ended().await.0.detail.unwrap(), "the host is gone");
    }
}

#[tokio::test]
async fn an_idle_worker_leaves_although_a_stream_is_open() {
    let options = Options { idle_timeout_seconds: 3, ..Options::default() };
    let worker = Worker::ready(options).await;
    let gateway = worker.bound().await;
    let mut stream = gateway.call(Method::GET, "/stream", "").await.unwrap();
    within(stream.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(body_of(stream).await, "");
    let (farewell, agent, host) = worker.ended().await;
    assert_eq!(farewell.reason, LeaveReason::Idle);
    assert!(agent.success() && host.success());
}

#[tokio::test]
async fn a_call_that_runs_longer_than_the_idle_timeout_keeps_the_worker() {
    let options = Options { idle_timeout_seconds: 3, ..Options::default() };
    let worker = Worker::ready(options).await;
    let gateway = worker.bound().await;
    let call = tokio::spawn(async move { gateway.call(Method::POST, "/slow", "").await });
    worker.witness.saw("POST /mcp/slow").await;
    // the passing of time is what is tested here
    tokio::time::sleep(Duration::from_millis(4500)).await;
    let operator = worker.connect(Role::Operator).await;
    let (_, status) = operator.control(Method::GET, "/v1/status", Vec::new()).await;
    assert_eq!((&status["phase"], &status["inFlight"]), (&json!("bound"), &json!(1)));
    worker.witness.release().await;
    assert_eq!(body_of(call.await.unwrap().unwrap()).await, "done");
    assert_eq!(worker.ended().await.0.reason, LeaveReason::Idle);
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_when_the_drain_time_is_over() {
    let options = Options { drain_seconds: 1, ..Options::default() };
    let worker = Worker::ready(options).await;
    let gateway = worker.bound().await;
    let call = tokio::spawn(async move { gateway.call(Method::POST, "/hang", "").await });
    worker.witness.saw("POST /mcp/hang").await;
    signal(&worker.agent, Signal::TERM);
    assert!(call.await.unwrap().is_err());
    let (farewell, agent, _) = worker.ended().await;
    assert_eq!(farewell.reason, LeaveReason::Drained);
    assert!(agent.success());
}

#[tokio::test]
async fn only_an_anonymous_worker_is_retired() {
    let worker = Worker::ready(Options::default()).await;
    let operator = worker.connect(Role::Operator).await;
    let _gateway = worker.bound().await;
    let (status, _) = operator.control(Method::POST, "/v1/retire", Vec::new()).await;
    assert_eq!(status, StatusCode::CONFLICT);

    let worker = Worker::ready(Options::default()).await;
    let operator = worker.connect(Role::Operator).await;
    let (status, _) = operator.control(Method::POST, "/v1/retire", Vec::new()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (farewell, agent, _) = worker.ended().await;
    assert_eq!(farewell.reason, LeaveReason::Retired);
    assert!(agent.success());
}

#[tokio::test]
async fn the_end_of_the_server_is_told_with_its_exit_code() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;
    let response = gateway.call(Method::POST, "/exit", "").await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let (farewell, agent, host) = worker.ended().await;
    assert_eq!(farewell.reason, LeaveReason::ServerExited);
    assert_eq!(farewell.detail.unwrap(), "the MCP server ended with exit code 7");
    assert!(!agent.success() && host.success());
}

#[tokio::test]
async fn a_server_that_takes_no_connection_is_no_worker_that_leaves() {
    let worker = Worker::ready(Options::default()).await;
    let gateway = worker.bound().await;
    let response = gateway.call(Method::POST, "/deaf", "").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    // a refused stream would cost the user this worker
    let response = gateway.call(Method::POST, "/echo", "").await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let operator = worker.connect(Role::Operator).await;
    let (_, status) = operator.control(Method::GET, "/v1/status", Vec::new()).await;
    assert_eq!(status["phase"], "bound");
}

#[tokio::test]
async fn the_end_of_the_host_is_the_end_of_the_worker() {
    let worker = Worker::ready(Options::default()).await;
    signal(&worker.host, Signal::TERM);
    let (farewell, ..) = worker.ended().await;
    assert_eq!(farewell.reason, LeaveReason::ServerExited);
    assert_eq!(farewell.detail.unwrap(), "the host is gone");
}

#[tokio::test]
async fn the_end_of_the_agent_is_the_end_of_the_server() {
    let mut worker = Worker::ready(Options::default()).await;
    signal(&worker.agent, Signal::KILL);
    assert!(within(worker.host.wait()).await.unwrap().success());
    let server = tokio::net::TcpStream::connect(("127.0.0.1", worker.witness.port)).await;
    assert!(server.is_err(), "the MCP server still listens");
}

#[tokio::test]
async fn a_server_that_never_answers_is_bound_to_nobody_and_given_up() {
    let command = ["/bin/sleep", "1000"].map(str::to_owned).to_vec();
    let mut worker =
        Worker::start(Options { command, start_seconds: 1, ..Options::default() }).await;
    let gateway = worker.connect(Role::Gateway).await;
    let warming = (StatusCode::SERVICE_UNAVAILABLE, json!({"reason": "warming"}));
    assert_eq!(gateway.bind("t1", 1).await, warming);
    let ReportLine::Farewell(farewell) = worker.report().await else {
        panic!("a worker without server is not ready");
    };
    assert_eq!(farewell.reason, LeaveReason::ServerNotReady);
    assert!(!within(worker.agent.wait()).await.unwrap().success());
    assert!(within(worker.host.wait()).await.unwrap().success());
}
