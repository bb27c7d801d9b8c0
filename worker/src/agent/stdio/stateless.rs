//! Requests of the era without sessions, answered by one program for all of them (MCP 2026-07-28,
//! basic/transports/streamable-http). A program that ends is replaced at the next request. It must not know sessions, or
//! which programs speak this era.

use super::{
    answer::{self, Refused, ServerBody},
    child::{NotSaid, NotStarted},
    events::{End, Events},
    legacy::Said,
    message::{CANCELLED, Id, Kind, Message},
    modern::Modern,
    repeated::{self, only},
    schemas::Schemas,
    spare::{Program, Spare},
};
use http::{HeaderMap, Response, StatusCode};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit},
    time::timeout,
};

/// A client knows after this time at the latest that its request was taken: what is said then is said in a stream, and
/// can have no other status any more.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

const CALL: &str = "tools/call";

/// The program, while it lives.
#[derive(Debug)]
pub(super) struct Stateless {
    program: Mutex<Option<Arc<Modern>>>,
    schemas: Schemas,
    spare: Arc<Spare>,
}

impl Stateless {
    pub(super) fn new(spare: Arc<Spare>) -> Self {
        Self { program: Mutex::default(), schemas: Schemas::default(), spare }
    }

    /// This program answers.
    pub(super) async fn set(&self, (child, lines): Program) {
        *self.program.lock().await = Some(Arc::new(Modern::new(child, lines)));
    }

    async fn program(&self) -> Result<Arc<Modern>, NotStarted> {
        let mut program = self.program.lock().await;
        if let Some(program) = program.as_ref().filter(|program| !program.is_over()) {
            return Ok(Arc::clone(program));
        }
        if program.take().is_some_and(|ended| !ended.was_of_use()) {
            self.spare.failed();
        }
        let (child, lines) = self.spare.take().await?;
        tracing::info!("an MCP server takes the place of one that ended");
        let started = Arc::new(Modern::new(child, lines));
        *program = Some(Arc::clone(&started));
        Ok(started)
    }

    /// Answers what a client says.
    pub(super) async fn post(&self, headers: &HeaderMap, said: Said) -> Response<ServerBody> {
        self.answer(headers, said).await.unwrap_or_else(|refused| *refused)
    }

    async fn answer(
        &self,
        headers: &HeaderMap,
        said: Said,
    ) -> Result<Response<ServerBody>, Refused> {
        let Said { mut messages, is_batch, room } = said;
        let (Some(message), true, false) = (messages.pop(), messages.is_empty(), is_batch) else {
            return Err(invalid("this revision has no batches; send one message at a time"));
        };
        match &message.kind {
            Kind::Request { .. } => self.request(headers, message, room).await,
            Kind::Notification { method } => {
                // here a client cancels by closing its stream, and its ids are not the program's
                if method != CANCELLED {
                    let program = self.program().await;
                    let program = program.map_err(|error| answer::not_started(None, &error))?;
                    let told = program.say(message.text, room).await;
                    told.map_err(|error| not_told(None, error))?;
                }
                Ok(answer::accepted())
            }
            Kind::Response { .. } => Err(invalid("in this revision a server is sent no responses")),
        }
    }

    async fn request(
        &self,
        headers: &HeaderMap,
        request: Message,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Response<ServerBody>, Refused> {
        let missing = repeated::missing(&request);
        check_revision(headers, &request, &missing)?;
        let program = self.program().await;
        let program = program.map_err(|error| answer::not_started(request.request_id(), &error))?;
        let tool = request.method().filter(|method| *method == CALL);
        let tool = tool.and_then(|_| request.text_at(&["params", "name"]));
        let arguments = match tool {
            Some(tool) => self.schemas.of(&program, &tool).await,
            None => Vec::new(),
        };
        repeated::check(headers, &request, &arguments).map_err(|why| mismatch(&request, &why))?;

        let id = request.request_id().cloned();
        let asked = program.ask(request, room).await;
        let (mut answers, in_wait) = asked.map_err(|error| not_told(id.as_ref(), error))?;
        let first = match timeout(HEAD_LIMIT, answers.next()).await {
            Ok(Some(first)) => Some(first),
            Ok(None) => return Err(answer::ended(id.as_ref(), "the MCP server ended")),
            Err(_) => None,
        };
        if first.as_ref().is_some_and(|first| first.end == Some(End::Result)) {
            program.is_of_use();
            self.spare.was_of_use();
        }
        let status =
            first.as_ref().map_or(StatusCode::OK, |it| status(it.end, !missing.is_empty()));
        Ok(match first {
            // a stream has no other status
            Some(first) if status != StatusCode::OK => {
                answer::message(status, first.text.unwrap_or_default())
            }
            first => answer::events(Events::new(first, answers, in_wait)),
        })
    }
}

/// The revision must be named twice, and alike.
fn check_revision(headers: &HeaderMap, request: &Message, missing: &[&str]) -> Result<(), Refused> {
    let header = only(headers, repeated::VERSION).map_err(|why| mismatch(request, &why))?;
    let own = request.text_at(&repeated::META_VERSION);
    match (header, own) {
        (_, None) => {
            let why = format!("`params._meta` lacks {}", missing.join(" and "));
            let id = request.request_id();
            Err(answer::refusal(StatusCode::BAD_REQUEST, id, answer::INVALID_PARAMS, &why))
        }
        (None, Some(_)) => Err(mismatch(request, "the header MCP-Protocol-Version is missing")),
        (Some(header), Some(own)) if header != own => {
            Err(mismatch(request, "the header MCP-Protocol-Version is another than the body's"))
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

/// The status of an answer that is one message (basic/transports/streamable-http).
fn status(end: Option<End>, lacks_metadata: bool) -> StatusCode {
    match end {
        Some(End::Error(
            answer::HEADER_MISMATCH | answer::MISSING_CAPABILITY | answer::UNSUPPORTED_VERSION,
        )) => StatusCode::BAD_REQUEST,
        Some(End::Error(answer::INVALID_PARAMS)) if lacks_metadata => StatusCode::BAD_REQUEST,
        Some(End::Error(answer::METHOD_NOT_FOUND)) => StatusCode::NOT_FOUND,
        Some(End::Error(answer::SERVER_ENDED)) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::OK,
    }
}

fn mismatch(request: &Message, why: &str) -> Refused {
    let id = request.request_id();
    answer::refusal(StatusCode::BAD_REQUEST, id, answer::HEADER_MISMATCH, why)
}

fn not_told(id: Option<&Id>, error: NotSaid) -> Refused {
    answer::ended(id, &format!("the MCP server was not told: {error}"))
}

fn invalid(why: &str) -> Refused {
    answer::refusal(StatusCode::BAD_REQUEST, None, answer::INVALID_REQUEST, why)
}
