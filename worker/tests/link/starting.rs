//! A server that is started at bind, and what templates give it.

use crate::{
    client::{body_of, grant},
    worker::{Options, Worker},
};
use http::{Method, StatusCode};
use patchbay_core::{
    boot::ReportLine,
    class::Start,
    grant::{AwsGrant, Grant},
    id::TenantUid,
    link::LeaveReason,
    pin::Role,
    template::{FileTemplate, Template, Templates},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs;

const SECRET: &str = "the/secret+access/key";

fn on_bind(templates: Templates) -> Options {
    Options { start: Start::OnBind, templates, ..Options::default() }
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn env(name: &str, text: &str) -> Templates {
    Templates { env: [(name.to_owned(), template(text))].into(), ..Templates::default() }
}

fn file(text: &str) -> FileTemplate {
    FileTemplate { path: ".config/server.json".into(), template: template(text) }
}

/// Keys that live for so many seconds.
fn keys(secret: &str, seconds: i64) -> Grant {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    let token = "the/session+token==".into();
    let aws = AwsGrant::temporary("ASIAX".into(), secret.into(), token, end, "eu-west-1".into());
    Grant { aws, expires_at: Some(end), ..grant() }
}

#[tokio::test]
async fn a_server_that_is_started_at_bind_finds_its_users_values_and_they_are_in_no_log() {
    let templates = Templates {
        files: vec![file(r#"{"who": "${json:user.subject}", "key": "${aws.secretAccessKey}"}"#)],
        ..env("AWS_SECRET_ACCESS_KEY", "${aws.secretAccessKey}")
    };
    let worker = Worker::ready(on_bind(templates)).await;
    let gateway = worker.connect(Role::Gateway).await;
    // ready, and anybody's: nothing of the server runs yet
    assert!(!worker.logs().contains("serving on port"), "{}", worker.logs());
    let (status, answer) = gateway.bind_with("t1", 1, keys(SECRET, 900)).await;
    assert_eq!((status, &answer["outcome"]), (StatusCode::OK, &json!("bound")));
    let response = gateway.call(Method::POST, "/echo", "").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);

    let environment = worker.witness.environment().await;
    assert_eq!(environment["AWS_SECRET_ACCESS_KEY"], SECRET);
    let path = worker.home().join(".config/server.json");
    let written =
        || serde_json::from_slice::<serde_json::Value>(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(written(), json!({ "who": "alice", "key": SECRET }));
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);

    // renewed keys reach the file, and not the environment
    let (_, answer) = gateway.bind_with("t1", 1, keys("another/secret", 1800)).await;
    assert_eq!(answer["outcome"], "replaced");
    assert_eq!(written()["key"], "another/secret");
    assert_eq!(worker.witness.environment().await["AWS_SECRET_ACCESS_KEY"], SECRET);
    assert!(!worker.logs().contains(SECRET) && !worker.logs().contains("another/secret"));
    // one server, not one for each bind
    assert_eq!(worker.logs().matches("serving on port").count(), 1);
}

#[tokio::test]
async fn a_worker_with_keys_in_its_servers_environment_leaves_before_they_end() {
    let worker = Worker::ready(on_bind(env("KEY", "${aws.sessionToken}"))).await;
    let gateway = worker.connect(Role::Gateway).await;
    let (status, _) = gateway.bind_with("t1", 1, keys(SECRET, 8)).await;
    assert_eq!(status, StatusCode::OK);
    let call = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.call(Method::POST, "/slow", "").await }
    });
    worker.witness.saw("POST /mcp/slow").await;
    // newer keys are of no use to it
    gateway.bind_with("t1", 1, keys(SECRET, 900)).await;
    gateway.closed_to_new(Method::POST, "/echo").await;
    worker.witness.release().await;
    assert_eq!(body_of(call.await.unwrap().unwrap()).await, "done", "a call that ran is finished");
    let (farewell, ..) = worker.ended().await;
    assert_eq!(farewell.reason, LeaveReason::CredentialsEnd);
}

