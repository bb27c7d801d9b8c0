//! The official MCP clients against Patchbay: each with a key and with a token, at the real `quilt-mcp` and at the
//! fixture, and whether what a server streams comes to them as it is said.

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use patchbay_tests::{
    clients::{ALL, Asked, McpProgram, Seen, waiting_room},
    controller::{Controller, ControllerConfig, api_key, fixture_documents, stdio_documents},
    mcp::McpClient,
    quilt::{CLASS as QUILT, QuiltWorld, isolation::listing},
    sandbox::{self, Part},
};
use serde_json::{Value, json};

const FIXTURE: &str = "fixture";
/// The same, spoken to on its standard streams.
const SPOKEN: &str = "spoken";

/// alice's credentials at each of the servers: a token of the catalog's for both, its `qk_` key, and a `pb_` key as
/// a bearer.
struct Alice {
    bearer: String,
    catalog_key: String,
    patchbay_bearer: String,
}

async fn start() -> anyhow::Result<(QuiltWorld, Controller, Alice)> {
    let world = QuiltWorld::start().await?;
    let mut documents = world.documents(1).await?;
    let mut tokens: Value = serde_json::from_str(&documents[1])?;
    tokens["spec"]["classes"] = json!([QUILT, FIXTURE, SPOKEN]);
    documents[1] = tokens.to_string();
    documents.extend(fixture_documents(FIXTURE, 2, &["alice"], "")?);
    documents.extend(stdio_documents("fixture-server", SPOKEN, 2, &["alice"], "")?);
    let controller = ControllerConfig::new(documents).start().await?;
    let alice = Alice {
        bearer: format!("Bearer {}", world.token("alice")?),
        catalog_key: world.api_key("alice"),
        patchbay_bearer: format!("Bearer {}", api_key("alice")),
    };
    Ok((world, controller, alice))
}

/// At `quilt-mcp`, alice finds what is hers.
async fn at_quilt(
    program: McpProgram,
    url: &str,
    credential: (&str, &str),
) -> anyhow::Result<Seen> {
    let (tool, arguments) = ("bucket_objects_list", listing("b-alice"));
    let seen = program.run(&Asked::call(url, credential, tool, arguments)).await?;
    ensure!(seen.said().contains("notes/alice.txt"), "{}: {seen:?}", program.name());
    ensure!(seen.tools.len() > 50, "{}: {seen:?}", program.name());
    Ok(seen)
}

