//! Names what a worker is made from: the same manifests give the same name, in any process and any release
//! that builds them alike.

use super::error::BuildError;
use k8s_openapi::api::core::v1::Pod;
use patchbay_core::digest::Digest;
use std::collections::BTreeMap;

/// Of a digest's hexadecimal characters; two revisions of one class must differ, no more.
const LENGTH: usize = 16;

/// The revision of a pod without one, and of what it is told.
pub(super) fn of(pod: &Pod, documents: &BTreeMap<String, String>) -> Result<String, BuildError> {
    // maps are sorted and structures in order, so the text is the same for the same content
    let text = serde_json::to_vec(&(pod, documents))?;
    let mut digest = Digest::of(&text).to_string();
    digest.truncate(LENGTH);
    Ok(digest)
}
