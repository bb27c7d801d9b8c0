//! What the operator counts. No label is of a tenant.

use crate::worker_class::status::READY;
use jiff::Timestamp;
use patchbay_crds::{
    condition::{Condition, ConditionStatus},
    worker_class::WorkerClassStatus,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// Counters and gauges, shared by all that counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    passes: Family<Class, Counter>,
    errors: Family<Category, Counter>,
    duration: Histogram,
    workers: Family<ClassState, Gauge>,
    waiting: Family<Class, Gauge>,
    enrolments: Family<Outcome, Counter>,
    writes: Family<Written, Counter>,
    leads: Gauge,
    authority_ends: Gauge,
    wanted: Family<Class, Gauge>,
    ready: Family<Class, Gauge>,
    unread: Gauge,
    /// How often watches failed.
    pub watch_failures: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    class: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassState {
    class: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Category {
    category: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    write: WriteKind,
}

/// A kind of write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum WriteKind {
    /// An object that a class or the installation has once.
    Apply,
    /// A pod is created.
    CreatePod,
    /// A pod is deleted.
    DeletePod,
    /// A fingerprint is recorded.
    RecordKey,
    /// A worker is marked as bound.
    MarkBound,
    /// A token is reviewed.
    ReviewToken,
    /// An assignment is cleared.
    ClearAssignment,
    /// A tenant's status.
    TenantStatus,
    /// A class's status.
    ClassStatus,
    /// A provider's status.
    ProviderStatus,
    /// An Event.
    Event,
    /// A tenant is forgotten.
    DeleteTenant,
    /// A boot document of a revision that nobody has is deleted.
    DeleteBoot,
    /// The Lease.
    Lease,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("patchbay_operator");
        let metrics = Self {
            passes: Family::default(),
            errors: Family::default(),
            duration: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
            workers: Family::default(),
            waiting: Family::default(),
            enrolments: Family::default(),
            writes: Family::default(),
            leads: Gauge::default(),
            authority_ends: Gauge::default(),
            wanted: Family::default(),
            ready: Family::default(),
            unread: Gauge::default(),
            watch_failures: Counter::default(),
        };
        registry.register("reconciles", "Passes over a class", metrics.passes.clone());
        registry.register("errors", "What failed, by category", metrics.errors.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long a pass over a class took, without the writes that follow from it",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register("workers", "Workers, by class and state", metrics.workers.clone());
        let help = "Users that wait for a worker now, by class";
        registry.register("waiting_tenants", help, metrics.waiting.clone());
        registry.register("enrolments", "Enrolments, by outcome", metrics.enrolments.clone());
        registry.register(
            "api_writes",
            "Writes to the API server, by kind",
            metrics.writes.clone(),
        );
        registry.register("leads", "1 while this process is the leader", metrics.leads.clone());
        let help = "When the control plane's authority ends, in seconds since 1970; 0 where this process does not keep it";
        registry.register("ca_expiry_timestamp_seconds", help, metrics.authority_ends.clone());
        let help = "Warm workers that a class asks for";
        registry.register("wanted_workers", help, metrics.wanted.clone());
        let help = "Whether a class can be served, as its condition Ready says";
        registry.register("class_ready", help, metrics.ready.clone());
        let help = "Objects that this release cannot read: they are left alone";
        registry.register("unreadable_objects", help, metrics.unread.clone());
        let help = "How often watches and lists failed";
        registry.register("watch_failures", help, metrics.watch_failures.clone());
        metrics
    }

    pub(super) fn passed(&self, class: &str, took: Duration, unread: usize) {
        self.passes.get_or_create(&Class { class: class.into() }).inc();
        self.duration.observe(took.as_secs_f64());
        self.unread.set(unread.try_into().unwrap_or(i64::MAX));
    }

    pub(super) fn failed(&self, category: &'static str) {
        self.errors.get_or_create(&Category { category }).inc();
    }

    pub(super) fn enrolled(&self, outcome: &'static str) {
        self.enrolments.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn wrote(&self, write: WriteKind) {
        self.writes.get_or_create(&Written { write }).inc();
    }

    pub(super) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub(super) fn authority_ends(&self, at: Timestamp) {
        self.authority_ends.set(at.as_second());
    }

    /// Tells what a class asks for, and what its status says.
    pub fn counted(&self, class: &str, wanted: u32, status: &WorkerClassStatus) {
        let label = Class { class: class.into() };
        self.wanted.get_or_create(&label).set(wanted.into());
        let is_ready =
            |known: &Condition| known.type_ == READY && known.status == ConditionStatus::True;
        self.ready.get_or_create(&label).set(status.conditions.iter().any(is_ready).into());
        let counts =
            [("warm", status.warm), ("bound", status.bound), ("draining", status.draining)];
        for (state, count) in counts {
            let label = ClassState { class: class.into(), state };
            self.workers.get_or_create(&label).set(count.into());
        }
        self.waiting.get_or_create(&Class { class: class.into() }).set(status.waiting.into());
    }

    /// A class is gone.
    pub(super) fn forget(&self, class: &str) {
        for state in ["warm", "bound", "draining"] {
            self.workers.remove(&ClassState { class: class.into(), state });
        }
        for of_class in [&self.waiting, &self.wanted, &self.ready] {
            of_class.remove(&Class { class: class.into() });
        }
        self.passes.remove(&Class { class: class.into() });
    }
}
