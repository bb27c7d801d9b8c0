//! Requests of the era of `initialize`, answered by the program of their session (MCP 2024-11-05 to 2025-11-25,
//! basic/transports). It must not know how programs are started, or which headers clients of the other era send.

use super::{
    answer::{self, Refused, ServerBody},
    events::{End, Events, Receiver},
    log::EventId,
    message::{self, Message},
    repeated::{self, only},
    session::{NotAsked, Session},
    sessions::Sessions,
    spare::Spare,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: &str = "last-event-id";

/// The revisions with a handshake.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// Messages in a batch.
const MAX_BATCH: usize = 100;
/// Programs that are asked to begin a session at one time; more wait.
const MAX_STARTING: usize = 8;
/// The one that has batches.
const BATCHES: &str = "2025-03-26";

pub(super) const INITIALIZE: &str = "initialize";

/// What a client sends at once.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) messages: Vec<Message>,
    pub(super) is_batch: bool,
    /// What it takes of the room for bodies.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Said {
    /// Whether it begins a session.
    pub(super) fn is_initialize(&self) -> bool {
        self.messages.iter().any(|message| message.method() == Some(INITIALIZE))
    }
}

/// The sessions, and the programs of those to come.
#[derive(Debug)]
pub(super) struct Legacy {
    sessions: Arc<Sessions>,
    spare: Arc<Spare>,
    starting: Semaphore,
}

impl Legacy {
    pub(super) fn new(sessions: Arc<Sessions>, spare: Arc<Spare>) -> Self {
        Self { sessions, spare, starting: Semaphore::new(MAX_STARTING) }
    }

    /// Whether a session's program lives.
    pub(super) fn has_session(&self, id: &str) -> bool {
        self.sessions.find(id).is_some()
    }

    /// Answers what a client says.
    pub(super) async fn post(&self, headers: &HeaderMap, said: Said) -> Response<ServerBody> {
        let answer = if said.is_initialize() {
            self.initialize(headers, said).await
        } else {
            self.say(headers, said).await
        };
        answer.unwrap_or_else(|refused| *refused)
    }

    /// Begins a session with a program of its own.
    async fn initialize(
        &self,
        headers: &HeaderMap,
        said: Said,
    ) -> Result<Response<ServerBody>, Refused> {
        let Said { messages, is_batch, room } = said;
        let [message] = &messages[..] else {
            return Err(invalid("`initialize` must be alone"));
        };
        if is_batch || message.request_id().is_none() {
            return Err(invalid("`initialize` must be a request of its own"));
        }
        let asked = message.text_at(&["params", "protocolVersion"]);
        let header = only(headers, repeated::VERSION).map_err(|why| invalid(&why))?;
        if header.is_some_and(|header| asked.as_deref() != Some(header)) {
            return Err(invalid("the header MCP-Protocol-Version is another than the body's"));
        }
        let id = message.request_id().cloned();
        // it is never closed
        let _starting = self.starting.acquire().await;
        let program = self.spare.take().await;
        let program = program.map_err(|error| answer::not_started(id.as_ref(), &error))?;
        let session = Arc::new(Session::new(program.0, program.1));
        let asked = ask(&session, messages, room).await;
        // nothing else is in the way of the first message
        let asked = asked.inspect_err(|_| self.spare.failed())?;
        let mut answers = asked.ok_or_else(|| invalid("no id"))?;
        // what is said before the answer is said with it: whether there is a session is not known before
        let mut before = Vec::new();
        let last = loop {
            match answers.next().await {
                Some(event) if event.end.is_none() => before.push(event),
                last => break last,
            }
        };
        let Some(last) = last else {
            self.spare.failed();
            return Err(answer::ended(id.as_ref(), "the MCP server ended"));
        };
        let text = last.text.clone().unwrap_or_default();
        if let Some(End::Error(code)) = last.end {
            let is_gone = code == answer::SERVER_ENDED && session.is_over();
            if is_gone {
                self.spare.failed();
            }
            let status = if is_gone { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
            return Err(Box::new(answer::message(status, text)));
        }
        self.spare.was_of_use();
        let version = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| message::text_at(text, &["result", "protocolVersion"]));
        if let Some(version) = version {
            session.set_version(version);
        }
        let Some(session_id) = self.sessions.keep(session) else {
            let why = "this worker has as many sessions as it may, and all are in use; end one";
            let code = answer::NOT_HERE;
            return Err(answer::refusal(StatusCode::TOO_MANY_REQUESTS, id.as_ref(), code, why));
        };
        let mut response = if before.is_empty() {
            answer::message(StatusCode::OK, text)
        } else {
            before.push(last);
            answer::events(Events::new(before, answers, ()))
        };
        if let Ok(value) = HeaderValue::from_str(&session_id) {
            response.headers_mut().insert(SESSION_ID, value);
        }
        Ok(response)
    }

