//! A worker's pod as the operator sees it: from a Pod object to what decisions need of it.
//!
//! What a pod says is not trusted: texts are bounded and put on one line, and a termination message counts
//! only if it is a worker's farewell. Whose worker it is, a pod does not say: tenants do. This module must not
//! know tenants, clients or the clock.

use crate::{build::AGENT, total::bounded};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use patchbay_core::{
    id::{Incarnation, TenantUid},
    link::{Farewell, LeaveReason, WorkerPhase, WorkerStatus},
};
use patchbay_crds::marks::{BOUND, FINGERPRINT, REVISION, TRUE};

/// Of a text that somebody else wrote, characters.
const MOST_TEXT: usize = 256;
/// The reason of a container whose memory ran out, in every container runtime.
const OUT_OF_MEMORY: &str = "OOMKilled";

/// A worker's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedPod {
    /// Its name.
    pub name: String,
    /// This life of the worker.
    pub uid: Incarnation,
    /// What a delete must name that is right only if the pod has not changed.
    pub resource_version: String,
    /// What it was made from.
    pub revision: String,
    /// When it was created.
    pub created: Timestamp,
    /// The node that it is on.
    pub node: Option<String>,
    /// Whether it carries the mark of workers that have, or had, a tenant.
    pub marked_bound: bool,
    /// Since when it is Ready; none = it is not.
    pub ready_since: Option<Timestamp>,
    /// The recorded fingerprint, as it is written. Gateways dial no pod without one.
    pub fingerprint: Option<String>,
    /// Where it is in its life.
    pub life: Life,
    /// What the operator remembers of it.
    pub known: Known,
}

/// Where a pod is in its life, as far as the pod itself shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// No key is recorded, so no gateway speaks to it.
    Starting {
        /// Whether its agent is ready, which is when it takes connections, and has an address.
        dialable: bool,
        /// What holds it up.
        trouble: Option<Trouble>,
    },
    /// Enrolled.
    Up,
    /// It ends, and takes no new work.
    Leaving,
    /// It ended and said why.
    Finished(Farewell),
    /// It ended, and not as a worker should.
    Failed {
        /// Why.
        trouble: Trouble,
        /// What it said.
        farewell: Option<Farewell>,
    },
}

/// What is wrong with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// One CamelCase word.
    pub reason: String,
    /// In words for people.
    pub message: String,
    /// When it ended so, if it did.
    pub at: Option<Timestamp>,
}

/// What the operator remembers of a pod, and may forget at any time: all of it can be asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// What the worker said of itself last.
    pub said: Option<Said>,
    /// Why its enrolment was refused, for good.
    pub refused: Option<String>,
    /// It could not be reached, or its answer was of no use: not before this moment again.
    pub not_before: Option<Timestamp>,
    /// It was asked to leave when it is idle.
    pub asked_to_leave: bool,
    /// The tenant that named it last.
    pub named_by: Option<TenantUid>,
}

/// What a worker said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// No later than the moment of which it is true: when it was asked is right, when it answered is not.
    pub at: Timestamp,
    /// Its latch.
    pub latch: Latched,
}

/// A worker's latch, as the operator may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Latched {
    /// Nobody's, at that moment.
    Anonymous,
    /// This tenant's, for life.
    Bound(TenantUid),
    /// Leaving, for good.
    Leaving,
}

impl Said {
    /// What a worker's status says, which was asked for at `at`. None if it contradicts itself.
    pub fn of(status: &WorkerStatus, at: Timestamp) -> Option<Self> {
        let latch = match (status.phase, &status.tenant) {
            (WorkerPhase::Warming | WorkerPhase::Anonymous, None) => Latched::Anonymous,
            (WorkerPhase::Bound | WorkerPhase::Warming, Some(tenant)) => {
                Latched::Bound(tenant.clone())
            }
            (WorkerPhase::Leaving, _) => Latched::Leaving,
            (WorkerPhase::Bound, None) | (WorkerPhase::Anonymous, Some(_)) => return None,
        };
        Some(Self { at, latch })
    }
}

