//! The stream of events that a `GET` is answered with: looked at until its first event that says anything. Where that
//! names an endpoint for messages, its client is told where that is from outside, and the stream is followed event by
//! event; any other stream passes byte by byte. What names somebody else's endpoint ends: a client would send its
//! messages, and its credential, there.
//!
//! Where tools are hidden, every message of every stream is looked through: a list of them comes on any, where a client
//! comes back for what it missed. It must not know who asks, or what is allowed.

use super::{Open, Pairs};
use crate::agent::{
    in_flight::InFlight,
    policy::{
        Listing, MAX_LIST_BYTES,
        events::{Splitter, data, name, with_data},
    },
    server::Server,
    stdio,
};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use patchbay_core::link::FORWARD_PREFIX;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// What is held of a stream until it is known to name an endpoint; no endpoint is as long, bytes.
const MAX_UNDECIDED: usize = 64 * 1024;
/// What is held of one message of a stream that is followed, bytes.
const MAX_EVENT: usize = MAX_LIST_BYTES;
/// What is logged of an endpoint, characters.
const MAX_LOGGED: usize = 200;

const EVENTS: &str = "text/event-stream";

/// A request whose answer may be such a stream.
pub(crate) struct Opening {
    pub(crate) server: Arc<Server>,
    pub(crate) pairs: Arc<Pairs>,
    /// The rest of the path that was asked for.
    pub(crate) asked: String,
    pub(crate) listing: Option<Listing>,
    pub(crate) request_id: Option<String>,
}

impl Opening {
    /// What a request asks for, if it asks for events; that they come in the clear is asked for then.
    pub(crate) fn asked<B>(request: &mut Request<B>) -> Option<String> {
        if *request.method() != Method::GET {
            return None;
        }
        let accepted = request.headers().get_all(header::ACCEPT).iter();
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        if accepted.any(|value| value.to_ascii_lowercase().contains(EVENTS)) {
            // what is compressed could not be read
            request.headers_mut().remove(header::ACCEPT_ENCODING);
        }
        request.uri().path().strip_prefix(FORWARD_PREFIX).map(str::to_owned)
    }

    /// Whether it is answered with events; whether they can be read, then.
    pub(crate) fn is_answered<B>(response: &Response<B>) -> Option<bool> {
        let headers = response.headers();
        let kind = stdio::essence(headers.get(header::CONTENT_TYPE));
        let is_answered = response.status() == StatusCode::OK && kind.eq_ignore_ascii_case(EVENTS);
        is_answered.then(|| !headers.contains_key(header::CONTENT_ENCODING))
    }
}

/// The body of the answer.
pub(crate) struct Stream<B> {
    /// None once it has ended, or was ended.
    source: Option<B>,
    splitter: Splitter,
    stage: Stage,
    opening: Opening,
    /// What the last event ended: it is over once that has been taken.
    over: Vec<InFlight>,
}

enum Stage {
    /// No message has come yet.
    Undecided,
    /// It names none. It passes as it comes, unless tools are hidden.
    Plain,
    /// It has named an endpoint.
    Followed(Open),
}

impl Opening {
    /// The body of an answer with events.
    pub(crate) fn answered<B>(self, source: B) -> Stream<B> {
        Stream {
            source: Some(source),
            splitter: Splitter::default(),
            stage: Stage::Undecided,
            opening: self,
            over: Vec::new(),
        }
    }
}

