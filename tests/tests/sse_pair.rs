//! A server that speaks the transport of 2024 alone, by the official SDK for Python, and the official clients that still
//! speak it: a stream at one address, messages at another, which the server names.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use patchbay_core::digest::Digest;
use patchbay_tests::{
    catalog::keys::SigningKey,
    clients::{ALL_SSE, Asked, McpProgram},
    controller::{Controller, ControllerConfig, api_key},
    http::Http,
    issuer::{AUDIENCE, Issuer, claims},
    moto::python_environment,
    repository::repository,
    sandbox::{self, Part},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const CLASS: &str = "of-2024";
const DENIED: &str = "The tool drop is not offered here";
/// What an open stream is given to say something, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    controller: Controller,
    key: SigningKey,
    issuer: Issuer,
    url: String,
}

impl World {
    async fn start(further: Value) -> anyhow::Result<Self> {
        let environment = python_environment("quilt").await?;
        let script = repository().join("tests/python/sse_server.py");
        let key = SigningKey::generate()?;
        let issuer = Issuer::start(&key).await?;
        let jwks = json!({ "discovery": true, "caBundle": issuer.ca_pem() });
        let mut class = json!({
            "path": format!("/{CLASS}"),
            "image": "registry.example/of-2024:1",
            "command": [environment.join("bin/python"), script],
            "server": { "port": 8000, "path": "/" },
            "warm": 2,
            "tools": { "deny": ["drop"] },
            "local": { "readOnlyPaths": [environment, script] },
        });
        for (name, value) in further.as_object().context("fields")? {
            class[name] = value.clone();
        }
        let keys = ["alice", "bob"].map(|user| {
            let digest = format!("sha256:{}", Digest::of(api_key(user).as_bytes()));
            json!({ "id": user, "subject": user, "digest": digest })
        });
        let documents = [
            ("WorkerClass", CLASS.to_owned(), class),
            (
                "IdentityProvider",
                format!("{CLASS}-keys"),
                json!({ "classes": [CLASS], "apiKeys": { "keys": keys } }),
            ),
            (
                "IdentityProvider",
                "tokens".to_owned(),
                json!({
                    "classes": [CLASS],
                    "jwt": { "issuer": issuer.url(), "audiences": [AUDIENCE], "jwks": jwks },
                }),
            ),
        ]
        .map(|(kind, name, spec)| {
            json!({
                "apiVersion": "patchbay.dev/v1alpha1", "kind": kind,
                "metadata": { "name": name }, "spec": spec,
            })
            .to_string()
        });
        let controller = ControllerConfig::new(documents.into()).start().await?;
        let url = format!("{}/sse", controller.url(CLASS));
        Ok(Self { controller, key, issuer, url })
    }

    /// What a client's call of a tool comes to, and which tools it is shown.
    async fn call(
        &self,
        program: McpProgram,
        credential: (&str, &str),
        tool: &str,
        arguments: Value,
    ) -> anyhow::Result<(String, Vec<String>)> {
        // one word: more of them, while the Python SDK closes its stream, are an error of its own
        let endless = Some(("progress", json!({ "n": 1, "interval_ms": 3_600_000 })));
        let asked = Asked { endless, ..Asked::call(&self.url, credential, tool, arguments) };
        let seen = program.run(&asked).await;
        let seen = seen.with_context(|| format!("{tool}\n{}", self.controller.logs()))?;
        ensure!(seen.protocol == program.protocol().unwrap_or_default(), "{seen:?}");
        ensure!(seen.progressed, "{}: {seen:?}", program.name());
        Ok((seen.said().to_owned(), seen.tools))
    }

    /// A stream, and where it says that messages are sent.
    async fn open(&self, key: &str) -> anyhow::Result<(Response<Incoming>, String)> {
        let headers = [("x-api-key", key), ("accept", "text/event-stream")];
        let http = Http::default();
        let opened = http.open(Method::GET, &self.url, &headers, Bytes::new());
        let mut stream = timeout(PATIENCE, opened).await.context("no headers came")??;
        ensure!(stream.status() == StatusCode::OK, "{}", stream.status());
        let event = next(&mut stream).await?.context("it has ended")?;
        let named = event.strip_prefix("event: endpoint\ndata: ").with_context(|| event.clone())?;
        let named = named.trim_end();
        ensure!(named.starts_with("messages/?session_id="), "{named}");
        let folder = self.url.strip_suffix("sse").context("the stream's own name")?;
        Ok((stream, format!("{folder}{named}")))
    }
}

/// The next of a stream that is read as it comes; none at its end.
async fn next(stream: &mut Response<Incoming>) -> anyhow::Result<Option<String>> {
    let Some(frame) = timeout(PATIENCE, stream.frame()).await.context("nothing came")? else {
        return Ok(None);
    };
    match frame?.into_data() {
        Ok(data) => Ok(Some(String::from_utf8(data.to_vec())?)),
        Err(_) => bail!("trailers"),
    }
}

