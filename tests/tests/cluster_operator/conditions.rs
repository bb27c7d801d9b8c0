//! What statuses say: what others wrote there stays, and what is wrong is named.

use super::{
    unseen::Way,
    world::{World, is, tenant},
};
use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_crds::{
    API_VERSION,
    condition::{Condition, ConditionStatus},
    tenant::{Phase, TenantAssignment},
};
use patchbay_tests::{
    evidence::Evidence as _,
    pods::{OperatorProcess, Stage, watched},
};
use serde_json::json;

#[tokio::test]
async fn what_another_program_says_of_a_class_outlives_a_status_that_was_decided_without_it()
-> anyhow::Result<()> {
    let stage = Stage::bare("op-condition").await?;
    let way = Way::to(&stage.place.cluster).await?;
    let operator = OperatorProcess::start_by_way_of(&stage, &way.kubeconfig())?;
    let world = World { stage, operator };
    world.stage.declare("tools", json!({ "warm": 0 })).await?;
    world.condition("tools", |it| is(it, "Ready", ConditionStatus::True, "OnDemand")).await?;

    way.hide_classes();
    // as `patchbay verify` does
    let condition = json!({
        "type": "NetworkPolicyEnforced", "status": "True", "reason": "ForbiddenPortUnreachable",
        "message": "", "lastTransitionTime": Timestamp::now(), "observedGeneration": 1,
    });
    let said = Patch::Apply(json!({
        "apiVersion": API_VERSION, "kind": "WorkerClass", "status": { "conditions": [condition] },
    }));
    let params = PatchParams::apply("patchbay-verify").force();
    world.classes().patch_status("tools", &params, &said).await?;
    let sent = way.next_status();
    world.provision("tools", "alice", true).await?;
    sent.await.with_logs(|| world.operator.text())?;
    way.show_classes();
    let class = watched::one(world.classes(), "tools", "its tenant is counted", |class| {
        let status = class.and_then(|class| class.status.as_ref());
        status.is_some_and(|status| status.tenants == 1)
    });
    let class = class.await.with_logs(|| world.operator.text())?.context("it is gone")?;
    let conditions = class.status.map(|status| status.conditions).unwrap_or_default();
    let is_kept = conditions.iter().any(|it| {
        is(it, "NetworkPolicyEnforced", ConditionStatus::True, "ForbiddenPortUnreachable")
    });
    ensure!(is_kept, "it is lost: {conditions:?}");
    ensure!(conditions.iter().any(|it| it.type_ == "Ready"), "{conditions:?}");
    world.end().await
}

#[tokio::test]
async fn a_range_that_a_class_lists_and_no_worker_reaches_is_named_with_the_one_that_withholds_it()
-> anyhow::Result<()> {
    let world = World::make("op-withheld").await?;
    let settings = world.stage.settings();
    let own = settings.cluster_ranges.first().context("the cluster has ranges")?.to_string();
    let egress = |cidrs: &[&str]| json!({ "warm": 0, "egress": { "cidrs": cidrs } });
    let told = async |status, reason| {
        let is_told = |it: &Condition| is(it, "EgressReachable", status, reason);
        let class = world.condition("tools", is_told).await?;
        let conditions = class.status.context("no status")?.conditions;
        let told = conditions.into_iter().find(is_told).context("no condition")?;
        anyhow::Ok(told.message)
    };
    let metadata = "169.254.169.254/32";
    world.stage.declare("tools", egress(&["192.0.2.0/24", &own, metadata])).await?;
    let message = told(ConditionStatus::False, "RangesWithheld").await?;
    for named in [
        format!("{own} (in {own}), which cluster.ranges says"),
        format!("{metadata} (in 169.254.0.0/16)"),
    ] {
        ensure!(message.contains(&named), "{message}");
    }
    ensure!(!message.contains("192.0.2.0/24"), "{message}");
    // the policy is made of the same decision
    let policies =
        Api::<NetworkPolicy>::namespaced(world.stage.place.client.clone(), &world.stage.place.name);
    let policy = policies.get("patchbay-worker-tools").await?;
    let text = serde_json::to_string(&policy.spec)?;
    ensure!(text.contains("192.0.2.0/24") && !text.contains(&own), "{text}");
    ensure!(!text.contains(metadata), "{text}");
    let described = world.stage.place.kubectl(&["describe", "workerclass", "tools"]).await?;
    ensure!(described.contains("RangesWithheld"), "{described}");

    // what is wider and has them is the usual case
    world.change("tools", egress(&["0.0.0.0/0"])).await?;
    let message = told(ConditionStatus::True, "RangesListed").await?;
    ensure!(message.contains("less the cluster's own ranges"), "{message}");
    ensure!(message.contains(&own), "{message}");
    world.end().await
}

#[tokio::test]
async fn a_tenant_under_anothers_name_is_never_used_and_is_told_its_own() -> anyhow::Result<()> {
    let world = World::make("op-misnamed").await?;
    world.stage.declare("tools", json!({ "warm": 0 })).await?;
    let (mut alices, bobs) = (tenant("tools", "alice", false)?, tenant("tools", "bob", false)?);
    let (own, anothers) = (alices.name_any(), bobs.name_any());
    alices.metadata.name = Some(anothers.clone());
    alices.spec.assignment = Some(TenantAssignment {
        worker: String::new(),
        uid: String::new(),
        epoch: 1,
        requested_at: Some(Timestamp::now()),
    });
    world.tenants().create(&PostParams::default(), &alices).await?;
    let told = world.tenant(&anothers, "it is told", |it| {
        let status = it.status.as_ref();
        status.is_some_and(|status| {
            status.conditions.iter().any(|condition| {
                is(condition, "NameMismatch", ConditionStatus::True, "NotDerived")
                    && condition.message.contains(&format!("`{own}`"))
            })
        })
    });
    let status = told.await?.status.context("no status")?;
    ensure!(status.phase == Some(Phase::Failed), "{status:?}");
    ensure!(status.reason.as_deref() == Some("NameMismatch"), "{status:?}");

    // it counts for nothing, and nobody comes for its user
    world.provision("tools", "carol", true).await?;
    let counted = watched::one(world.classes(), "tools", "the other one is counted", |class| {
        let status = class.and_then(|class| class.status.as_ref());
        status.is_some_and(|status| (status.tenants, status.waiting) == (1, 0))
    });
    counted.await.with_logs(|| world.operator.text())?;
    ensure!(!world.operator.has_logged(|line| line["message"] == "workers are created"));
    world.end().await
}