impl<B> Stream<B> {
    /// What can be passed on of what has come.
    fn passed(&mut self, is_end: bool) -> Bytes {
        let mut passed = BytesMut::new();
        while let Some(event) = self.splitter.next(is_end) {
            match self.seen(&event) {
                Ok(None) => passed.extend_from_slice(&event),
                Ok(Some(changed)) => passed.extend_from_slice(changed.as_bytes()),
                Err(last) => {
                    passed.extend_from_slice(last.as_bytes());
                    self.source = None;
                    return passed.freeze();
                }
            }
            if self.is_of_no_interest() {
                break;
            }
        }
        let most = match (&self.stage, &self.opening.listing) {
            (Stage::Undecided, None) => MAX_UNDECIDED,
            (Stage::Plain, None) => 0,
            (Stage::Followed(_), _) | (_, Some(_)) => MAX_EVENT,
        };
        if self.splitter.held().len() > most {
            match (&self.stage, &self.opening.listing) {
                (_, Some(listing)) => {
                    passed.extend_from_slice(listing.too_long().as_bytes());
                    self.source = None;
                }
                (Stage::Followed(_), None) => {
                    tracing::warn!(
                        request_id = self.opening.request_id,
                        "a message of more than {MAX_EVENT} bytes: the calls of this stream count as over"
                    );
                    self.stage = Stage::Plain;
                    passed.extend_from_slice(&self.splitter.take_held());
                }
                (Stage::Undecided | Stage::Plain, None) => {
                    self.stage = Stage::Plain;
                    passed.extend_from_slice(&self.splitter.take_held());
                }
            }
        }
        passed.freeze()
    }

    /// Whether nothing in it is looked for any more.
    fn is_of_no_interest(&self) -> bool {
        matches!(self.stage, Stage::Plain) && self.opening.listing.is_none()
    }

    /// What is passed on in an event's place, if anything; the error is the last that is said.
    fn seen(&mut self, event: &[u8]) -> Result<Option<String>, String> {
        if let Ok(text) = std::str::from_utf8(event) {
            let data = data(text);
            if data.is_empty() {
                // it says nothing to anybody: a comment, or when to come back
                return Ok(None);
            }
            let name = name(text);
            if name == "endpoint" {
                return self.named(data.trim()).map(|reference| Some(with_data(text, &reference)));
            }
            if !matches!(name, "" | "message") {
                // clients take no message out of it, and it says nothing of what follows
                return Ok(None);
            }
            if let Stage::Followed(open) = &self.stage {
                self.over.extend(open.pair.ended_by(&data));
            }
        }
        if matches!(self.stage, Stage::Undecided) {
            self.stage = Stage::Plain;
        }
        self.opening.listing.as_ref().map_or(Ok(None), |listing| listing.event(event))
    }

    /// What its client is told in place of the endpoint that the server named.
    fn named(&mut self, named: &str) -> Result<String, String> {
        let Opening { server, pairs, asked, request_id, .. } = &self.opening;
        let Some(endpoint) = server.endpoint(named, asked) else {
            let named: String = named
                .split(['?', '#'])
                .next()
                .unwrap_or_default()
                .chars()
                .take(MAX_LOGGED)
                .collect();
            tracing::warn!(
                request_id,
                asked,
                named,
                "the MCP server names an endpoint for messages that is not below its class's `server.path`; \
                 nobody is sent there, and the stream ends"
            );
            return Err(String::new());
        };
        if !matches!(&self.stage, Stage::Followed(open) if open.at == endpoint.on_link) {
            self.stage = Stage::Followed(pairs.open(endpoint.on_link));
        }
        Ok(endpoint.reference)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Stream<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        this.over.clear();
        if let Stage::Followed(open) = &mut this.stage
            && this.source.is_some()
            && let Poll::Ready(Some(told)) = open.to_tell.poll_recv(context)
        {
            // whole events alone are passed on, so this is between two
            return Poll::Ready(Some(Ok(Frame::data(told))));
        }
        loop {
            let Some(source) = &mut this.source else { return Poll::Ready(None) };
            let frame = ready!(Pin::new(source).poll_frame(context));
            let passed = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if this.is_of_no_interest() => data,
                    Ok(data) => {
                        this.splitter.push(&data);
                        this.passed(false)
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => {
                    this.source = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let rest = this.passed(true);
                    this.source = None;
                    rest
                }
            };
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }
}