    /// Says something in a session.
    async fn say(&self, headers: &HeaderMap, said: Said) -> Result<Response<ServerBody>, Refused> {
        let session = self.session(headers)?;
        let Said { messages, is_batch, room } = said;
        if messages.len() > MAX_BATCH {
            return Err(invalid(&format!("a batch has at most {MAX_BATCH} messages")));
        }
        if is_batch && session.version().is_some_and(|version| version != BATCHES) {
            return Err(invalid("this revision has no batches; send one message at a time"));
        }
        match ask(&session, messages, room).await? {
            None => Ok(answer::accepted()),
            Some(answers) => Ok(answer::events(Events::new([], answers, ()))),
        }
    }

    /// Opens the stream of what the program says of itself, or goes on with one that was lost.
    pub(super) fn get(&self, headers: &HeaderMap) -> Response<ServerBody> {
        let opened = self.session(headers).and_then(|session| {
            let last = only(headers, LAST_EVENT_ID).map_err(|why| invalid(&why))?;
            let events = match last.map(EventId::read) {
                None => session.listen(),
                Some(Some(last)) => session.resume(last),
                // an error would have the client ask the same again
                Some(None) => super::events::stream().1,
            };
            Ok(answer::events(Events::new([], events, ())))
        });
        opened.unwrap_or_else(|refused| *refused)
    }

    /// Ends a session.
    pub(super) fn delete(&self, headers: &HeaderMap) -> Response<ServerBody> {
        let ended = self.session(headers).and_then(|_| {
            let id = only(headers, SESSION_ID.as_str()).map_err(|why| invalid(&why))?;
            Ok(id.is_some_and(|id| self.sessions.end(id)))
        });
        match ended {
            Ok(true) => answer::no_content(),
            Ok(false) => *unknown(),
            Err(refused) => *refused,
        }
    }

    fn session(&self, headers: &HeaderMap) -> Result<Arc<Session>, Refused> {
        let id = only(headers, SESSION_ID.as_str()).map_err(|why| invalid(&why))?;
        let id = id.ok_or_else(|| invalid("the header Mcp-Session-Id is missing"))?;
        let session = self.sessions.find(id).ok_or_else(unknown)?;
        match only(headers, repeated::VERSION).map_err(|why| invalid(&why))? {
            Some(version) if !REVISIONS.contains(&version) => {
                Err(invalid("the header MCP-Protocol-Version names no revision with sessions"))
            }
            _ => Ok(session),
        }
    }
}

async fn ask(
    session: &Session,
    messages: Vec<Message>,
    room: Option<OwnedSemaphorePermit>,
) -> Result<Option<Receiver>, Refused> {
    let id = match &messages[..] {
        [message] => message.request_id().cloned(),
        _ => None,
    };
    session.say(messages, room).await.map_err(|error| match error {
        NotAsked::IdTaken(_) => invalid(&error.to_string()),
        NotAsked::NotSaid(_) => answer::ended(id.as_ref(), &error.to_string()),
    })
}

fn invalid(why: &str) -> Refused {
    answer::refusal(StatusCode::BAD_REQUEST, None, answer::NOT_HERE, why)
}

fn unknown() -> Refused {
    Box::new(answer::unknown_session(None))
}
