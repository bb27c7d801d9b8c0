//! The labels by which workers are found, and told apart.

use patchbay_core::{class::WorkerClass, id::ClassName};
use std::collections::BTreeMap;

/// The class that a worker is of.
pub const CLASS: &str = "patchbay.dev/class";
/// What a worker was made from: pods of another revision than their class's are old.
pub const REVISION: &str = "patchbay.dev/revision";
/// Set to [`TRUE`] on a worker that has a tenant; nothing says which.
pub const BOUND: &str = "patchbay.dev/bound";
/// The value of a label that says that something is so.
pub const TRUE: &str = "true";

/// What kind of Patchbay's pods this is.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Whose pods these are.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The value of [`PART_OF`].
pub const PATCHBAY: &str = "patchbay";
/// The [`COMPONENT`] of workers.
pub const WORKER: &str = "worker";
/// The [`COMPONENT`] of gateways.
pub const GATEWAY: &str = "gateway";
/// The [`COMPONENT`] of operators.
pub const OPERATOR: &str = "operator";

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

/// What all workers of a class have and nothing else has.
pub fn selector(class: &ClassName) -> BTreeMap<String, String> {
    of([(COMPONENT, WORKER), (PART_OF, PATCHBAY), (CLASS, class.as_str())])
}
