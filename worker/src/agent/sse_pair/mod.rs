//! The transport of 2024 (MCP 2024-11-05, HTTP with SSE): a stream of events (`GET`), whose first event names where messages
//! are sent (`POST`), and on which all answers come.
//!
//! What was named and by whom a message was sent are brought together here: a request that was sent runs until its answer
//! has passed on the stream, and one that is not passed on is answered there, where its client listens. A stream that does
//! not begin so passes as it comes, as do messages to anywhere else. It must not know which requests are allowed.

mod endpoint;
mod stream;

pub(crate) use self::{endpoint::Endpoint, stream::Opening};

use super::{
    answer::{Body, bare, whole},
    in_flight::InFlight,
    policy::{
        body::{self, BadBody, Room},
        events,
    },
    stdio::{Kind, Message},
    upstream::RequestBody,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either};
use parking_lot::Mutex;
use patchbay_core::digest::Digest;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};
use tokio::sync::mpsc;

/// Of one stream, as many requests are known to run; no client waits for more.
const MAX_WAITING: usize = 1024;
/// Answers of our own that wait for a stream whose client is slow.
const MAX_TOLD: usize = 16;

/// The streams that named where messages are sent, by that.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    open: Mutex<HashMap<String, Weak<Pair>>>,
    room: Room,
}

/// A stream, as those see it who send messages.
#[derive(Debug)]
pub(crate) struct Pair {
    /// What runs, by its id; none once nothing is heard of its end any more.
    running: Mutex<Option<BTreeMap<Digest, InFlight>>>,
    told: mpsc::Sender<Bytes>,
}

/// Requests that are being sent. Dropped, they do not run.
#[derive(Debug)]
pub(crate) struct Begun {
    pair: Arc<Pair>,
    ids: Vec<Digest>,
}

impl Pairs {
    /// The stream on which a request's answer will come; none where that is its own response.
    pub(crate) fn of<B>(&self, request: &Request<B>) -> Option<Arc<Pair>> {
        if request.method() != Method::POST {
            return None;
        }
        let at = request.uri().path_and_query()?;
        self.open.lock().get(at.as_str())?.upgrade()
    }

    /// The same request, whose calls run from now on.
    pub(crate) async fn begin(
        &self,
        pair: Arc<Pair>,
        request: Request<RequestBody>,
        in_flight: &InFlight,
    ) -> Result<(Request<RequestBody>, Begun), BadBody> {
        let (parts, body) = request.into_parts();
        let body = match body {
            Either::Left(body) if body::check(&parts.headers).is_ok() => {
                Either::Right(self.room.read(body).await?.1)
            }
            other => other,
        };
        let ids = match &body {
            Either::Right(held) => pair.begin(held.text(), in_flight),
            // it is no text, and nothing is known of it
            Either::Left(_) => Vec::new(),
        };
        Ok((Request::from_parts(parts, body), Begun { pair, ids }))
    }

    fn open(self: &Arc<Self>, at: String) -> Open {
        let (told, to_tell) = mpsc::channel(MAX_TOLD);
        let pair = Arc::new(Pair { running: Mutex::new(Some(BTreeMap::new())), told });
        self.open.lock().insert(at.clone(), Arc::downgrade(&pair));
        Open { pairs: Arc::clone(self), at, pair, to_tell }
    }
}

impl Pair {
    /// Tells an answer that is not the server's: on the stream, or where it cannot be told there, as it is.
    pub(crate) async fn tell(&self, answer: Response<Body>) -> Response<Body> {
        if answer.status() != StatusCode::OK {
            // it answers no message, and is understood by its status
            return answer;
        }
        let (parts, body) = answer.into_parts();
        let Ok(text) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            return bare(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let event = events::message(&String::from_utf8_lossy(&text));
        match self.told.try_send(event.into()) {
            Ok(()) => bare(StatusCode::ACCEPTED),
            Err(_) => Response::from_parts(parts, whole(text)),
        }
    }

    fn begin(&self, text: &[u8], in_flight: &InFlight) -> Vec<Digest> {
        let mut running = self.running.lock();
        let Some(running) = &mut *running else { return Vec::new() };
        let mut begun = Vec::new();
        for message in messages(text) {
            let id = message.request_id().map(|id| Digest::of(id.as_json().as_bytes()));
            if let Some(id) = id {
                // one that runs under the same id goes on
                if running.len() < MAX_WAITING && !running.contains_key(&id) {
                    running.insert(id, in_flight.another());
                    begun.push(id);
                }
            } else if let Some(id) = message.cancelled() {
                // nobody waits for its answer, which may never come
                running.remove(&Digest::of(id.as_json().as_bytes()));
            }
        }
        begun
    }

    /// What an event of the stream ends, to be dropped once it has passed.
    fn ended_by(&self, data: &str) -> Vec<InFlight> {
        let mut running = self.running.lock();
        let Some(running) = running.as_mut().filter(|running| !running.is_empty()) else {
            return Vec::new();
        };
        let answered = messages(data.as_bytes()).into_iter().filter_map(|it| match it.kind {
            Kind::Response { id, .. } => id,
            Kind::Request { .. } | Kind::Notification { .. } => None,
        });
        answered.filter_map(|id| running.remove(&Digest::of(id.as_json().as_bytes()))).collect()
    }
}

impl Begun {
    /// The server has taken them: they run until they are answered.
    pub(crate) fn taken(mut self) {
        self.ids.clear();
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(running) = &mut *self.pair.running.lock() {
            for id in &self.ids {
                running.remove(id);
            }
        }
    }
}

/// A stream, as it is itself. Nothing runs any more once it is dropped.
#[derive(Debug)]
struct Open {
    pairs: Arc<Pairs>,
    at: String,
    pair: Arc<Pair>,
    to_tell: mpsc::Receiver<Bytes>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.pairs.open.lock();
        // another stream may have named the same
        if open.get(&self.at).is_some_and(|it| it.as_ptr() == Arc::as_ptr(&self.pair)) {
            open.remove(&self.at);
        }
        drop(open);
        self.pair.running.lock().take();
    }
}

/// The messages of a body or an event; none where it cannot be read.
fn messages(text: &[u8]) -> Vec<Message> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| Message::read_all(text).ok()).map_or_else(Vec::new, |(all, _)| all)
}

#[cfg(test)]
mod tests;
