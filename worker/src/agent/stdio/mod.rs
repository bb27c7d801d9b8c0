//! The bridge: an MCP server that speaks on its standard streams, as one that speaks streamable HTTP.
//!
//! It turns HTTP requests into lines for programs that the host starts, and their lines into responses: one program per
//! session in the era of `initialize`, one for all requests after it. Messages pass as they were written. It must not
//! know tenants, credentials or policies.

mod answer;
mod child;
mod events;
#[cfg(fuzzing)]
pub mod fuzzing;
mod held;
mod legacy;
mod log;
mod message;
mod modern;
mod probe;
mod repeated;
mod restarts;
mod routes;
mod schemas;
mod session;
mod sessions;
mod spare;
mod stateless;

pub(crate) use self::{
    answer::{ServerBody, accepted, no_content, unknown_session},
    message::{Kind, Message},
    repeated::only,
    sessions::new_id,
};

use self::{
    child::NotStarted,
    legacy::{INITIALIZE, Legacy, Said},
    message::NoMessage,
    probe::{Era, NoEra},
    sessions::Sessions,
    spare::Spare,
    stateless::Stateless,
};
use super::{
    policy::body::{self, BadBody, Room},
    upstream::RequestBody,
};
use crate::backoff::Backoff;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Either;
use patchbay_core::boot::Variable;
use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout, timeout_at},
};

/// The first revision without sessions.
const STATELESS_SINCE: &str = "2026-07-28";
const DISCOVER: &str = "server/discover";

/// A program that cannot run ends within this time.
const ENDS_AT_ONCE: Duration = Duration::from_secs(2);

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// The programs behind the host's socket, as one MCP endpoint.
#[derive(Debug)]
pub(crate) struct Bridge {
    spare: Arc<Spare>,
    legacy: Legacy,
    stateless: Stateless,
    era: OnceLock<Era>,
    room: Room,
}

impl Bridge {
    /// Of programs that are started through the host's `socket`. Sessions that nobody uses for `idle_timeout` end.
    pub(crate) fn new(socket: PathBuf, idle_timeout: Duration) -> Self {
        let spare = Arc::new(Spare::new(socket));
        Self {
            legacy: Legacy::new(Sessions::new(idle_timeout), Arc::clone(&spare)),
            stateless: Stateless::new(Arc::clone(&spare)),
            spare,
            era: OnceLock::new(),
            room: Room::default(),
        }
    }

    /// Programs that are started from now on have these variables.
    pub(crate) async fn set_variables(&self, variables: Vec<Variable>) {
        self.spare.set_variables(variables).await;
    }

    /// Returns when a program runs that can be asked, or says what is in the way: at `deadline` at the latest.
    pub(crate) async fn prepare(&self, deadline: Instant) -> Result<(), String> {
        if self.era.get().is_some() {
            return Ok(());
        }
        let preparing = async {
            let mut program = self.first().await?;
            // whoever says nothing still needs time for another one
            let silence = deadline.saturating_duration_since(Instant::now()) / 2;
            let era = match probe::era(&program.0, &mut program.1, silence).await {
                Ok(era) => era,
                // some do not live through a question that they do not know, and some never answer after one: they are
                // asked nothing then
                Err(NoEra::Ended | NoEra::NotSaid(_) | NoEra::Silent) => {
                    program = self.first().await?;
                    if timeout(ENDS_AT_ONCE, program.1.ended()).await.is_ok() {
                        return Err(NoEra::Ended.to_string());
                    }
                    Era::Legacy
                }
            };
            tracing::info!(?era, "the MCP server runs");
            match era {
                Era::Modern => {
                    self.stateless.set(program).await;
                    self.spare.prepare();
                }
                Era::Legacy => self.spare.put(program).await,
            }
            self.spare.was_of_use();
            // it is asked once
            let _ = self.era.set(era);
            Ok(())
        };
        let prepared = timeout_at(deadline, preparing).await;
        prepared.unwrap_or_else(|_| Err("it was not started in time".to_owned()))
    }

