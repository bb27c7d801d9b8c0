//! From a tenant and what is beside it to its story: who it is, how it stands, and what happened when. It must not know
//! where the objects come from.
//!
//! What is told is what the objects say, which holds no credential; their texts are put on one line, since a pod may
//! have written them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use patchbay_crds::{
    Tenant, WorkerClass,
    condition::{Condition, ConditionStatus},
    marks::{FIRST_CONTACT, PROVISIONED_BY},
    tenant::{Phase, TenantAssignment},
};
use std::fmt::Write as _;

/// What is there.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) tenant: Tenant,
    /// None where there is no class of the name that the tenant has.
    pub(super) class: Option<WorkerClass>,
    /// The pod that its assignment names, if there is one.
    pub(super) worker: Option<Pod>,
    /// What was told of the tenant; a cluster keeps it for an hour, or as it is set.
    pub(super) events: Vec<Event>,
}

/// The story, in lines.
pub(super) fn tell(seen: &Seen, now: Timestamp) -> String {
    let mut text = String::new();
    for (what, told) in [
        ("tenant", seen.tenant.metadata.name.clone().unwrap_or_default()),
        ("user", user(&seen.tenant)),
        ("class", class(seen)),
        ("state", state(&seen.tenant, now)),
        ("worker", worker(seen)),
    ] {
        let _ = writeln!(text, "{what:<8} {}", one_line(&told));
    }
    text.push('\n');
    let mut happened = happened(seen);
    happened.sort_by_key(|(when, _)| *when);
    for (when, what) in happened {
        let _ = writeln!(text, "{when:.0}  {}", one_line(&what));
    }
    if let Some(advice) = advice(seen) {
        let _ = writeln!(text, "\n{}", one_line(&advice));
    }
    text
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn user(tenant: &Tenant) -> String {
    let identity = &tenant.spec.identity;
    let narrowed = match identity.authority {
        Some(_) => ", narrowed by the claims of a token",
        None => "",
    };
    format!("{}, as {} says{narrowed}", identity.subject, identity.issuer)
}

fn class(seen: &Seen) -> String {
    let name = &seen.tenant.spec.class_name;
    let Some(class) = &seen.class else { return format!("{name}, which is not there") };
    let status = class.status.clone().unwrap_or_default();
    let (warm, bound, waiting) = (status.warm, status.bound, status.waiting);
    let ready = match ready(&status.conditions) {
        Some(Condition { status: ConditionStatus::True, .. }) => "ready".into(),
        Some(told) => format!("not ready ({}: {})", told.reason, told.message),
        None => "not looked at yet by an operator".into(),
    };
    format!("{name}, {ready}; {warm} warm, {bound} bound, {waiting} waiting")
}

fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

fn state(tenant: &Tenant, now: Timestamp) -> String {
    let Some(status) = &tenant.status else { return "not looked at yet by an operator".into() };
    let phase = status.phase.map_or_else(|| "no phase".into(), |phase| format!("{phase:?}"));
    let reason = status.reason.as_deref().unwrap_or("no reason");
    match ready(&status.conditions) {
        Some(condition) => {
            let for_long = now.duration_since(condition.last_transition_time);
            let since =
                if condition.status == ConditionStatus::True { "ready" } else { "not ready" };
            let message = &condition.message;
            format!("{phase} ({reason}): {message}; {since} for {:#}", whole_seconds(for_long))
        }
        None => format!("{phase} ({reason})"),
    }
}

fn whole_seconds(duration: jiff::SignedDuration) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(duration.as_secs().max(0))
}

fn worker(seen: &Seen) -> String {
    let assignment = seen.tenant.spec.assignment.as_ref();
    let Some(TenantAssignment { worker, epoch, .. }) =
        assignment.filter(|it| !it.worker.is_empty())
    else {
        let had = assignment.map_or(0, |assignment| assignment.epoch);
        return match had {
            0 => "none, and never had one".into(),
            had => format!("none; it had or waited for one {had} times"),
        };
    };
    let Some(pod) = &seen.worker else { return format!("{worker}, which is gone (epoch {epoch})") };
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("unknown");
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
    let is_ready = status.and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    let ready = if is_ready { "ready" } else { "not ready" };
    format!("{worker} on {node}: {phase}, {ready} (epoch {epoch})")
}

