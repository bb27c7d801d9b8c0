//! No worker that has a tenant is evicted: it leaves when it is idle, or is asked to by its operator.
//!
//! `maxUnavailable: 0` would not say that. A pod's controller is its class, which has a scale subresource,
//! and Kubernetes would take the class's `warm` for the number of pods that there should be: with one warm and
//! ten bound workers, nine could be evicted. A number of pods that must be available asks for no controller.

use super::{
    labels::{self, BOUND, TRUE},
    metadata::matching,
};
use crate::settings::Settings;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

/// Its name.
pub const NAME: &str = "patchbay-bound-workers";

/// The budget of all workers that have a tenant, of whatever class.
pub fn disruption_budget(settings: &Settings) -> PodDisruptionBudget {
    let mut bound = labels::common();
    bound.extend(labels::of([(BOUND, TRUE)]));
    PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(settings.namespace.clone()),
            labels: Some(labels::common()),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::MAX)),
            selector: Some(matching(bound)),
            // Not Ready is no worker's end: it may well serve its user (ADR 12). As there are never as many available as
            // must be, it is not evicted either. One that has ended holds up nothing: no budget protects it.
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_worker_must_stay_available_however_many_there_are() {
        let budget = disruption_budget(&Settings::new("patchbay", "worker:1"));
        let spec = budget.spec.as_ref().unwrap();
        assert_eq!(spec.min_available, Some(IntOrString::Int(i32::MAX)));
        assert_eq!(spec.max_unavailable, None);
        let selector = spec.selector.as_ref().unwrap().match_labels.as_ref().unwrap();
        assert_eq!(selector["patchbay.dev/bound"], "true");
        insta::assert_yaml_snapshot!(budget);
    }
}