    /// The first program. The host may come later than the agent; a program that does not start never does.
    async fn first(&self) -> Result<spare::Program, String> {
        let mut backoff = Backoff::new();
        loop {
            match self.spare.start().await {
                Ok(program) => return Ok(program),
                Err(error @ (NotStarted::Program(_) | NotStarted::Paused(_))) => {
                    return Err(error.to_string());
                }
                Err(error @ NotStarted::Host(_)) => {
                    tracing::debug!(%error, "no MCP server yet");
                    sleep(backoff.step()).await;
                }
            }
        }
    }

    /// Whether a session's program lives.
    pub(crate) fn has_session(&self, id: &HeaderValue) -> bool {
        id.to_str().is_ok_and(|id| self.legacy.has_session(id))
    }

    /// Answers a request for the endpoint; `rest` is what its path has beyond it.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
        rest: &str,
    ) -> Response<ServerBody> {
        if !rest.is_empty() {
            return refuse(StatusCode::NOT_FOUND, "nothing is here; the MCP endpoint is above");
        }
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        match parts.method {
            Method::POST => self.post(headers, body).await,
            Method::GET | Method::DELETE if is_stateless(headers) => not_allowed("POST"),
            Method::GET if !accepts(headers, &[EVENTS]) => {
                refuse(StatusCode::NOT_ACCEPTABLE, "accept text/event-stream")
            }
            Method::GET => self.legacy.get(headers),
            Method::DELETE => self.legacy.delete(headers),
            _ => not_allowed("POST, GET, DELETE"),
        }
    }

    async fn post(&self, headers: &HeaderMap, body: RequestBody) -> Response<ServerBody> {
        if !accepts(headers, &[JSON, EVENTS]) {
            let why = "accept both application/json and text/event-stream";
            return refuse(StatusCode::NOT_ACCEPTABLE, why);
        }
        if !essence(headers.get(header::CONTENT_TYPE)).eq_ignore_ascii_case(JSON) {
            let why = "send application/json, and say so in Content-Type";
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
        }
        let said = match self.read(headers, body).await {
            Ok(said) => said,
            Err(refused) => return refused,
        };
        if !is_modern(headers, &said) {
            return self.legacy.post(headers, said).await;
        }
        if self.era.get() == Some(&Era::Legacy) {
            let id = said.messages.first().and_then(Message::request_id);
            let why = "this server has no revision without sessions; begin with `initialize`";
            return answer::error(StatusCode::BAD_REQUEST, id, answer::NOT_HERE, why);
        }
        self.stateless.post(headers, said).await
    }

    async fn read(
        &self,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Said, Response<ServerBody>> {
        let read = async {
            body::check(headers)?;
            let held = match body {
                Either::Left(body) => self.room.read(body).await?.1,
                Either::Right(held) => held,
            };
            Ok(held.into_parts())
        };
        let (bytes, room): (_, Option<OwnedSemaphorePermit>) =
            read.await.map_err(|error: BadBody| bad_body(&error))?;
        let parsed = std::str::from_utf8(&bytes).map_err(|_| NoMessage::Json);
        let (messages, is_batch) = parsed.and_then(Message::read_all).map_err(|error| {
            let code = match error {
                NoMessage::Json => answer::PARSE_ERROR,
                NoMessage::Form => answer::INVALID_REQUEST,
            };
            answer::error(StatusCode::BAD_REQUEST, None, code, &error.to_string())
        })?;
        Ok(Said { messages, is_batch, room })
    }
}

/// Whether headers alone name a revision without sessions.
pub(crate) fn is_stateless(headers: &HeaderMap) -> bool {
    let version = repeated::only(headers, repeated::VERSION);
    // revisions are dates
    version.is_ok_and(|version| version.is_some_and(|version| version >= STATELESS_SINCE))
}

