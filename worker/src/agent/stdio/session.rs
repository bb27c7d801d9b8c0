//! One session of the era of `initialize`, and the program that is its alone.
//!
//! It turns what a client sends into lines for its program, and what the program says into streams. It must not know other
//! sessions, or how programs are started.

use super::{
    child::{Child, Lines, NotSaid},
    events::{self, Receiver},
    held::HeldText,
    log::EventId,
    message::{Id, Message},
    routes::{IdTaken, Routes},
};
use parking_lot::Mutex;
use patchbay_core::digest::random_bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// From this revision on a stream begins with an event that only has an id (SEP-1699).
const PRIMED_SINCE: &str = "2025-11-25";

/// A session, and its program while it lives.
#[derive(Debug)]
pub(super) struct Session {
    child: Child,
    routes: Arc<Mutex<Routes>>,
    /// The revision that its program chose.
    version: OnceLock<String>,
    used: Mutex<Instant>,
    ended: CancellationToken,
    listening: AbortOnDropHandle<()>,
}

/// Why a session's program is asked nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAsked {
    #[error(transparent)]
    IdTaken(#[from] IdTaken),
    #[error("the MCP server was not told: {0}")]
    NotSaid(#[from] NotSaid),
}

impl Session {
    /// A session of a program that was not spoken to yet.
    pub(super) fn new(child: Child, lines: Lines) -> Self {
        let routes = Arc::new(Mutex::new(Routes::new(events_of())));
        let ended = CancellationToken::new();
        let listening = listen(lines, Arc::clone(&routes), ended.clone());
        Self {
            child,
            routes,
            version: OnceLock::new(),
            used: Mutex::new(Instant::now()),
            ended,
            listening: AbortOnDropHandle::new(tokio::spawn(listening)),
        }
    }

    /// Says these messages to the program; the stream of the answers to those that are requests.
    pub(super) async fn say(
        &self,
        messages: Vec<Message>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Option<Receiver>, NotAsked> {
        self.touch();
        let requests: Vec<_> =
            messages.iter().filter(|message| message.request_id().is_some()).collect();
        let receiver = if requests.is_empty() {
            None
        } else {
            let (sender, receiver) = events::stream();
            self.routes.lock().ask(&requests, sender, self.is_primed())?;
            Some(receiver)
        };
        let mut room = room;
        let ids = requests.iter().filter_map(|message| message.request_id().cloned()).collect();
        let mut unsaid = Unsaid { routes: &self.routes, ids };
        for message in messages {
            let cancelled = message.cancelled();
            let is_request = message.request_id().is_some();
            self.child.say(HeldText::new(message.text, room.take())).await?;
            if is_request {
                unsaid.ids.pop_front();
            }
            if let Some(id) = cancelled {
                self.routes.lock().cancelled(&id);
            }
        }
        if self.ended.is_cancelled() {
            // what came after its end is told so too
            self.routes.lock().end(ENDED);
        }
        Ok(receiver)
    }

    /// The stream of what the program says of itself.
    pub(super) fn listen(&self) -> Receiver {
        self.touch();
        let (sender, receiver) = events::stream();
        self.routes.lock().listen(sender);
        receiver
    }

    /// The stream of what came after an event.
    pub(super) fn resume(&self, last: EventId) -> Receiver {
        self.touch();
        let (sender, receiver) = events::stream();
        self.routes.lock().resume(last, sender);
        receiver
    }

    /// The revision that the program chose, once it is known.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.get().map(String::as_str)
    }

    pub(super) fn set_version(&self, version: String) {
        // it chooses once
        let _ = self.version.set(version);
    }

    fn is_primed(&self) -> bool {
        self.version().is_some_and(|version| version >= PRIMED_SINCE)
    }

    /// Whether its program has ended.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Ends it, and its program, whoever uses it still.
    pub(super) fn close(&self) {
        self.listening.abort();
        self.ended.cancel();
        self.routes.lock().end("the session ended");
    }

    fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    /// Since when nobody has used it; none while somebody waits or listens, which is use.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        if self.routes.lock().is_used() {
            self.touch();
            return None;
        }
        Some(*self.used.lock())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

/// Requests that the program was not told yet: nobody waits for them where it never is, because it does not read, or
/// because their client went away.
struct Unsaid<'a> {
    routes: &'a Mutex<Routes>,
    ids: VecDeque<Id>,
}

impl Drop for Unsaid<'_> {
    fn drop(&mut self) {
        for id in &self.ids {
            self.routes.lock().fail(id, "the MCP server was not told");
        }
    }
}

/// By which the events of one session are told from another's; no secret.
fn events_of() -> u32 {
    random_bytes().map_or(0, u32::from_ne_bytes)
}

/// What waiting clients are told of a program's end.
const ENDED: &str = "the MCP server ended";

/// Takes what the program says to its streams, until it ends.
async fn listen(mut lines: Lines, routes: Arc<Mutex<Routes>>, ended: CancellationToken) {
    while let Some(line) = lines.next().await {
        match Message::read(line) {
            Ok(message) => routes.lock().route(message),
            Err(error) => tracing::warn!(%error, "an MCP server printed what is no message"),
        }
    }
    // whoever asks from here on sees that it has ended
    ended.cancel();
    routes.lock().end(ENDED);
}
