//! Why the authority cannot be kept. Nothing of a key is in any of it.

use super::root::IssueError;
use crate::api_error::ApiError;

/// Why the authority cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server did not do what it was asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What is in the Secret is none of ours. It is never overwritten: a root that workers trust may be in it.
    #[error(
        "the Secret `{0}` has an entry `authority.json` that cannot be read; restore it, or remove the entry for a new \
         authority"
    )]
    Unreadable(String),
    /// No key or certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
}
