//! The bridge's own answers: what an MCP server over HTTP would say itself (MCP, basic/transports).
//!
//! The codes are JSON-RPC's, MCP's where it defines one, and otherwise of the range that it leaves to implementations: a
//! client that tries the modern era must be able to tell these from a modern server's. It must not know what led to an
//! answer.

use super::{child::NotStarted, events::Events, message::Id};
use crate::agent::answer;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use serde_json::json;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

pub(super) const PARSE_ERROR: i64 = -32700;
pub(super) const INVALID_REQUEST: i64 = -32600;
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
pub(super) const INVALID_PARAMS: i64 = -32602;
/// MCP 2026-07-28: a header says something else than the body.
pub(super) const HEADER_MISMATCH: i64 = -32020;
pub(super) const MISSING_CAPABILITY: i64 = -32021;
pub(super) const UNSUPPORTED_VERSION: i64 = -32022;
/// What does not fit a server of its era, or no session.
pub(super) const NOT_HERE: i64 = -32000;
/// A session that is unknown, or over.
pub(super) const NO_SESSION: i64 = -32001;
/// The program ended, or was not to be had. A code that no revision has a meaning for.
pub(super) const SERVER_ENDED: i64 = -32013;

/// A JSON-RPC error on one line.
pub(super) fn error_text(id: Option<&Id>, code: i64, why: &str) -> String {
    let id = id.map_or("null", Id::as_json);
    let error = json!({ "code": code, "message": why });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// An answer of a bridge.
pub(super) fn error(
    status: StatusCode,
    id: Option<&Id>,
    code: i64,
    why: &str,
) -> Response<ServerBody> {
    message(status, error_text(id, code, why).into())
}

/// An answer that is no program's. In a box, since most requests are answered by one.
pub(super) type Refused = Box<Response<ServerBody>>;

/// The same as an error.
pub(super) fn refusal(status: StatusCode, id: Option<&Id>, code: i64, why: &str) -> Refused {
    Box::new(error(status, id, code, why))
}

/// What a request hears whose program ended, or was not told.
pub(super) fn ended(id: Option<&Id>, why: &str) -> Refused {
    refusal(StatusCode::BAD_GATEWAY, id, SERVER_ENDED, why)
}

/// What a request hears for which no program is to be had.
pub(super) fn not_started(id: Option<&Id>, error: &NotStarted) -> Refused {
    tracing::error!(%error, "no MCP server for a request");
    match error {
        NotStarted::Paused(wait) => {
            let seconds = wait.as_secs() + 1;
            let why = format!(
                "the MCP server ends early; another one is started in {seconds} s at the earliest, and its operator's log \
                 says why"
            );
            ended(id, &why)
        }
        NotStarted::Program(_) | NotStarted::Host(_) => {
            ended(id, "the MCP server did not start; its operator's log says why")
        }
    }
}

/// One message as the whole answer.
pub(super) fn message(status: StatusCode, text: Bytes) -> Response<ServerBody> {
    let mut response = Response::new(ServerBody::Bridged(answer::whole(text)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A stream of events as the answer.
pub(super) fn events<G: Unpin + Send + 'static>(events: Events<G>) -> Response<ServerBody> {
    let mut response = Response::new(ServerBody::Bridged(answer::Body::new(events)));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What a session is told that is not there, or not there any more; by the gateway's id, where it is known, the log says why.
pub(crate) fn unknown_session(request_id: Option<&str>) -> Response<ServerBody> {
    let why = "this session is unknown or over; begin another with `initialize`";
    let mut data = json!({ "reason": "unknown_session" });
    if let Some(request_id) = request_id {
        data["requestId"] = request_id.into();
    }
    let error = json!({ "code": NO_SESSION, "message": why, "data": data });
    let text = json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string();
    message(StatusCode::NOT_FOUND, text.into())
}

/// A session has ended.
pub(crate) fn no_content() -> Response<ServerBody> {
    bare(StatusCode::NO_CONTENT)
}

/// What asks for no answer was heard.
pub(crate) fn accepted() -> Response<ServerBody> {
    bare(StatusCode::ACCEPTED)
}

/// An answer without a message.
pub(super) fn bare(status: StatusCode) -> Response<ServerBody> {
    answer::bare(status).map(ServerBody::Bridged)
}

/// The body of an MCP server's response, however it is spoken to.
pub(crate) enum ServerBody {
    /// As it comes from a server that speaks HTTP.
    Http(Incoming),
    /// Made here.
    Bridged(answer::Body),
}

impl http_body::Body for ServerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Http(body) => Pin::new(body).poll_frame(context),
            Self::Bridged(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http(body) => body.is_end_stream(),
            Self::Bridged(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            Self::Bridged(body) => body.size_hint(),
        }
    }
}
