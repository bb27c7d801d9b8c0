//! Answers that are read on their way: asked for in a form that can be read, bounded in length and time, and passed on as
//! what was read. It must not know what is in them.

use super::refusal::{Failure, Reason};
use crate::agent::answer::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header, response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::timeout;

/// For all of an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks for the whole answer in a form that can be read.
pub(super) fn ask(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
}

/// Whether an answer is in a form that can be read.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity")
}

/// All of an answer's body, if it is no longer than that, bytes.
pub(super) async fn whole(body: Incoming, most: usize) -> Result<Bytes, Failure> {
    let read = timeout(LIMIT, Limited::new(body, most).collect()).await;
    let read = read.map_err(|_| Reason::TimedOut)?.map_err(|error| {
        let is_too_long = error.is::<LengthLimitError>();
        let reason = if is_too_long { Reason::AnswerTooLong } else { Reason::BrokenAnswer };
        Failure::new(reason, error.as_ref())
    });
    Ok(read?.to_bytes())
}

/// An answer that was read.
pub(super) fn answer(mut parts: response::Parts, text: Bytes) -> Response<Body> {
    parts.headers.insert(header::CONTENT_LENGTH, text.len().into());
    let body = Full::new(text).map_err(|never| match never {});
    Response::from_parts(parts, UnsyncBoxBody::new(body))
}
