//! What statuses say: what others wrote there stays, and what is wrong is named.

use super::{
    unseen::Way,
    world::{World, is, tenant},
};
use anyhow::{Context, ensure};
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use patchbay_crds::{
    API_VERSION,
    condition::ConditionStatus,
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
