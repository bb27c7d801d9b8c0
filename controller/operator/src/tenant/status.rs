//! From a tenant, its worker and last words to its status; none where nothing has changed, so that nothing is written.
//!
//! The reason says why the phase last changed, so it stays until the phase changes. Nothing in a status is of a
//! user's identity or credentials. This module must not know other tenants.

use crate::{
    observe::{Latched, Life, ObservedPod, Trouble, is_orderly, word},
    total::after,
    worker_class::Standing,
};
use jiff::Timestamp;
use patchbay_core::link::Farewell;
use patchbay_crds::{
    Tenant,
    condition::{Condition, ConditionStatus, set_condition},
    tenant::{Phase, TenantStatus},
    validate,
};
use std::{borrow::Cow, time::Duration};

/// Whether the user has a worker.
pub const READY: &str = "Ready";
/// The object's name is not its identity's, so it is never used.
pub const NAME_MISMATCH: &str = "NameMismatch";

/// What is seen besides the tenant itself.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The pod that its assignment names, if there is one.
    pub worker: Option<&'a ObservedPod>,
    /// The last words of its worker, once its assignment is cleared.
    pub farewell: Option<&'a Farewell>,
    /// How a worker of it has ended, if not as a worker should.
    pub trouble: Option<&'a Trouble>,
    /// For how long a gateway holds a request.
    pub hold: Duration,
    /// For how long a wait is not worth a word.
    pub untold: Duration,
    /// Now.
    pub now: Timestamp,
}

/// The status that follows, if it is not the tenant's already.
pub fn status(tenant: &Tenant, seen: &Seen<'_>) -> Option<TenantStatus> {
    let known = tenant.status.clone().unwrap_or_default();
    let generation = tenant.metadata.generation;
    let (phase, reason, message) = phase(tenant, seen, &known);
    if phase == Phase::Waiting && is_short_wait(tenant, seen, &known) {
        return None;
    }
    let said = seen.farewell.and_then(|farewell| farewell.last_activity);
    let mut next = TenantStatus {
        phase: Some(phase),
        // a worker that was never called says nothing; an earlier one's word then still holds
        last_activity: said.max(known.last_activity),
        reason: if known.phase == Some(phase) && known.reason.is_some() {
            known.reason.clone()
        } else {
            Some(reason.to_string())
        },
        observed_generation: generation,
        conditions: known.conditions.clone(),
    };
    let holds = |holds| if holds { ConditionStatus::True } else { ConditionStatus::False };
    let condition = |type_: &str, status, reason: &str, message: &str| Condition {
        type_: type_.into(),
        status,
        reason: reason.into(),
        message: message.into(),
        last_transition_time: seen.now,
        observed_generation: generation,
    };
    let why = next.reason.clone().unwrap_or_default();
    let ready = condition(READY, holds(phase == Phase::Ready), &why, &message);
    set_condition(&mut next.conditions, ready);
    let is_misnamed = reason == NAME_MISMATCH;
    if is_misnamed || next.conditions.iter().any(|known| known.type_ == NAME_MISMATCH) {
        let (reason, message) =
            if is_misnamed { ("NotDerived", message.as_str()) } else { ("Derived", "") };
        let mismatch = condition(NAME_MISMATCH, holds(is_misnamed), reason, message);
        set_condition(&mut next.conditions, mismatch);
    }
    (next != known).then_some(next)
}

/// Whether all that is new of a tenant that slept is that it has begun to wait. Most waits are over, with a worker,
/// before anybody reads of them.
fn is_short_wait(tenant: &Tenant, seen: &Seen<'_>, known: &TenantStatus) -> bool {
    let has_slept = matches!(known.phase, None | Some(Phase::Asleep));
    let is_all = seen.farewell.is_none() && seen.trouble.is_none();
    let Standing::Waiting { since } = Standing::of(tenant.spec.assignment.as_ref(), seen.now)
    else {
        return false;
    };
    has_slept && is_all && after(since, seen.untold) > seen.now
}

