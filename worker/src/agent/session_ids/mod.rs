//! The session ids that clients hold: minted here, over what `initialize` said, so that a later worker of the same tenant
//! takes the session up (DESIGN, MCP).
//!
//! It turns requests with an id of ours into requests with the server's own, and an id that it does not know into a new
//! session of the server, begun as the first one was. Whatever is unclear or not its tenant's is a session that is not
//! there: 404, and the client begins anew. Where no keys were granted, ids pass as they are, as do those that are of no
//! form of ours. It must not know how a server is spoken to, or what is said in a session.

mod answer;
mod event_ids;
mod known;
mod place;
mod revive;

use self::{
    known::{Entry, Found, Known, Own, OwnSession},
    place::{About, Place},
    revive::NotRevived,
};
use super::{
    clock::Moment,
    headers,
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
    known: Arc<Known>,
    room: Room,
}

/// A request that is not passed on, with its answer; or one that was, without any.
enum Failed {
    /// Its session is not there.
    Unknown,
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
        server: &Arc<Server>,
        request: Request<RequestBody>,
    ) -> Result<Response<ServerBody>, NoAnswer> {
        let Some(sealing) = worker.sealing() else { return server.send(request).await };
        let (parts, body) = request.into_parts();
        let request_id = headers::request_id(&parts.headers).map(str::to_owned);
        let sent = match Place::of(&parts) {
            Place::Elsewhere => return server.send(Request::from_parts(parts, body)).await,
            Place::Unclear => Err(unclear()),
            Place::Beginning => self.begin(&sealing, server, parts, body).await,
            Place::Session(id) => self.go_on(&sealing, server, &id, parts, body).await,
        };
        match sent {
            Ok(response) => Ok(response),
            Err(Failed::Unknown) => Ok(stdio::unknown_session(request_id.as_deref())),
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
        self.known.begin(&id, opening, own);
        response.headers_mut().insert(SESSION_ID, value);
        Ok(response)
    }

    async fn go_on(
        &self,
        sealing: &Sealing,
        server: &Arc<Server>,
        id: &str,
        parts: Parts,
        body: RequestBody,
    ) -> Result<Response<ServerBody>, Failed> {
        let entry = self.entry(sealing, id, &parts)?;
        if parts.method == Method::DELETE {
            return self.end(server, id, &entry, parts, body).await;
        }
        let body = self.hold(body).await?;
        let (about, again) = match &body {
            Either::Right(held) => (About::of(held.text()), again(held)),
            Either::Left(body) => {
                let again = body.is_end_stream().then(body::Held::default);
                (About::Present, again)
            }
        };
        let (response, own) = self.say(server, id, &entry, &parts, about, body).await?;
        let (Some(own), Some(opening), Some(body)) = (own, &entry.opening, again) else {
            return Ok(response);
        };
        if response.status() != StatusCode::NOT_FOUND
            || revive::is_there(server, &own.id, opening, &parts).await
        {
            return Ok(response);
        }
        // the server has let go of it, and did nothing with the request
        entry.lose(&own.id).await;
        let said = self.say(server, id, &entry, &parts, about, Either::Right(body)).await;
        said.map(|(response, _)| response)
    }

    /// Says something in a session; also the server's side of it, where that was not begun for this.
    async fn say(
        &self,
        server: &Arc<Server>,
        id: &str,
        entry: &Arc<Entry>,
        parts: &Parts,
        about: About,
        body: RequestBody,
    ) -> Result<(Response<ServerBody>, Option<OwnSession>), Failed> {
        let (own, is_new) = self.own(server, id, entry, parts, about).await?;
        if is_new && about == About::Beginning {
            // the server was told
            return Ok((stdio::accepted(), None));
        }
        let response = send_as(server, parts, body, id, &own).await?;
        Ok((response, (!is_new).then_some(own)))
    }

    /// What is known of an id, or can be read out of it.
    fn entry(&self, sealing: &Sealing, id: &str, parts: &Parts) -> Result<Arc<Entry>, Failed> {
        match self.known.find(id) {
            Found::Entry(entry) => return Ok(entry),
            Found::Ended => return Err(Failed::Unknown),
            Found::Nothing => {}
        }
        let request_id = headers::request_id(&parts.headers);
        let opening = session::open(&sealing.keys, id, Moment::now().timestamp).map_err(|why| {
            tracing::info!(request_id, %why, "a session that is not known here is not taken up");
            Failed::Unknown
        })?;
        if opening.epoch > sealing.epoch {
            tracing::warn!(request_id, "a session of a later worker came to an earlier one");
            return Err(Failed::Unknown);
        }
        self.known.take_up(id, opening).ok_or(Failed::Unknown)
    }

    /// The server's side of a session, which the server begins anew where it does not have it; whether it did.
    ///
    /// What has begun goes on though whoever asked gives up: a client that comes again finds it.
    async fn own(
        &self,
        server: &Arc<Server>,
        id: &str,
        entry: &Arc<Entry>,
        parts: &Parts,
        about: About,
    ) -> Result<(OwnSession, bool), Failed> {
        if let Own::Here(session) = &*entry.own.lock().await
            && server.has_session(&session.id)
        {
            return Ok((session.clone(), false));
        }
        let (known, server, entry) =
            (Arc::clone(&self.known), Arc::clone(server), Arc::clone(entry));
        let (id, parts) = (id.to_owned(), parts.clone());
        let beginning =
            tokio::spawn(
                async move { begin_again(&known, &server, &id, &entry, &parts, about).await },
            );
        // it ends without an answer only by a fault of ours, and the client begins another
        beginning.await.unwrap_or_else(|_| Err(Failed::Unknown))
    }

    /// Ends a session. One that the server does not have, and does not get for this, is over as well.
    async fn end(
        &self,
        server: &Server,
        id: &str,
        entry: &Arc<Entry>,
        parts: Parts,
        body: RequestBody,
    ) -> Result<Response<ServerBody>, Failed> {
        let mut own = entry.own.lock().await;
        // its client has no use for it, even if the answer never comes
        self.known.end(id);
        let session = match std::mem::replace(&mut *own, Own::Over) {
            Own::Here(session) if server.has_session(&session.id) => session,
            Own::Here(_) | Own::Lost | Own::Over => return Ok(stdio::no_content()),
        };
        let response = send_as(server, &parts, body, id, &session).await?;
        let status = response.status();
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            *own = Own::Here(session);
            self.known.restore(id, entry);
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

/// The server's side of a session, which it begins anew unless somebody else had it do so meanwhile; whether it did.
async fn begin_again(
    known: &Known,
    server: &Server,
    id: &str,
    entry: &Arc<Entry>,
    parts: &Parts,
    about: About,
) -> Result<(OwnSession, bool), Failed> {
    let mut own = entry.own.lock().await;
    match &*own {
        Own::Here(session) if server.has_session(&session.id) => {
            return Ok((session.clone(), false));
        }
        Own::Here(_) | Own::Lost => {}
        Own::Over => return Err(Failed::Unknown),
    }
    *own = Own::Lost;
    let Some(opening) = &entry.opening else {
        *own = Own::Over;
        known.end(id);
        return Err(Failed::Unknown);
    };
    if about == About::Past {
        // whoever waited for it is gone, and nothing is begun for it
        return Err(Failed::Answered(Box::new(stdio::accepted())));
    }
    match revive::revive(server, opening, parts).await {
        Ok(new) => {
            tracing::info!(from_epoch = %opening.epoch, "a session goes on in a new one of the MCP server");
            let session = OwnSession { id: new, events: Some(Arc::default()) };
            *own = Own::Here(session.clone());
            Ok((session, true))
        }
        Err(NotRevived::NoAnswer(error)) => Err(error.into()),
        Err(NotRevived::NotNow(status)) => {
            let why = "the MCP server cannot take this session up now; try again later";
            Err(Failed::Answered(Box::new(stdio::refuse(status, why))))
        }
        Err(error) => {
            tracing::warn!(%error, "a session cannot go on; its client begins another");
            // whoever waits for the same need not try
            *own = Own::Over;
            if error.is_final() {
                known.end(id);
            } else {
                known.forget(id, entry);
            }
            Err(Failed::Unknown)
        }
    }
}

/// Sends a request of the session that its client knows by `id`, as one of the server's own.
async fn send_as(
    server: &Server,
    parts: &Parts,
    body: RequestBody,
    id: &str,
    own: &OwnSession,
) -> Result<Response<ServerBody>, Failed> {
    let mut parts = parts.clone();
    parts.headers.insert(SESSION_ID, own.id.clone());
    if let Some(events) = &own.events {
        let last = parts.headers.get(&LAST_EVENT_ID);
        if last.is_some_and(|last| !events.contains(last.as_bytes())) {
            // it names an event of a session that the server does not know
            parts.headers.remove(LAST_EVENT_ID);
        }
        // ids that are compressed could not be read
        parts.headers.remove(header::ACCEPT_ENCODING);
    }
    let mut response = server.send(Request::from_parts(parts, body)).await?;
    if response.headers().get(&SESSION_ID) == Some(&own.id) {
        let value = HeaderValue::from_str(id).map_err(|_| no_id())?;
        response.headers_mut().insert(SESSION_ID, value);
    }
    let kind = stdio::essence(response.headers().get(header::CONTENT_TYPE));
    match &own.events {
        Some(events) if kind.eq_ignore_ascii_case("text/event-stream") => {
            Ok(event_ids::noted(response, Arc::clone(events)))
        }
        _ => Ok(response),
    }
}

/// The same body, for a request that may have to be made twice; none of what is too long to be kept for that.
fn again(held: &body::Held) -> Option<body::Held> {
    let length = u64::try_from(held.text().len()).unwrap_or(u64::MAX);
    (length <= MAX_HELD_BYTES).then(|| held.again())
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
    // what it began with may be long, and is not kept
    Ok((place::id_of_this_worker().ok_or_else(no_id)?, None))
}

fn unclear() -> Failed {
    let why = "the header Mcp-Session-Id must be there once, and be plain text";
    Failed::Answered(Box::new(stdio::refuse(StatusCode::BAD_REQUEST, why)))
}

fn no_id() -> Failed {
    let why = "no id could be made for a session";
    Failed::Answered(Box::new(stdio::refuse(StatusCode::INTERNAL_SERVER_ERROR, why)))
}
