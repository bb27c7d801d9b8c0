//! What a tenant's requests are held to before the MCP server sees a byte of them: which tools may be called, and how
//! many requests may be made.
//!
//! It reads a body whole, judges what it says, and passes it on as it came, or answers in the server's place. Nothing is
//! changed but the list of tools, on its way back. Where a class asks for none of this, no body is read. Decisions are
//! the core's; this module and those below carry them out, and must not know tenants, sockets or where claims come from.

mod answers;
pub(crate) mod body;
pub(crate) mod events;
#[cfg(fuzzing)]
pub mod events_fuzzing;
mod listing;
pub(crate) mod meter;

use self::{
    answers::Refusal,
    events::Events,
    listing::Unlisted,
    meter::{Meter, Slot},
};
use super::{
    answer::{Body, whole},
    clock::Moment,
    headers,
    held_grant::Claims,
    in_flight::InFlight,
    relayed::Relayed,
    stdio::ServerBody,
    upstream::RequestBody,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use patchbay_core::{
    class::{Profile, TenantLimits},
    mcp::{Header, Message, Said},
    tools::{Judge, ToolPolicy},
};
use std::sync::Arc;

/// A list of tools, or one event of a stream that may hold it, is at most this long, bytes.
pub(crate) const MAX_LIST_BYTES: usize = 8 * 1024 * 1024;

/// What the modern era repeats of a body; a header is never judged alone.
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// What calls are held to.
#[derive(Debug)]
pub(crate) struct Policy {
    judge: Option<Judge>,
    meter: Option<Arc<Meter>>,
    room: body::Room,
}

/// A request that may be passed on.
pub(crate) struct Passed {
    /// As it came.
    pub(crate) request: Request<RequestBody>,
    /// What becomes of its response.
    pub(crate) listing: Option<Listing>,
}

impl Passed {
    /// A request of which nothing is read.
    pub(crate) fn unread(request: Request<Incoming>) -> Self {
        Self { request: request.map(Either::Left), listing: None }
    }
}

/// The response to a request for the list of tools, from which those that are denied are taken out.
#[derive(Debug)]
pub(crate) struct Listing {
    policy: Arc<Policy>,
    claims: Claims,
    request_id: Option<String>,
}

impl Policy {
    /// What a class's words and its profile come to; none where they ask for nothing.
    pub(crate) fn new(
        tools: Option<ToolPolicy>,
        limits: TenantLimits,
        profile: Profile,
    ) -> Option<Self> {
        let judge = Judge::new(tools, profile);
        let meter = Meter::new(limits, Moment::now().instant).map(Arc::new);
        let is_needed = judge.is_some() || meter.is_some();
        is_needed.then(|| Self { judge, meter, room: body::Room::default() })
    }

    /// Lets a request pass, or answers it. The place of what passes among its tenant's calls is kept by `in_flight`.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        claims: Claims,
        request: Request<Incoming>,
        in_flight: &mut InFlight,
    ) -> Result<Passed, Response<Body>> {
        let request_id = headers::request_id(request.headers()).map(str::to_owned);
        let passed = if request.body().is_end_stream() {
            self.come().map(|()| Passed::unread(request))
        } else {
            self.read(&claims, request, in_flight).await.map(|(request, is_list)| {
                let listing = is_list.then(|| Listing {
                    policy: Arc::clone(self),
                    claims,
                    request_id: request_id.clone(),
                });
                Passed { request, listing }
            })
        };
        passed.map_err(|refusal| {
            let (tool, missing) = refusal.denied_tool();
            tracing::info!(
                request_id,
                reason = refusal.reason(),
                tool,
                missing,
                "answered in the server's place"
            );
            refusal.response(request_id.as_deref())
        })
    }

    /// The request, read, and whether its response is a list of tools to look through.
    async fn read(
        &self,
        claims: &Claims,
        request: Request<Incoming>,
        in_flight: &mut InFlight,
    ) -> Result<(Request<RequestBody>, bool), Refusal> {
        body::check(request.headers())?;
        let (mut parts, body) = request.into_parts();
        let (text, held) = self.room.read(body).await?;
        if text.is_empty() {
            self.come()?;
            return Ok((Request::from_parts(parts, Either::Right(held)), false));
        }
        let said = Said::read(&text)?;
        if let Some(slot) = self.count(&said)? {
            in_flight.keep(slot);
        }
        let is_list = self.judge(&said, &parts.headers, claims)?;
        if is_list {
            // what is compressed could not be read
            parts.headers.remove(header::ACCEPT_ENCODING);
        }
        Ok((Request::from_parts(parts, Either::Right(held)), is_list))
    }

    /// What says nothing calls nothing, but may be sent without end: the end of a session, or a stream that waits for
    /// events, which as a call would keep its place for as long as its client listens.
    fn come(&self) -> Result<(), Refusal> {
        match &self.meter {
            Some(meter) => Ok(meter.pass(Moment::now().instant)?),
            None => Ok(()),
        }
    }

    fn count(&self, said: &Said<'_>) -> Result<Option<Slot>, Refusal> {
        match &self.meter {
            Some(meter) => Ok(meter.enter(said.calls(), Moment::now().instant)?),
            None => Ok(None),
        }
    }

    /// Whether it asks for a list of tools that has to be looked through.
    fn judge(
        &self,
        said: &Said<'_>,
        headers: &HeaderMap,
        claims: &Claims,
    ) -> Result<bool, Refusal> {
        let Some(judge) = &self.judge else { return Ok(false) };
        let (method, name) = (only(headers, METHOD), only(headers, NAME));
        said.agrees(method, name).map_err(|error| Refusal::mismatch(said, error))?;
        let verdict = |message: &Message<'_>| match (message.tool(), message.resource()) {
            (Some(tool), _) => judge.call(claims.holds(), tool, message.arguments.as_ref()),
            (_, Some(uri)) => judge.resource(claims.holds(), uri),
            _ => Ok(()),
        };
        let verdicts: Vec<_> = said.messages.iter().map(|it| (it, verdict(it))).collect();
        if verdicts.iter().all(|(_, verdict)| verdict.is_ok()) {
            return Ok(judge.hides_denied() && said.lists_tools());
        }
        Err(Refusal::denied(&verdicts, said.is_batch))
    }

    /// How a stream is looked through on which a list of tools may come; none where nothing of it is hidden.
    pub(crate) fn listing(
        self: &Arc<Self>,
        claims: Claims,
        headers: &HeaderMap,
    ) -> Option<Listing> {
        let hides = self.judge.as_ref().is_some_and(Judge::hides_denied);
        let request_id = headers::request_id(headers).map(str::to_owned);
        hides.then(|| Listing { policy: Arc::clone(self), claims, request_id })
    }

    fn offers(&self, claims: &Claims, tool: &str) -> bool {
        self.judge.as_ref().is_none_or(|judge| judge.offers(claims.holds(), tool).is_ok())
    }
}

