//! Puts a grant where the MCP server of a profile looks for it.
//! This module must not know latches, requests, or how a grant came to be.

use patchbay_core::{class::Profile, grant::Grant};

/// A grant that could not be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The profile's files are not written by this release.
    #[error("grants of the profile {0:?} cannot be stored")]
    Unsupported(Profile),
}

/// Stores `grant` for the MCP server. A generic server is given nothing.
pub(crate) const fn store(profile: Profile, _grant: &Grant) -> Result<(), StoreError> {
    match profile {
        Profile::Generic => Ok(()),
        Profile::Quilt => Err(StoreError::Unsupported(profile)),
    }
}
