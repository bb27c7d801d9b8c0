//! A request to the API server that came to nothing, in words for people. It must not know what it was for.

/// The API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{name}`")]
pub struct ApiError {
    /// What was asked.
    what: &'static str,
    /// Of which object.
    name: String,
    /// Its answer.
    #[source]
    source: kube::Error,
}

/// What became of a request to the API server.
pub(crate) fn failed(what: &'static str, name: &str) -> impl FnOnce(kube::Error) -> ApiError {
    let name = name.to_owned();
    move |source| ApiError { what, name, source }
}