impl Trouble {
    /// Whether the class is to blame, and a further pod of it would fare no better. A node that ends or is
    /// short of something says nothing about the class.
    pub fn blames_class(&self) -> bool {
        !matches!(
            self.reason.as_str(),
            "Evicted"
                | "NodeLost"
                | "NodeShutdown"
                | "NodeAffinity"
                | "Terminated"
                | "Shutdown"
                | "Preempting"
                | "Unschedulable"
                | "UnexpectedAdmissionError"
                | "OutOfcpu"
                | "OutOfmemory"
                | "OutOfpods"
        )
    }

    fn new(reason: Option<&str>, otherwise: &str, message: Option<&str>) -> Self {
        let is_word = |text: &&str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric())
        };
        Self {
            reason: reason.filter(is_word).unwrap_or(otherwise).into(),
            message: bounded(message.unwrap_or_default(), MOST_TEXT),
            at: None,
        }
    }
}

impl ObservedPod {
    /// What is seen of a pod; none of an object that no API server would send.
    pub fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let labels = metadata.labels.as_ref();
        let label = |name| labels.and_then(|labels| labels.get(name));
        let annotations = metadata.annotations.as_ref();
        let fingerprint = annotations.and_then(|all| all.get(FINGERPRINT)).cloned();
        let status = pod.status.as_ref();
        Some(Self {
            name: metadata.name.clone()?,
            uid: Incarnation::parse(metadata.uid.clone()?).ok()?,
            resource_version: metadata.resource_version.clone()?,
            revision: label(REVISION).cloned().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref()?.0,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            marked_bound: label(BOUND).is_some_and(|value| value == TRUE),
            ready_since: status.and_then(ready_since),
            life: life(pod, fingerprint.is_some()),
            fingerprint,
            known: Known::default(),
        })
    }

    /// Whether it ended, for good.
    pub const fn has_ended(&self) -> bool {
        matches!(self.life, Life::Finished(_) | Life::Failed { .. })
    }

    /// How it ended, and whose it was as far as anybody knows, if it did not end as a worker should.
    pub fn failed(&self) -> Option<(&TenantUid, &Trouble)> {
        let Life::Failed { trouble, farewell } = &self.life else { return None };
        let said = self.known.said.as_ref().and_then(|said| match &said.latch {
            Latched::Bound(tenant) => Some(tenant),
            Latched::Anonymous | Latched::Leaving => None,
        });
        let told = farewell.as_ref().and_then(|farewell| farewell.tenant.as_ref());
        Some((told.or(said).or(self.known.named_by.as_ref())?, trouble))
    }

    /// What it said when it left, if it was this tenant's.
    pub fn farewell_of(&self, tenant: &TenantUid) -> Option<&Farewell> {
        self.farewell().filter(|farewell| farewell.tenant.as_ref() == Some(tenant))
    }

    /// What it said when it left.
    pub const fn farewell(&self) -> Option<&Farewell> {
        match &self.life {
            Life::Finished(farewell) | Life::Failed { farewell: Some(farewell), .. } => {
                Some(farewell)
            }
            _ => None,
        }
    }
}

fn life(pod: &Pod, is_enrolled: bool) -> Life {
    let Some(status) = &pod.status else {
        return Life::Starting { dialable: false, trouble: None };
    };
    let agent = containers(status).find(|container| container.name == AGENT);
    let state = agent.and_then(|agent| agent.state.as_ref());
    let farewell = state
        .and_then(|state| state.terminated.as_ref()?.message.as_deref())
        .and_then(parse_farewell);
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return match (farewell, ended_badly(status)) {
            (Some(farewell), _) if is_orderly(farewell.reason) => Life::Finished(farewell),
            (Some(farewell), trouble) => Life::Failed {
                // what ended the server, its worker knows best; but for the kernel's reason, which only the node knows
                trouble: out_of_memory(status)
                    .unwrap_or_else(|| Trouble { at: trouble.at, ..said_trouble(&farewell) }),
                farewell: Some(farewell),
            },
            (None, trouble) => Life::Failed { trouble, farewell: None },
        };
    }
    if pod.metadata.deletion_timestamp.is_some()
        || state.is_some_and(|state| state.terminated.is_some())
    {
        return Life::Leaving;
    }
    if is_enrolled {
        return Life::Up;
    }
    let is_ready = agent.is_some_and(|agent| agent.ready);
    Life::Starting { dialable: is_ready && status.pod_ip.is_some(), trouble: held_up(status) }
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten()
}

