//! The labels by which workers are found, and told apart.

use patchbay_core::class::WorkerClass;
use std::collections::BTreeMap;

pub use patchbay_crds::marks::{
    BOUND, CLASS, COMPONENT, GATEWAY, OPERATOR, PART_OF, PATCHBAY, REVISION, TRUE, WORKER, selector,
};

pub(super) type Labels = BTreeMap<String, String>;

pub(super) fn of<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The labels of everything that is made for workers.
pub(super) fn common() -> Labels {
    of([
        ("app.kubernetes.io/name", "patchbay-worker"),
        (COMPONENT, WORKER),
        (PART_OF, PATCHBAY),
        ("app.kubernetes.io/managed-by", "patchbay-operator"),
    ])
}

/// The labels of everything that is made for workers of one class.
pub(super) fn of_class(class: &WorkerClass) -> Labels {
    let mut labels = common();
    labels.extend(of([("app.kubernetes.io/instance", class.name.as_str())]));
    labels.extend(selector(&class.name));
    labels
}