#[tokio::test]
async fn a_worker_whose_environment_names_its_user_alone_stays() {
    let worker = Worker::ready(on_bind(env("WHO", "${user.subject}"))).await;
    let gateway = worker.connect(Role::Gateway).await;
    gateway.bind_with("t1", 1, keys(SECRET, 1)).await;
    let (_, answer) = gateway.bind_with("t1", 1, keys(SECRET, 900)).await;
    assert_eq!(answer["outcome"], "replaced");
    assert_eq!(worker.witness.environment().await["WHO"], "alice");
}

#[tokio::test]
async fn many_binds_at_once_start_one_server_and_all_hear_of_it() {
    let worker = Worker::ready(on_bind(Templates::default())).await;
    let gateway = worker.connect(Role::Gateway).await;
    let mut binds = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let gateway = gateway.clone();
        binds.spawn(async move { gateway.bind("t1", 1).await.0 });
    }
    assert_eq!(binds.join_all().await, [StatusCode::OK; 5]);
    assert_eq!(worker.logs().matches("serving on port").count(), 1);
    let (status, answer) = gateway.bind("t2", 1).await;
    assert_eq!((status, &answer["reason"]), (StatusCode::CONFLICT, &json!("otherTenant")));
}

/// What a bind is answered whose server does not come, and why its worker leaves.
async fn fails(command: &[&str], start_seconds: u64) -> (serde_json::Value, LeaveReason, String) {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let options = Options { command, start_seconds, ..on_bind(Templates::default()) };
    let mut worker = Worker::ready(options).await;
    let gateway = worker.connect(Role::Gateway).await;
    let (status, answer) = gateway.bind("t1", 1).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let ReportLine::Farewell(farewell) = worker.report().await else {
        panic!("the agent said something else than its farewell");
    };
    assert_eq!(farewell.tenant.as_ref().map(TenantUid::as_str), Some("t1"));
    (answer["reason"].clone(), farewell.reason, farewell.detail.unwrap_or_default())
}

#[tokio::test]
async fn a_server_that_does_not_come_refuses_the_bind_and_its_worker_says_why() {
    let (reason, left, detail) = fails(&["/nowhere/server"], 30).await;
    assert_eq!((reason, left), (json!("serverFailed"), LeaveReason::ServerNotReady));
    assert!(detail.contains("cannot run `/nowhere/server`"), "{detail}");
    let (reason, left, detail) = fails(&["/bin/sh", "-c", "exit 3"], 30).await;
    assert_eq!((reason, left), (json!("serverFailed"), LeaveReason::ServerExited));
    assert!(detail.contains("exit code 3"), "{detail}");
    let (reason, left, detail) = fails(&["/bin/sh", "-c", "sleep 1000"], 1).await;
    assert_eq!((reason, left), (json!("serverFailed"), LeaveReason::ServerNotReady));
    assert!(detail.contains("did not answer in time"), "{detail}");
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_before_its_server_runs_does() {
    for asked in [true, false] {
        let worker = Worker::ready(on_bind(Templates::default())).await;
        let child = if asked { &worker.agent } else { &worker.host };
        let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let reason = worker.left().await.reason;
        let expected = if asked { LeaveReason::Drained } else { LeaveReason::ServerExited };
        assert_eq!(reason, expected);
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_written_refuses_the_bind() {
    let templates = Templates { files: vec![file("{}")], ..Templates::default() };
    let worker = Worker::ready(Options { templates, ..Options::default() }).await;
    // in the way of its directory
    fs::write(worker.home().join(".config"), "").unwrap();
    let gateway = worker.connect(Role::Gateway).await;
    let (status, answer) = gateway.bind("t1", 1).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer["reason"], "storageFailed");
    assert!(worker.logs().contains(".config/server.json"), "{}", worker.logs());
}
