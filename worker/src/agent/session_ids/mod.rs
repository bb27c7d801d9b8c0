//! The session ids that clients hold: minted here, over what `initialize` said, so that a later worker of the same tenant
//! takes the session up (DESIGN, MCP).
//!
//! It turns requests with an id of ours into requests with the server's own, and an id that it does not know into a new
//! session of the server, begun as the first one was. Whatever is unclear or not its tenant's is a session that is not
//! there: 404, and the client begins anew. Where no keys were granted, ids pass as they are. It must not know how a
//! server is spoken to, or what is said in a session.

mod answer;
mod known;
mod revive;

use self::{
    known::{Entry, Found, Known},
    revive::NotRevived,
};
use super::{
    clock::Moment,
    policy::body::{self, BadBody, Room},
    server::{NoAnswer, Server},
    state::Worker,
    stdio::{self, ServerBody},
    upstream::RequestBody,
};
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts,
};
use http_body::Body as _;
use http_body_util::Either;
use patchbay_core::{
    id::Epoch,
    link::{FORWARD_PREFIX, REQUEST_ID_HEADER},
    session::{self, GOOD_FOR, Opening, SessionKeys},
};
use std::sync::Arc;

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A longer body is passed on as it comes: no id could hold such an `initialize`, and no such call is said twice.
const MAX_HELD_BYTES: u64 = 64 * 1024;

/// What a tenant's ids are sealed with, and in which assignment.
#[derive(Debug, Clone)]
pub(crate) struct Sealing {
    pub(crate) keys: Arc<SessionKeys>,
    pub(crate) epoch: Epoch,
}

/// The ids of this worker's sessions.
#[derive(Debug, Default)]
pub(crate) struct SessionIds {
    known: Known,
    room: Room,
}

/// What a request has to do with sessions.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nothing, or nothing that can be read.
    Elsewhere,
    /// It may begin one.
    Beginning,
    /// It is of this one.
    Session(String),
    /// It names two, or none that can be read.
    Unclear,
}

impl Place {
    /// Of a request, by what is said outside of its body.
    fn of(parts: &Parts) -> Self {
        if parts.uri.path() != FORWARD_PREFIX || stdio::is_stateless(&parts.headers) {
            return Self::Elsewhere;
        }
        match stdio::only(&parts.headers, SESSION_ID.as_str()) {
            Err(_) => Self::Unclear,
            Ok(Some(id)) => Self::Session(id.to_owned()),
            Ok(None) if parts.method == Method::POST => Self::Beginning,
            Ok(None) => Self::Elsewhere,
        }
    }
}

/// A request that is not passed on, with its answer; or one that was, without any.
enum Failed {
    Answered(Box<Response<ServerBody>>),
    NoAnswer(NoAnswer),
}

impl From<NoAnswer> for Failed {
    fn from(error: NoAnswer) -> Self {
        Self::NoAnswer(error)
    }
}

impl From<BadBody> for Failed {
    fn from(error: BadBody) -> Self {
        Self::Answered(Box::new(stdio::bad_body(&error)))
    }
}

impl SessionIds {
    /// Sends a request whose path is under [`FORWARD_PREFIX`], with the id that the server knows.
    pub(crate) async fn send(
        &self,
        worker: &Worker,
        server: &Server,
        request: Request<RequestBody>,
    ) -> Result<Response<ServerBody>, NoAnswer> {
        let Some(sealing) = worker.sealing() else { return server.send(request).await };
        let (parts, body) = request.into_parts();
        let sent = match Place::of(&parts) {
            Place::Elsewhere => return server.send(Request::from_parts(parts, body)).await,
            Place::Unclear => Err(unclear()),
            Place::Beginning => self.begin(&sealing, server, parts, body).await,
            Place::Session(id) => self.go_on(&sealing, server, &id, parts, body).await,
        };
        match sent {
            Ok(response) => Ok(response),
            Err(Failed::Answered(response)) => Ok(*response),
            Err(Failed::NoAnswer(error)) => Err(error),
        }
    }