fn call_of(tool: &str) -> String {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": tool, "arguments": { "text": "hunter2" } },
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_official_client_works_with_a_key_and_with_a_token_and_is_denied_what_is()
-> anyhow::Result<()> {
    let world = World::start(json!({})).await?;
    let token = format!("Bearer {}", world.key.sign(&claims(world.issuer.url(), "alice"))?);
    let key = api_key("alice");
    for program in ALL_SSE {
        for credential in [("Authorization", &*token), ("X-API-Key", &*key)] {
            let arguments = json!({ "text": "a word" });
            let (said, tools) = world.call(program, credential, "echo", arguments.clone()).await?;
            ensure!(said == "a word", "{}: {said}", program.name());
            ensure!(tools == ["echo", "slow", "progress"], "{}: {tools:?}", program.name());
            let denied = match world.call(program, credential, "drop", arguments).await {
                Ok((said, _)) => said,
                Err(error) => format!("{error:#}"),
            };
            ensure!(denied.contains(DENIED), "{}: {denied}", program.name());
            ensure!(!denied.contains("dropped"), "{}: {denied}", program.name());
        }
        println!("{}: works, and hears what it is denied", program.name());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_users_stream_is_nothing_to_another_and_ends_with_its_worker() -> anyhow::Result<()> {
    let world = World::start(json!({})).await?;
    let [alice, bob] = ["alice", "bob"].map(api_key);
    let (mut of_alice, at) = world.open(&alice).await?;
    let (mut of_bob, _) = world.open(&bob).await?;
    let worker_of = async |user| world.controller.worker_of(CLASS, user).await;
    ensure!(worker_of("alice").await? != worker_of("bob").await?);
    let http = Http::default();
    let says = async |key: &str, message: String| {
        let headers = [("x-api-key", key), ("content-type", "application/json")];
        http.send(Method::POST, &at, &headers, message).await
    };
    // bob's worker knows no such session
    let answer = says(&bob, call_of("echo")).await?;
    ensure!(answer.status == StatusCode::NOT_FOUND, "{} {}", answer.status, answer.text());
    let nobody = http.send(Method::POST, &at, &[], call_of("echo")).await?;
    ensure!(nobody.status == StatusCode::UNAUTHORIZED, "{}", nobody.status);
    // what is denied is denied by any of these names, and told where its client listens
    let answer = says(&alice, call_of("drop")).await?;
    ensure!(answer.status == StatusCode::ACCEPTED, "{} {}", answer.status, answer.text());
    let told = next(&mut of_alice).await?.context("it has ended")?;
    ensure!(told.contains(DENIED), "{told}");
    let answer = says(&bob, call_of("drop")).await?;
    ensure!(answer.text().contains(DENIED), "{} {}", answer.status, answer.text());

    sandbox::kill_of(&world.controller, CLASS, "alice", Part::Server).await?;
    let rest = async { while let Ok(Some(_)) = next(&mut of_alice).await {} };
    timeout(PATIENCE, rest).await.context("the stream goes on without its worker")?;
    // a session of this transport is its stream: nothing is taken up, and its client opens another
    let answer = says(&alice, call_of("echo")).await?;
    ensure!(answer.status == StatusCode::NOT_FOUND, "{} {}", answer.status, answer.text());
    let (_stream, another) = world.open(&alice).await?;
    ensure!(another != at);
    let is_open = timeout(Duration::ZERO, of_bob.frame()).await;
    ensure!(!matches!(is_open, Ok(None | Some(Err(_)))), "bob's has ended too");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stays_for_a_call_that_was_accepted_at_once_and_not_for_an_open_stream()
-> anyhow::Result<()> {
    // long enough for a client between two of its messages on a loaded machine
    let world = World::start(json!({ "idleTimeout": "4s" })).await?;
    let [alice, bob] = ["alice", "bob"].map(api_key);
    let outlasts = async |program: McpProgram, key: &str| {
        let asked = json!({ "seconds": 8 });
        let (said, _) = world.call(program, ("X-API-Key", key), "slow", asked).await?;
        ensure!(said == "in the end", "{}: {said}", program.name());
        Ok(())
    };
    // each in a worker of its own, where nothing else runs
    tokio::try_join!(outlasts(McpProgram::PythonSse, &alice), outlasts(McpProgram::SdkSse, &bob))?;
    let (mut stream, _) = world.open(&alice).await?;
    let rest = async { while let Ok(Some(_)) = next(&mut stream).await {} };
    timeout(PATIENCE, rest).await.context("the worker stays for whoever listens")?;
    Ok(())
}
