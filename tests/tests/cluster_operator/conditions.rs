//! What statuses say: what others wrote there stays.

use super::{
    unseen::Way,
    world::{World, is},
};
use anyhow::{Context, ensure};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use patchbay_crds::{API_VERSION, condition::ConditionStatus};
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