    /// Whatever id the server hands out, the client gets one of ours.
    async fn begin(
        &self,
        sealing: &Sealing,
        server: &Server,
        mut parts: Parts,
        body: RequestBody,
    ) -> Result<Response<ServerBody>, Failed> {
        let body = if body::check(&parts.headers).is_ok() { self.hold(body).await? } else { body };
        let params = match &body {
            Either::Right(held) => answer::params_of_initialize(held.text()),
            Either::Left(_) => None,
        };
        if params.is_some() {
            // what is compressed could not be read
            parts.headers.remove(header::ACCEPT_ENCODING);
        }
        let response = server.send(Request::from_parts(parts, body)).await?;
        let Some(own) = response.headers().get(&SESSION_ID).cloned() else { return Ok(response) };
        let (mut response, opening) = match params {
            None => (response, None),
            Some(params) => {
                let (response, said) = answer::read(response).await;
                let ends_at = Moment::now().timestamp + GOOD_FOR;
                let epoch = sealing.epoch;
                let opening = said.map(|answer::Said { version, facts }| Opening {
                    params,
                    version,
                    facts,
                    epoch,
                    ends_at,
                });
                (response, opening)
            }
        };
        let (id, opening) = mint(&sealing.keys, opening)?;
        let value = HeaderValue::from_str(&id).map_err(|_| no_id())?;
        self.known.add(&id, opening, Some(own));
        response.headers_mut().insert(SESSION_ID, value);
        Ok(response)
    }

    async fn go_on(
        &self,
        sealing: &Sealing,
        server: &Server,
        id: &str,
        parts: Parts,
        body: RequestBody,
    ) -> Result<Response<ServerBody>, Failed> {
        let entry = self.entry(sealing, id, &parts)?;
        if parts.method == Method::DELETE {
            return self.end(server, id, &entry, parts, body).await;
        }
        let body = self.hold(body).await?;
        let again = match &body {
            Either::Right(held) => Some(held.again()),
            Either::Left(body) if body.is_end_stream() => Some(body::Held::default()),
            Either::Left(_) => None,
        };
        let (own, is_new) = self.own(server, id, &entry, &parts).await?;
        let send = async |parts: &Parts, body, own: &HeaderValue, is_new: bool| {
            let mut parts = parts.clone();
            parts.headers.insert(SESSION_ID, own.clone());
            if is_new {
                // it names an event of a session that the server does not know
                parts.headers.remove(LAST_EVENT_ID);
            }
            server.send(Request::from_parts(parts, body)).await
        };
        let mut response = send(&parts, body, &own, is_new).await?;
        if response.status() == StatusCode::NOT_FOUND
            && !is_new
            && let (Some(body), Some(_)) = (again, &entry.opening)
        {
            // the server has let go of it, and did nothing with the request
            entry.lose(&own).await;
            let (own, is_new) = self.own(server, id, &entry, &parts).await?;
            response = send(&parts, Either::Right(body), &own, is_new).await?;
        }
        if response.headers().contains_key(&SESSION_ID) {
            let value = HeaderValue::from_str(id).map_err(|_| no_id())?;
            response.headers_mut().insert(SESSION_ID, value);
        }
        Ok(response)
    }

