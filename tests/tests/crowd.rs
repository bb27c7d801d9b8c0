//! Many users at once, of two classes of one controller: none of them shares a worker with another.

use anyhow::ensure;
use futures_util::future::try_join_all;
use patchbay_tests::{
    controller::{ControllerConfig, api_key, fixture_documents},
    mcp::McpClient,
    quilt::{self, AUDIENCE, QuiltWorld},
};
use serde_json::json;
use std::collections::BTreeSet;

const FIXTURE: &str = "fixture";
const QUILT_USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const FIXTURE_USERS: usize = 16;

/// What a user of a fixture server leaves there is found by that user alone.
async fn finds_only_its_own(client: McpClient, user: &str) -> anyhow::Result<()> {
    client.call("remember", json!({ "key": "me", "value": user })).await?;
    let me = client.call("recall", json!({ "key": "me" })).await?;
    ensure!(me.to_string().contains(&format!("\"{user}\"")), "{user}: {me}");
    Ok(())
}

/// A user of quilt-mcp reads its own note, and nobody else's.
async fn reads_only_its_own(client: McpClient, user: &str) -> anyhow::Result<()> {
    for owner in QUILT_USERS {
        let uri = format!("s3://b-{owner}/notes/{owner}.txt");
        let read = client.modern_call("bucket_object_text", json!({ "s3_uri": uri })).await?;
        let note = format!("only {owner} may read");
        ensure!(read.text().contains(&note) == (owner == user), "{user}: {}", read.text());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_users_at_once_four_of_them_with_quilt_mcp_never_share_a_worker()
-> anyhow::Result<()> {
    let world = QuiltWorld::start_for(AUDIENCE, &QUILT_USERS).await?;
    let names: Vec<String> = (0..FIXTURE_USERS).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // fewer warm workers than users: some are held until theirs has started
    let mut documents = fixture_documents(FIXTURE, 4, &names, "")?;
    documents.extend(world.documents(2).await?);
    let controller = ControllerConfig::new(documents).start().await?;

    let of_fixture = names.iter().map(|user| {
        finds_only_its_own(McpClient::bearer(controller.url(FIXTURE), &api_key(user)), user)
    });
    let of_quilt = QUILT_USERS.map(|user| {
        let (url, token) = (controller.url(quilt::CLASS), world.token(user));
        async move { reads_only_its_own(McpClient::bearer(url, &token?), user).await }
    });
    tokio::try_join!(try_join_all(of_fixture), try_join_all(of_quilt))?;

    let tenants = controller.tenants().await?;
    let workers: BTreeSet<_> = tenants.iter().map(|one| one["worker"].to_string()).collect();
    let users = FIXTURE_USERS + QUILT_USERS.len();
    ensure!(tenants.len() == users && workers.len() == users, "{tenants:?}");
    ensure!(tenants.iter().all(|one| one["epoch"] == 1), "{tenants:?}");
    Ok(())
}
