//! How long a stream of events outlives the credential by which it was opened: not at all, unless its user has shown a newer
//! one (docs/security.md).

use anyhow::{Context, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use patchbay_tests::{
    catalog::{Catalog, Config, fixture::fixture_of_catalog, world::World},
    mcp::McpClient,
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use std::time::Duration;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

const CLASS: &str = "fixture";
/// How long the gateway takes a catalog's word (docs/security.md).
const WORD: Duration = Duration::from_mins(1);
/// The clocks of issuers may differ so much.
const LEEWAY: Duration = Duration::from_secs(30);
/// How often credentials are judged anew, and a loaded machine.
const SLACK: Duration = Duration::from_secs(15);

fn token(catalog: &Catalog, user: &str, lifetime: SignedDuration) -> anyhow::Result<String> {
    let claims = catalog.credentials().claims(user, Timestamp::now(), lifetime);
    catalog.credentials().key().sign(&claims)
}

/// A user's streams: one that only listens, and one on which a call is answered that lasts.
struct Streams {
    listening: JoinHandle<anyhow::Result<usize>>,
    call: JoinHandle<anyhow::Result<String>>,
}

impl Streams {
    async fn open(client: &McpClient) -> anyhow::Result<Self> {
        let session = client.initialize().await?;
        let headers = [("mcp-session-id", &*session.id), ("mcp-protocol-version", "2025-11-25")];
        let stream = session.send(Method::GET).await?;
        ensure!(stream.status() == 200, "{}", stream.status());
        // what breaks off is an error here
        let listening = tokio::spawn(async move {
            let heard = stream.into_body().collect().await?.to_bytes();
            Ok(heard.len())
        });
        let (message, sent) = (
            json!({
                "jsonrpc": "2.0", "id": 7, "method": "tools/call",
                "params": { "name": "await_value", "arguments": { "key": "never" } },
            }),
            headers.map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let caller = client.clone();
        let call = tokio::spawn(async move {
            let headers: Vec<_> = sent.iter().map(|(name, value)| (&**name, &**value)).collect();
            Ok(caller.post(&headers, &message).await?.text())
        });
        Ok(Self { listening, call })
    }

    fn are_open(&self) -> bool {
        !self.listening.is_finished() && !self.call.is_finished()
    }

    /// Waits until both have ended as answers end that are whole, without the call's result.
    async fn end(self, within: Duration) -> anyhow::Result<()> {
        let Self { listening, call } = self;
        timeout(within, listening).await.context("the stream is open")???;
        let answered = timeout(SLACK, call).await.context("the call's stream is open")???;
        ensure!(!answered.contains("\"result\""), "{answered}");
        Ok(())
    }
}

async fn told(client: &McpClient) -> anyhow::Result<String> {
    let answer = client.modern_call("recall", json!({ "key": "x" })).await?;
    Ok(answer.reason().unwrap_or_else(|| answer.status.as_u16().to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_their_users_token_and_go_on_for_who_came_with_a_newer_one()
-> anyhow::Result<()> {
    const LIFETIME: SignedDuration = SignedDuration::from_secs(5);
    let catalog = Catalog::start(Config::default(), World::without_aws(&["alice", "bob"])).await?;
    let controller = fixture_of_catalog(CLASS, &catalog, 2).await?;
    let url = controller.url(CLASS);
    let begun = Instant::now();
    // his is older, so that it is judged before hers
    let bob = McpClient::bearer(url, &token(&catalog, "bob", LIFETIME)?);
    let his = Streams::open(&bob).await?;
    let newer = token(&catalog, "bob", SignedDuration::from_hours(1))?;
    ensure!(told(&McpClient::bearer(url, &newer)).await? == "200");

    let alice = McpClient::bearer(url, &token(&catalog, "alice", LIFETIME)?);
    let hers = Streams::open(&alice).await?;
    let end = LIFETIME.unsigned_abs() + LEEWAY;
    hers.end(end + SLACK).await?;
    // a token's end is in whole seconds
    ensure!(begun.elapsed() + Duration::from_secs(1) >= end, "{:?}", begun.elapsed());
    let refused = told(&alice).await?;
    ensure!(refused == "expired_credential", "{refused}");

    let refused = told(&bob).await?;
    ensure!(refused == "expired_credential", "{refused}");
    ensure!(his.are_open(), "his streams ended with his older token");
    let lines = controller.logs();
    let told: Vec<_> = lines.lines().filter(|line| line.contains("streams end with")).collect();
    ensure!(told.len() == 1 && told[0].contains("\"streams\":2"), "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_soon_after_the_catalogs_next_word_on_a_key_that_is_revoked()
-> anyhow::Result<()> {
    let catalog = Catalog::start(Config::default(), World::without_aws(&["alice", "bob"])).await?;
    let controller = fixture_of_catalog(CLASS, &catalog, 2).await?;
    let url = controller.url(CLASS);
    let [alices, bobs] = ["alice", "bob"].map(|user| catalog.credentials().api_key(user));
    let [alice, bob] = [&alices, &bobs]
        .map(|key| McpClient::with_headers(url, &[("x-api-key", key.expose_secret())]));
    let his = Streams::open(&bob).await?;
    let hers = Streams::open(&alice).await?;
    catalog.credentials().revoke(&alices);
    hers.end(WORD + SLACK).await?;
    let refused = told(&alice).await?;
    ensure!(refused == "revoked_api_key", "{refused}");
    ensure!(his.are_open() && told(&bob).await? == "200", "another user's streams ended");
    Ok(())
}
