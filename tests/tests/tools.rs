//! Which tools a class offers, and how much of them, black-box: in both eras, and with real `quilt-mcp`.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use patchbay_core::{
    allowed::Allowed,
    class::Profile,
    enhanced::Level,
    tools::{Holds, Judge, ToolPolicy},
};
use patchbay_tests::{
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    http::Http,
    mcp::{McpClient, modern_headers, modern_message},
    quilt::{CLASS as QUILT, Era, QuiltWorld, call, isolation::listing, sdk_calls},
    tool_policy::{denied, offered_in},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const CLASS: &str = "fixture";

async fn start(class_fields: &str) -> anyhow::Result<Controller> {
    let documents = fixture_documents(CLASS, 1, &["alice", "bob"], class_fields)?;
    ControllerConfig::new(documents).start().await
}

fn client(controller: &Controller, user: &str) -> McpClient {
    McpClient::bearer(controller.url(CLASS), &api_key(user))
}

#[tokio::test]
async fn a_denied_tool_is_neither_listed_nor_called_in_either_era() -> anyhow::Result<()> {
    let controller = start("  tools: { deny: [write_file] }\n").await?;
    let alice = client(&controller, "alice");
    let write = json!({ "path": "/tmp/x", "text": "hunter2" });
    let not_offered = "The tool write_file is not offered here";
    denied(&alice.modern_call("write_file", write.clone()).await?, not_offered)?;
    let echoed = alice.call("echo", json!({ "text": "passed" })).await?;
    ensure!(echoed.to_string().contains("passed"), "{echoed}");

    let session = alice.initialize().await?;
    denied(&session.raw_call("write_file", write.clone()).await?, not_offered)?;
    let echoed = session.call("echo", json!({ "text": "passed" })).await?;
    ensure!(echoed.to_string().contains("passed"), "{echoed}");
    let read = alice.call("read_file", json!({ "path": "/tmp/x" })).await?;
    ensure!(!read.to_string().contains("hunter2"), "it was written: {read}");

    let (modern, legacy) = (alice.list("tools").await?, offered_in(&session, &alice).await?);
    ensure!(modern == legacy && modern.contains("read_file"), "{modern:?} {legacy:?}");
    ensure!(!modern.contains("write_file"), "{modern:?}");
    ensure!(!controller.logs().contains("hunter2"), "an argument is in the log");
    Ok(())
}

#[tokio::test]
async fn a_body_is_judged_and_a_header_is_not() -> anyhow::Result<()> {
    let controller = start("  tools: { allow: [echo] }\n").await?;
    let alice = client(&controller, "alice");
    let arguments = json!({ "path": "/etc/hostname" });
    let body = modern_message("tools/call", "read_file", &arguments);
    let headers = modern_headers("tools/call", "echo");
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answer = alice.post(&headers, &body).await?;
    ensure!(answer.status == StatusCode::BAD_REQUEST, "{} {}", answer.status, answer.text());
    ensure!(answer.json()?["error"]["code"] == -32020, "{}", answer.text());

    let session = alice.initialize().await?;
    let headers = [
        ("mcp-session-id", session.id.as_str()),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-method", "ping"),
    ];
    let answer = alice.post(&headers, &body).await?;
    ensure!(answer.status == StatusCode::BAD_REQUEST, "{} {}", answer.status, answer.text());
    denied(&session.raw_call("read_file", arguments).await?, "The tool read_file is not offered")
}

#[tokio::test]
async fn too_many_calls_at_one_time_are_told_to_come_back_and_can() -> anyhow::Result<()> {
    let controller = start("  limits: { concurrentCalls: 1 }\n").await?;
    let (alice, bob) = (client(&controller, "alice"), client(&controller, "bob"));
    let steps = json!({ "n": 1_000_000, "interval_ms": 10 });
    let mut message = modern_message("tools/call", "progress", &steps);
    message["params"]["_meta"]["progressToken"] = json!("p");
    let headers = modern_headers("tools/call", "progress");
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let mut running = alice.open(Method::POST, &headers, message.to_string()).await?;
    // it runs once it tells of its progress
    let first = timeout(Duration::from_secs(30), running.body_mut().frame()).await?;
    ensure!(first.is_some_and(|frame| frame.is_ok()), "{}", running.status());

    let answer = alice.modern_call("echo", json!({ "text": "x" })).await?;
    ensure!(answer.status == StatusCode::TOO_MANY_REQUESTS, "{} {}", answer.status, answer.text());
    ensure!(answer.headers.get("retry-after").is_some_and(|it| it == "1"), "{:?}", answer.headers);
    ensure!(answer.reason().as_deref() == Some("too_many_calls"), "{}", answer.text());
    // another user's calls are their own
    bob.call("echo", json!({ "text": "x" })).await?;
    drop(running);
    let freed = async || {
        let answer = alice.modern_call("echo", json!({ "text": "x" })).await?;
        Ok(answer.status == StatusCode::OK)
    };
    controller.eventually("a call that was given up is no call any more", freed).await
}

#[tokio::test]
async fn too_many_requests_in_a_second_are_told_to_come_back_and_can() -> anyhow::Result<()> {
    let controller = start("  limits: { requestsPerSecond: 1 }\n").await?;
    let alice = client(&controller, "alice");
    alice.call("echo", json!({ "text": "x" })).await?;
    let over = async {
        loop {
            let answer = alice.modern_call("echo", json!({ "text": "x" })).await?;
            if answer.status != StatusCode::OK {
                return anyhow::Ok(answer);
            }
        }
    };
    let answer = timeout(Duration::from_secs(30), over).await??;
    ensure!(answer.status == StatusCode::TOO_MANY_REQUESTS, "{} {}", answer.status, answer.text());
    ensure!(answer.reason().as_deref() == Some("too_many_requests"), "{}", answer.text());
    let after = answer.headers.get("retry-after").context("no Retry-After")?.to_str()?.parse()?;
    // what is awaited is the time that was named
    sleep(Duration::from_secs(after)).await;
    alice.call("echo", json!({ "text": "x" })).await?;
    Ok(())
}

#[tokio::test]
async fn requests_without_a_body_are_limited_too_and_take_no_calls_place() -> anyhow::Result<()> {
    let controller = start("  limits: { requestsPerSecond: 1 }\n").await?;
    let (alice, http) = (client(&controller, "alice"), Http::default());
    alice.call("echo", json!({ "text": "x" })).await?;
    let headers = alice.headers(&[("mcp-session-id", "none")]);
    let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    for method in [Method::DELETE, Method::GET] {
        let send = || http.send(method.clone(), controller.url(CLASS), &headers, "");
        let over = async {
            loop {
                let answer = send().await?;
                if answer.status == StatusCode::TOO_MANY_REQUESTS {
                    return anyhow::Ok(answer);
                }
            }
        };
        let answer = timeout(Duration::from_secs(30), over).await.context("it has no limit")??;
        ensure!(answer.reason().as_deref() == Some("too_many_requests"), "{}", answer.text());
        let after =
            answer.headers.get("retry-after").context("no Retry-After")?.to_str()?.parse()?;
        // what is awaited is the time that was named
        sleep(Duration::from_secs(after)).await;
        let answer = send().await?;
        ensure!(answer.status != StatusCode::TOO_MANY_REQUESTS, "{method} {}", answer.text());
    }

    let controller = start("  limits: { concurrentCalls: 1 }\n").await?;
    let alice = client(&controller, "alice");
    let session = alice.initialize().await?;
    let listening = session.send(Method::GET).await?;
    ensure!(listening.status() == StatusCode::OK, "{}", listening.status());
    session.call("echo", json!({ "text": "x" })).await?;
    drop(listening);
    Ok(())
}

/// Claims that allow all there is.
fn everything() -> Allowed {
    let permissions = [
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:GetBucketLocation",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListAllMyBuckets",
        "s3:ListBucket",
        "s3:PutObject",
        "s3:PutObjectAcl",
        "athena:GetQueryResults",
        "athena:StartQueryExecution",
        "glue:GetTable",
        "glue:GetTables",
    ];
    Allowed {
        level: Level::Admin,
        permissions: permissions.map(str::to_owned).into(),
        buckets: ["*".to_owned()].into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_real_quilt_mcp_the_profile_knows_every_tool_and_withholds_two_things()
-> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let mut documents = world.documents(1).await?;
    let controller = ControllerConfig::new(documents.clone()).start().await?;
    let bearer = format!("Bearer {}", world.token("alice")?);
    let object = json!({ "s3_uri": "s3://b-alice/notes/alice.txt" });
    let calls = [
        call("catalog_configure", json!({ "catalog_url": "https://evil.example" })),
        call("bucket_object_link", object.clone()),
        call("bucket_objects_list", json!({ "bucket": "b-alice" })),
        call("bucket_objects_list", listing("b-alice")),
        call("bucket_object_text", object),
    ];
    let url = controller.url(QUILT);
    for era in [Era::Modern, Era::Legacy] {
        let report = sdk_calls(url, ("Authorization", &bearer), era, &calls).await?;
        for hidden in ["catalog_configure", "bucket_object_link"] {
            ensure!(!report.tools.iter().any(|tool| tool == hidden), "{hidden} is listed");
        }
        let said = report.said();
        ensure!(said[0].contains("catalog_configure is not offered here"), "{said:?}");
        ensure!(said[1].contains("returns signed URLs, which are not offered here"), "{said:?}");
        ensure!(said[2].contains("say `include_signed_urls: false`"), "{said:?}");
        ensure!(said[3].contains("notes/alice.txt"), "{said:?}");
        ensure!(!said[3].to_lowercase().contains("x-amz-security-token"), "{said:?}");
        ensure!(said[4].contains("alice"), "{said:?}");
    }
    drop(controller);

    // a class that only looks, and shows what it denies
    let mut class: Value = serde_json::from_str(&documents[0])?;
    let looks = ["bucket_list", "bucket_object_text", "bucket_objects_list"];
    class["spec"]["tools"] = json!({ "allow": looks, "hideDenied": false });
    documents[0] = class.to_string();
    let controller = ControllerConfig::new(documents).start().await?;
    let url = controller.url(QUILT);
    let first = sdk_calls(url, ("Authorization", &bearer), Era::Modern, &[]).await?;
    let judge = Judge::new(Some(ToolPolicy::default()), Profile::Quilt).context("no judge")?;
    let everything = everything();
    let unknown: Vec<_> = first
        .tools
        .iter()
        .filter(|tool| {
            let offered = judge.offers(Holds::Only(&everything), tool);
            offered.is_err_and(|it| it.to_string().starts_with("Missing"))
        })
        .collect();
    ensure!(unknown.is_empty(), "the profile does not know {unknown:?}");
    ensure!(first.tools.len() >= 56, "{:?}", first.tools);
    let calls: Vec<Value> = first
        .tools
        .iter()
        .filter(|tool| !looks.contains(&tool.as_str()))
        .map(|tool| call(tool, json!({})))
        .collect();
    let report = sdk_calls(url, ("Authorization", &bearer), Era::Modern, &calls).await?;
    for (call, said) in calls.iter().zip(report.said()) {
        let tool = call["tool"].as_str().unwrap_or_default();
        let expected = format!("The tool {tool} is not offered here");
        ensure!(said.contains(&expected), "{tool}: {said}");
    }
    Ok(())
}
