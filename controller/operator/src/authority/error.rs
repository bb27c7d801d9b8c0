//! Why the authority cannot be kept. Nothing of a key is in any of it.

use super::root::IssueError;

/// Why the authority cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server did not do what it was asked.
    #[error("cannot {what} `{name}`")]
    Api {
        /// What was asked.
        what: &'static str,
        /// Of which object.
        name: String,
        /// Its answer.
        #[source]
        source: kube::Error,
    },
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

/// What became of a request to the API server.
pub(super) fn failed(what: &'static str, name: &str) -> impl FnOnce(kube::Error) -> KeepError {
    let name = name.to_owned();
    move |source| KeepError::Api { what, name, source }
}
