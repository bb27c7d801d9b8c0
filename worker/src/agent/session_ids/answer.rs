//! What begins a session: the parameters of `initialize`, and what the server says of itself in its answer. The answer
//! passes on as it came. It must not know ids.

use crate::agent::{
    answer::Body,
    policy::events::{Splitter, data},
    stdio::{self, Kind, Message, ServerBody},
};
use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use patchbay_core::digest::Digest;
use serde_json::Value;
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// No server says as much of itself, bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// A server has this long to answer `initialize`; what it says later is passed on all the same.
const LIMIT: Duration = Duration::from_secs(30);

/// What a server says of itself. Two answers that agree in this are of one kind of server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) version: String,
    pub(super) facts: [u8; 16],
}

/// The parameters of an `initialize`, if the text is one, as they are written.
pub(super) fn params_of_initialize(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let message = Message::read(text).ok()?;
    message.request_id()?;
    let params = message.at(&["params"]).filter(|_| message.method() == Some("initialize"))?;
    Some(params.to_owned())
}

impl Said {
    /// Of a JSON-RPC response; none where it is an error, or none at all.
    fn of(text: &str) -> Option<Self> {
        let message = Message::read(text).ok()?;
        if !matches!(message.kind, Kind::Response { error: None, .. }) {
            return None;
        }
        let value = |name| -> Option<Value> {
            let text = message.at(&["result", name]);
            text.map_or(Some(Value::Null), |text| serde_json::from_str(text).ok())
        };
        let version = message.text_at(&["result", "protocolVersion"])?;
        // how the members of an object are ordered says nothing, and these are ordered
        let facts = ["capabilities", "serverInfo"].map(|name| value(name).map(|it| it.to_string()));
        let [Some(capabilities), Some(info)] = facts else { return None };
        let fields = [version.as_bytes(), capabilities.as_bytes(), info.as_bytes()];
        let digest = Digest::of_fields("patchbay.dev/session-facts/v1", &fields);
        let facts = *digest.as_bytes().first_chunk()?;
        Some(Self { version, facts })
    }
}

/// Reads the answer to `initialize` out of a response; the response, as it was.
pub(super) async fn read(response: Response<ServerBody>) -> (Response<ServerBody>, Option<Said>) {
    let kind = Form::of(response.headers());
    let (parts, body) = response.into_parts();
    let mut reading = Reading { read: VecDeque::new(), rest: Some(body) };
    let said = match kind {
        Some(kind) if parts.status.is_success() => reading.said(kind).await,
        _ => None,
    };
    (Response::from_parts(parts, ServerBody::Bridged(Body::new(reading))), said)
}

/// How an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Events,
}

impl Form {
    fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(header::CONTENT_ENCODING) {
            return None;
        }
        match &*stdio::essence(headers.get(header::CONTENT_TYPE)).to_ascii_lowercase() {
            "application/json" => Some(Self::Json),
            "text/event-stream" => Some(Self::Events),
            _ => None,
        }
    }
}

/// A body of which a part was read, and is passed on first.
struct Reading {
    read: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    /// None once it has ended.
    rest: Option<ServerBody>,
}

impl Reading {
    /// What the answer says, of as much of it as had to be read.
    async fn said(&mut self, kind: Form) -> Option<Said> {
        let deadline = Instant::now() + LIMIT;
        let mut splitter = Splitter::default();
        let mut length = 0;
        loop {
            let is_end = match timeout_at(deadline, self.more()).await.ok()? {
                Some(data) => {
                    length += data.len();
                    splitter.push(&data);
                    false
                }
                None => true,
            };
            match kind {
                Form::Json if is_end => {
                    return Said::of(std::str::from_utf8(splitter.held()).ok()?);
                }
                Form::Json => {}
                Form::Events => {
                    while let Some(event) = splitter.next(is_end) {
                        let data = std::str::from_utf8(&event).ok().map(data)?;
                        if let Ok(Message { kind: Kind::Response { .. }, .. }) =
                            Message::read(&*data)
                        {
                            return Said::of(&data);
                        }
                    }
                }
            }
            if is_end || length > MAX_ANSWER_BYTES {
                return None;
            }
        }
    }

