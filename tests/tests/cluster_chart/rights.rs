//! What each account may do, asked of the API server that decides it: everything that `docs/reference/rbac.md` lists,
//! and nothing else.

use anyhow::{Context, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::{Api, api::PostParams};
use patchbay_tests::{
    chart::{self, RELEASE, Release},
    cluster::from,
    repository::repository,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs};

const VERBS: [&str; 8] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// What anybody could ask for: group and resource.
const RESOURCES: [(&str, &str); 33] = [
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
    ("patchbay.dev", "identityproviders/status"),
    ("patchbay.dev", "tenants"),
    ("patchbay.dev", "tenants/status"),
];

/// The chart's accounts that have rights, and their sections in the document.
const ACCOUNTS: [(&str, &str); 3] =
    [("gateway", "Gateway"), ("operator", "Operator"), ("verify-test", "`helm test`")];

/// One thing that an account may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// `resource.group`, or a path.
    what: String,
    /// Only of this object, if any.
    name: Option<String>,
    verb: String,
}

/// The rows of the tables in a section of the document, cell by cell.
fn rows(section: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let text = fs::read_to_string(repository().join("docs/reference/rbac.md"))?;
    let heading = format!("\n## {section}\n");
    let (_, section) = text.split_once(&heading).with_context(|| format!("no {heading}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = lines.map(|line| line.split(" | ").map(|cell| cell.replace('`', "")).collect());
    // the first row says what is in the others
    Ok(cells.skip(1).collect())
}

/// What the cells of a row allow.
fn rights_of(what: &str, verbs: &str, namespace: &str) -> Vec<Right> {
    let (what, group) = match what.strip_suffix(')').and_then(|it| it.split_once(" (")) {
        Some((what, group)) => (what, group),
        None => (what, ""),
    };
    let (what, names) = match what.split_once(" named ") {
        Some((what, names)) => {
            let these = names.replace("<release>", RELEASE).replace("<namespace>", namespace);
            (what, these.split(", ").map(|name| Some(name.to_owned())).collect())
        }
        None => (what, vec![None]),
    };
    let mut rights = Vec::new();
    for what in what.split(", ").map(|resource| in_group(resource, group)) {
        for name in &names {
            let verbs = verbs.split(' ').map(str::to_owned);
            rights.extend(verbs.map(|verb| Right { what: what.clone(), name: name.clone(), verb }));
        }
    }
    rights
}

fn in_group(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// What the document says that an account may do in the installation's namespace.
fn own(component: &str, namespace: &str) -> anyhow::Result<BTreeSet<Right>> {
    let account = ACCOUNTS.iter().find(|(account, _)| *account == component);
    let mut rights = BTreeSet::new();
    for row in rows(account.context("no such account")?.1)? {
        let [what, verbs, _] = row.as_slice() else { anyhow::bail!("{row:?}") };
        rights.extend(rights_of(what, verbs, namespace));
    }
    Ok(rights)
}

/// What it says that the account may do in the whole cluster, paths among it.
fn everywhere(component: &str) -> anyhow::Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for row in rows("The whole cluster")? {
        let [who, what, verbs, _] = row.as_slice() else { anyhow::bail!("{row:?}") };
        ensure!(ACCOUNTS.iter().any(|(account, _)| account == who), "who is {who}?");
        if who == component {
            rights.extend(rights_of(what, verbs, ""));
        }
    }
    Ok(rights)
}

async fn may(release: &Release, component: &str, attributes: Value) -> anyhow::Result<bool> {
    let mut spec = json!({ "user": release.user(component) });
    let is_path = attributes.get("path").is_some();
    if !is_path {
        // what every account may do comes on top. A cluster may keep paths from them, so those are its own right
        spec["groups"] = json!(["system:serviceaccounts", "system:authenticated"]);
    }
    spec[if is_path { "nonResourceAttributes" } else { "resourceAttributes" }] = attributes;
    let reviews = Api::<SubjectAccessReview>::all(release.place.client.clone());
    let review = from(json!({ "spec": spec }))?;
    let review = reviews.create(&PostParams::default(), &review).await?;
    Ok(review.status.context("no answer")?.allowed)
}

/// What an account may do with a namespace's objects, whichever they are, and with those of these names.
async fn rights(
    release: &Release,
    component: &str,
    namespace: &str,
    names: &[&str],
) -> anyhow::Result<BTreeSet<Right>> {
    let mut all = BTreeSet::new();
    for (group, resource) in RESOURCES {
        let (of, part) = resource.split_once('/').unwrap_or((resource, ""));
        for verb in VERBS {
            let ask = |name: Option<&str>| {
                let asked = json!({
                    "namespace": namespace, "group": group, "resource": of, "subresource": part,
                    "verb": verb, "name": name,
                });
                may(release, component, asked)
            };
            let right = |name: Option<&str>| Right {
                what: in_group(resource, group),
                name: name.map(str::to_owned),
                verb: verb.to_owned(),
            };
            if ask(None).await? {
                all.insert(right(None));
                continue;
            }
            for name in names {
                if ask(Some(name)).await? {
                    all.insert(right(Some(name)));
                }
            }
        }
    }
    Ok(all)
}

/// Gives the account of `helm test` what it has while a test runs.
async fn as_in_a_test(release: &Release) -> anyhow::Result<()> {
    let place = &release.place;
    let rendered = ["template", RELEASE, "--show-only", "templates/tests/rbac.yaml"];
    let text = chart::run(&place.cluster, &rendered, &place.name, &json!({})).await?;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    let file = file.path().to_str().context("a plain path")?;
    place.kubectl(&["apply", "--filename", file]).await.map(drop)
}

#[tokio::test]
async fn each_account_has_the_rights_that_the_document_lists_and_no_other() -> anyhow::Result<()> {
    let release = Release::install("rights", json!({})).await?;
    as_in_a_test(&release).await?;
    let namespace = release.place.name.clone();
    // every name that the document has, of whatever; and one that nobody has
    let mut documented = BTreeSet::new();
    for (component, _) in ACCOUNTS {
        documented.extend(own(component, &namespace)?.into_iter().filter_map(|right| right.name));
    }
    ensure!(documented.len() == 4, "{documented:?}");
    let names: Vec<_> = documented.iter().map(String::as_str).chain(["another"]).collect();
    for (component, _) in ACCOUNTS {
        let (paths, clusters): (BTreeSet<_>, BTreeSet<_>) =
            everywhere(component)?.into_iter().partition(|right| right.what.starts_with('/'));
        let mut expected = own(component, &namespace)?;
        ensure!(expected.len() >= 3, "{component}: {expected:#?}");
        expected.extend(clusters.iter().cloned());
        let found = rights(&release, component, &namespace, &names).await?;
        ensure!(found == expected, "{component}: {found:#?} are not {expected:#?}");
        // elsewhere: what is the cluster's, and nothing of another namespace
        let found = rights(&release, component, "kube-system", &[]).await?;
        ensure!(found == clusters, "{component}, elsewhere: {found:#?} are not {clusters:#?}");
        for path in paths {
            let asked = json!({ "path": path.what, "verb": path.verb });
            ensure!(may(&release, component, asked).await?, "{component}: {path:?}");
        }
    }
    let found = rights(&release, "contact-test", &namespace, &names).await?;
    ensure!(found.is_empty(), "a user of the cluster: {found:#?}");
    release.end().await
}
