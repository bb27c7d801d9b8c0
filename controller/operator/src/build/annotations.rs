//! The annotations that the operator puts on workers.

/// The fingerprint of the key that the worker proved when it enrolled (invariant 3). Only the operator may set
/// it, and only once for one pod.
pub const FINGERPRINT: &str = "patchbay.dev/fingerprint";
