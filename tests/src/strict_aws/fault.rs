//! What STS does when it is unwell, switched on and off by a test, and how often it is asked meanwhile. It must not know
//! who asks, or for which keys.

use super::{error_of_sts, refusal_of_sts};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use parking_lot::Mutex;
use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StsFault {
    /// It says that it is asked too often.
    Throttling,
    /// It fails.
    Failing,
    /// It takes what it is asked, and never answers.
    Silent,
}

/// The fault that is on, if any, and what has been asked.
#[derive(Default)]
pub(super) struct Faults {
    current: Mutex<Option<StsFault>>,
    asked: AtomicUsize,
}

impl Faults {
    pub(super) fn set(&self, fault: Option<StsFault>) {
        *self.current.lock() = fault;
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Counts a request for keys, and answers it if a fault does.
    pub(super) async fn instead(&self) -> Option<Response> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let current = *self.current.lock();
        match current? {
            // as STS says it, which is no 429
            StsFault::Throttling => {
                Some(refusal_of_sts(StatusCode::BAD_REQUEST, "Throttling", "Rate exceeded"))
            }
            StsFault::Failing => {
                let text = error_of_sts("InternalFailure", "it fails");
                Some((StatusCode::INTERNAL_SERVER_ERROR, text).into_response())
            }
            StsFault::Silent => pending().await,
        }
    }
}
