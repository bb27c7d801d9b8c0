//! How many anonymous workers there should be: creates those that are missing, retires those beyond.
//!
//! Wanted are the class's `warm` and one for every tenant that waits and may have one. This module must not know whose bound
//! workers are.

use super::{
    backoff::Backoff,
    lives,
    plan::{Action, Draft, ReapReason, RetireReason},
    view::View,
};
use crate::{
    observe::{Life, ObservedPod, Trouble},
    total::after,
};
use jiff::Timestamp;
use std::cmp::Reverse;

/// Plans the supply, given the workers that are free. Returns what to remember of failures.
pub(super) fn plan(view: &View<'_>, free: &[&ObservedPod], draft: &mut Draft) -> Backoff {
    let backoff = backoff(view);
    let wanted = wanted(view);
    let have = free.len().saturating_add(view.expected);
    if wanted > have {
        create(view, free, wanted - have, &backoff, draft);
    } else {
        // what is only expected may fail to come
        remove(view, free, free.len().saturating_sub(wanted), draft);
    }
    backoff
}

/// How many anonymous workers there should be.
pub(super) fn wanted(view: &View<'_>) -> usize {
    let waiting = view.tenants.iter().filter(|t| t.waits(view.pace.hold, view.now)).count();
    let assigned = view.tenants.iter().filter(|t| t.assigned().is_some()).count();
    let most =
        view.most_tenants.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let served = waiting.min(most.saturating_sub(assigned));
    usize::try_from(view.warm).unwrap_or(usize::MAX).saturating_add(served)
}

fn create(
    view: &View<'_>,
    free: &[&ObservedPod],
    missing: usize,
    backoff: &Backoff,
    draft: &mut Draft,
) {
    if backoff.not_before.is_some_and(|due| !draft.is_due(due)) {
        return;
    }
    let mut most = view.pace.creates;
    if backoff.is_cautious() {
        // what the last one comes to is not known yet
        let starts = |pod: &&ObservedPod| matches!(pod.life, Life::Starting { .. });
        if view.expected > 0 || free.iter().any(starts) {
            return;
        }
        most = 1;
    }
    // read from the pods themselves, so that it holds across operators
    let window = view.pace.window;
    let mut recent: Vec<Timestamp> =
        view.pods.iter().map(|pod| after(pod.created, window)).collect();
    recent.retain(|end| *end > view.now);
    let used = recent.len().saturating_add(view.expected);
    let count = missing.min(most).min(view.pace.creates_per_window.saturating_sub(used));
    if count < missing
        && let Some(end) = recent.iter().min()
    {
        draft.is_due(*end);
    }
    if count > 0 {
        draft.act(Action::Create(count));
    }
}

/// Lets `surplus` workers go: first those that have trouble to start, then those that are not Ready, then the
/// youngest. An older one has shown for longer that it works, and one that was just started may be awaited by a
/// client that comes back, so none goes before it has lingered.
fn remove(view: &View<'_>, free: &[&ObservedPod], surplus: usize, draft: &mut Draft) {
    let mut order = free.to_vec();
    order.sort_by_key(|pod| (usefulness(pod), Reverse(pod.created), &pod.uid));
    for pod in order.into_iter().take(surplus) {
        let since = match (&pod.life, pod.ready_since) {
            // it will be Ready or in trouble, and either is an event; no other goes in its place
            (Life::Starting { trouble: None, .. }, _) => continue,
            (Life::Up, Some(ready)) => ready,
            _ => pod.created,
        };
        if !draft.is_due(after(since, view.pace.linger)) {
            continue;
        }
        match pod.life {
            Life::Starting { .. } => draft.act(lives::reap(pod, ReapReason::Surplus)),
            // it is asked first whether it is nobody's
            _ if pod.known.said.is_none() => {}
            _ if pod.known.not_before.is_some_and(|due| !draft.is_due(due)) => {}
            _ => draft.act(Action::Retire(pod.into(), RetireReason::Surplus)),
        }
    }
}

fn usefulness(pod: &ObservedPod) -> u8 {
    match (&pod.life, pod.ready_since) {
        (Life::Starting { trouble: Some(_), .. }, _) => 0,
        (Life::Starting { trouble: None, .. }, _) => 1,
        (_, None) => 2,
        (_, Some(_)) => 3,
    }
}

/// What is remembered of failures after this view.
pub(super) fn backoff(view: &View<'_>) -> Backoff {
    let known = view.backoff.of_revision(view.revision);
    let of_revision = || view.pods.iter().filter(|pod| pod.revision == view.revision);
    let failed = of_revision().filter_map(|pod| failure(view, pod));
    let last =
        failed.max_by_key(|(at, _)| *at).filter(|(at, _)| known.last.is_none_or(|l| *at > l));
    if let Some((at, trouble)) = last {
        return Backoff {
            last: Some(at),
            reason: trouble.reason.clone(),
            message: trouble.message.clone(),
            ..known.failed(view.now, view.jitter)
        };
    }
    let started_well = |pod: &ObservedPod| {
        let since = pod.ready_since.filter(|_| pod.life == Life::Up);
        since.is_some_and(|ready| {
            known.last.is_none_or(|last| ready > last) && after(ready, view.pace.steady) <= view.now
        })
    };
    if of_revision().any(started_well) { known.succeeded() } else { known }
}

/// Whether a pod shows that the class's pods do not start, and since when. A worker that had a tenant has started.
fn failure<'p>(view: &View<'_>, pod: &'p ObservedPod) -> Option<(Timestamp, &'p Trouble)> {
    match &pod.life {
        Life::Failed { trouble, .. } if trouble.blames_class() && !pod.marked_bound => {
            Some((trouble.at.unwrap_or(pod.created), trouble))
        }
        Life::Starting { trouble: Some(trouble), .. } if trouble.blames_class() => {
            let late = after(pod.created, view.pace.start_within);
            (late <= view.now).then_some((late, trouble))
        }
        _ => None,
    }
}
