//! How an operator of one machine ends a user's worker, by the documents that `patchbay local` was given: suspended, deleted
//! and made anew without a restart (DESIGN.md, invariant 8).

use anyhow::{Context, ensure};
use patchbay_tests::{
    controller::{Controller, ControllerConfig, api_key, fixture_documents, tenant_name},
    mcp::McpClient,
};
use serde_json::{Value, json};
use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;

const CLASS: &str = "fixture";
/// What a suspended or deleted tenant's worker may take to end, by the design.
const PROMISE: Duration = Duration::from_secs(5);

/// A controller whose users' Tenants are in a folder, a file for each.
struct World {
    controller: Controller,
    tenants: TempDir,
}

impl World {
    /// Waits until a user's requests are answered again.
    async fn is_served(&self, client: &McpClient) -> anyhow::Result<()> {
        self.controller
            .eventually("she is served again", async || {
                Ok(client.modern_call("echo", json!({ "text": "x" })).await?.status.is_success())
            })
            .await
    }

    async fn start(provisioning: &str, users: &[&str]) -> anyhow::Result<Self> {
        let mut documents = fixture_documents(CLASS, 2, users, "")?;
        let keys = documents.last_mut().context("no provider")?;
        writeln!(keys, "  provisioning: {provisioning}")?;
        let tenants = tempfile::tempdir()?;
        for user in users {
            fs::write(path(&tenants, user), document(user, "false")?)?;
        }
        let folder = tenants.path().display().to_string();
        let controller =
            ControllerConfig::new(documents).args(&["--file", &folder]).start().await?;
        Ok(Self { controller, tenants })
    }

    /// The operator says of a user whether they are suspended.
    fn say(&self, user: &str, suspended: &str) -> anyhow::Result<()> {
        Ok(fs::write(path(&self.tenants, user), document(user, suspended)?)?)
    }

    fn delete(&self, user: &str) -> anyhow::Result<()> {
        Ok(fs::remove_file(path(&self.tenants, user))?)
    }

    fn client(&self, user: &str) -> McpClient {
        McpClient::bearer(self.controller.url(CLASS), &api_key(user))
    }

    async fn worker_of(&self, user: &str) -> anyhow::Result<String> {
        self.controller.worker_of(CLASS, user).await
    }

    async fn tenant(&self, user: &str) -> anyhow::Result<Option<Value>> {
        let name = tenant_name(CLASS, user)?;
        let tenants = self.controller.tenants().await?;
        Ok(tenants.into_iter().find(|tenant| tenant["tenant"] == name.as_str()))
    }

    /// Waits until a worker's directory is gone, which both of its sandboxes outlive never, within what was promised.
    async fn is_over(&self, worker: &str, begun: Instant) -> anyhow::Result<()> {
        let directory = fs::read_dir(self.controller.run_dir())?
            .filter_map(|instance| Some(instance.ok()?.path().join(worker)))
            .find(|path| path.exists())
            .context("no directory of the worker")?;
        self.controller.eventually("the worker ends", async || Ok(!directory.exists())).await?;
        let took = begun.elapsed();
        println!("its worker has ended after {took:?}");
        ensure!(took <= PROMISE, "{took:?}");
        Ok(())
    }

    /// What a user's calls are refused with, once they are.
    async fn refusal(&self, user: &str) -> anyhow::Result<String> {
        let answer = self.client(user).modern_call("echo", json!({ "text": "x" })).await?;
        answer.reason().with_context(|| format!("{user} is served: {}", answer.text()))
    }
}

fn path(tenants: &TempDir, user: &str) -> PathBuf {
    tenants.path().join(format!("{user}.yaml"))
}

fn document(user: &str, suspended: &str) -> anyhow::Result<String> {
    Ok(format!(
        "apiVersion: patchbay.dev/v1alpha1\nkind: Tenant\nmetadata: {{ name: {} }}\nspec:\n  identity: {{ \
         issuer: 'urn:patchbay:api-keys:{CLASS}-keys', subject: {user} }}\n  className: {CLASS}\n  \
         suspended: {suspended}\n",
        tenant_name(CLASS, user)?
    ))
}

async fn remember(client: &McpClient, value: &str) -> anyhow::Result<()> {
    client.call("remember", json!({ "key": "note", "value": value })).await?;
    Ok(())
}

