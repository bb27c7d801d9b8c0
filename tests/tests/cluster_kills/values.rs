//! The chart's values for an installation with the images that users get, one class of fixture servers, and users with
//! API keys.

use crate::installation::{CLASS, WARM};
use patchbay_tests::{
    chart,
    cluster::Cluster,
    controller::api_key,
    pods::{images, roots, users::keys},
};
use serde_json::{Value, json};

/// For these users.
pub(crate) async fn values(cluster: &Cluster, users: &[&str]) -> anyhow::Result<Value> {
    let workers = images::import(cluster).await?;
    let controller = roots::controller(cluster).await?;
    let mut values = chart::values(cluster, &controller, &workers.worker)?;
    values["classes"] = json!({ CLASS: {
        "image": workers.fixture, "command": ["/fixture-server"], "path": format!("/{CLASS}"),
        "server": { "readyPath": "/healthz" }, "resources": { "memory": "128Mi" },
        "tmpfs": { "home": "4Mi", "tmp": "4Mi", "run": "1Mi" },
        "warm": WARM,
    }});
    let keys = keys(users.iter().map(|user| (*user, api_key(user))));
    values["providers"] = json!({ format!("{CLASS}-keys"): {
        "classes": [CLASS], "apiKeys": { "keys": keys },
    }});
    Ok(values)
}
