//! Faults that a test switches on and off: what a registry does when it is unwell. It decides what
//! happens to a request before any route sees it.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use serde_json::json;
use std::time::Duration;

/// What [`Fault::TooManyRequests`] asks for, seconds.
pub const RETRY_AFTER: u32 = 17;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Connections are closed without a word.
    Down,
    /// 401 to everything.
    Unauthorized,
    /// 403 to everything.
    Forbidden,
    /// 500 to everything.
    InternalError,
    /// 429 with `Retry-After` of [`RETRY_AFTER`] seconds to everything.
    TooManyRequests,
    /// Every answer is late by this much, and otherwise right.
    Slow(Duration),
}

/// The fault that is on, if any.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Option<Fault>>);

impl Faults {
    /// Switches a fault on, in place of another.
    pub fn set(&self, fault: Fault) {
        *self.0.lock() = Some(fault);
    }

    /// All is well again.
    pub fn clear(&self) {
        *self.0.lock() = None;
    }

    /// What is wrong now.
    pub fn current(&self) -> Option<Fault> {
        *self.0.lock()
    }
}

impl Fault {
    /// The answer that this fault gives in place of the right one, if it gives one.
    pub fn answer(self) -> Option<Response> {
        let (status, message) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::InternalError => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too many requests"),
            Self::Down | Self::Slow(_) => return None,
        };
        let mut answer = (status, Json(json!({ "message": message }))).into_response();
        if self == Self::TooManyRequests {
            answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER.into());
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_stays_until_it_is_cleared() {
        let faults = Faults::default();
        faults.set(Fault::Down);
        assert_eq!(faults.current(), Some(Fault::Down));
        assert_eq!(faults.current(), Some(Fault::Down));
        faults.clear();
        assert_eq!(faults.current(), None);
    }

    #[test]
    fn only_the_faults_with_a_status_answer() {
        let status = |fault: Fault| fault.answer().map(|answer| answer.status().as_u16());
        assert_eq!(status(Fault::Unauthorized), Some(401));
        assert_eq!(status(Fault::Forbidden), Some(403));
        assert_eq!(status(Fault::InternalError), Some(500));
        assert_eq!(status(Fault::TooManyRequests), Some(429));
        assert_eq!(status(Fault::Down), None);
        assert_eq!(status(Fault::Slow(Duration::from_secs(1))), None);
    }
}
