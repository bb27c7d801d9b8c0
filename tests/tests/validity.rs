//! What stays valid how long: a revoked key until its catalog is asked again, a token until it ends; and what a catalog that
//! cannot be asked changes (docs/security.md).

use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use patchbay_tests::{
    catalog::{
        Catalog, Config,
        fault::{Fault, RETRY_AFTER},
        fixture::fixture_of_catalog,
        world::World,
    },
    http::Answer,
    mcp::{McpClient, Session, tool_result},
    quilt::{self, QuiltWorld},
};
use secrecy::ExposeSecret;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const CLASS: &str = "fixture";
/// How long the gateway takes a catalog's word (docs/security.md).
const WORD: Duration = Duration::from_mins(1);
/// How long it takes the last word of a catalog that cannot be asked before it asks again.
const LAST_WORD: Duration = Duration::from_secs(30);
/// The clocks of issuers may differ so much.
const LEEWAY: Duration = Duration::from_secs(30);
/// Beside what is promised: a loaded machine.
const SLACK: Duration = Duration::from_secs(10);

async fn told(client: &McpClient) -> anyhow::Result<String> {
    let answer = client.modern_call("recall", json!({ "key": "x" })).await?;
    Ok(answer.reason().unwrap_or_else(|| answer.status.as_u16().to_string()))
}

/// Calls until something else than success is told, and returns that.
async fn until_refused(client: &McpClient, within: Duration) -> anyhow::Result<String> {
    let calls = async {
        loop {
            let told = told(client).await?;
            if told != "200" {
                return anyhow::Ok(told);
            }
            // a user's pace, not a wait for something
            sleep(Duration::from_millis(250)).await;
        }
    };
    timeout(within, calls).await?
}

#[tokio::test]
async fn a_revoked_key_ends_with_its_catalogs_next_word_and_a_catalogs_unrest_ends_nobody()
-> anyhow::Result<()> {
    let catalog = Catalog::start(Config::default(), World::without_aws(&["alice", "bob"])).await?;
    let controller = fixture_of_catalog(CLASS, &catalog, 2).await?;
    let url = controller.url(CLASS);
    let [alices, bobs] = ["alice", "bob"].map(|user| catalog.credentials().api_key(user));
    let [alice, bob] = [&alices, &bobs]
        .map(|key| McpClient::with_headers(url, &[("x-api-key", key.expose_secret())]));
    ensure!(told(&bob).await? == "200" && told(&alice).await? == "200");

    catalog.credentials().revoke(&alices);
    let refused = until_refused(&alice, WORD + SLACK).await?;
    ensure!(refused == "revoked_api_key", "{refused}");

    // bob was last asked about before alice: the word about him is older than a minute by now
    let too_slow = Fault::Slow(Duration::from_secs(30));
    for fault in [Fault::Down, Fault::InternalError, Fault::TooManyRequests, too_slow] {
        catalog.faults().set(fault);
        ensure!(told(&bob).await? == "200", "{fault:?}");
        let unknown = catalog.credentials().api_key("alice");
        let unknown = McpClient::with_headers(url, &[("x-api-key", unknown.expose_secret())]);
        ensure!(told(&unknown).await? == "provider_unavailable", "{fault:?}");
    }
    let is_said = async || Ok(controller.logs().contains("a catalog cannot be asked"));
    controller.eventually("it is said", is_said).await?;

    // and as soon as the catalog has a word, it is taken
    catalog.credentials().revoke(&bobs);
    catalog.faults().clear();
    let refused = until_refused(&bob, LAST_WORD + SLACK).await?;
    ensure!(refused == "revoked_api_key", "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_token_ends_when_it_says() -> anyhow::Result<()> {
    const LIFETIME: SignedDuration = SignedDuration::from_secs(5);
    let catalog = Catalog::start(Config::default(), World::without_aws(&["alice"])).await?;
    let controller = fixture_of_catalog(CLASS, &catalog, 2).await?;
    let begun = Instant::now();
    let claims = catalog.credentials().claims("alice", Timestamp::now(), LIFETIME);
    let token = catalog.credentials().key().sign(&claims)?;
    let alice = McpClient::bearer(controller.url(CLASS), &token);
    ensure!(told(&alice).await? == "200");
    let end = LIFETIME.unsigned_abs() + LEEWAY;
    let refused = until_refused(&alice, end + SLACK).await?;
    ensure!(refused == "expired_credential", "{refused}");
    // a token's end is in whole seconds
    ensure!(begun.elapsed() + Duration::from_secs(1) >= end, "{:?}", begun.elapsed());
    Ok(())
}

/// What a gateway says of a credential that it asks its catalog about, by what that answers.
fn told_of(fault: Fault) -> (u16, &'static str, Option<u32>) {
    match fault {
        Fault::Unauthorized => (401, "invalid_api_key", None),
        // who logs in again is let in no more
        Fault::Forbidden => (403, "credential_not_allowed", None),
        Fault::TooManyRequests => (503, "provider_unavailable", Some(RETRY_AFTER)),
        Fault::InternalError | Fault::Down | Fault::Slow(_) => {
            (503, "provider_unavailable", Some(5))
        }
    }
}

/// What only the server knows that was there before the catalog was unwell.
const BEFORE: &str = "made-before-the-unrest";

/// A session of one user with the real `quilt-mcp`, and what its server alone remembers.
struct InSession<'a> {
    session: Session<'a>,
    /// The other credentials of the same user come with the same session.
    url: &'a str,
}

