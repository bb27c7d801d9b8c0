//! The official conformance suite, asked of a server in a pod, which speaks HTTP or on its standard streams: it finds all
//! that it finds in the server itself.

use crate::world::{World, shared};
use anyhow::ensure;
use patchbay_tests::{
    conformance::{
        fault::Fault,
        front::Front,
        suite::{self, Revision, all},
    },
    controller::api_key,
    pods::images,
};
use serde_json::json;

#[tokio::test]
async fn of_a_server_in_a_pod_the_suite_finds_what_it_finds_in_the_server_itself()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let image = {
        let world = World::make("conformance", json!({}), &[]).await?;
        let image = images::conformance().await?.import(&world.stage.place.cluster).await?;
        world.end().await?;
        image
    };
    let mut short = Vec::new();
    for (path, fields) in [
        ("pod", json!({ "command": ["/conformance-server"] })),
        (
            "pod-stdio",
            json!({
                "command": ["/conformance-server", "--stdio"], "transport": "stdio",
                "server": null,
            }),
        ),
    ] {
        let mut fields = fields;
        fields["image"] = json!(image);
        let world = World::make(path, fields, &["alice"]).await?;
        world.warm().await?;
        let gateway = world.config.start().await?;
        let front =
            Front::to(&format!("{}/mcp", gateway.url), &api_key("alice"), Fault::None).await?;
        for revision in Revision::ALL {
            let report = suite::run(&front.url, revision).await?;
            println!("{path} {} {}", revision.name(), report.total);
            if report.total != all(revision) {
                short.push(format!("{path} {}: {:#?}", revision.name(), report.complaints));
            }
        }
        world.end().await?;
    }
    ensure!(short.is_empty(), "{}", short.join("\n"));
    Ok(())
}