impl Listing {
    /// The response, without the tools that its user cannot call; an error where it cannot be read.
    pub(crate) async fn response(
        self,
        response: Response<ServerBody>,
        in_flight: InFlight,
    ) -> Response<Body> {
        let kind = Kind::of(response.status(), response.headers());
        let (mut parts, body) = response.into_parts();
        match kind {
            Kind::Passed => {
                Response::from_parts(parts, UnsyncBoxBody::new(Relayed::new(body, in_flight)))
            }
            Kind::Events => {
                parts.headers.remove(header::CONTENT_LENGTH);
                let events = Relayed::new(Events::new(body, self), in_flight);
                Response::from_parts(parts, UnsyncBoxBody::new(events))
            }
            Kind::Json => match self.whole(body).await {
                Ok(text) => {
                    parts.headers.remove(header::CONTENT_LENGTH);
                    Response::from_parts(parts, whole(text))
                }
                Err(error) => self.failed(error),
            },
            Kind::Unreadable => self.failed(Unlisted::Form),
        }
    }

    async fn whole(&self, body: ServerBody) -> Result<Bytes, Unlisted> {
        let read = Limited::new(body, MAX_LIST_BYTES).collect().await;
        let text = read.map_err(|_| Unlisted::Broken)?.to_bytes();
        Ok(self.filter(&text)?.map_or(text, Bytes::from))
    }

    /// The message without denied tools; none where it has no such tools.
    fn filter(&self, text: &[u8]) -> Result<Option<Vec<u8>>, Unlisted> {
        listing::without(text, &|tool| self.policy.offers(&self.claims, tool))
    }