/// What a user's worker remembers; null where it is another than before.
async fn note(client: &McpClient) -> anyhow::Result<Value> {
    Ok(client.call("recall", json!({ "key": "note" })).await?["memory"].clone())
}

#[tokio::test]
async fn who_is_suspended_is_out_within_five_seconds_and_comes_back_to_another_worker()
-> anyhow::Result<()> {
    let world = World::start("Preprovisioned", &["alice", "bob"]).await?;
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    remember(&alice, "hers").await?;
    remember(&bob, "his").await?;
    let (hers, his) = (world.worker_of("alice").await?, world.worker_of("bob").await?);
    // a call that would last holds nothing up
    let lasting = alice.clone();
    let lasting =
        tokio::spawn(async move { lasting.call("await_value", json!({ "key": "go" })).await });
    world
        .controller
        .eventually("the call runs", async || {
            Ok(alice.call("counters", json!({})).await?["awaiting"] == 1)
        })
        .await?;

    world.say("alice", "true")?;
    world.is_over(&hers, Instant::now()).await?;
    ensure!(lasting.await?.is_err(), "her call was answered");
    let told = world.refusal("alice").await?;
    ensure!(told == "tenant_suspended", "{told}");
    let shown = world.tenant("alice").await?.context("no tenant")?;
    ensure!(shown["phase"] == "Suspended" && shown["worker"].is_null(), "{shown}");
    ensure!(note(&bob).await? == "his" && world.worker_of("bob").await? == his, "bob was moved");

    world.say("alice", "false")?;
    world.is_served(&alice).await?;
    ensure!(note(&alice).await?.is_null(), "her worker is the one of before");
    let again = world.tenant("alice").await?.context("no tenant")?;
    ensure!(again["epoch"] == 2 && again["worker"] != hers.as_str(), "{again}");
    Ok(())
}

#[tokio::test]
async fn who_is_deleted_is_somebody_new_by_the_providers_rule() -> anyhow::Result<()> {
    for (provisioning, refused) in
        [("Preprovisioned", Some("not_provisioned")), ("OnFirstContact", None)]
    {
        let world = World::start(provisioning, &["alice", "bob"]).await?;
        let alice = world.client("alice");
        // a second worker, so that the epoch would tell whether she is who she was
        remember(&alice, "old").await?;
        let first = world.worker_of("alice").await?;
        world.say("alice", "true")?;
        world.is_over(&first, Instant::now()).await?;
        world.say("alice", "false")?;
        world.is_served(&alice).await?;
        remember(&alice, "old").await?;

        let old = world.worker_of("alice").await?;
        world.delete("alice")?;
        world.is_over(&old, Instant::now()).await?;
        if let Some(expected) = refused {
            let told = world.refusal("alice").await?;
            ensure!(told == expected, "{told}");
            ensure!(world.tenant("alice").await?.is_none(), "something is left of her");
            world.say("alice", "false")?;
            world
                .controller
                .eventually("she is there", async || Ok(world.tenant("alice").await?.is_some()))
                .await?;
        }
        ensure!(note(&alice).await?.is_null(), "somebody's note");
        let new = world.tenant("alice").await?.context("no tenant")?;
        ensure!(new["epoch"] == 1 && new["worker"] != old.as_str(), "{provisioning}: {new}");
    }
    Ok(())
}

#[tokio::test]
async fn a_document_that_cannot_be_used_is_told_of_and_the_last_good_word_stays()
-> anyhow::Result<()> {
    let world = World::start("Preprovisioned", &["alice", "bob"]).await?;
    let alice = world.client("alice");
    remember(&alice, "hers").await?;
    world.say("alice", "perhaps")?;
    // field and fix, in the words of a start
    let told = |line: &str| line.contains("alice.yaml") && line.contains("spec.suspended");
    world
        .controller
        .eventually("it is told of", async || Ok(world.controller.logs().lines().any(told)))
        .await?;
    ensure!(note(&alice).await? == "hers", "another worker");
    // and as soon as it can be used again, it counts
    world.say("alice", "true")?;
    let hers = world.worker_of("alice").await?;
    world.is_over(&hers, Instant::now()).await?;
    let told = world.refusal("alice").await?;
    ensure!(told == "tenant_suspended", "{told}");
    Ok(())
}
