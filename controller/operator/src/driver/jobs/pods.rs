//! Writes to pods: create, mark as bound, delete.

use super::{Of, Outcome, failed};
use crate::{
    driver::{context::Context, metrics::WriteKind, writes::WriteError},
    params::{patch, post},
    worker_class::plan::PodRef,
};
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, Preconditions};
use patchbay_core::id::Incarnation;
use patchbay_crds::marks::{BOUND, TRUE};
use serde_json::json;
use std::time::Duration;

/// Pods that are created at one time.
const AT_ONCE: usize = 16;

/// Creates `count` pods.
pub(in crate::driver) async fn create(context: &Context, pod: Pod, count: usize) -> Outcome {
    let params = post();
    let answers: Vec<_> = stream::iter(0..count)
        .map(|_| context.writes.send(WriteKind::CreatePod, context.apis.pods.create(&params, &pod)))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let (mut pods, mut refused, mut is_incomplete) = (Vec::new(), None, false);
    for answer in answers {
        match answer {
            Ok(pod) => pods.extend(pod.metadata.uid.and_then(|uid| Incarnation::parse(uid).ok())),
            Err(error) => {
                tracing::warn!(error = error.text(), "a worker's pod was not created");
                context.metrics.failed(error.category());
                match error {
                    WriteError::Refused(status) => refused = Some(status.message),
                    _ => is_incomplete = true,
                }
            }
        }
    }
    Outcome::Created { pods, refused, is_incomplete }
}

/// Marks a worker as one that has a tenant.
pub(in crate::driver) async fn mark_bound(context: &Context, pod: &PodRef) -> Outcome {
    let mark = json!({
        "metadata": { "uid": pod.uid.as_str(), "labels": { (BOUND): TRUE } },
    });
    let (params, mark) = (patch(), Patch::Merge(mark));
    let request = context.apis.pods.patch(&pod.name, &params, &mark);
    match context.writes.send(WriteKind::MarkBound, request).await {
        Ok(pod) => {
            context.cache.put_pod(pod);
            Outcome::Done
        }
        Err(error) => {
            failed(context, &error, Of::Pod(&pod.name), "a worker was not marked as bound")
        }
    }
}

/// How a pod is deleted.
#[derive(Debug, Default)]
pub(in crate::driver) struct Deletion {
    /// Only as it was seen: of this resource version.
    pub(in crate::driver) only_if: Option<String>,
    /// What its containers may take; none = what the pod says, in which they may end in order.
    pub(in crate::driver) within: Option<Duration>,
}

/// Deletes a pod: this life of it.
pub(in crate::driver) async fn delete(
    context: &Context,
    pod: &PodRef,
    Deletion { only_if, within }: Deletion,
) -> Outcome {
    let preconditions = Preconditions { uid: Some(pod.uid.to_string()), resource_version: only_if };
    let params = DeleteParams {
        preconditions: Some(preconditions),
        grace_period_seconds: within.and_then(|within| within.as_secs().try_into().ok()),
        ..DeleteParams::default()
    };
    let request = context.apis.pods.delete(&pod.name, &params);
    match context.writes.send(WriteKind::DeletePod, request).await {
        Ok(deleted) => {
            if let Some(pod) = deleted.left() {
                context.cache.put_pod(pod);
            }
            Outcome::Done
        }
        Err(error) => failed(context, &error, Of::Pod(&pod.name), "a pod was not deleted"),
    }
}
