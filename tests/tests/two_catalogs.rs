//! A user of two catalogs with the real `quilt-mcp`: two tenants, each with a worker that knows one catalog, its AWS and
//! its region, and neither's credential gets to the other (AWS-3).

use anyhow::{Context, ensure};
use patchbay_tests::{
    controller::ControllerConfig,
    quilt::{
        CLASS, QuiltWorld,
        stateless::DATA,
        two_catalogs::{self, OTHER_REGION},
    },
    sandbox::{self, HOME},
    served::Served,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

/// The other catalog's class, below a path of its own.
const OTHER: &str = "quilt-eu";

/// A world's documents under other names, for a class in another region.
fn renamed(document: &str) -> anyhow::Result<String> {
    let mut document: Value = serde_json::from_str(document)?;
    let name = document["metadata"]["name"].as_str().context("no name")?.to_owned();
    document["metadata"]["name"] = json!(format!("{name}-eu"));
    if document["kind"] == "WorkerClass" {
        document["spec"]["path"] = json!("/eu/mcp");
        document["spec"]["credentials"]["catalog"]["region"] = json!(OTHER_REGION);
    } else {
        document["spec"]["classes"] = json!([OTHER]);
    }
    Ok(document.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_two_catalogs_is_two_tenants_and_each_has_one_catalogs_account_and_region()
-> anyhow::Result<()> {
    let (one, other) = tokio::try_join!(QuiltWorld::start(), QuiltWorld::start_beside())?;
    let mut documents = one.documents(1).await?;
    for document in other.documents(1).await? {
        documents.push(renamed(&document)?);
    }
    let controller = ControllerConfig::new(documents).start().await?;
    let [here, there] = [CLASS, OTHER].map(|class| Served::by_one(controller.url(class)));
    two_catalogs::are_told_apart([&one, &other], [&here, &there]).await?;

    let tenants = controller.tenants().await?;
    ensure!(tenants.len() == 2, "{tenants:?}");
    let names: BTreeSet<_> = tenants.iter().map(|tenant| tenant["tenant"].to_string()).collect();
    ensure!(names.len() == 2, "{tenants:?}");
    for (class, world, region) in [(CLASS, &one, "us-east-1"), (OTHER, &other, OTHER_REGION)] {
        let of_class = tenants.iter().find(|tenant| tenant["class"] == class);
        let worker = of_class.and_then(|tenant| tenant["worker"].as_str());
        let worker = worker.with_context(|| format!("{class}: {tenants:?}"))?;
        let server = sandbox::server(&controller, worker)?;
        let path = sandbox::path_in(server.pid, &format!("{HOME}/{DATA}/config.yml"));
        two_catalogs::is_of(&fs::read_to_string(path)?, world, region)?;
    }
    Ok(())
}
