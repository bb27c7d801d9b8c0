//! The relay's own answers: why the MCP server gets none of anybody else. They are JSON, so that a
//! person who reads the server's error sees the reason and the host. It must not know what led to
//! one.

use crate::agent::answer::{self, Body};
use http::{Response, StatusCode};
use patchbay_core::chain::Chain;
use serde::Serialize;
use std::error::Error;

/// A host name in an answer or a log is cut here, characters: the longest DNS name has 253.
const MAX_HOST: usize = 253;

/// Why a request was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reason {
    /// It is neither CONNECT with host and port nor a plain http URL.
    InvalidTarget,
    /// A method that would have the origin send back the user's bearer.
    MethodNotAllowed,
    /// Nobody's session is here yet.
    NoGrant,
    /// Nobody's AWS keys are here any more, or yet.
    NoKeys,
    /// It presents another credential than this worker's to the catalog.
    ForeignCredential,
    /// It takes the session's bearer elsewhere than to the catalog.
    SessionElsewhere,
    /// The class does not list the host and port, or not for plain http.
    HostNotAllowed,
    /// The registry may take its path for that of AWS keys of its own, which this class does not give.
    PathNotAllowed,
    /// The host's addresses are ones that may not be dialled.
    AddressNotAllowed,
    /// The host cannot be found, connected to, or be trusted.
    Unreachable,
    /// The host did not accept a connection in time, or did not answer in time.
    TimedOut,
    /// The host broke the connection or its protocol before it answered.
    BrokenAnswer,
    /// The catalog's configuration, or an answer with its keys, is longer than it may be.
    AnswerTooLong,
    /// The registry gave AWS keys that have no end.
    LongTermKeys,
}

impl Reason {
    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidTarget => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoGrant | Self::NoKeys => StatusCode::SERVICE_UNAVAILABLE,
            Self::ForeignCredential
            | Self::SessionElsewhere
            | Self::HostNotAllowed
            | Self::PathNotAllowed
            | Self::AddressNotAllowed => StatusCode::FORBIDDEN,
            Self::Unreachable | Self::BrokenAnswer | Self::AnswerTooLong | Self::LongTermKeys => {
                StatusCode::BAD_GATEWAY
            }
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

#[derive(Serialize)]
struct Refusal<'a> {
    reason: Reason,
    host: &'a str,
}

/// A request that was not carried out.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: Reason,
    /// What lies behind it, for the log alone.
    why: Option<String>,
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, why: None }
    }
}

impl Failure {
    /// For `reason`, because of `error`.
    pub(crate) fn new(reason: Reason, error: &dyn Error) -> Self {
        Self { reason, why: Some(Chain(error).to_string()) }
    }

    /// Answers with it, and leaves one line in the log.
    pub(crate) fn answer(self, host: &str) -> Response<Body> {
        let Self { reason, why } = self;
        let host = match host.char_indices().nth(MAX_HOST) {
            Some((end, _)) => host.get(..end).unwrap_or_default(),
            None => host,
        };
        tracing::info!(host, ?reason, why, "refused an outbound request");
        answer::json(reason.status(), &Refusal { reason, host })
    }
}

/// Answers with a reason, and leaves one line in the log.
pub(crate) fn refuse(reason: Reason, host: &str) -> Response<Body> {
    Failure::from(reason).answer(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_refusal_names_reason_and_host_and_is_bounded() {
        let response = refuse(Reason::HostNotAllowed, &"ä".repeat(1000));
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["reason"], "hostNotAllowed");
        assert_eq!(body["host"], "ä".repeat(MAX_HOST));
    }
}
