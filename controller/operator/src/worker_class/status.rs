//! From a view of a class and the plan for it to the status that is shown; none where nothing has changed, so that
//! nothing is written.
//!
//! Counts are of what is seen, conditions say why. This module decides nothing about workers.

use super::{advice::Advice, backoff::Backoff, plan::Plan, supply, view::View};
use crate::{
    observe::{Latched, Life, ObservedPod, Trouble},
    total::bounded,
};
use jiff::Timestamp;
use patchbay_core::id::Incarnation;
use patchbay_crds::{
    condition::{Condition, ConditionStatus, set_condition},
    validate::FieldError,
    worker_class::WorkerClassStatus,
};
use std::collections::BTreeSet;

/// Whether a new user gets a worker.
pub const READY: &str = "Ready";
/// Whether the pool is on its way to what is wanted.
pub const PROGRESSING: &str = "Progressing";

const MOST_MESSAGE: usize = 1024;

/// How many workers of what kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    warm: usize,
    starting: usize,
    bound: usize,
    draining: usize,
    old: usize,
    waiting: usize,
}

/// The status that follows from a view, if it is not `known` already.
pub fn status(
    view: &View<'_>,
    plan: &Plan,
    advice: &[Advice],
    selector: &str,
    generation: Option<i64>,
    known: &WorkerClassStatus,
) -> Option<WorkerClassStatus> {
    let counts = count(view);
    let mut next = WorkerClassStatus {
        warm: number(counts.warm),
        bound: number(counts.bound),
        draining: number(counts.draining),
        tenants: number(view.tenants.iter().filter(|tenant| tenant.usable).count()),
        waiting: number(counts.waiting),
        selector: Some(selector.into()),
        observed_generation: generation,
        conditions: known.conditions.clone(),
    };
    let (status, reason, message) = ready(view, &counts, &plan.backoff);
    set(&mut next, READY, status, &reason, &message, generation, view.now);
    let (status, reason, message) = progressing(view, &counts, &plan.backoff);
    set(&mut next, PROGRESSING, status, reason, &message, generation, view.now);
    for Advice { condition, status, reason, message } in advice {
        set(&mut next, condition, *status, reason, message, generation, view.now);
    }
    (next != *known).then_some(next)
}

/// Why a class cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// One CamelCase word.
    pub reason: &'static str,
    /// For people: what is wrong, where, and what to do.
    pub message: String,
}

impl Unusable {
    /// What is written is wrong.
    pub fn invalid(errors: &[FieldError]) -> Self {
        let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Self { reason: "InvalidSpec", message: text.join(". ") }
    }
}

/// The status of a class that cannot be used as it is. Its workers stay as they are, and so do the counts.
pub fn unusable(
    why: &Unusable,
    generation: Option<i64>,
    known: &WorkerClassStatus,
    now: Timestamp,
) -> Option<WorkerClassStatus> {
    let mut next = WorkerClassStatus { observed_generation: generation, ..known.clone() };
    for condition in [READY, PROGRESSING] {
        let no = ConditionStatus::False;
        set(&mut next, condition, no, why.reason, &why.message, generation, now);
    }
    (next != *known).then_some(next)
}

fn set(
    next: &mut WorkerClassStatus,
    condition: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let condition = Condition {
        type_: condition.into(),
        status,
        reason: reason.into(),
        message: bounded(message, MOST_MESSAGE),
        last_transition_time: now,
        observed_generation: generation,
    };
    set_condition(&mut next.conditions, condition);
}

fn count(view: &View<'_>) -> Counts {
    let named: BTreeSet<&Incarnation> =
        view.tenants.iter().filter_map(|tenant| tenant.assigned()).map(|a| &a.uid).collect();
    let mut counts = Counts {
        waiting: view.tenants.iter().filter(|t| t.waits(view.pace.hold, view.now)).count(),
        ..Counts::default()
    };
    for pod in view.pods {
        let said = pod.known.said.as_ref().map(|said| &said.latch);
        match (&pod.life, said) {
            (Life::Finished(_) | Life::Failed { .. }, _) => {}
            (Life::Leaving, _) | (_, Some(Latched::Leaving)) => counts.draining += 1,
            (_, Some(Latched::Bound(_))) => counts.bound += 1,
            _ if pod.marked_bound || named.contains(&pod.uid) => counts.bound += 1,
            _ if pod.revision != view.revision => counts.old += 1,
            (Life::Up, _) if pod.ready_since.is_some() && is_on_open_node(view, pod) => {
                counts.warm += 1;
            }
            _ => counts.starting += 1,
        }
    }
    counts
}

fn is_on_open_node(view: &View<'_>, pod: &ObservedPod) -> bool {
    pod.node.as_ref().is_none_or(|node| !view.cordoned.contains(node))
}

fn ready(view: &View<'_>, counts: &Counts, backoff: &Backoff) -> (ConditionStatus, String, String) {
    if counts.warm > 0 {
        let message = format!("{} of {} warm workers are ready", counts.warm, view.warm);
        return (ConditionStatus::True, "Available".into(), message);
    }
    if let Some(trouble) = trouble(view) {
        return (ConditionStatus::False, trouble.reason.clone(), trouble.message.clone());
    }
    if backoff.failures > 0 {
        return (ConditionStatus::False, backoff.reason.clone(), backoff.message.clone());
    }
    if supply::wanted(view) == 0 {
        let message = "no worker is kept ready; one is started for each user who comes";
        return (ConditionStatus::True, "OnDemand".into(), message.into());
    }
    let message = format!("{} workers are starting", counts.starting);
    (ConditionStatus::False, "Starting".into(), message)
}

/// What holds up the pods that should be ready, in the words that the most recent one has for it.
fn trouble<'v>(view: &View<'v>) -> Option<&'v Trouble> {
    let of_revision = view.pods.iter().filter(|pod| pod.revision == view.revision);
    let held_up = of_revision.filter_map(|pod| match &pod.life {
        Life::Starting { trouble, .. } => Some((pod.created, trouble.as_ref()?)),
        _ => None,
    });
    held_up.max_by_key(|(created, _)| *created).map(|(_, trouble)| trouble)
}

fn progressing(
    view: &View<'_>,
    counts: &Counts,
    backoff: &Backoff,
) -> (ConditionStatus, &'static str, String) {
    let missing = supply::wanted(view).saturating_sub(counts.warm);
    if missing > 0 && backoff.failures > 0 {
        let failures = backoff.failures;
        let message = format!(
            "{failures} starts failed in a row, the last one for {}: {}; it is tried again, more and more \
             rarely",
            backoff.reason, backoff.message
        );
        return (ConditionStatus::False, "BackingOff", message);
    }
    if missing > 0 {
        let message = format!("{missing} more workers are wanted");
        return (ConditionStatus::True, "StartingWorkers", message);
    }
    if counts.old > 0 {
        let message = format!("{} workers of another revision are retired", counts.old);
        return (ConditionStatus::True, "RetiringOldWorkers", message);
    }
    (ConditionStatus::False, "Settled", "there are as many workers as are wanted".into())
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
