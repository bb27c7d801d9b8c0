//! What each account may do, asked of the API server that decides it: everything that is listed, and nothing
//! else.

use anyhow::{Context, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::{Api, api::PostParams};
use patchbay_tests::{chart::Release, cluster::from};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const VERBS: [&str; 8] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// What anybody could ask for: group and resource.
const RESOURCES: [(&str, &str); 32] = [
    ("", "pods"),
    ("", "pods/status"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "pods/eviction"),
    ("", "pods/ephemeralcontainers"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "services"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "events"),
    ("", "persistentvolumeclaims"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("networking.k8s.io", "networkpolicies"),
    ("networking.k8s.io", "ingresses"),
    ("policy", "poddisruptionbudgets"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("authentication.k8s.io", "tokenreviews"),
    ("patchbay.dev", "workerclasses"),
    ("patchbay.dev", "workerclasses/status"),
    ("patchbay.dev", "identityproviders"),
    ("patchbay.dev", "tenants"),
    ("patchbay.dev", "tenants/status"),
];

async fn may(release: &Release, component: &str, attributes: Value) -> anyhow::Result<bool> {
    let mut spec = json!({ "user": release.user(component) });
    spec["groups"] = json!(["system:serviceaccounts", "system:authenticated"]);
    let is_path = attributes.get("path").is_some();
    spec[if is_path { "nonResourceAttributes" } else { "resourceAttributes" }] = attributes;
    let reviews = Api::<SubjectAccessReview>::all(release.place.client.clone());
    let review = from(json!({ "spec": spec }))?;
    let review = reviews.create(&PostParams::default(), &review).await?;
    Ok(review.status.context("no answer")?.allowed)
}

/// What an account may do with the namespace's objects, as `group/resource: verbs`.
async fn rights(
    release: &Release,
    component: &str,
    namespace: &str,
) -> anyhow::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for (group, resource) in RESOURCES {
        let (name, part) = resource.split_once('/').unwrap_or((resource, ""));
        let mut verbs = Vec::new();
        for verb in VERBS {
            let asked = json!({
                "namespace": namespace, "group": group, "resource": name, "subresource": part, "verb": verb,
            });
            if may(release, component, asked).await? {
                verbs.push(verb);
            }
        }
        if !verbs.is_empty() {
            all.insert(format!("{group}/{resource}: {}", verbs.join(" ")));
        }
    }
    Ok(all)
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test]
async fn each_account_has_the_rights_that_it_needs_and_no_other() -> anyhow::Result<()> {
    let release = Release::install("rights", json!({})).await?;
    let own = release.place.name.clone();
    let gateway = set(&[
        "/pods: get list watch",
        "patchbay.dev/identityproviders: get list watch",
        "patchbay.dev/tenants: get list watch create patch",
        "patchbay.dev/workerclasses: get list watch",
    ]);
    let operator = set(&[
        "/configmaps: get list watch create patch delete",
        "/nodes: get list watch",
        "/pods: get list watch create patch delete",
        "/serviceaccounts: get list watch create patch delete",
        "authentication.k8s.io/tokenreviews: create",
        "coordination.k8s.io/leases: get create update",
        "events.k8s.io/events: create patch",
        "networking.k8s.io/networkpolicies: get list watch create patch delete",
        "patchbay.dev/tenants/status: patch",
        "patchbay.dev/tenants: get list watch patch delete",
        "patchbay.dev/workerclasses/status: patch",
        "patchbay.dev/workerclasses: get list watch",
        "policy/poddisruptionbudgets: get list watch create patch delete",
    ]);
    let found = rights(&release, "gateway", &own).await?;
    ensure!(found == gateway, "{found:#?}");
    let found = rights(&release, "operator", &own).await?;
    ensure!(found == operator, "{found:#?}");

    // elsewhere: what is the cluster's, and nothing of another namespace
    let found = rights(&release, "gateway", "kube-system").await?;
    ensure!(found.is_empty(), "{found:#?}");
    let found = rights(&release, "operator", "kube-system").await?;
    let clusters = set(&["/nodes: get list watch", "authentication.k8s.io/tokenreviews: create"]);
    ensure!(found == clusters, "{found:#?}");
    release.end().await
}

#[tokio::test]
async fn the_operator_may_use_its_own_two_secrets_and_the_gateway_read_the_issuers_keys()
-> anyhow::Result<()> {
    let release = Release::install("secrets", json!({})).await?;
    let secret = async |component, name, verb| {
        let asked = json!({
            "namespace": release.place.name, "resource": "secrets", "name": name, "verb": verb,
        });
        may(&release, component, asked).await
    };
    for name in ["patchbay-control-plane-ca", "patchbay-gateway-link"] {
        for verb in VERBS {
            let is_allowed = ["get", "patch"].contains(&verb);
            ensure!(secret("operator", name, verb).await? == is_allowed, "{verb} {name}");
            ensure!(!secret("gateway", name, verb).await?, "{verb} {name}");
        }
    }
    for verb in VERBS {
        ensure!(!secret("operator", "another", verb).await?, "{verb}");
    }
    let keys = json!({ "path": "/openid/v1/jwks", "verb": "get" });
    ensure!(may(&release, "gateway", keys).await?);
    release.end().await
}
