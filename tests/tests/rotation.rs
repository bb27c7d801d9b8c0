//! Tokens that are replaced, with the real `quilt-mcp`: the new one is used from then on, nothing fails, and
//! the worker stays.

use anyhow::{Context, ensure};
use patchbay_tests::{
    controller::Controller,
    mcp::McpClient,
    quilt::{CLASS, QuiltWorld},
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// A token of alice's that is good for so many hours.
fn token(world: &QuiltWorld, hours: i64) -> anyhow::Result<String> {
    let credentials = world.catalog.credentials();
    let lifetime = jiff::SignedDuration::from_hours(hours);
    credentials.key().sign(&credentials.claims("alice", jiff::Timestamp::now(), lifetime))
}

async fn list_buckets(url: &str, token: &str) -> anyhow::Result<()> {
    let answer = McpClient::bearer(url, token).call("bucket_list", json!({})).await?;
    ensure!(answer.to_string().contains("b-alice"), "{answer}");
    Ok(())
}

/// The bearers that the catalog's registry was shown since the record was cleared.
fn shown(world: &QuiltWorld) -> Vec<String> {
    let seen = world.catalog.record().all();
    seen.into_iter().filter(|one| one.operation.is_some()).filter_map(|one| one.bearer).collect()
}

async fn ensure_one_worker(controller: &Controller) -> anyhow::Result<()> {
    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 1 && tenants[0]["epoch"] == 1, "{tenants:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_is_used_from_then_on_and_two_live_ones_do_not_flap() -> anyhow::Result<()>
{
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let (first, second) = (token(&world, 1)?, token(&world, 2)?);
    for (token, used) in
        [(&first, &first), (&second, &second), (&first, &second), (&second, &second)]
    {
        world.catalog.record().clear();
        list_buckets(controller.url(CLASS), token).await?;
        ensure!(shown(&world).last() == Some(used), "another bearer was used");
    }
    ensure_one_worker(&controller).await
}

const CALLERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_rotated_while_calls_run_and_none_of_them_fails() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let (current, token_of_next_call) = watch::channel::<Arc<str>>(token(&world, 1)?.into());
    let (answered, mut answers) = mpsc::unbounded_channel();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (url, answered) = (controller.url(CLASS).to_owned(), answered.clone());
        let token_of_next_call = token_of_next_call.clone();
        callers.spawn(async move {
            loop {
                let token = token_of_next_call.borrow().clone();
                list_buckets(&url, &token).await?;
                if answered.send((caller, token)).is_err() {
                    return anyhow::Ok(());
                }
            }
        });
    }
    drop(answered);
    // returns once every caller had answers to so many calls with this token
    let mut each_was_answered = async |token: &str, wanted: usize| {
        let mut counts = BTreeMap::new();
        while counts.len() < CALLERS || counts.values().any(|count| *count < wanted) {
            tokio::select! {
                answer = answers.recv() => {
                    let (caller, with) = answer.context("every caller has ended")?;
                    if *with == *token {
                        *counts.entry(caller).or_insert(0) += 1;
                    }
                }
                Some(ended) = callers.join_next() => {
                    ended??;
                    anyhow::bail!("a caller has ended");
                }
            }
        }
        anyhow::Ok(())
    };
    each_was_answered(&current.borrow().clone(), 1).await?;
    for hours in 2..=5 {
        let next: Arc<str> = token(&world, hours)?.into();
        current.send_replace(next.clone());
        // after two answers to a caller, none of its calls with the old token is under way
        each_was_answered(&next, 2).await?;
        world.catalog.record().clear();
        each_was_answered(&next, 3).await?;
        let shown = shown(&world);
        ensure!(shown.len() >= CALLERS, "the catalog was asked only {} times", shown.len());
        ensure!(shown.iter().all(|bearer| **bearer == *next), "an old bearer was used");
    }
    ensure_one_worker(&controller).await
}