type Word = Cow<'static, str>;

fn phase(tenant: &Tenant, seen: &Seen<'_>, known: &TenantStatus) -> (Phase, Word, String) {
    let key = match validate::tenant::key(tenant) {
        Ok(key) => key,
        Err(errors) => {
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return (Phase::Failed, "InvalidSpec".into(), text.join(". "));
        }
    };
    let name = key.name();
    if tenant.metadata.name.as_deref() != Some(name.as_str()) {
        let message = format!("never used: the name of this identity is `{name}`");
        return (Phase::Failed, NAME_MISMATCH.into(), message);
    }
    if tenant.spec.suspended {
        return (Phase::Suspended, "Suspended".into(), "the user is shut out".into());
    }
    match Standing::of(tenant.spec.assignment.as_ref(), seen.now) {
        Standing::Assigned(_) => with_worker(seen.worker),
        Standing::Waiting { since } if after(since, seen.hold) > seen.now => {
            (Phase::Waiting, "NoWarmWorker".into(), "the user waits for a worker".into())
        }
        Standing::Waiting { .. } => asleep("NotServedInTime"),
        Standing::Asleep => match (seen.farewell, seen.trouble, known.phase) {
            // of the same worker, or of one that ended badly before: the last one's word counts if all was well
            (Some(farewell), Some(trouble), _) if !is_orderly(farewell.reason) => failed(trouble),
            (Some(farewell), _, _) => asleep(word(farewell.reason)),
            (None, None, None) => asleep("NeverCalled"),
            (None, _, Some(Phase::Suspended)) => asleep("Resumed"),
            (None, Some(trouble), _) => failed(trouble),
            (None, None, Some(Phase::Asleep)) => {
                // what was said stays, also when the pod of which it was said is gone
                let said = known.conditions.iter().find(|condition| condition.type_ == READY);
                let (phase, why, message) = asleep("WorkerGone");
                (phase, why, said.map_or(message, |said| said.message.clone()))
            }
            (None, None, Some(_)) => asleep("WorkerGone"),
        },
    }
}

fn asleep(reason: &'static str) -> (Phase, Word, String) {
    (Phase::Asleep, reason.into(), "the next request brings a worker".into())
}

fn failed(trouble: &Trouble) -> (Phase, Word, String) {
    let message = format!("{}; the next request brings another worker", trouble.message);
    (Phase::Asleep, trouble.reason.clone().into(), message)
}

