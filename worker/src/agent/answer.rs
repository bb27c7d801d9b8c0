//! The agent's own answers on the link: JSON bodies, as `patchbay_core::link` words them.
//! It must not know what led to an answer.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use patchbay_core::link::{MISDIRECTED, REFUSAL_HEADER};
use serde::Serialize;
use zeroize::Zeroizing;

/// The body of every response on the link.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// Why a request got no answer of the MCP server, where `patchbay_core::link` has no word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reason {
    /// It names another tenant or epoch, or none; the MCP server saw nothing of it.
    Misdirected,
    /// The MCP server broke the connection or its protocol before it answered.
    ServerFailed,
    /// A stream that waited for events, ended because the worker leaves.
    Leaving,
    /// Its path does not make a URL.
    InvalidPath,
    /// A control request's body is not what belongs there.
    InvalidBody,
    /// A control request's body is too long.
    BodyTooLong,
    /// A control request's body did not come in time.
    BodyTooSlow,
}

#[derive(Serialize)]
struct Refusal {
    reason: Reason,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Misdirected => MISDIRECTED,
            Self::ServerFailed => "serverFailed",
            Self::Leaving => "leaving",
            Self::InvalidPath => "invalidPath",
            Self::InvalidBody => "invalidBody",
            Self::BodyTooLong => "bodyTooLong",
            Self::BodyTooSlow => "bodyTooSlow",
        }
    }
}

/// An answer with a reason, marked as the agent's own: an MCP server may use the same statuses.
pub(crate) fn refuse(status: StatusCode, reason: Reason) -> Response<Body> {
    let mut response = json(status, &Refusal { reason });
    let mark = HeaderValue::from_static(reason.as_str());
    response.headers_mut().insert(REFUSAL_HEADER, mark);
    response
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    with(status, Bytes::from(text(body)))
}

/// An answer with a JSON body whose bytes are wiped once they are sent.
pub(crate) fn secret_json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    with(status, Bytes::from_owner(Zeroizing::new(text(body))))
}

/// The bodies are plain structures, which always serialise; an empty one is still a right answer.
fn text(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

/// A body of these bytes.
pub(crate) fn whole(text: Bytes) -> Body {
    UnsyncBoxBody::new(Full::new(text).map_err(|never| match never {}))
}

fn with(status: StatusCode, text: Bytes) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An answer without a body.
pub(crate) fn bare(status: StatusCode) -> Response<Body> {
    let body = Empty::new().map_err(|never| match never {});
    let mut response = Response::new(UnsyncBoxBody::new(body));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_refusal_is_the_word_in_its_body() {
        for reason in [
            Reason::Misdirected,
            Reason::ServerFailed,
            Reason::Leaving,
            Reason::InvalidPath,
            Reason::InvalidBody,
            Reason::BodyTooLong,
            Reason::BodyTooSlow,
        ] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
