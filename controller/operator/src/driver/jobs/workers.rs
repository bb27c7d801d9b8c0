//! What is said to workers over their links: enrol, ask, retire, drain.

use super::{
    Outcome,
    pods::{self, Deletion},
};
use crate::{
    build::service_account,
    driver::{context::Context, metrics::WriteKind, writes::WriteError},
    enrol::{self, Expected, Refusal, Verdict},
    link::{Connection, LinkError, Retired},
    observe::{Latched, Said},
    params::{patch, post},
    worker_class::plan::PodRef,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus},
    core::v1::Pod,
};
use kube::api::Patch;
use patchbay_core::{chain::Chain, pin::Fingerprint};
use patchbay_crds::marks::{FINGERPRINT, LINK_PORT};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::time::timeout;

/// What a worker may take to finish and to say its last words, where its tenant may not have it any more.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What its containers may take to end after that, with which five seconds are kept.
const CUT_WITHIN: Duration = Duration::from_secs(3);

/// Tries to record a key on a pod whose other fields change meanwhile.
const TRIES: usize = 4;

/// A worker to be asked.
#[derive(Debug, Clone)]
pub(in crate::driver) struct Worker {
    pub(in crate::driver) pod: PodRef,
    pub(in crate::driver) ip: IpAddr,
    /// The recorded key.
    pub(in crate::driver) fingerprint: Option<String>,
    /// The version of the pod that this was read from.
    pub(in crate::driver) version: String,
}

/// Why a worker was not enrolled.
#[derive(Debug, thiserror::Error)]
enum EnrolError {
    #[error("it was not asked")]
    Link(#[from] LinkError),
    #[error("it is not who it should be")]
    Refused(#[from] Refusal),
    #[error("the cluster did not say whose its token is, or take its key")]
    Write(#[from] WriteError),
    #[error("the pod changed while it was asked")]
    Changed,
}

/// Finds out whose the key at the pod's address is, and records it.
pub(in crate::driver) async fn enrol(context: &Context, worker: &Worker) -> Outcome {
    let pod = worker.pod.name.as_str();
    match try_enrol(context, worker).await {
        Ok(()) => {
            tracing::info!(pod, "enrolled");
            context.metrics.enrolled("recorded");
            Outcome::Heard
        }
        Err(EnrolError::Refused(refusal)) => {
            tracing::warn!(pod, %refusal, "refused to enrol");
            context.metrics.enrolled("refused");
            if refusal.is_final() {
                Outcome::Refused(refusal.to_string())
            } else {
                Outcome::Unreachable
            }
        }
        Err(error) => {
            tracing::info!(pod, error = %Chain(&error), "could not enrol, it is tried again");
            context.metrics.enrolled("failed");
            Outcome::Unreachable
        }
    }
}

async fn try_enrol(context: &Context, worker: &Worker) -> Result<(), EnrolError> {
    let connection = context.dialer.dial(address(worker)).await?;
    let token = connection.token().await?;
    let review = review(context, &token).await?;
    let expected = Expected {
        namespace: &context.settings.namespace,
        pod: &worker.pod.name,
        uid: &worker.pod.uid,
        service_account: service_account::NAME,
        audience: &context.settings.audience,
        recorded: worker.fingerprint.as_deref(),
    };
    match enrol::verify(&expected, &review, connection.fingerprint)? {
        Verdict::AlreadyRecorded => Ok(()),
        Verdict::Record(key) => record(context, worker, key).await,
    }
}

async fn review(context: &Context, token: &SecretString) -> Result<TokenReviewStatus, WriteError> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.expose_secret().to_owned()),
            audiences: Some(vec![context.settings.audience.clone()]),
        },
        ..TokenReview::default()
    };
    let params = post();
    let request = context.apis.reviews.create(&params, &review);
    let answer = context.writes.send(WriteKind::ReviewToken, request).await?;
    Ok(answer.status.unwrap_or_default())
}

