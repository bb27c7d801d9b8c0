//! Parameters of writes: whose they are. It must not know what is written.

use kube::api::{PatchParams, PostParams};

/// Whose writes these are: the owner of every field that the operator writes.
pub(crate) const FIELD_MANAGER: &str = "patchbay-operator";

/// Parameters of a patch.
pub(crate) fn patch() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// Parameters of a create.
pub(crate) fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

/// Parameters of an apply. What others wrote into fields that are the operator's is taken back.
pub(crate) fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}
