//! What the orchestrator counts: its writes, and how its watches fare.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    /// `assign` or `wait`.
    purpose: &'static str,
    /// `done`, `conflict`, `refused` or `unknown`.
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// The orchestrator's metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    writes: Family<WriteLabels, Counter>,
    read_backs: Counter,
    breaks: Family<KindLabel, Counter>,
    following: Family<KindLabel, Gauge>,
}

impl Metrics {
    /// Registers the metrics under `patchbay_orchestrator_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("patchbay_orchestrator");
        let help = "Writes to the API server by purpose and outcome";
        registry.register("writes", help, metrics.writes.clone());
        let help = "Tenants that were read back after a write that was refused or lost";
        registry.register("read_backs", help, metrics.read_backs.clone());
        registry.register("watch_breaks", "Watches that broke, by kind", metrics.breaks.clone());
        let help = "1 while the last that was heard of a watch is no error, by kind";
        registry.register("watch_up", help, metrics.following.clone());
        metrics
    }

    pub(super) fn wrote(&self, purpose: &'static str, outcome: &'static str) {
        self.writes.get_or_create(&WriteLabels { purpose, outcome }).inc();
    }

    pub(super) fn read_back(&self) {
        self.read_backs.inc();
    }

    pub(super) fn followed(&self, kind: &'static str) {
        self.following.get_or_create(&KindLabel { kind }).set(1);
    }

    pub(super) fn broke(&self, kind: &'static str) {
        self.breaks.get_or_create(&KindLabel { kind }).inc();
        self.following.get_or_create(&KindLabel { kind }).set(0);
    }
}