fn ready_since(status: &PodStatus) -> Option<Timestamp> {
    let conditions = status.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
    // one without a time has been Ready for as long as anybody knows
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// A termination message as a farewell. A newer worker may say more: that is left out. Anything else is none.
fn parse_farewell(message: &str) -> Option<Farewell> {
    let mut said: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(message.trim()).ok()?;
    said.retain(|key, _| matches!(key.as_str(), "tenant" | "reason" | "lastActivity" | "detail"));
    let farewell: Farewell = serde_json::from_value(said.into()).ok()?;
    let detail = farewell.detail.map(|detail| bounded(&detail, MOST_TEXT));
    Some(Farewell { detail, ..farewell })
}

/// Whether a worker that left for this reason ended as it should.
pub const fn is_orderly(reason: LeaveReason) -> bool {
    match reason {
        LeaveReason::Idle
        | LeaveReason::MaxAge
        | LeaveReason::Drained
        | LeaveReason::Retired
        | LeaveReason::CredentialsEnd => true,
        LeaveReason::ServerExited | LeaveReason::ServerNotReady => false,
    }
}

/// The word for why a worker left.
pub const fn word(reason: LeaveReason) -> &'static str {
    match reason {
        LeaveReason::Idle => "Idle",
        LeaveReason::MaxAge => "MaxAge",
        LeaveReason::Drained => "Drained",
        LeaveReason::Retired => "Retired",
        LeaveReason::ServerExited => "ServerExited",
        LeaveReason::ServerNotReady => "ServerNotReady",
        LeaveReason::CredentialsEnd => "CredentialsEnd",
    }
}

fn said_trouble(farewell: &Farewell) -> Trouble {
    let otherwise = match farewell.reason {
        LeaveReason::ServerNotReady => "the MCP server did not answer in time after its start",
        _ => "the MCP server ended by itself",
    };
    Trouble::new(None, word(farewell.reason), Some(farewell.detail.as_deref().unwrap_or(otherwise)))
}

/// The end of a container that took more memory than it may.
fn out_of_memory(status: &PodStatus) -> Option<Trouble> {
    containers(status).find_map(|container| {
        let end = container.state.as_ref()?.terminated.as_ref()?;
        (end.reason.as_deref() == Some(OUT_OF_MEMORY)).then(|| Trouble {
            reason: OUT_OF_MEMORY.to_owned(),
            message: format!("container `{}` took more memory than its limit", container.name),
            at: end.finished_at.as_ref().map(|time| time.0),
        })
    })
}

/// Why a pod that ended did, when its worker did not say.
fn ended_badly(status: &PodStatus) -> Trouble {
    if status.reason.is_some() {
        // the node's word, for example Evicted: containers only show the consequence
        return Trouble::new(status.reason.as_deref(), "Failed", status.message.as_deref());
    }
    let ended = containers(status).find_map(|container| {
        let end = container.state.as_ref()?.terminated.as_ref()?;
        (end.exit_code != 0).then_some((&container.name, end))
    });
    let Some((name, end)) = ended else {
        return Trouble::new(None, "Failed", Some("the worker ended and did not say why"));
    };
    // the message is not shown: it may be a server's, and hold anything
    let message = format!("container `{name}` ended with exit code {}", end.exit_code);
    Trouble {
        at: end.finished_at.as_ref().map(|time| time.0),
        ..Trouble::new(end.reason.as_deref(), "Failed", Some(&message))
    }
}

/// What keeps a pod from starting.
fn held_up(status: &PodStatus) -> Option<Trouble> {
    let waiting = containers(status).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        // the usual course of a start
        let is_usual = matches!(reason, "ContainerCreating" | "PodInitializing");
        (!is_usual).then(|| {
            let detail = waiting.message.as_deref().unwrap_or("no further word");
            let message = format!("container `{}`: {detail}", container.name);
            Trouble::new(Some(reason), "NotStarting", Some(&message))
        })
    });
    waiting.or_else(|| {
        let conditions = status.conditions.as_ref()?;
        let unplaced = conditions.iter().find(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        })?;
        Some(Trouble::new(Some("Unschedulable"), "Unschedulable", unplaced.message.as_deref()))
    })
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
