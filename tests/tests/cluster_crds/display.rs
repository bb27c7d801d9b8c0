//! What `kubectl get` shows, and the scale subresource.

use crate::{
    objects::{asking_provider, assignment, class, key_provider, tenant, with},
    server::Server,
};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The columns of a table that are always shown, then those of `-o wide`.
async fn columns(server: &Server, plural: &str) -> anyhow::Result<[Vec<String>; 2]> {
    let table = server.get_as(&server.path(plural), TABLE).await?.object()?;
    let columns = table["columnDefinitions"].as_array().context("columns")?;
    let of = |is_wide: bool| {
        columns
            .iter()
            .filter(|each| (each["priority"] != 0) == is_wide)
            .filter_map(|each| each["name"].as_str().map(ToOwned::to_owned))
            .collect()
    };
    Ok([of(false), of(true)])
}

/// The cells of an object, by column, but for its age.
async fn cells(server: &Server, plural: &str, name: &str) -> anyhow::Result<Value> {
    let path = server.path(&format!("{plural}/{name}"));
    let mut table = server.get_as(&path, TABLE).await?.object()?;
    let columns = table["columnDefinitions"].take();
    let cells = table["rows"][0]["cells"].take();
    let named =
        columns.as_array().into_iter().flatten().zip(cells.as_array().into_iter().flatten());
    Ok(named
        .filter(|(column, _)| column["name"] != "Age")
        .map(|(column, cell)| {
            (column["name"].as_str().unwrap_or_default().to_owned(), cell.clone())
        })
        .collect::<serde_json::Map<_, _>>()
        .into())
}

fn ready(status: &str, reason: &str) -> Value {
    json!([
        {
            "type": "Isolated", "status": "True", "reason": "Other", "message": "",
            "lastTransitionTime": "2030-01-31T00:00:00Z",
        },
        {
            "type": "Ready", "status": status, "reason": reason, "message": "In words.",
            "lastTransitionTime": "2030-01-31T00:00:00Z", "observedGeneration": 1,
        },
    ])
}

async fn set_status(server: &Server, object: &str, status: Value) -> anyhow::Result<()> {
    let patch = json!({ "status": status });
    server.patch(&format!("{object}/status"), &patch).await?.object().map(drop)
}

