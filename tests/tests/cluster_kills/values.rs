//! The chart's values for an installation with the images that users get, one class of fixture servers, and users with
//! API keys.

use crate::installation::{CLASS, WARM};
use anyhow::Context;
use patchbay_core::digest::Digest;
use patchbay_tests::{
    cluster::Cluster,
    controller::api_key,
    pods::{images, roots},
};
use serde_json::{Value, json};

/// For these users.
pub(crate) async fn values(cluster: &Cluster, users: &[&str]) -> anyhow::Result<Value> {
    let workers = images::import(cluster).await?;
    let image = |name: &str| -> anyhow::Result<Value> {
        let (repository, tag) = name.split_once(':').context("no tag")?;
        Ok(json!({ "repository": repository, "tag": tag }))
    };
    let mut own = image(&roots::controller(cluster).await?)?;
    own["pullPolicy"] = json!("Never");
    let keys: Vec<_> = users
        .iter()
        .map(|user| {
            let digest = Digest::of(api_key(user).as_bytes());
            json!({ "id": user, "subject": user, "digest": format!("sha256:{digest}") })
        })
        .collect();
    let addresses = cluster.addresses()?;
    Ok(json!({
        "image": own,
        "workerImage": image(&workers.worker)?,
        "cluster": { "ranges": [addresses.pods(), addresses.services()], "dns": [] },
        "classes": { CLASS: {
            "image": workers.fixture, "command": ["/fixture-server"], "path": format!("/{CLASS}"),
            "server": { "readyPath": "/healthz" }, "resources": { "memory": "128Mi" },
            "tmpfs": { "home": "4Mi", "tmp": "4Mi", "run": "1Mi" },
            "warm": WARM,
        }},
        "providers": { format!("{CLASS}-keys"): {
            "classes": [CLASS], "apiKeys": { "keys": keys },
        }},
    }))
}