/// Whether what a client says is of the era without sessions: it says so in the message, or in the header. `initialize` is
/// of the other era, but for one that is called as a method of this one, which does not have it.
fn is_modern(headers: &HeaderMap, said: &Said) -> bool {
    let says_so = |message: &Message| {
        message.method() == Some(DISCOVER)
            || message.request_id().is_some() && message.at(&repeated::META_VERSION).is_some()
    };
    let is_handshake = |message: &Message| {
        message.method() == Some(INITIALIZE)
            && (message.at(&["params", "protocolVersion"]).is_some() || !says_so(message))
    };
    !said.messages.iter().any(is_handshake)
        && (is_stateless(headers) || said.messages.iter().any(says_so))
}

/// Whether a client reads all of these.
fn accepts(headers: &HeaderMap, wanted: &[&str]) -> bool {
    let ranges: Vec<String> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|range| !is_refused(range))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .collect();
    wanted.iter().all(|wanted| {
        let family = wanted.split('/').next().unwrap_or_default();
        ranges.iter().any(|range| {
            range == wanted || range == "*/*" || range.strip_suffix("/*") == Some(family)
        })
    })
}

/// Whether a range has the weight zero (RFC 9110, 12.4.2).
fn is_refused(range: &str) -> bool {
    range.split(';').skip(1).any(|parameter| {
        let weight = parameter.trim().to_ascii_lowercase();
        weight.strip_prefix("q=").and_then(|weight| weight.parse().ok()) == Some(0.0_f32)
    })
}

/// What a `Content-Type` says, without its parameters.
pub(crate) fn essence(value: Option<&HeaderValue>) -> &str {
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// What a request hears whose body is not read.
pub(crate) fn bad_body(error: &BadBody) -> Response<ServerBody> {
    refuse(body_status(error), &error.to_string())
}

const fn body_status(error: &BadBody) -> StatusCode {
    match error {
        BadBody::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        BadBody::Incomplete => StatusCode::REQUEST_TIMEOUT,
        BadBody::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    }
}

/// An answer to what does not fit.
pub(crate) fn refuse(status: StatusCode, why: &str) -> Response<ServerBody> {
    answer::error(status, None, answer::NOT_HERE, why)
}

fn not_allowed(methods: &'static str) -> Response<ServerBody> {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "no such method here");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn said(text: &str) -> Said {
        let (messages, is_batch) = Message::read_all(text).unwrap();
        Said { messages, is_batch, room: None }
    }

    #[test]
    fn a_client_must_read_both_forms_of_an_answer() {
        for good in
            ["application/json, text/event-stream", "*/*", "application/*;q=0.5,TEXT/event-stream"]
        {
            assert!(accepts(&headers(&[("accept", good)]), &[JSON, EVENTS]), "{good}");
        }
        for bad in ["application/json", "application/json, text/event-stream;q=0", "", "text/*"] {
            assert!(!accepts(&headers(&[("accept", bad)]), &[JSON, EVENTS]), "{bad}");
        }
    }

    #[test]
    fn the_era_is_the_messages_or_the_headers_and_initialize_begins_a_session_always() {
        let modern = headers(&[("mcp-protocol-version", "2026-07-28")]);
        let legacy = headers(&[("mcp-protocol-version", "2025-11-25")]);
        let none = HeaderMap::new();
        let call = r#"{"id":1,"method":"tools/call"}"#;
        let meta = r#"{"id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        assert!(is_modern(&modern, &said(call)));
        assert!(is_modern(&legacy, &said(meta)), "to be told that they differ");
        assert!(!is_modern(&legacy, &said(call)) && !is_modern(&none, &said(call)));
        assert!(is_modern(&none, &said(r#"{"id":1,"method":"server/discover"}"#)));
        assert!(!is_modern(&modern, &said(r#"{"id":1,"method":"initialize"}"#)));
        assert!(is_modern(&modern, &said(&meta.replace("tools/call", "initialize"))));
        let both = meta
            .replace("tools/call", "initialize")
            .replace("\"_meta\"", "\"protocolVersion\":\"2025-11-25\",\"_meta\"");
        assert!(!is_modern(&modern, &said(&both)));
    }
}
