//! What the gateway counts. Labels are bounded: never a tenant, a subject or a path.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::time::Duration;

/// Labels of a finished request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// The class, or empty where no route was found.
    class: String,
    /// `forwarded`, or the stable reason of the refusal.
    outcome: &'static str,
}

/// Labels of an authentication.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthenticationLabels {
    /// `api_key`, `jwt` or `opaque`: how somebody proved who they are or, where nobody did, by its form what was presented;
    /// then also `none` and `malformed`.
    mode: &'static str,
    /// `ok`, or the stable reason.
    outcome: &'static str,
}

/// The gateway's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    authentications: Family<AuthenticationLabels, Counter>,
    activation: Histogram,
    connections: Gauge,
    waiting: Gauge,
}

impl Metrics {
    /// Registers the metrics under `patchbay_gateway_`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            authentications: Family::default(),
            // from 1 ms (a bind) to a minute (the hold limit)
            activation: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
            connections: Gauge::default(),
            waiting: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("patchbay_gateway");
        registry.register("requests", "Requests by class and outcome", metrics.requests.clone());
        registry.register(
            "authentications",
            "Authentications by mode and outcome",
            metrics.authentications.clone(),
        );
        registry.register(
            "activation_seconds",
            "From the first need of a worker to its acknowledged bind",
            metrics.activation.clone(),
        );
        registry.register("connections", "Open client connections", metrics.connections.clone());
        registry.register(
            "waiting_requests",
            "Requests that wait for a worker",
            metrics.waiting.clone(),
        );
        metrics
    }

    pub(crate) fn request(&self, class: &str, outcome: &'static str) {
        self.requests.get_or_create(&RequestLabels { class: class.into(), outcome }).inc();
    }

    pub(crate) fn authentication(&self, mode: &'static str, outcome: &'static str) {
        self.authentications.get_or_create(&AuthenticationLabels { mode, outcome }).inc();
    }

    pub(crate) fn activation(&self, took: Duration) {
        self.activation.observe(took.as_secs_f64());
    }

    pub(crate) fn connection_opened(&self) -> CountedGauge {
        CountedGauge::new(&self.connections)
    }

    pub(crate) fn waiting(&self) -> CountedGauge {
        CountedGauge::new(&self.waiting)
    }
}

/// Counts one in a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct CountedGauge(Gauge);

impl CountedGauge {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for CountedGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
