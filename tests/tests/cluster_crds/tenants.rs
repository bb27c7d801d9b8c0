//! What a Tenant may say, and how it may change, whoever writes.

use crate::{
    objects::{DIGEST, assignment, tenant, with},
    server::Server,
};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// What is asked of the server, and the field and words of its refusal, if it is to refuse.
type Case = (Value, Option<(&'static str, &'static str)>);

const ASSIGNMENT: &str = "spec.assignment";
const EPOCH: &str = "spec.assignment.epoch";
const IMMUTABLE: Option<(&str, &str)> = Some(("spec.identity", "identity cannot be changed"));
const REMOVED: Option<(&str, &str)> = Some((ASSIGNMENT, "an assignment is never removed"));
const DECREASED: Option<(&str, &str)> = Some((EPOCH, "an epoch never decreases"));
const EXCHANGED: Option<(&str, &str)> = Some((ASSIGNMENT, "not exchanged for another"));
const HALF: Option<(&str, &str)> = Some((ASSIGNMENT, "names a worker by half"));
const GAINED: Option<(&str, &str)> = Some((ASSIGNMENT, "a suspended tenant gains no assignment"));

fn is_as_expected(
    answer: &crate::server::Answer,
    expected: Option<(&str, &str)>,
) -> anyhow::Result<()> {
    ensure!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    match expected {
        None => ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.body),
        Some((field, said)) => answer.ensure_refused(field, said)?,
    }
    Ok(())
}

#[tokio::test]
async fn each_rule_about_a_new_tenant_holds() -> anyhow::Result<()> {
    let server = Server::with("tenant-new").await?;
    let assigned = |worker, uid| with(tenant("alice"), "assignment", assignment(worker, uid, 1));
    let suspended = |object| with(object, "suspended", json!(true));
    let mut renamed = tenant("alice");
    renamed["metadata"]["name"] = json!("alice");
    let mut longer = tenant("alice");
    longer["metadata"]["name"] = json!("t-go5gbctxrdlmessgoznlx");
    let identity = |field: &str, value| with(tenant("alice"), &format!("identity/{field}"), value);
    let long = json!("x".repeat(1025));
    let no_digest = Some(("spec.identity.authority", "is not a SHA-256 digest"));
    let name = "is not a tenant's name; it follows from the identity";
    let class = "is not a class name; use 1 to 63";
    let cases: Vec<Case> = vec![
        (tenant("alice"), None),
        (identity("authority", json!(DIGEST)), None),
        (assigned("", ""), None),
        (assigned("w", "u"), None),
        (suspended(tenant("alice")), None),
        (suspended(assigned("", "")), GAINED),
        (suspended(assigned("w", "u")), GAINED),
        (renamed, Some(("<nil>", name))),
        (longer, Some(("<nil>", name))),
        (identity("issuer", json!(" ")), Some(("spec.identity.issuer", "is empty; name who"))),
        (identity("subject", json!(" ")), Some(("spec.identity.subject", "is empty; name the"))),
        (identity("issuer", long.clone()), Some(("spec.identity.issuer", "Too long"))),
        (identity("subject", long), Some(("spec.identity.subject", "Too long"))),
        (identity("authority", json!("sha256:00")), no_digest),
        (identity("authority", json!(DIGEST.to_uppercase())), no_digest),
        (with(tenant("alice"), "className", json!("Quilt")), Some(("spec.className", class))),
        (assigned("w", ""), HALF),
        (assigned("", "u"), HALF),
        (
            with(tenant("alice"), "assignment", assignment("", "", 0)),
            Some((EPOCH, "greater than or equal to 1")),
        ),
    ];
    for (object, expected) in cases {
        let answer = server.try_create("tenants", &object).await?;
        is_as_expected(&answer, expected).with_context(|| object.to_string())?;
    }
    Ok(())
}

fn change(assignment: &Value) -> Value {
    json!({ "spec": { "assignment": assignment } })
}

fn suspend_and(assignment: &Value) -> Value {
    json!({ "spec": { "suspended": true, "assignment": assignment } })
}

/// A wait that begins later than any other here.
fn later_wait() -> Value {
    json!({ "worker": "", "uid": "", "requestedAt": "2031-01-31T00:00:00Z" })
}

