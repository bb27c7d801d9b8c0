//! Writes about a class itself: its status, and what is left of its earlier revisions.

use super::{Of, Outcome, failed, pods};
use crate::{
    build::labels::{self, REVISION},
    driver::{context::Context, metrics::WriteKind, writes::WriteError},
    params::patch,
    worker_class::{plan::PodRef, status::READY},
};
use kube::{
    Resource as _,
    api::{DeleteParams, ListParams, Patch, Preconditions},
    runtime::events::{Event, EventType},
};
use patchbay_core::id::ClassName;
use patchbay_crds::{
    WorkerClass,
    condition::{Condition, ConditionStatus},
    worker_class::WorkerClassStatus,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Writes the status, and tells of a change of why the class is ready or not. Nothing is written if the class has changed
/// since: conditions are one list, and in it may be another program's by now.
pub(in crate::driver) async fn status(
    context: &Context,
    class: &WorkerClass,
    next: &WorkerClassStatus,
) -> Outcome {
    let name = class.metadata.name.as_deref().unwrap_or_default();
    let uid = class.metadata.uid.as_deref().unwrap_or_default();
    let version = class.metadata.resource_version.as_deref().unwrap_or_default();
    let change = json!({ "metadata": { "uid": uid, "resourceVersion": version }, "status": next });
    let (params, change) = (patch(), Patch::<Value>::Merge(change));
    let request = context.apis.classes.patch_status(name, &params, &change);
    match context.writes.send(WriteKind::ClassStatus, request).await {
        Ok(class) => context.cache.put_class(class),
        Err(error) => {
            return failed(
                context,
                &error,
                Of::Class(name),
                "the status of a class was not written",
            );
        }
    }
    let ready = |status: &WorkerClassStatus| {
        status.conditions.iter().find(|condition| condition.type_ == READY).cloned()
    };
    let Some(now) = ready(next) else { return Outcome::Done };
    let before = class.status.as_ref().and_then(ready);
    if before.is_none_or(|before: Condition| before.reason != now.reason) {
        tell(context, class, now).await;
    }
    Outcome::Done
}

async fn tell(context: &Context, class: &WorkerClass, ready: Condition) {
    let is_bad = ready.status == ConditionStatus::False && ready.reason != "Starting";
    let event = Event {
        type_: if is_bad { EventType::Warning } else { EventType::Normal },
        reason: ready.reason,
        note: Some(ready.message),
        action: "Observed".into(),
        secondary: None,
    };
    let reference = class.object_ref(&());
    let request = context.recorder.publish(&event, &reference);
    if let Err(error) = context.writes.send(WriteKind::Event, request).await {
        context.metrics.failed(error.category());
        tracing::debug!(error = error.text(), "an Event was not recorded");
    }
}

/// Deletes the boot documents of all revisions but those in `used`.
pub(in crate::driver) async fn sweep_boots(
    context: &Context,
    class: &ClassName,
    used: &BTreeSet<String>,
) -> Outcome {
    let selector = labels::selector(class);
    let selector: Vec<String> =
        selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let params = ListParams::default().labels(&format!("{},{REVISION}", selector.join(",")));
    let maps = match context.apis.maps.list_metadata(&params).await.map_err(WriteError::from) {
        Ok(maps) => maps,
        Err(error) => {
            return failed(
                context,
                &error,
                Of::Class(class.as_str()),
                "boot documents cannot be listed",
            );
        }
    };
    for map in maps {
        let revision = map.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION));
        let (Some(name), false) = (&map.metadata.name, revision.is_none_or(|it| used.contains(it)))
        else {
            continue;
        };
        let preconditions = Preconditions { uid: map.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let request = context.apis.maps.delete(name, &params);
        if let Err(error) = context.writes.send(WriteKind::DeleteBoot, request).await {
            return failed(
                context,
                &error,
                Of::Class(class.as_str()),
                "boot documents were not deleted",
            );
        }
    }
    Outcome::Done
}

/// Ends the worker of a class that there is none of, after a look that is no cache's. Deleting its pod lets it finish
/// what is in flight.
pub(in crate::driver) async fn end_orphan(context: &Context, class: &str, pod: &PodRef) -> Outcome {
    match context.apis.classes.get_metadata_opt(class).await.map_err(WriteError::from) {
        Ok(None) => {
            tracing::info!(class, pod = pod.name, "deleted: its class is gone");
            pods::delete(context, pod, pods::Deletion::default()).await
        }
        Ok(Some(_)) => Outcome::Done,
        Err(error) => failed(context, &error, Of::Class(class), "a class could not be looked up"),
    }
}
