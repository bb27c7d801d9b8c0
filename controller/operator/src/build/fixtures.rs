//! Small valid values for the builders' tests. The names of class, namespace and image differ from the
//! product's, so that a swap of two of them shows.

use super::ClassRef;
use crate::settings::Settings;
use patchbay_core::{cidr::Cidr, class::WorkerClass};

pub(super) fn settings() -> Settings {
    Settings {
        cluster_ranges: ["10.200.0.0/16", "10.96.0.0/12"]
            .iter()
            .map(|range| Cidr::parse(range).unwrap())
            .collect(),
        ..Settings::new("the-namespace", "registry.example/worker:1")
    }
}

pub(super) fn of(class: &WorkerClass) -> ClassRef<'_> {
    ClassRef { class, uid: "6f1c7b1e-0000-4000-8000-000000000001" }
}
