//! From classes and providers as they are now to who may reach what, and everything that is wrong with them.
//!
//! Nothing here is refused as a whole: the gateway goes on with what can be used, and says what cannot. Who was
//! let in by something that is gone or wrong is let in no more (ADR 9).

use patchbay_core::routing::RouteTable;
use patchbay_gateway::{authn::Sources, service::Configuration};
use patchbay_orchestrator::kubernetes::Definitions;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use std::collections::BTreeSet;

/// The next configuration. `before` gives what its judges remember.
pub(crate) fn build(
    definitions: &Definitions,
    before: &Configuration,
    sources: &Sources,
) -> (Configuration, BTreeSet<String>) {
    let (classes, providers) = (definitions.classes(), definitions.providers());
    let (routes, quarrels) = RouteTable::build_usable(&classes, &providers);
    let (authenticator, unusable) = before.authenticator.for_providers(&providers, sources);
    let wrong = definitions.wrong().into_iter();
    let wrong = wrong.map(|wrong| format!("{}: {}", wrong.object, wrong.problem));
    let unusable = unusable.iter().map(|error| format!("{error}: {}", error.source));
    let quarrels = quarrels.iter().map(ToString::to_string);
    let problems = wrong.chain(unusable).chain(quarrels).collect();
    (Configuration { routes, authenticator }, problems)
}

/// What is wrong, told when it begins and when it ends, and counted.
#[derive(Default)]
pub(crate) struct Problems {
    known: BTreeSet<String>,
    count: Gauge,
}

impl Problems {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let problems = Self::default();
        let help = "What is wrong with classes and providers; the log says what";
        registry.register("patchbay_gateway_configuration_errors", help, problems.count.clone());
        problems
    }

    pub(crate) fn tell(&mut self, now: BTreeSet<String>) {
        for problem in now.difference(&self.known) {
            tracing::warn!(problem, "the configuration is not usable as it is written");
        }
        for problem in self.known.difference(&now) {
            tracing::info!(problem, "a problem of the configuration is solved");
        }
        self.count.set(i64::try_from(now.len()).unwrap_or(i64::MAX));
        self.known = now;
    }
}