impl InSession<'_> {
    async fn search(&self) -> anyhow::Result<Answer> {
        let search = json!({ "query": "note", "scope": "global" });
        self.session.raw_call("search_catalog", search).await
    }

    /// The session is the same, and so is the server behind it.
    async fn goes_on(&self) -> anyhow::Result<()> {
        let found = tool_result(&self.search().await?)?;
        ensure!(found.to_string().contains("b-alice"), "{found}");
        // one that its server does not know gets no step
        let step = json!({ "workflow_id": BEFORE, "step_id": "next", "description": "one more" });
        let kept = self.session.call("workflow_add_step", step).await?;
        ensure!(kept["success"] == true, "{kept}");
        Ok(())
    }

    /// A call in this session that proves itself by a key that the gateway has to ask about.
    async fn by_key(&self, key: &str) -> anyhow::Result<Answer> {
        let client = McpClient::with_headers(self.url, &[("x-api-key", key)]);
        let session = client.resume(&self.session.id);
        session.raw_call("catalog_uri", json!({ "registry": "s3://b-alice" })).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_of_a_catalog_is_told_as_what_it_is_and_none_ends_a_session()
-> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let url = controller.url(quilt::CLASS);
    let alice = McpClient::bearer(url, &world.token("alice")?);
    let session = InSession { session: alice.initialize().await?, url };
    let made = json!({ "workflow_id": BEFORE, "name": "w" });
    session.session.call("workflow_create", made).await?;
    session.goes_on().await?;

    // for the gateway that is never, and for a server just late
    let hangs = Fault::Slow(Duration::from_secs(8));
    for fault in [
        Fault::Unauthorized,
        Fault::Forbidden,
        Fault::TooManyRequests,
        Fault::InternalError,
        Fault::Down,
        hangs,
    ] {
        world.catalog.faults().set(fault);
        let key = world.api_key("alice");
        // her server asks through the relay meanwhile, and says what came of it, in the session
        let (answer, searched) = tokio::try_join!(session.by_key(&key), session.search())?;
        let (status, reason, retry_after) = told_of(fault);
        let told = (answer.status.as_u16(), answer.reason().unwrap_or_default());
        ensure!(told == (status, reason.to_owned()), "{fault:?}: {told:?}");
        let after = answer.headers.get("retry-after").map(|it| it.to_str()).transpose()?;
        ensure!(after == retry_after.map(|it| it.to_string()).as_deref(), "{fault:?}: {after:?}");
        ensure!(searched.status == 200, "{fault:?}: {} {}", searched.status, searched.text());
        let is_late_alone = fault == hangs;
        let has_found = searched.text().contains("notes/alice.txt");
        ensure!(has_found == is_late_alone, "{fault:?}: {}", searched.text());

        world.catalog.faults().clear();
        session.goes_on().await?;
        // a clear no is remembered for seconds
        controller
            .eventually("the key is taken, in the same session", async || {
                Ok(session.by_key(&key).await?.status == 200)
            })
            .await?;
    }
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 1 && tenants[0]["epoch"] == 1, "{tenants:?}");
    Ok(())
}
