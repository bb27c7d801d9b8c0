//! Every credential beside every other, at gateways of a cluster: the same table as on one machine.

use crate::world::{CLASS, World, shared};
use anyhow::ensure;
use futures_util::future::try_join_all;
use kube::api::ListParams;
use patchbay_tests::{
    evidence::Evidence as _,
    precedence::{ENTRY, KEY, SECRET, WITH_KEY, catalog, is_followed_at, ways},
};
use serde_json::json;

#[tokio::test]
async fn each_mode_alone_and_every_pair_follows_the_precedence_and_never_falls_back()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let catalog = catalog().await?;
    let world = World::make("precedence", json!({}), &[WITH_KEY]).await?;
    world.secret(SECRET, &[(ENTRY, KEY)]).await?;
    world.config.allow_secrets(&world.stage, &[SECRET]).await?;
    for (name, spec) in ways(&catalog, CLASS) {
        world.provide(name, spec).await?;
    }
    try_join_all((0..3).map(|_| world.warm())).await?;
    // whatever one has seen, the other has not
    for gateway in [world.config.start().await?, world.config.start().await?] {
        let url = format!("{}/mcp", gateway.url);
        is_followed_at(&url, &catalog).await.with_logs(|| gateway.logs())?;
    }
    let tenants = world.tenants.list(&ListParams::default()).await?.items;
    let subjects: Vec<_> = tenants.iter().map(|it| it.spec.identity.subject.as_str()).collect();
    ensure!(subjects.len() == 3, "{subjects:?}");
    world.end().await
}