fn happened(seen: &Seen) -> Vec<(Timestamp, String)> {
    let Seen { tenant, worker, events, .. } = seen;
    let labels = tenant.metadata.labels.as_ref();
    let by_contact =
        labels.and_then(|labels| labels.get(PROVISIONED_BY)).is_some_and(|by| by == FIRST_CONTACT);
    let made = if by_contact { "made, by the user's first call" } else { "made, by hand" };
    let status = tenant.status.as_ref();
    let last = status.and_then(|status| status.last_activity);
    let asked = tenant.spec.assignment.as_ref().and_then(|assignment| assignment.requested_at);
    let created = worker.as_ref().and_then(|pod| pod.metadata.creation_timestamp.as_ref());
    let name = worker.as_ref().and_then(|pod| pod.metadata.name.clone()).unwrap_or_default();
    [
        tenant.metadata.creation_timestamp.as_ref().map(|time| (time.0, made.to_owned())),
        last.map(|when| (when, "called for the last time before a worker left".to_owned())),
        asked.map(|when| (when, "asked for a worker".to_owned())),
        created.map(|time| (time.0, format!("worker {name} was started"))),
    ]
    .into_iter()
    .flatten()
    .chain(events.iter().filter_map(event))
    .collect()
}

/// An Event's own time, or that of its last repetition.
fn event(event: &Event) -> Option<(Timestamp, String)> {
    let series = event.series.as_ref();
    let times = [
        series.and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.metadata.creation_timestamp.as_ref().map(|time| time.0),
    ];
    let when = times.into_iter().flatten().next()?;
    let reason = event.reason.as_deref().unwrap_or("Unknown");
    let note = event.message.as_deref().unwrap_or_default();
    let times = series.and_then(|series| series.count).or(event.count).filter(|count| *count > 1);
    let times = times.map(|count| format!(" ({count} times)")).unwrap_or_default();
    Some((when, format!("{reason}: {note}{times}")))
}

