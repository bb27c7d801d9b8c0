//! The definitions themselves: taken without a word, structural, described, with defaults and pruning.

use crate::{
    objects::{asking_provider, class, jwt_provider, tenant, with},
    server::{DEFINITIONS, Server},
};
use anyhow::{Context, ensure};
use patchbay_tests::repository::repository;
use serde_json::{Value, json};
use std::fs;

const FILES: [&str; 3] = ["identityproviders", "tenants", "workerclasses"];

#[tokio::test]
async fn the_files_are_taken_without_a_warning_and_are_structural() -> anyhow::Result<()> {
    let server = Server::with("definitions").await?;
    for name in FILES.map(|plural| format!("{plural}.patchbay.dev")) {
        let yaml = fs::read_to_string(repository().join(format!("crds/yaml/{name}.yaml")))?;
        let path = format!("{DEFINITIONS}/{name}");
        let applied = server.apply(&path, &yaml).await?;
        ensure!(applied.warnings.is_empty(), "{name}: {:?}", applied.warnings);
        applied.object()?;
        let status = server.get(&path).await?.object()?["status"].take();
        let conditions = status["conditions"].as_array().context("conditions")?;
        let of_type = |type_: &str| {
            conditions.iter().find(|each| each["type"] == type_).map(|each| &each["status"])
        };
        ensure!(of_type("Established") == Some(&json!("True")), "{name}: {conditions:?}");
        ensure!(of_type("NamesAccepted") == Some(&json!("True")), "{name}: {conditions:?}");
        ensure!(of_type("NonStructuralSchema").is_none(), "{name}: {conditions:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_left_out_has_the_documented_default() -> anyhow::Result<()> {
    let server = Server::with("defaults").await?;
    let class = server.create("workerclasses", &class("least")).await?;
    ensure!(class.warnings.is_empty(), "{:?}", class.warnings);
    let expected = json!({
        "image": "i", "command": ["/usr/bin/server"], "path": "/mcp", "transport": "http",
        "profile": "generic", "start": "warm",
        "resources": { "memory": "512Mi", "pids": 256 },
        "tmpfs": { "home": "64Mi", "tmp": "100Mi", "run": "10Mi" },
        "egress": {}, "idleTimeout": "15m", "drainTimeout": "30s", "warm": 1, "limits": {},
        "credentials": { "source": "none" }, "local": {},
    });
    ensure!(class.body["spec"] == expected, "{:#}", class.body["spec"]);
    let provider = server.create("identityproviders", &jwt_provider("jwt")).await?.object()?;
    let jwt = &provider["spec"]["jwt"];
    ensure!(provider["spec"]["provisioning"] == "OnFirstContact");
    ensure!(jwt["algorithms"] == json!(["RS256", "ES256"]), "{jwt}");
    ensure!(jwt["subjectClaim"] == "sub" && jwt["format"] == "standard", "{jwt}");
    ensure!(jwt["keyHeldByServersOnly"] == false && jwt["jwks"]["discovery"] == false, "{jwt}");
    let tenant = server.create("tenants", &tenant("alice")).await?.object()?;
    ensure!(tenant["spec"]["suspended"] == false && tenant["spec"].get("assignment").is_none());
    Ok(())
}

#[tokio::test]
async fn a_field_without_a_value_is_a_field_that_is_not_there() -> anyhow::Result<()> {
    let server = Server::with("nulls").await?;
    let mut object = class("nulls");
    for field in ["host", "server", "maxAge", "nodeSelector", "tolerations", "tools", "env"] {
        object["spec"][field] = Value::Null;
    }
    object["spec"]["warm"] = Value::Null;
    object["spec"]["credentials"] = json!({ "catalog": null, "files": null, "env": null });
    let made = server.create("workerclasses", &object).await?.object()?;
    ensure!(made["spec"].get("host").is_none() && made["spec"].get("server").is_none(), "{made}");
    ensure!(
        made["spec"]["credentials"] == json!({ "source": "none" }) && made["spec"]["warm"] == 1
    );
    // exactly one of three, of which two are null
    let mut provider = asking_provider("nulls");
    provider["spec"]["jwt"] = Value::Null;
    provider["spec"]["apiKeys"] = Value::Null;
    server.create("identityproviders", &provider).await?.object()?;
    Ok(())
}

#[tokio::test]
async fn a_field_that_is_not_known_is_told_and_dropped() -> anyhow::Result<()> {
    let server = Server::with("unknown").await?;
    let object = with(class("typo"), "egress", json!({ "hosts": [{ "host": "h", "prot": 1 }] }));
    let path = |validation| format!("workerclasses?fieldValidation={validation}");
    let strict = server.create(&path("Strict"), &object).await?;
    let said = strict.body["message"].to_string();
    ensure!(!strict.status.is_success() && said.contains("spec.egress.hosts[0].prot"), "{said}");
    // what is meant by saying nothing
    let warned = server.create("workerclasses", &object).await?;
    ensure!(warned.warnings.len() == 1, "{:?}", warned.warnings);
    ensure!(warned.warnings[0].contains("spec.egress.hosts[0].prot"), "{:?}", warned.warnings);
    let hosts = &warned.object()?["spec"]["egress"]["hosts"];
    ensure!(*hosts == json!([{ "host": "h", "port": 443, "plainHttp": false }]), "{hosts}");
    Ok(())
}

/// The path of every property that has no description.
fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>, seen: &mut usize) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let text = property["description"].as_str().unwrap_or_default();
        if text.is_empty() || text.contains('\n') {
            found.push(path.clone());
        }
        *seen += 1;
        undescribed(&path, property, found, seen);
    }
    if !schema["items"].is_null() {
        undescribed(&format!("{path}[]"), &schema["items"], found, seen);
    }
}

#[tokio::test]
async fn every_field_is_explained() -> anyhow::Result<()> {
    let server = Server::with("explain").await?;
    let path = "/openapi/v3/apis/patchbay.dev/v1alpha1";
    // published after it is established
    let mut schemas = Value::Null;
    patchbay_tests::cluster::until("the schemas are published", async || {
        schemas = server.get(path).await?.object()?["components"]["schemas"].take();
        Ok(["Tenant", "WorkerClass", "IdentityProvider"]
            .iter()
            .all(|kind| !schemas[format!("dev.patchbay.v1alpha1.{kind}")].is_null()))
    })
    .await?;
    let (mut found, mut seen) = (Vec::new(), 0);
    for kind in ["Tenant", "WorkerClass", "IdentityProvider"] {
        let schema = &schemas[format!("dev.patchbay.v1alpha1.{kind}")]["properties"];
        for part in ["spec", "status"] {
            undescribed(&format!("{kind}.{part}"), &schema[part], &mut found, &mut seen);
        }
    }
    ensure!(found.is_empty() && seen > 120, "{seen} fields, without prose: {found:?}");
    let mut kubectl = server.cluster.kubectl();
    let output = kubectl.args(["explain", "tenants.spec.assignment.epoch"]).output().await?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("Counts the tenant's assignments, from 1."), "{text}");
    Ok(())
}
