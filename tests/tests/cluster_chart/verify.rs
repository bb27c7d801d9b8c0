//! What `helm test` says of a cluster that enforces network policies, and of one that does not.

use anyhow::{Context, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment, core::v1::ServiceAccount, networking::v1::NetworkPolicy, rbac::v1::Role,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use patchbay_crds::{
    WorkerClass,
    condition::{Condition, ConditionStatus},
};
use patchbay_tests::{
    chart::{self, RELEASE, Release},
    cluster::{is_ready, shell_pod, until},
    pods::images::import_controller,
};
use serde_json::json;

const CONDITION: &str = "NetworkPolicyEnforced";

/// Puts a pod in the place of the gateways that listens at both of their ports and is no gateway.
async fn stand_in(release: &Release) -> anyhow::Result<()> {
    let deployments =
        Api::<Deployment>::namespaced(release.place.client.clone(), &release.place.name);
    let gateway = deployments.get("patchbay-gateway").await?;
    let template = gateway.spec.context("no spec")?.template;
    release.place.kubectl(&["scale", "deployment/patchbay-gateway", "--replicas=0"]).await?;
    let gateways = ListParams::default().labels("app.kubernetes.io/component=gateway");
    until("the gateways' pods are gone", async || {
        Ok(release.place.pods().list(&gateways).await?.items.is_empty())
    })
    .await?;
    let script = "echo here >/state/index.html; busybox httpd -p 8080 -h /state;
        exec busybox httpd -f -p 9090 -h /state";
    let mut pod = shell_pod("stand-in", script);
    pod["metadata"]["labels"] = json!(template.metadata.context("no labels")?.labels);
    // policies name ports by their names
    let ports = template.spec.context("no spec")?.containers[0].ports.clone();
    pod["spec"]["containers"][0]["ports"] = json!(ports);
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({ "tcpSocket": { "port": 9090 }, "periodSeconds": 1 });
    release.place.create(pod, is_ready).await.map(drop)
}

async fn condition(release: &Release) -> anyhow::Result<Option<Condition>> {
    let classes = Api::<WorkerClass>::namespaced(release.place.client.clone(), &release.place.name);
    let status = classes.get("notes").await?.status;
    let conditions = status.map(|status| status.conditions).unwrap_or_default();
    Ok(conditions.into_iter().find(|it| it.type_ == CONDITION))
}

#[tokio::test]
async fn a_test_finds_out_whether_policies_are_enforced_and_says_so_in_every_class()
-> anyhow::Result<()> {
    // the kind of a class in the values is made by the suite
    let cluster =
        patchbay_tests::cluster::Cluster::up(&patchbay_tests::cluster::default_directory()?)
            .await?;
    let mut image = chart::image(&import_controller(&cluster).await?)?;
    image["pullPolicy"] = json!("Never");
    let release = Release::install(
        "verify",
        json!({
            "image": image,
            "classes": { "notes": { "image": "i", "command": ["/notes"] } },
        }),
    )
    .await?;
    stand_in(&release).await?;

    let said = release.place.helm(&["test", RELEASE, "--logs"]).await?;
    ensure!(said.contains("enforces Pod Security `restricted`"), "{said}");
    ensure!(said.contains("the cluster enforces NetworkPolicies"), "{said}");
    let enforced = condition(&release).await?.context("no condition")?;
    ensure!(enforced.status == ConditionStatus::True, "{enforced:?}");
    // the rights to say so are gone with the test
    let roles = Api::<Role>::namespaced(release.place.client.clone(), &release.place.name);
    let accounts =
        Api::<ServiceAccount>::namespaced(release.place.client.clone(), &release.place.name);
    ensure!(roles.get_opt("patchbay-verify-test").await?.is_none());
    ensure!(accounts.get_opt("patchbay-verify-test").await?.is_none());

    // said again, it is no news
    release.place.helm(&["test", RELEASE]).await?;
    let again = condition(&release).await?.context("no condition")?;
    ensure!(again == enforced, "{again:?}");

    // a cluster that enforces nothing is like one without the policy
    let policies =
        Api::<NetworkPolicy>::namespaced(release.place.client.clone(), &release.place.name);
    policies.delete("patchbay-gateway", &DeleteParams::default()).await?;
    until("the policy is gone from the node", async || {
        Ok(release.place.helm(&["test", RELEASE]).await.is_err())
    })
    .await?;
    let missing = condition(&release).await?.context("no condition")?;
    ensure!(missing.status == ConditionStatus::False, "{missing:?}");
    ensure!(missing.reason == "ForbiddenPortReached", "{missing:?}");
    ensure!(roles.get_opt("patchbay-verify-test").await?.is_none());
    release.end().await
}