    /// The next part; none at the end, or where it breaks.
    async fn more(&mut self) -> Option<Bytes> {
        let next = self.rest.as_mut()?.frame().await;
        let data = match &next {
            Some(Ok(frame)) => frame.data_ref().cloned().or(Some(Bytes::new())),
            Some(Err(_)) | None => None,
        };
        if data.is_none() {
            self.rest = None;
        }
        self.read.extend(next);
        data
    }
}

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(frame) = self.read.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.as_ref().is_none_or(ServerBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::answer::whole;
    use http::StatusCode;

    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"a":1,"b":2}},"serverInfo":{"name":"n","version":"1"},"instructions":"x"}}"#;

    fn response(kind: &'static str, text: &str) -> Response<ServerBody> {
        let mut response = Response::new(ServerBody::Bridged(whole(text.to_owned().into())));
        response.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        response
    }

    async fn said(response: Response<ServerBody>) -> (String, Option<Said>) {
        let (response, said) = read(response).await;
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (String::from_utf8(text.to_vec()).unwrap(), said)
    }

    #[test]
    fn the_parameters_of_initialize_are_kept_as_they_are_written() {
        let params = params_of_initialize(
            br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"x": 1.0,"capabilities":{}}}"#,
        );
        assert_eq!(params.as_deref(), Some(r#"{"x": 1.0,"capabilities":{}}"#));
        for other in [
            &br#"{"jsonrpc":"2.0","id":0,"method":"tools/list","params":{}}"#[..],
            br#"{"jsonrpc":"2.0","method":"initialize","params":{}}"#,
            br#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#,
            b"[]",
            b"\xff",
            b"",
        ] {
            assert_eq!(params_of_initialize(other), None);
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_in_either_form_and_passes_on_as_it_came() {
        let events = format!(
            ": hello\n\nid: 1\ndata:\n\nevent: message\ndata: {ANSWER}\n\nid: 2\ndata: x\n\n"
        );
        let (json_text, of_json) = said(response("application/json", ANSWER)).await;
        let (events_text, of_events) =
            said(response("text/event-stream; charset=utf-8", &events)).await;
        assert_eq!((json_text.as_str(), events_text), (ANSWER, events));
        assert_eq!(of_json.as_ref().unwrap().version, "2025-11-25");
        assert_eq!(of_json, of_events);
    }

    #[test]
    fn servers_differ_by_what_they_can_do_and_are_and_not_by_how_they_write_it() {
        let same =
            ANSWER.replace(r#"{"a":1,"b":2}"#, r#"{ "b":2, "a":1 }"#).replace("\"x\"", "\"y\"");
        assert_eq!(Said::of(ANSWER), Said::of(&same));
        for other in [
            ANSWER.replace("\"a\":1", "\"a\":2"),
            ANSWER.replace("\"version\":\"1\"", "\"version\":\"2\""),
            ANSWER.replace("2025-11-25", "2025-06-18"),
        ] {
            assert_ne!(Said::of(ANSWER), Said::of(&other), "{other}");
        }
        assert_eq!(Said::of(r#"{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":""}}"#), None);
    }

    #[tokio::test]
    async fn what_cannot_be_read_passes_on_and_says_nothing() {
        let mut failed = response("application/json", ANSWER);
        *failed.status_mut() = StatusCode::BAD_REQUEST;
        let mut packed = response("application/json", ANSWER);
        packed.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        for unread in [failed, packed, response("text/plain", ANSWER)] {
            assert_eq!(said(unread).await, (ANSWER.to_owned(), None));
        }
        let long = "x".repeat(MAX_ANSWER_BYTES + 1);
        assert_eq!(said(response("application/json", &long)).await, (long, None));
    }
}
