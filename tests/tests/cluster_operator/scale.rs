//! How much of a machine an operator takes with many tenants. `cargo test ... -- --ignored`: figures, no verdict.

use super::world::World;
use anyhow::{Context, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use patchbay_tests::pods::{OperatorProcess, watched};
use serde_json::json;
use tokio::time::Instant;

const TENANTS: usize = 10_000;

fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let digits = line.split_whitespace().nth(1).context("no number")?;
    Ok(digits.parse()?)
}

#[tokio::test]
#[ignore = "makes ten thousand objects"]
async fn ten_thousand_tenants() -> anyhow::Result<()> {
    let mut world = World::make("op-scale").await?;
    world.stage.declare("tools", json!({ "warm": 0 })).await?;
    let begun = Instant::now();
    stream::iter(0..TENANTS)
        .map(|index| {
            let world = &world;
            async move { world.provision("tools", &format!("user-{index}"), true).await }
        })
        .buffer_unordered(16)
        .try_for_each(async |_| Ok(()))
        .await?;
    println!("{TENANTS} tenants made after {:?}", begun.elapsed());
    let all = i32::try_from(TENANTS)?;
    let counted = watched::one(world.classes(), "tools", "all are counted", |class| {
        class.and_then(|class| class.status.as_ref()).is_some_and(|status| status.tenants == all)
    });
    counted.await.with_context(|| world.operator.text())?;
    let told = watched::all(world.tenants(), "", "all have a status", |tenants| {
        tenants.len() == TENANTS && tenants.iter().all(|tenant| tenant.status.is_some())
    });
    told.await.map(drop)?;
    println!("all have a status {:?} after the first was made", begun.elapsed());
    let pid = world.operator.pid().context("it has ended")?;
    println!("the operator that made the statuses: {} KiB resident", resident_kib(pid)?);

    let next = OperatorProcess::start(&world.stage)?;
    let first = std::mem::replace(&mut world.operator, next);
    let begun = Instant::now();
    first.terminate().await?;
    world.operator.leads().await?;
    let led = begun.elapsed();
    let ready = async {
        while !world.operator.page("/metrics").await?.text().contains("reconciles_total") {
            ensure!(begun.elapsed().as_secs() < 120, "no pass: {}", world.operator.text());
        }
        anyhow::Ok(())
    };
    ready.await?;
    println!(
        "another one leads after {led:?}, and has passed over all of it after {:?}",
        begun.elapsed()
    );
    let pid = world.operator.pid().context("it has ended")?;
    println!("it has {} KiB resident", resident_kib(pid)?);
    world.end().await
}