    /// What is known of an id, or can be read out of it.
    fn entry(&self, sealing: &Sealing, id: &str, parts: &Parts) -> Result<Arc<Entry>, Failed> {
        match self.known.find(id) {
            Found::Entry(entry) => return Ok(entry),
            Found::Ended => return Err(unknown()),
            Found::Nothing => {}
        }
        let request_id = parts.headers.get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok());
        let opening = session::open(&sealing.keys, id, Moment::now().timestamp).map_err(|why| {
            tracing::info!(request_id, %why, "a session that is not known here is not taken up");
            unknown()
        })?;
        if opening.epoch > sealing.epoch {
            tracing::warn!(request_id, "a session of a later worker came to an earlier one");
            return Err(unknown());
        }
        Ok(self.known.add(id, Some(opening), None))
    }

    /// The server's own id of a session, which it begins anew where the server does not have it; whether it did.
    async fn own(
        &self,
        server: &Server,
        id: &str,
        entry: &Entry,
        parts: &Parts,
    ) -> Result<(HeaderValue, bool), Failed> {
        let mut own = entry.own.lock().await;
        if let Some(own) = own.as_ref().filter(|own| server.has_session(own)) {
            return Ok((own.clone(), false));
        }
        *own = None;
        let Some(opening) = &entry.opening else {
            self.known.forget(id);
            return Err(unknown());
        };
        match revive::revive(server, opening, &parts.headers).await {
            Ok(new) => {
                tracing::info!(from_epoch = %opening.epoch, "a session goes on in a new one of the MCP server");
                *own = Some(new.clone());
                Ok((new, true))
            }
            Err(NotRevived::NoAnswer(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "a session cannot go on; its client begins another");
                self.known.forget(id);
                Err(unknown())
            }
        }
    }

    /// Ends a session. One that the server does not have, and does not get for this, is over as well.
    async fn end(
        &self,
        server: &Server,
        id: &str,
        entry: &Entry,
        mut parts: Parts,
        body: RequestBody,
    ) -> Result<Response<ServerBody>, Failed> {
        let own = entry.own.lock().await;
        let Some(known) = own.as_ref().filter(|own| server.has_session(own)) else {
            self.known.end(id);
            return Ok(stdio::no_content());
        };
        parts.headers.insert(SESSION_ID, known.clone());
        let response = server.send(Request::from_parts(parts, body)).await?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_FOUND {
            self.known.end(id);
        }
        Ok(response)
    }

    /// A short body is read: it may have to be said twice, or begin a session.
    async fn hold(&self, body: RequestBody) -> Result<RequestBody, BadBody> {
        match body {
            Either::Left(body)
                if !body.is_end_stream()
                    && body.size_hint().upper().is_none_or(|most| most <= MAX_HELD_BYTES) =>
            {
                Ok(Either::Right(self.room.read(body).await?.1))
            }
            other => Ok(other),
        }
    }
}

/// A new id, and what a later session can begin with; nothing where this one ends with its worker.
fn mint(keys: &SessionKeys, opening: Option<Opening>) -> Result<(String, Option<Opening>), Failed> {
    let sealed = opening.as_ref().map(|opening| session::seal(keys, opening));
    match sealed {
        Some(Ok(id)) => return Ok((id, opening)),
        Some(Err(why)) => tracing::warn!(%why, "a session will end with this worker"),
        None => tracing::warn!(
            "a session will end with this worker: what began it, or its answer, could not be read"
        ),
    }
    let id = stdio::new_id().ok_or_else(no_id)?;
    // of no form that another worker reads, and nobody can guess it; what it began with may be long, and is not kept
    Ok((format!("pbw1.{id}"), None))
}

fn unknown() -> Failed {
    Failed::Answered(Box::new(stdio::unknown_session()))
}

fn unclear() -> Failed {
    let why = "the header Mcp-Session-Id must be there once, and be plain text";
    Failed::Answered(Box::new(stdio::refuse(StatusCode::BAD_REQUEST, why)))
}

fn no_id() -> Failed {
    let why = "no id could be made for a session";
    Failed::Answered(Box::new(stdio::refuse(StatusCode::INTERNAL_SERVER_ERROR, why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(method: Method, path: &str, headers: &[(&'static str, &'static str)]) -> Place {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Place::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_session_is_named_once_at_the_endpoint_and_in_the_era_that_has_them() {
        let session = ("mcp-session-id", "s");
        let at = FORWARD_PREFIX;
        assert_eq!(place(Method::POST, at, &[session]), Place::Session("s".into()));
        assert_eq!(place(Method::GET, at, &[session]), Place::Session("s".into()));
        assert_eq!(place(Method::POST, at, &[]), Place::Beginning);
        assert_eq!(place(Method::GET, at, &[]), Place::Elsewhere);
        assert_eq!(place(Method::POST, at, &[session, session]), Place::Unclear);
        let modern = ("mcp-protocol-version", "2026-07-28");
        for headers in [&[modern][..], &[modern, session]] {
            assert_eq!(place(Method::POST, at, headers), Place::Elsewhere);
        }
        assert_eq!(place(Method::POST, "/mcp-server/x", &[session]), Place::Elsewhere);
    }
}