fn with_worker(worker: Option<&ObservedPod>) -> (Phase, Word, String) {
    let said_leaving = |pod: &ObservedPod| {
        pod.known.said.as_ref().is_some_and(|said| said.latch == Latched::Leaving)
    };
    match worker {
        // also one that is not Ready, which it was when it was claimed: that its node is busy or silent takes it from
        // nobody (ADR 12), and readiness that comes and goes would be a write each time
        Some(pod) if pod.life == Life::Up && !said_leaving(pod) => {
            (Phase::Ready, "WorkerAssigned".into(), "the user has a worker".into())
        }
        Some(pod) if matches!(pod.life, Life::Starting { .. }) && !said_leaving(pod) => {
            (Phase::Waiting, "WorkerNotReady".into(), "the user's worker is not ready".into())
        }
        Some(_) => (Phase::Draining, "WorkerLeaving".into(), "the user's worker is leaving".into()),
        None => (Phase::Draining, "WorkerGone".into(), "the user's worker is gone".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observe::Known, tenant::fixtures, worker_class::cleared};
    use patchbay_core::{
        id::{Epoch, Incarnation},
        link::LeaveReason,
    };
    use patchbay_crds::tenant::TenantAssignment;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tenant() -> Tenant {
        let mut tenant = fixtures::tenant();
        tenant.metadata.generation = Some(4);
        tenant
    }

    fn assignment(worker: &str) -> TenantAssignment {
        TenantAssignment {
            worker: worker.into(),
            uid: if worker.is_empty() { String::new() } else { "pod-1".into() },
            epoch: 1,
            requested_at: Some(at(90)),
        }
    }

    fn worker(life: Life) -> ObservedPod {
        ObservedPod {
            name: "w".into(),
            uid: Incarnation::parse("pod-1").unwrap(),
            resource_version: "1".into(),
            revision: "r".into(),
            created: at(0),
            node: None,
            marked_bound: true,
            ready_since: Some(at(1)),
            fingerprint: None,
            life,
            known: Known::default(),
        }
    }

    fn look<'a>(worker: Option<&'a ObservedPod>, farewell: Option<&'a Farewell>) -> Seen<'a> {
        let (hold, untold) = (Duration::from_mins(1), Duration::from_secs(5));
        Seen { worker, farewell, trouble: None, hold, untold, now: at(100) }
    }

    /// Applies the status, and shows that it is no change when it is seen again.
    fn step(tenant: &mut Tenant, seen: &Seen<'_>) -> (Phase, String) {
        tenant.status = Some(status(tenant, seen).unwrap());
        assert_eq!(
            status(tenant, &Seen { now: after(seen.now, Duration::from_secs(1)), ..*seen }),
            None
        );
        let next = tenant.status.clone().unwrap();
        (next.phase.unwrap(), next.reason.unwrap())
    }

    #[test]
    fn a_life_is_told_phase_by_phase_and_the_last_words_are_kept() {
        let mut tenant = tenant();
        assert_eq!(step(&mut tenant, &look(None, None)), (Phase::Asleep, "NeverCalled".into()));
        tenant.spec.assignment = Some(assignment(""));
        assert_eq!(step(&mut tenant, &look(None, None)), (Phase::Waiting, "NoWarmWorker".into()));
        tenant.spec.assignment = Some(assignment("w"));
        let up = worker(Life::Up);
        let ready = (Phase::Ready, "WorkerAssigned".into());
        assert_eq!(step(&mut tenant, &look(Some(&up), None)), ready);
        let leaving = worker(Life::Leaving);
        let draining = (Phase::Draining, "WorkerLeaving".into());
        assert_eq!(step(&mut tenant, &look(Some(&leaving), None)), draining);
        let farewell = Farewell {
            tenant: None,
            reason: LeaveReason::Idle,
            last_activity: Some(at(50)),
            detail: None,
        };
        tenant.spec.assignment = Some(cleared(Epoch(1)));
        let seen = look(None, Some(&farewell));
        assert_eq!(step(&mut tenant, &seen), (Phase::Asleep, "Idle".into()));
        assert_eq!(status(&tenant, &look(None, None)), None);
        assert_eq!(tenant.status.unwrap().last_activity, Some(at(50)));
    }

    #[test]
    fn a_user_whose_worker_is_not_ready_for_a_moment_is_told_nothing_of_it() {
        let mut tenant = tenant();
        tenant.spec.assignment = Some(assignment("w"));
        let unready = ObservedPod { ready_since: None, ..worker(Life::Up) };
        let ready = (Phase::Ready, "WorkerAssigned".into());
        assert_eq!(step(&mut tenant, &look(Some(&unready), None)), ready);
        assert_eq!(status(&tenant, &look(Some(&worker(Life::Up)), None)), None);
    }

    #[test]
    fn a_wait_is_told_once_it_is_no_short_one() {
        let mut tenant = tenant();
        tenant.spec.assignment = Some(assignment(""));
        let early = Seen { now: at(94), ..look(None, None) };
        // it was made to wait, or has slept before
        assert_eq!(status(&tenant, &early), None);
        let late = Seen { now: at(95), ..early };
        assert_eq!(step(&mut tenant.clone(), &late), (Phase::Waiting, "NoWarmWorker".into()));
        tenant.spec.assignment = None;
        step(&mut tenant, &early);
        tenant.spec.assignment = Some(assignment(""));
        assert_eq!(status(&tenant, &early), None);
        // what else there is to say is said at once
        let farewell = Farewell {
            tenant: None,
            reason: LeaveReason::Idle,
            last_activity: Some(at(50)),
            detail: None,
        };
        assert!(status(&tenant, &Seen { farewell: Some(&farewell), ..early }).is_some());
        tenant.spec.suspended = true;
        assert_eq!(step(&mut tenant, &early).0, Phase::Suspended);
        tenant.spec.suspended = false;
        assert_eq!(step(&mut tenant, &early).0, Phase::Waiting);
    }

    #[test]
    fn a_wait_that_was_not_served_in_time_is_sleep() {
        let mut tenant = tenant();
        tenant.spec.assignment = Some(assignment(""));
        let seen = Seen { now: at(151), ..look(None, None) };
        assert_eq!(step(&mut tenant, &seen), (Phase::Asleep, "NotServedInTime".into()));
    }

    #[test]
    fn a_worker_that_died_without_a_word_is_told_in_the_nodes() {
        let mut tenant = tenant();
        tenant.spec.assignment = Some(assignment("w"));
        let up = worker(Life::Up);
        step(&mut tenant, &look(Some(&up), None));
        tenant.spec.assignment = Some(cleared(Epoch(1)));
        let trouble = Trouble {
            reason: "OOMKilled".into(),
            message: "container `agent` ended with exit code 137".into(),
            at: None,
        };
        let seen = Seen { trouble: Some(&trouble), ..look(None, None) };
        assert_eq!(step(&mut tenant, &seen), (Phase::Asleep, "OOMKilled".into()));
        let ready = tenant.status.clone().unwrap().conditions.remove(0);
        assert!(ready.message.starts_with("container `agent` ended"), "{}", ready.message);
        // and its pod is gone
        assert_eq!(status(&tenant, &look(None, None)), None);
    }

    #[test]
    fn a_server_that_ended_by_itself_is_told_as_the_node_tells_it_and_an_orderly_end_as_its_worker_does()
     {
        let trouble = Trouble {
            reason: "OOMKilled".into(),
            message: "container `server` took more memory than its limit".into(),
            at: None,
        };
        for (left, told) in [
            (LeaveReason::ServerExited, "OOMKilled"),
            // the trouble is an earlier worker's
            (LeaveReason::Idle, "Idle"),
        ] {
            let mut tenant = tenant();
            tenant.spec.assignment = Some(cleared(Epoch(1)));
            let farewell =
                Farewell { tenant: None, reason: left, last_activity: Some(at(50)), detail: None };
            let seen = Seen { trouble: Some(&trouble), ..look(None, Some(&farewell)) };
            assert_eq!(step(&mut tenant, &seen), (Phase::Asleep, told.into()));
            assert_eq!(tenant.status.unwrap().last_activity, Some(at(50)));
        }
    }

    #[test]
    fn a_suspended_tenant_is_suspended_whatever_it_has() {
        let mut tenant = tenant();
        tenant.spec.suspended = true;
        tenant.spec.assignment = Some(assignment("w"));
        let up = worker(Life::Up);
        let suspended = (Phase::Suspended, "Suspended".into());
        assert_eq!(step(&mut tenant, &look(Some(&up), None)), suspended);
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_one() {
        let mut tenant = tenant();
        let right = tenant.metadata.name.replace("t-aaaaaaaaaaaaaaaaaaaa".into()).unwrap();
        let failed = (Phase::Failed, "NameMismatch".into());
        assert_eq!(step(&mut tenant, &look(None, None)), failed);
        let conditions = tenant.status.unwrap().conditions;
        let mismatch = conditions.iter().find(|c| c.type_ == NAME_MISMATCH).unwrap();
        assert_eq!(mismatch.status, ConditionStatus::True);
        assert!(mismatch.message.contains(&right));
    }
}
