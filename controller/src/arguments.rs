//! Forms of values on the command line that several commands have.

use patchbay_crds::validate::duration;
use std::time::Duration;

/// A duration as it is written in manifests, such as `30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|problem| problem.to_string())
}