/// At the fixture, a word comes back, what never ends is heard of while it runs, and what belongs to no answer comes on
/// the session's own stream.
async fn at_fixture(
    program: McpProgram,
    url: &str,
    credential: (&str, &str),
) -> anyhow::Result<Seen> {
    let (tool, arguments) = ("echo", json!({ "text": "a word" }));
    let endless = ("progress", json!({ "n": 1_000_000, "interval_ms": 10 }));
    let endless = program.hears_progress().then_some(endless);
    let announce = program.hears_announcements().then_some("announce");
    let asked = Asked { endless, announce, ..Asked::call(url, credential, tool, arguments) };
    let seen = program.run(&asked).await?;
    ensure!(seen.said().contains("a word"), "{}: {seen:?}", program.name());
    ensure!(seen.tools.iter().any(|name| name == "echo"), "{}: {seen:?}", program.name());
    ensure!(seen.progressed == program.hears_progress(), "{}: {seen:?}", program.name());
    ensure!(seen.announced == program.hears_announcements(), "{}: {seen:?}", program.name());
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_official_client_works_with_a_key_and_with_a_token() -> anyhow::Result<()> {
    let (_world, controller, alice) = start().await?;
    let (quilt, fixture) = (controller.url(QUILT), controller.url(FIXTURE));
    let spoken = controller.url(SPOKEN);
    let token = ("Authorization", alice.bearer.as_str());
    let catalog_key = ("X-API-Key", alice.catalog_key.as_str());
    let patchbay_key = ("Authorization", alice.patchbay_bearer.as_str());
    println!(
        "client | protocol | quilt-mcp: qk_, JWT | fixture: pb_, JWT | on standard streams | progress | GET stream"
    );
    for program in ALL {
        let seen = [
            at_quilt(program, quilt, catalog_key).await?,
            at_quilt(program, quilt, token).await?,
            at_fixture(program, fixture, patchbay_key).await?,
            at_fixture(program, fixture, token).await?,
            at_fixture(program, spoken, patchbay_key).await?,
            at_fixture(program, spoken, token).await?,
        ];
        let protocol = program.protocol();
        for one in &seen {
            ensure!(one.protocol == protocol.unwrap_or_default(), "{}: {one:?}", program.name());
        }
        let cell = |has: bool, what: &'static str| if has { what } else { "-" };
        println!(
            "{} | {} | ok, ok | ok, ok | ok, ok | {} | {}",
            program.name(),
            protocol.unwrap_or("not told"),
            cell(program.hears_progress(), "as it is told"),
            cell(program.hears_announcements(), "heard"),
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_official_client_notices_that_its_worker_was_killed_between_two_calls()
-> anyhow::Result<()> {
    let mut documents = fixture_documents(FIXTURE, 2, &["alice"], "")?;
    documents.extend(stdio_documents("fixture-server", SPOKEN, 2, &["alice"], "")?);
    let controller = ControllerConfig::new(documents).start().await?;
    let key = format!("Bearer {}", api_key("alice"));
    let (between, mut who) = waiting_room().await?;
    // each client loses one part of its worker at one class, and the other at the other
    for (class, parts) in
        [(FIXTURE, [Part::Server, Part::Agent]), (SPOKEN, [Part::Agent, Part::Server])]
    {
        let programs = ALL.into_iter().filter(|program| program.stays());
        for (program, part) in programs.zip(parts.into_iter().cycle()) {
            let credential = ("Authorization", &*key);
            let call = Asked::call(controller.url(class), credential, "whoami", json!({}));
            let asked = Asked { between: Some(&between), ..call };
            let killing = async {
                let go = who.recv().await.context("the room is closed")?;
                sandbox::kill_of(&controller, class, "alice", part).await?;
                // it may have gone away
                let _ = go.send(());
                anyhow::Ok(())
            };
            let seen = tokio::try_join!(program.run(&asked), killing).map(|(seen, ())| seen);
            let seen = seen.with_context(|| format!("{class}\n{}", controller.logs()))?;
            let [first, second] = seen.programs()?[..] else { bail!("{class}: {seen:?}") };
            // each from a worker of its own
            ensure!(first != second, "{class} {}: {seen:?}", program.name());
            println!("{class}: {}: goes on without the {part:?}", program.name());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_official_client_is_told_of_a_call_whose_worker_was_killed() -> anyhow::Result<()> {
    let users: Vec<String> = (0..ALL.len()).map(|number| format!("user{number}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let documents = fixture_documents(FIXTURE, 2, &users, "")?;
    let controller = ControllerConfig::new(documents).start().await?;
    let url = controller.url(FIXTURE);
    let each = ALL.into_iter().zip(&users).map(async |(program, user)| {
        let key = api_key(user);
        let bearer = format!("Bearer {key}");
        let (credential, arguments) = (("Authorization", &*bearer), json!({ "ms": 600_000 }));
        let asked = Asked::call(url, credential, "sleep", arguments);
        let watcher = McpClient::bearer(url, &key);
        let killing = async {
            controller
                .eventually("the call runs", async || {
                    Ok(watcher.call("counters", json!({})).await?["started"] == 1)
                })
                .await?;
            sandbox::kill_of(&controller, FIXTURE, user, Part::Agent).await
        };
        let (seen, killed) = tokio::join!(program.run(&asked), killing);
        killed.with_context(|| format!("{}: {seen:?}", program.name()))?;
        // some fail at it, and some take it for what the tool says
        let said = match &seen {
            Ok(seen) => seen.said().to_owned(),
            Err(error) => format!("{error:#}"),
        };
        ensure!(said.contains("the worker broke off"), "{}: {said}", program.name());
        anyhow::Ok(())
    });
    // in groups: all of them start at once
    let mut each = each.peekable();
    while each.peek().is_some() {
        try_join_all(each.by_ref().take(3)).await?;
    }
    Ok(())
}
