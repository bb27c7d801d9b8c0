//! What workers need before they come, in the order in which it must be there: the account, the budget, the class's
//! network policy, and the boot documents of its revision. Applied on the server, by one field manager.

use super::{context::Context, metrics::WriteKind, writes::WriteError};
use crate::{
    build::{self, ClassRef, disruption_budget, network_policy, service_account},
    params::apply,
    total::after,
    worker_class::status::Unusable,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{PartialObjectMeta, Patch},
};
use patchbay_core::class;
use patchbay_crds::{WorkerClass, validate};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, time::Duration};

/// How often it is checked that nobody changed what was applied.
const CHECK_EVERY: Duration = Duration::from_mins(5);

/// A class whose workers can come.
pub(super) struct Prepared {
    /// The life and generation of the object that this was made of.
    of: (Option<String>, Option<i64>),
    pub(super) class: class::WorkerClass,
    pub(super) revision: String,
    /// What each of its workers is created from.
    pub(super) pod: Pod,
    check_at: Timestamp,
    applied: [Applied; 2],
}

/// An object as it was when it was applied.
struct Applied {
    name: String,
    version: Option<String>,
}

/// What all classes need.
pub(super) async fn installation(context: &Context) -> Result<(), WriteError> {
    let settings = &context.settings;
    put(context, &context.apis.accounts, &service_account::service_account(settings)).await?;
    let budget = disruption_budget::disruption_budget(settings);
    put(context, &context.apis.budgets, &budget).await?;
    Ok(())
}

impl Prepared {
    /// Whether it was made of this object as it is, and needs no check.
    pub(super) fn is_current(&self, object: &WorkerClass, now: Timestamp) -> bool {
        self.of == (object.uid(), object.metadata.generation) && now < self.check_at
    }

    /// Makes it of a class, and puts into the cluster what is not there as it should be.
    pub(super) async fn make(
        context: &Context,
        object: &WorkerClass,
        before: Option<&Self>,
        now: Timestamp,
    ) -> Result<Self, Unusable> {
        let class = validate::worker_class::validate(object)
            .map_err(|errors| Unusable::invalid(&errors))?;
        let uid = object.uid().unwrap_or_default();
        let reference = ClassRef { class: &class, uid: &uid };
        let worker = build::worker(reference, &context.settings)
            .map_err(|error| Unusable { reason: "InvalidSpec", message: error.to_string() })?;
        let policy = network_policy::network_policy(reference, &context.settings);
        let failed = |error: WriteError| {
            context.metrics.failed("apply");
            Unusable { reason: "NotApplied", message: error.text() }
        };
        let [policy_before, boot_before] = match before {
            Some(before) => before.applied.each_ref().map(Some),
            None => [None, None],
        };
        let of = (object.uid(), object.metadata.generation);
        let is_same = before.is_some_and(|before| before.of == of);
        let applied = [
            keep(context, &context.apis.policies, &policy, policy_before.filter(|_| is_same))
                .await
                .map_err(failed)?,
            keep(context, &context.apis.maps, &worker.boot, boot_before.filter(|_| is_same))
                .await
                .map_err(failed)?,
        ];
        Ok(Self {
            of,
            revision: worker.revision,
            pod: worker.pod,
            class,
            check_at: after(now, CHECK_EVERY),
            applied,
        })
    }
}

/// Applies an object unless it is as it was after it was applied last.
async fn keep<K>(
    context: &Context,
    api: &Api<K>,
    object: &K,
    before: Option<&Applied>,
) -> Result<Applied, WriteError>
where
    K: ResourceExt + Serialize + DeserializeOwned + Clone + Debug,
{
    if let Some(before) = before.filter(|before| before.name == object.name_any()) {
        let found: Option<PartialObjectMeta<K>> = api.get_metadata_opt(&before.name).await?;
        let version = found.and_then(|found| found.metadata.resource_version);
        if version.is_some() && version == before.version {
            return Ok(Applied { name: before.name.clone(), version });
        }
    }
    put(context, api, object).await
}

async fn put<K>(context: &Context, api: &Api<K>, object: &K) -> Result<Applied, WriteError>
where
    K: ResourceExt + Serialize + DeserializeOwned + Clone + Debug,
{
    let name = object.name_any();
    let (params, change) = (apply(), Patch::Apply(object));
    let applied = context.writes.send(WriteKind::Apply, api.patch(&name, &params, &change)).await?;
    Ok(Applied { name, version: applied.resource_version() })
}