#[tokio::test]
async fn a_list_shows_what_people_ask_for_in_120_columns() -> anyhow::Result<()> {
    let server = Server::with("columns").await?;
    let object = tenant("someone@example.com");
    let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
    let assigned = with(object, "assignment", assignment("quilt-x7k2p", "u-1", 12));
    server.create("tenants", &assigned).await?.object()?;
    let last = "2020-01-31T00:00:00Z";
    let status = json!({ "phase": "Suspended", "reason": "IdleTimeout", "lastActivity": last });
    set_status(&server, &format!("tenants/{name}"), status).await?;
    server.create("workerclasses", &class("quilt")).await?.object()?;
    let status = json!({
        "warm": 2, "bound": 30, "waiting": 4, "conditions": ready("False", "ImagePullBackOff"),
    });
    set_status(&server, "workerclasses/quilt", status).await?;
    server.create("identityproviders", &asking_provider("catalog")).await?.object()?;
    server.create("identityproviders", &key_provider("keys")).await?.object()?;
    let status = json!({ "conditions": ready("True", "Reachable") });
    set_status(&server, "identityproviders/catalog", status).await?;

    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let [shown, wide] = columns(&server, "tenants").await?;
    let expected = ["Name", "Class", "Subject", "Phase", "Worker", "Why", "Last activity", "Age"];
    ensure!(shown == words(&expected) && wide == words(&["Epoch", "Issuer"]), "{shown:?} {wide:?}");
    let [shown, wide] = columns(&server, "workerclasses").await?;
    let expected = ["Name", "Path", "Warm", "Wanted", "Bound", "Waiting", "Ready", "Reason", "Age"];
    ensure!(shown == words(&expected) && wide.is_empty(), "{shown:?} {wide:?}");
    let [shown, wide] = columns(&server, "identityproviders").await?;
    let expected = ["Name", "Classes", "Ready", "Reason", "Age"];
    ensure!(shown == words(&expected) && wide == words(&["Token issuer", "Catalog"]), "{wide:?}");

    let found = cells(&server, "tenants", &name).await?;
    let activity = found["Last activity"].as_str().unwrap_or_default().to_owned();
    ensure!(activity.ends_with('d') || activity.ends_with('y'), "{activity}");
    let expected = json!({
        "Name": name, "Class": "quilt", "Subject": "someone@example.com", "Phase": "Suspended",
        "Worker": "quilt-x7k2p", "Epoch": 12, "Why": "IdleTimeout", "Last activity": activity,
        "Issuer": "https://issuer.example",
    });
    ensure!(found == expected, "{found:#}");
    let found = cells(&server, "workerclasses", "quilt").await?;
    let expected = json!({
        "Name": "quilt", "Path": "/mcp", "Warm": 2, "Wanted": 1, "Bound": 30, "Waiting": 4,
        "Ready": "False", "Reason": "ImagePullBackOff",
    });
    ensure!(found == expected, "{found:#}");
    let found = cells(&server, "identityproviders", "catalog").await?;
    let expected = json!({
        "Name": "catalog", "Classes": "[\"quilt\"]", "Ready": "True", "Reason": "Reachable",
        "Token issuer": null, "Catalog": "https://c.example",
    });
    ensure!(found == expected, "{found:#}");

    for (plural, lines) in [("tenants", 2), ("workerclasses", 2), ("identityproviders", 3)] {
        let mut kubectl = server.cluster.kubectl();
        kubectl.args(["--namespace", &server.namespace, "get", plural]);
        let text = String::from_utf8(kubectl.output().await?.stdout)?;
        ensure!(text.lines().count() == lines, "{text}");
        ensure!(text.lines().all(|line| line.trim_end().len() <= 120), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn tenants_can_be_listed_by_their_class() -> anyhow::Result<()> {
    let server = Server::with("selector").await?;
    server.create("tenants", &tenant("alice")).await?.object()?;
    for (class, expected) in [("quilt", 1), ("other", 0)] {
        let path = format!("tenants?fieldSelector=spec.className%3D{class}");
        let list = server.get(&server.path(&path)).await?.object()?;
        ensure!(list["items"].as_array().map(Vec::len) == Some(expected), "{class}: {list}");
    }
    Ok(())
}

#[tokio::test]
async fn scaling_a_class_is_setting_how_many_are_kept_warm() -> anyhow::Result<()> {
    let server = Server::with("scale").await?;
    server.create("workerclasses", &class("quilt")).await?.object()?;
    let status = json!({ "warm": 2, "selector": "patchbay.dev/class=quilt" });
    set_status(&server, "workerclasses/quilt", status).await?;
    let scale = server.get(&server.path("workerclasses/quilt/scale")).await?.object()?;
    ensure!(scale["spec"]["replicas"] == 1 && scale["status"]["replicas"] == 2, "{scale}");
    ensure!(scale["status"]["selector"] == "patchbay.dev/class=quilt", "{scale}");
    let replicas = |count: i64| json!({ "spec": { "replicas": count } });
    let scaled = server.patch("workerclasses/quilt/scale", &replicas(7)).await?.object()?;
    ensure!(scaled["spec"]["replicas"] == 7, "{scaled}");
    let class = server.get(&server.path("workerclasses/quilt")).await?.object()?;
    ensure!(class["spec"]["warm"] == 7, "{class}");
    let refused = server.patch("workerclasses/quilt/scale", &replicas(1001)).await?;
    refused.ensure_refused("spec.warm", "less than or equal to 1000")
}