#[tokio::test]
async fn each_rule_about_a_change_of_a_tenant_holds() -> anyhow::Result<()> {
    let server = Server::with("tenant-change").await?;
    let empty = json!({ "worker": "", "uid": "" });
    // a point in time in another spelling is the same
    let same_time = json!({
        "worker": "", "uid": "", "requestedAt": "2030-01-31T01:00:00.000+01:00",
    });
    let asleep = json!({ "worker": "", "uid": "", "requestedAt": null });
    let suspend = json!({ "spec": { "suspended": true } });
    let resume_and =
        |assignment: &Value| json!({ "spec": { "suspended": false, "assignment": assignment } });
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    let suspended = |object| with(object, "suspended", json!(true));
    let assigned = |subject, assignment| with(tenant(subject), "assignment", assignment);
    let given = assignment("w", "u", 3);

    // who it is
    let identity = |identity: Value| json!({ "spec": { "identity": identity } });
    let other_class = Some(("spec.className", "class cannot be changed"));
    let as_it_is: Vec<Case> = vec![
        (identity(json!({ "subject": "bob" })), IMMUTABLE),
        (identity(json!({ "issuer": "https://other.example" })), IMMUTABLE),
        (identity(json!({ "authority": DIGEST })), IMMUTABLE),
        (json!({ "spec": { "className": "other" } }), other_class),
        (label.clone(), None),
        (suspend.clone(), None),
        (change(&assignment("", "", 1)), None),
        (suspend_and(&assignment("", "", 1)), GAINED),
        (suspend_and(&assignment("w", "u", 1)), GAINED),
    ];
    // it has a worker
    let has_one: Vec<Case> = vec![
        (json!({ "spec": { "assignment": null } }), REMOVED),
        (change(&json!({ "epoch": 2 })), DECREASED),
        (change(&assignment("w2", "u2", 2)), DECREASED),
        (change(&assignment("w2", "u2", 3)), EXCHANGED),
        (change(&json!({ "uid": "u2" })), EXCHANGED),
        (change(&json!({ "worker": "w2" })), EXCHANGED),
        (change(&json!({ "worker": "" })), HALF),
        (change(&assignment("w2", "u2", 4)), None),
        (change(&assignment("", "", 4)), None),
        (change(&empty), None),
        (suspend.clone(), None),
        (suspend_and(&empty), None),
        (suspend_and(&same_time), None),
        (suspend_and(&asleep), None),
        (change(&asleep), None),
        (suspend_and(&later_wait()), GAINED),
        (suspend_and(&assignment("w2", "u2", 4)), GAINED),
        (suspend_and(&assignment("", "", 4)), GAINED),
    ];
    // it waits for one
    let waits: Vec<Case> = vec![
        (change(&given), None),
        (change(&later_wait()), None),
        (change(&assignment("w", "u", 2)), DECREASED),
        (suspend.clone(), None),
        (suspend_and(&given), GAINED),
        (suspend_and(&later_wait()), GAINED),
    ];
    // it is shut out, and its worker is still there
    let shut_out: Vec<Case> = vec![
        (label, None),
        (change(&empty), None),
        (change(&assignment("w2", "u2", 4)), GAINED),
        (change(&assignment("", "", 4)), GAINED),
        (change(&later_wait()), GAINED),
        (json!({ "spec": { "assignment": null } }), REMOVED),
        (resume_and(&assignment("w2", "u2", 4)), None),
    ];
    // and now it is not
    let after: Vec<Case> = vec![
        (change(&given), GAINED),
        (change(&assignment("w2", "u2", 4)), GAINED),
        (json!({ "spec": { "assignment": null } }), REMOVED),
        (resume_and(&given), None),
    ];
    let base = [
        (tenant("alice"), as_it_is),
        (assigned("bob", given.clone()), has_one),
        (assigned("dave", assignment("", "", 3)), waits),
    ];
    for (object, cases) in base {
        let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
        server.create("tenants", &object).await?.object()?;
        all(&server, &name, cases).await?;
    }
    let cleared = shut_out_with(&server, "carol", &given).await?;
    all(&server, &cleared, shut_out).await?;
    server.patch(&format!("tenants/{cleared}"), &change(&empty)).await?.object()?;
    all(&server, &cleared, after).await?;
    let shut_from_the_start = suspended(tenant("erin"));
    let name = shut_from_the_start["metadata"]["name"].as_str().context("a name")?.to_owned();
    server.create("tenants", &shut_from_the_start).await?.object()?;
    all(&server, &name, vec![(change(&given), GAINED), (change(&assignment("", "", 1)), GAINED)])
        .await
}

async fn all(server: &Server, name: &str, cases: Vec<Case>) -> anyhow::Result<()> {
    for (patch, expected) in cases {
        let answer = server.try_patch(&format!("tenants/{name}"), &patch).await?;
        is_as_expected(&answer, expected).with_context(|| format!("{name}: {patch}"))?;
    }
    Ok(())
}

/// A tenant that was suspended while it had a worker; its name.
async fn shut_out_with(
    server: &Server,
    subject: &str,
    assignment: &Value,
) -> anyhow::Result<String> {
    let object = with(tenant(subject), "assignment", assignment.clone());
    let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
    server.create("tenants", &object).await?.object()?;
    let suspend = json!({ "spec": { "suspended": true } });
    server.patch(&format!("tenants/{name}"), &suspend).await?.object()?;
    Ok(name)
}

#[tokio::test]
async fn a_replacement_is_judged_like_a_patch() -> anyhow::Result<()> {
    let server = Server::with("tenant-apply").await?;
    let object = with(tenant("alice"), "assignment", assignment("w", "u", 3));
    let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
    let path = server.path(&format!("tenants/{name}"));
    server.apply(&path, &object.to_string()).await?.object()?;
    // what is applied without the assignment takes it away
    let without = server.apply(&path, &tenant("alice").to_string()).await?;
    without.ensure_refused(ASSIGNMENT, "an assignment is never removed")
}
