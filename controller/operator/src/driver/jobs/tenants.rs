//! Writes to tenants: the end of an assignment, the status, and forgetting.

use super::{Of, Outcome, failed};
use crate::{
    driver::{context::Context, metrics::WriteKind},
    observe::Trouble,
    params::patch,
    worker_class::cleared,
};
use json_patch::{Patch as JsonPatch, PatchOperation};
use kube::{
    Resource as _,
    api::{DeleteParams, Patch, Preconditions},
    runtime::events::{Event, EventType},
};
use patchbay_core::id::{Epoch, Incarnation, TenantUid};
use patchbay_crds::{
    Tenant,
    tenant::{Phase, TenantStatus},
};
use serde_json::{Value, json};

/// The usual course of every contact: an Event of each would cost more writes than the contact itself.
const UNTOLD: [&str; 6] =
    ["WorkerAssigned", "WorkerNotReady", "NoWarmWorker", "WorkerLeaving", "NeverCalled", "Resumed"];

/// Empties the assignment, if it still names this worker and epoch.
pub(in crate::driver) async fn clear(
    context: &Context,
    name: &str,
    tenant: &TenantUid,
    worker: &Incarnation,
    epoch: Epoch,
) -> Outcome {
    let operations: Result<Vec<PatchOperation>, _> = [
        json!({ "op": "test", "path": "/metadata/uid", "value": tenant.as_str() }),
        json!({ "op": "test", "path": "/spec/assignment/uid", "value": worker.as_str() }),
        json!({ "op": "test", "path": "/spec/assignment/epoch", "value": epoch.0 }),
        json!({ "op": "replace", "path": "/spec/assignment", "value": cleared(epoch) }),
    ]
    .into_iter()
    .map(serde_json::from_value)
    .collect();
    let operations = operations.unwrap_or_default();
    let (params, change) = (patch(), Patch::Json::<()>(JsonPatch(operations)));
    let request = context.apis.tenants.patch(name, &params, &change);
    match context.writes.send(WriteKind::ClearAssignment, request).await {
        Ok(tenant) => {
            context.cache.put_tenant(tenant);
            Outcome::Done
        }
        Err(error) => failed(context, &error, Of::Tenant(name), "an assignment was not cleared"),
    }
}

/// Writes the status, and tells of a change of its reason.
pub(in crate::driver) async fn status(
    context: &Context,
    tenant: &Tenant,
    next: &TenantStatus,
) -> Outcome {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    let uid = tenant.metadata.uid.as_deref().unwrap_or_default();
    let change = json!({ "metadata": { "uid": uid }, "status": next });
    let (params, change) = (patch(), Patch::<Value>::Merge(change));
    let request = context.apis.tenants.patch_status(name, &params, &change);
    match context.writes.send(WriteKind::TenantStatus, request).await {
        Ok(tenant) => context.cache.put_tenant(tenant),
        Err(error) => {
            return failed(context, &error, Of::Tenant(name), "a tenant's status was not written");
        }
    }
    tell(context, tenant, next).await;
    Outcome::Done
}

async fn tell(context: &Context, tenant: &Tenant, next: &TenantStatus) {
    let known = tenant.status.as_ref().and_then(|status| status.reason.as_deref());
    let Some(reason) = next.reason.as_deref() else { return };
    if known == Some(reason) || UNTOLD.contains(&reason) {
        return;
    }
    let condition = next.conditions.iter().find(|condition| condition.reason == reason);
    let event = Event {
        type_: if next.phase == Some(Phase::Failed) {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: reason.into(),
        note: condition.map(|condition| condition.message.clone()),
        action: "Observed".into(),
        secondary: None,
    };
    publish(context, tenant, &event).await;
}

/// Tells how a worker ended whose tenant has another one by now.
pub(in crate::driver) async fn tell_end(
    context: &Context,
    tenant: &Tenant,
    worker: &str,
    trouble: &Trouble,
) {
    let event = Event {
        type_: EventType::Warning,
        reason: trouble.reason.clone(),
        note: Some(format!("the user's worker {worker} ended: {}", trouble.message)),
        action: "Observed".into(),
        secondary: None,
    };
    publish(context, tenant, &event).await;
}

async fn publish(context: &Context, tenant: &Tenant, event: &Event) {
    let reference = tenant.object_ref(&());
    let request = context.recorder.publish(event, &reference);
    if let Err(error) = context.writes.send(WriteKind::Event, request).await {
        context.metrics.failed(error.category());
        tracing::debug!(error = error.text(), "an Event was not recorded");
    }
}

/// Deletes a tenant that has slept for long enough, if nothing of it has changed.
pub(in crate::driver) async fn forget(context: &Context, tenant: &Tenant) -> Outcome {
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    let preconditions = Preconditions {
        uid: tenant.metadata.uid.clone(),
        resource_version: tenant.metadata.resource_version.clone(),
    };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let request = context.apis.tenants.delete(name, &params);
    match context.writes.send(WriteKind::DeleteTenant, request).await {
        Ok(_) => {
            tracing::info!(tenant = name, "forgotten: it had slept for spec.forgetAfter");
            Outcome::Done
        }
        Err(error) => failed(context, &error, Of::Tenant(name), "a tenant was not forgotten"),
    }
}
