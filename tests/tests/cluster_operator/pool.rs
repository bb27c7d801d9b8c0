//! The pool: warm workers come, are replaced, and follow `warm`.

use super::world::World;
use anyhow::ensure;
use kube::{ResourceExt as _, api::DeleteParams};
use serde_json::json;

#[tokio::test]
async fn warm_workers_come_are_enrolled_and_are_replaced() -> anyhow::Result<()> {
    let world = World::make("op-warm").await?;
    let begun = tokio::time::Instant::now();
    world.stage.declare("tools", json!({ "warm": 2 })).await?;
    let first = world.warm("tools", 2).await?;
    println!("2 warm workers after {:?}", begun.elapsed());
    let lost = first[0].name_any();
    world.pods().delete(&lost, &DeleteParams::default()).await?;
    world.gone(&lost).await?;
    let second = world.warm("tools", 2).await?;
    ensure!(second.iter().any(|pod| pod.name_any() == first[1].name_any()), "the other one stays");
    world.end().await
}
