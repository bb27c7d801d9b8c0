//! Writes to the API server: bounded in number and time, counted, and with failures sorted by what follows from them.
//!
//! Nothing here is sent twice by itself: whether a repeat is the same depends on the write, and the next pass decides
//! anew. This module must not know why anything is written.

use super::metrics::{Metrics, WriteKind};
use kube::core::Status;
use patchbay_core::chain::Chain;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// An API server that takes longer is asked again by the next pass.
const LIMIT: Duration = Duration::from_secs(15);
/// Writes at one time, of all classes together.
const AT_ONCE: usize = 32;

/// What all writes go through.
#[derive(Clone)]
pub(super) struct Writes {
    permits: Arc<Semaphore>,
    metrics: Metrics,
}

/// Why a write did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The object is not what it was when this was decided.
    #[error("the object has changed")]
    Conflict,
    /// There is no such object.
    #[error("the object is gone")]
    Gone,
    /// The cluster does not allow it.
    #[error("the cluster refuses it: {}", .0.message)]
    Refused(Box<Status>),
    /// The API server is down, busy or cannot be reached.
    #[error("the API server did not answer")]
    Unavailable(#[source] Box<kube::Error>),
    /// No answer came; it may have happened.
    #[error("the API server did not answer in time")]
    TimedOut,
}

impl Writes {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)), metrics }
    }

    /// Sends a write.
    pub(super) async fn send<T>(
        &self,
        write: WriteKind,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        // the semaphore is never closed
        let _permit = self.permits.acquire().await;
        self.metrics.wrote(write);
        let answer = timeout(LIMIT, request).await.map_err(|_| WriteError::TimedOut)?;
        answer.map_err(WriteError::from)
    }
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                404 | 410 => Self::Gone,
                409 if status.reason == "AlreadyExists" => Self::Refused(status),
                409 => Self::Conflict,
                // the tests of a JSON patch fail so, and so does what a schema or a rule refuses
                400..=499 if status.code != 429 => Self::Refused(status),
                _ => Self::Unavailable(Box::new(kube::Error::Api(status))),
            },
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

impl WriteError {
    /// The word for it in metrics.
    pub(super) const fn category(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::TimedOut => "timeout",
        }
    }

    /// Whether others changed or removed the object, which is the usual course: the next pass sees what it is now.
    pub(super) const fn is_race(&self) -> bool {
        matches!(self, Self::Conflict | Self::Gone)
    }

    /// It and its causes on one line.
    pub(super) fn text(&self) -> String {
        Chain(self).to_string()
    }
}
