//! How objects are marked: the labels and annotations that the operator puts on workers and gateways read, and the
//! one that gateways put on tenants.
//!
//! Nothing here says which tenant a worker has: tenants say that (see [`crate::tenant`]). This module must not
//! know how a pod is made.

use patchbay_core::id::ClassName;
use std::collections::BTreeMap;

/// The class that a worker is of.
pub const CLASS: &str = "patchbay.dev/class";
/// What a worker was made from: pods of another revision than their class's are old.
pub const REVISION: &str = "patchbay.dev/revision";
/// Set to [`TRUE`] on a worker that has a tenant; nothing says which.
pub const BOUND: &str = "patchbay.dev/bound";
/// On a tenant: who made it. Set to [`FIRST_CONTACT`] by gateways; a tenant that was provisioned by hand has none,
/// and is never forgotten.
pub const PROVISIONED_BY: &str = "patchbay.dev/provisioned-by";
/// The value of [`PROVISIONED_BY`] on a tenant that its user's first request made.
pub const FIRST_CONTACT: &str = "first-contact";
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

/// Where a worker's agent listens for gateways and operators.
pub const LINK_PORT: u16 = 7443;

/// The annotation with the fingerprint of the key that the worker proved when it enrolled (invariant 3). Only the
/// operator may set it, and only once for one pod.
pub const FINGERPRINT: &str = "patchbay.dev/fingerprint";

/// The labels that all workers of a class have and nothing else has.
pub fn selector(class: &ClassName) -> BTreeMap<String, String> {
    [(COMPONENT, WORKER), (PART_OF, PATCHBAY), (CLASS, class.as_str())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}