/// Records the key on the pod as it was when it was dialled. A pod's status changes all the time while it starts: as
/// long as it is the same life at the same address without a key, what was decided holds.
async fn record(context: &Context, worker: &Worker, key: Fingerprint) -> Result<(), EnrolError> {
    let mut version = worker.version.clone();
    for _ in 0..TRIES {
        let change = json!({ "metadata": {
            "uid": worker.pod.uid.as_str(), "resourceVersion": version,
            "annotations": { (FINGERPRINT): key.to_string() },
        } });
        let (params, change) = (patch(), Patch::Merge(change));
        let request = context.apis.pods.patch(&worker.pod.name, &params, &change);
        match context.writes.send(WriteKind::RecordKey, request).await {
            Ok(pod) => {
                context.cache.put_pod(pod);
                return Ok(());
            }
            Err(WriteError::Conflict) => {
                let pod = context.apis.pods.get_opt(&worker.pod.name).await;
                let pod = pod.map_err(WriteError::from)?.ok_or(EnrolError::Changed)?;
                if !is_as_dialled(&pod, worker) {
                    return Err(EnrolError::Changed);
                }
                version = pod.metadata.resource_version.unwrap_or_default();
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(EnrolError::Changed)
}

fn is_as_dialled(pod: &Pod, worker: &Worker) -> bool {
    let metadata = &pod.metadata;
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse::<IpAddr>().ok());
    metadata.uid.as_deref() == Some(worker.pod.uid.as_str())
        && metadata.deletion_timestamp.is_none()
        && !metadata.annotations.as_ref().is_some_and(|all| all.contains_key(FINGERPRINT))
        && ip == Some(worker.ip)
}

/// Asks it for its status.
pub(in crate::driver) async fn inquire(context: &Context, worker: &Worker) -> Outcome {
    let asked = Timestamp::now();
    let status = async { dial(context, worker).await?.status().await };
    match status.await {
        Ok(status) => match Said::of(&status, asked) {
            Some(said) => Outcome::Said(said),
            None => unreachable(context, worker, &LinkError::Unreadable),
        },
        Err(error) => unreachable(context, worker, &error),
    }
}

/// Asks it to leave if it is nobody's.
pub(in crate::driver) async fn retire(context: &Context, worker: &Worker) -> Outcome {
    let asked = Timestamp::now();
    let answer = async { dial(context, worker).await?.retire().await };
    match answer.await {
        Ok(Retired::Leaving) => Outcome::Said(Said { at: asked, latch: Latched::Leaving }),
        Ok(Retired::Bound) => Outcome::Contradicted,
        Err(error) => unreachable(context, worker, &error),
    }
}

/// Asks it to finish and leave. One that cannot be asked is ended through its pod, which asks for the same: that its
/// tenant is out is proven.
pub(in crate::driver) async fn drain(context: &Context, worker: &Worker) -> Outcome {
    let asked = Timestamp::now();
    let answer = async { dial(context, worker).await?.drain().await };
    match answer.await {
        Ok(()) => Outcome::Said(Said { at: asked, latch: Latched::Leaving }),
        Err(error) => {
            context.metrics.failed("link");
            tracing::warn!(pod = worker.pod.name, error = %Chain(&error), "could not be asked to leave: its pod is deleted");
            pods::delete(context, &worker.pod, Deletion::default()).await
        }
    }
}

/// Ends one whose tenant may not have it any more, within the five seconds that are promised: it finishes what takes no
/// longer than its last words, and then its pod is deleted, which cuts the rest.
pub(in crate::driver) async fn end(context: &Context, worker: &Worker) -> Outcome {
    let left = async {
        dial(context, worker).await?.drain().await?;
        // one that it took before may end at once; one that it takes now, when its calls have ended
        if let Ok(mut connection) = dial(context, worker).await {
            connection.closed().await;
        }
        Ok::<_, LinkError>(())
    };
    match timeout(LAST_WORDS, left).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            context.metrics.failed("link");
            tracing::warn!(pod = worker.pod.name, error = %Chain(&error), "could not be asked to leave");
        }
        Err(_) => tracing::info!(pod = worker.pod.name, "what it does is cut"),
    }
    let deletion = Deletion { only_if: None, within: Some(CUT_WITHIN) };
    pods::delete(context, &worker.pod, deletion).await
}

/// Asks it to leave at its next idle moment.
pub(in crate::driver) async fn ask_to_leave(context: &Context, worker: &Worker) -> Outcome {
    let answer = async { dial(context, worker).await?.drain_when_idle().await };
    match answer.await {
        Ok(()) => Outcome::AskedToLeave,
        Err(error) => unreachable(context, worker, &error),
    }
}

/// Connects to the worker whose key is recorded, and to nobody else.
async fn dial(context: &Context, worker: &Worker) -> Result<Connection, LinkError> {
    let recorded = worker.fingerprint.as_deref().and_then(|text| Fingerprint::parse(text).ok());
    context.dialer.dial_pinned(address(worker), recorded.ok_or(LinkError::NoKey)?).await
}

const fn address(worker: &Worker) -> SocketAddr {
    SocketAddr::new(worker.ip, LINK_PORT)
}

fn unreachable(context: &Context, worker: &Worker, error: &LinkError) -> Outcome {
    context.metrics.failed("link");
    tracing::info!(pod = worker.pod.name, error = %Chain(error), "could not be asked, it is tried again");
    Outcome::Unreachable
}