    /// An event without denied tools; none where it has no such tools. The error is the last event of its stream.
    pub(crate) fn event(&self, event: &[u8]) -> Result<Option<String>, String> {
        events::event_without(event, &|data| self.filter(data)).map_err(|error| self.last(error))
    }

    /// What is said instead of an event that is too long to be looked through, and last.
    pub(crate) fn too_long(&self) -> String {
        self.last(Unlisted::Broken)
    }

    fn last(&self, error: Unlisted) -> String {
        let request_id = self.request_id.as_deref();
        tracing::warn!(request_id, %error, "a stream with a list of tools is not passed on");
        events::message(&Refusal::from(error).message(request_id))
    }

    fn failed(&self, error: Unlisted) -> Response<Body> {
        tracing::warn!(request_id = self.request_id, %error, "a list of tools is not passed on");
        Refusal::from(error).response(self.request_id.as_deref())
    }
}

/// How a response is looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Events,
    /// It lists nothing: an error that is no JSON, or no content.
    Passed,
    /// It may list something.
    Unreadable,
}

impl Kind {
    fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let essence = match only(headers, header::CONTENT_TYPE.as_str()) {
            Header::Says(value) => {
                value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
            }
            Header::Absent | Header::Unclear => String::new(),
        };
        let is_plain = !headers.contains_key(header::CONTENT_ENCODING);
        match &*essence {
            "application/json" if is_plain => Self::Json,
            "text/event-stream" if is_plain => Self::Events,
            _ if !status.is_success() || is_bare(status, headers) => Self::Passed,
            _ => Self::Unreadable,
        }
    }
}

/// Whether it has no content, or none that says more than that something was taken.
fn is_bare(status: StatusCode, headers: &HeaderMap) -> bool {
    [StatusCode::ACCEPTED, StatusCode::NO_CONTENT].contains(&status)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0")
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Header<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (None, _) => Header::Absent,
        (Some(Ok(value)), None) => Header::Says(value),
        _ => Header::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_asks_for_nothing_has_no_policy() {
        let none = TenantLimits::default();
        assert!(Policy::new(None, none, Profile::Generic).is_none());
        assert!(Policy::new(None, none, Profile::Quilt).is_some());
        assert!(Policy::new(Some(ToolPolicy::default()), none, Profile::Generic).is_some());
        let limits = TenantLimits { concurrent_calls: Some(1), ..none };
        assert!(Policy::new(None, limits, Profile::Generic).is_some());
    }

    #[test]
    fn a_header_that_is_there_twice_or_is_no_text_says_nothing_that_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(only(&headers, METHOD), Header::Absent);
        headers.insert(METHOD, HeaderValue::from_static("ping"));
        assert_eq!(only(&headers, METHOD), Header::Says("ping"));
        headers.append(METHOD, HeaderValue::from_static("ping"));
        assert_eq!(only(&headers, METHOD), Header::Unclear);
        headers.insert(METHOD, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(only(&headers, METHOD), Header::Unclear);
    }

    #[test]
    fn what_may_list_tools_and_cannot_be_read_is_told_from_what_cannot() {
        let kind = |status, pairs: &[(&'static str, &'static str)]| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect();
            Kind::of(status, &headers)
        };
        let (ok, bad) = (StatusCode::OK, StatusCode::BAD_REQUEST);
        assert_eq!(kind(ok, &[("content-type", "Application/JSON; charset=utf-8")]), Kind::Json);
        assert_eq!(kind(bad, &[("content-type", "application/json")]), Kind::Json);
        assert_eq!(kind(ok, &[("content-type", "text/event-stream")]), Kind::Events);
        assert_eq!(kind(bad, &[("content-type", "text/plain")]), Kind::Passed);
        assert_eq!(kind(StatusCode::ACCEPTED, &[]), Kind::Passed);
        assert_eq!(kind(StatusCode::NO_CONTENT, &[]), Kind::Passed);
        assert_eq!(kind(ok, &[("content-length", "0")]), Kind::Passed);
        assert_eq!(kind(ok, &[("content-type", "text/plain")]), Kind::Unreadable);
        assert_eq!(kind(ok, &[]), Kind::Unreadable);
        let zipped = [("content-type", "application/json"), ("content-encoding", "gzip")];
        assert_eq!(kind(ok, &zipped), Kind::Unreadable);
    }
}