/// What to do, where something is to be done.
fn advice(seen: &Seen) -> Option<String> {
    let tenant = &seen.tenant;
    let name = tenant.metadata.name.as_deref().unwrap_or_default();
    if tenant.spec.suspended {
        let namespace = tenant.metadata.namespace.as_deref().unwrap_or("default");
        return Some(format!(
            "The user is shut out. To let them in: kubectl patch tenant {name} -n {namespace} --type merge -p '{{\"spec\":{{\"suspended\":false}}}}'"
        ));
    }
    let Some(class) = &seen.class else {
        return Some(format!(
            "Nobody is served in a class that is not there: make the WorkerClass {}, or delete the tenant.",
            tenant.spec.class_name
        ));
    };
    let phase = tenant.status.as_ref().and_then(|status| status.phase);
    if phase == Some(Phase::Failed) {
        return Some(
            "The tenant is never used as it is: delete it, and make the one that its state names."
                .into(),
        );
    }
    let conditions = class.status.as_ref().map(|status| status.conditions.as_slice());
    let is_ready = ready(conditions.unwrap_or_default())
        .is_some_and(|condition| condition.status == ConditionStatus::True);
    if phase == Some(Phase::Waiting) && !is_ready {
        return Some(format!(
            "Its class starts no worker: kubectl describe workerclass {} says why.",
            tenant.spec.class_name
        ));
    }
    if phase == Some(Phase::Waiting) {
        return Some(format!(
            "It waits because no worker was warm: more of them are kept by kubectl scale workerclass {} --replicas N.",
            tenant.spec.class_name
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn tenant(change: impl FnOnce(&mut Value)) -> Tenant {
        let mut tenant = json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "Tenant",
            "metadata": {
                "name": "t-go5gbctxrdlmessgoznl",
                "creationTimestamp": "2030-01-01T00:00:00Z",
                "labels": { "patchbay.dev/provisioned-by": "first-contact" }
            },
            "spec": {
                "identity": { "issuer": "https://issuer.example", "subject": "alice" },
                "className": "quilt",
                "assignment": { "worker": "quilt-abc", "uid": "u", "epoch": 3, "requestedAt": "2030-01-02T00:00:00Z" }
            },
            "status": {
                "phase": "Ready", "reason": "WorkerAssigned", "lastActivity": "2030-01-01T08:00:00Z",
                "conditions": [condition("True", "WorkerAssigned", "the user has a worker", "2030-01-02T00:00:01Z")]
            }
        });
        change(&mut tenant);
        read(tenant)
    }

    fn condition(status: &str, reason: &str, message: &str, since: &str) -> Value {
        json!({ "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": since })
    }

    fn class(status: &str, reason: &str, message: &str) -> WorkerClass {
        read(json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "WorkerClass",
            "metadata": { "name": "quilt" },
            "spec": { "image": "i", "command": ["/c"] },
            "status": {
                "warm": 1, "bound": 2, "waiting": 0,
                "conditions": [condition(status, reason, message, "2030-01-01T00:00:00Z")]
            }
        }))
    }

    fn pod() -> Pod {
        read(json!({
            "metadata": { "name": "quilt-abc", "creationTimestamp": "2030-01-01T23:59:00Z" },
            "spec": { "nodeName": "node-1", "containers": [] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] }
        }))
    }

    fn idle() -> Event {
        read(json!({
            "metadata": { "name": "e", "creationTimestamp": "2030-01-01T08:15:00Z" },
            "involvedObject": {},
            "reason": "Idle", "message": "the next request\nbrings a worker", "count": 2,
            "eventTime": "2030-01-01T08:15:00.5Z"
        }))
    }

    fn now() -> Timestamp {
        "2030-01-02T01:00:01Z".parse().unwrap()
    }

    #[test]
    fn who_it_is_how_it_stands_and_what_happened_is_told_in_the_order_of_time() {
        let seen = Seen {
            tenant: tenant(|_| ()),
            class: Some(class("True", "WorkersReady", "")),
            worker: Some(pod()),
            events: vec![idle()],
        };
        assert_eq!(
            tell(&seen, now()),
            "\
tenant   t-go5gbctxrdlmessgoznl
user     alice, as https://issuer.example says
class    quilt, ready; 1 warm, 2 bound, 0 waiting
state    Ready (WorkerAssigned): the user has a worker; ready for 1h
worker   quilt-abc on node-1: Running, ready (epoch 3)

2030-01-01T00:00:00Z  made, by the user's first call
2030-01-01T08:00:00Z  called for the last time before a worker left
2030-01-01T08:15:00Z  Idle: the next request brings a worker (2 times)
2030-01-01T23:59:00Z  worker quilt-abc was started
2030-01-02T00:00:00Z  asked for a worker
"
        );
    }

    #[test]
    fn who_waits_for_a_class_that_starts_nothing_is_told_where_to_look() {
        let waiting = tenant(|tenant| {
            tenant["spec"]["assignment"] = json!({ "epoch": 1 });
            tenant["status"] = json!({ "phase": "Waiting", "reason": "NoWarmWorker" });
        });
        let class = Some(class("False", "ServerNotReady", "it gave no answer"));
        let seen = Seen { tenant: waiting, class, worker: None, events: Vec::new() };
        let told = tell(&seen, now());
        assert!(told.contains("not ready (ServerNotReady: it gave no answer)"), "{told}");
        assert!(told.contains("worker   none; it had or waited for one 1 times"), "{told}");
        assert!(told.ends_with("kubectl describe workerclass quilt says why.\n"), "{told}");
    }

    #[test]
    fn who_is_shut_out_and_whose_class_is_gone_is_told_so() {
        let shut_out = tenant(|tenant| {
            tenant["spec"]["suspended"] = json!(true);
            tenant["metadata"]["namespace"] = json!("here");
        });
        let seen = Seen { tenant: shut_out, class: None, worker: None, events: Vec::new() };
        let told = tell(&seen, now());
        assert!(told.contains("class    quilt, which is not there"), "{told}");
        assert!(told.contains("worker   quilt-abc, which is gone (epoch 3)"), "{told}");
        assert!(told.contains("kubectl patch tenant t-go5gbctxrdlmessgoznl -n here "), "{told}");
        let seen = Seen { tenant: tenant(|_| ()), ..seen };
        assert!(tell(&seen, now()).contains("make the WorkerClass quilt"));
    }

    #[test]
    fn a_tenant_that_nobody_looked_at_yet_is_told_as_that() {
        let new = tenant(|tenant| {
            tenant["spec"]["assignment"] = Value::Null;
            tenant["status"] = Value::Null;
            tenant["metadata"]["labels"] = json!({});
            tenant["spec"]["identity"]["authority"] = json!(format!("sha256:{}", "0".repeat(64)));
        });
        let seen = Seen { tenant: new, class: None, worker: None, events: Vec::new() };
        let told = tell(&seen, now());
        for line in [
            "user     alice, as https://issuer.example says, narrowed by the claims of a token",
            "state    not looked at yet by an operator",
            "worker   none, and never had one",
            "2030-01-01T00:00:00Z  made, by hand",
        ] {
            assert!(told.lines().any(|told| told == line), "{told}");
        }
    }
}
