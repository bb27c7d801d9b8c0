//! One program for every request of the era without sessions (MCP 2026-07-28).
//!
//! Clients choose ids as they like, and the program hears all of them: each request is given an id of ours on its way to
//! the program, and what the program says of it is given the client's on its way back. A client that goes away has
//! cancelled its request. It must not know HTTP, or how programs are started.

use super::{
    answer,
    child::{Child, Lines, NotSaid},
    events::{self, End, Event, Receiver, Sender},
    held::HeldText,
    message::{CANCELLED, Id, Kind, Message, PROGRESS_TOKEN},
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
const LISTEN: &str = "subscriptions/listen";
const PROGRESS: &str = "notifications/progress";
const LOG_MESSAGE: &str = "notifications/message";

/// A program, and who waits for what it says.
#[derive(Debug)]
pub(super) struct Modern {
    child: Child,
    asked: Arc<Mutex<Asked>>,
    /// Whether it has answered a client.
    was_of_use: AtomicBool,
    _listening: AbortOnDropHandle<()>,
}

/// The requests that are not answered yet, by our ids.
#[derive(Debug, Default)]
struct Asked {
    waiting: BTreeMap<u64, Waiting>,
    newest: u64,
    is_over: bool,
}

#[derive(Debug)]
struct Waiting {
    /// The client's.
    id: Id,
    token: Option<Id>,
    /// Whether it asked for log messages.
    logs: bool,
    /// Whether it waits for events, and for no answer.
    listens: bool,
    /// None once it takes no more.
    reader: Option<Sender>,
}

/// A request whose client waits: it is cancelled where this is dropped before its answer.
#[derive(Debug)]
pub(super) struct InWait {
    program: Arc<Modern>,
    number: u64,
}

impl Drop for InWait {
    fn drop(&mut self) {
        if self.program.asked.lock().waiting.remove(&self.number).is_some() {
            self.program.child.tell(cancelled(self.number));
        }
    }
}

impl Modern {
    /// The program, from now on.
    pub(super) fn new(child: Child, lines: Lines) -> Self {
        let asked = Arc::<Mutex<Asked>>::default();
        let listening = listen(lines, Arc::clone(&asked));
        Self {
            child,
            asked,
            was_of_use: AtomicBool::default(),
            _listening: AbortOnDropHandle::new(tokio::spawn(listening)),
        }
    }

    /// It has answered a client.
    pub(super) fn is_of_use(&self) {
        self.was_of_use.store(true, Ordering::Relaxed);
    }

    /// Whether it ever has.
    pub(super) fn was_of_use(&self) -> bool {
        self.was_of_use.load(Ordering::Relaxed)
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.asked.lock().is_over || self.child.is_over()
    }

    /// Says a request to the program; the stream of what it says of it, and what cancels it.
    pub(super) async fn ask(
        self: &Arc<Self>,
        mut request: Message,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(Receiver, InWait), NotSaid> {
        let (reader, receiver) = events::stream();
        let number = self.asked.lock().enter(&mut request, reader).ok_or(NotSaid::Ended)?;
        let in_wait = InWait { program: Arc::clone(self), number };
        self.child.say(HeldText::new(request.text, room)).await?;
        Ok((receiver, in_wait))
    }

    /// Says something that has no answer.
    pub(super) async fn say(
        &self,
        notification: String,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), NotSaid> {
        self.child.say(HeldText::new(notification, room)).await
    }
}

impl Asked {
    /// Gives a request an id of ours, and its token too; none where the program has ended.
    fn enter(&mut self, request: &mut Message, reader: Sender) -> Option<u64> {
        let id = request.request_id().filter(|_| !self.is_over)?.clone();
        self.newest += 1;
        let own = Id::number(self.newest);
        let token = request.progress_token();
        request.replace(&["id"], &own);
        if token.is_some() {
            request.replace(&PROGRESS_TOKEN, &own);
        }
        let logs = request.at(&["params", "_meta", LOG_LEVEL]).is_some();
        let listens = request.method() == Some(LISTEN);
        let waiting = Waiting { id, token, logs, listens, reader: Some(reader) };
        self.waiting.insert(self.newest, waiting);
        Some(self.newest)
    }

    /// Takes a message of the program to whom it is for, with the ids that they know.
    fn route(&mut self, mut message: Message) {
        match &message.kind {
            Kind::Response { id: Some(id), error } => {
                let end = error.map_or(End::Result, End::Error);
                let Some(mut waiting) =
                    id.as_number().and_then(|number| self.waiting.remove(&number))
                else {
                    // its client is gone
                    return tracing::debug!("an MCP server answered what nobody waits for");
                };
                message.replace(&["id"], &waiting.id);
                message.replace(&["result", "_meta", SUBSCRIPTION_ID], &waiting.id);
                waiting.send(message.text, Some(end));
            }
            Kind::Notification { method } => {
                let path: Option<&[&str]> = match method.as_str() {
                    PROGRESS => Some(&["params", "progressToken"]),
                    CANCELLED => Some(&["params", "requestId"]),
                    LOG_MESSAGE => None,
                    _ => Some(&["params", "_meta", SUBSCRIPTION_ID]),
                };
                let told = match path {
                    Some(path) => message.id_at(path).and_then(|id| id.as_number()),
                    None => self.only_log(),
                };
                let Some(waiting) = told.and_then(|number| self.waiting.get_mut(&number)) else {
                    return tracing::debug!(method, "an MCP server said something of no request");
                };
                let is_end = method == CANCELLED;
                if let Some(path) = path {
                    let token = waiting.token.as_ref().filter(|_| method == PROGRESS);
                    message.replace(path, token.unwrap_or(&waiting.id));
                }
                waiting.send(message.text, None);
                if let Some(number) = told.filter(|_| is_end) {
                    // a program ends a subscription so
                    self.waiting.remove(&number);
                }
            }
            Kind::Request { method, .. } => {
                tracing::warn!(method, "an MCP server asked, which this revision does not have");
            }
            Kind::Response { id: None, .. } => {
                tracing::warn!("an MCP server could not read what it was sent");
            }
        }
    }

    /// The one who asked for log messages. They name no request, and may be on no other stream: where several asked,
    /// nobody hears them (server/utilities/logging).
    fn only_log(&self) -> Option<u64> {
        let mut all = self.waiting.iter().filter(|(_, waiting)| waiting.logs);
        let (one, _) = all.next()?;
        all.next().is_none().then_some(*one)
    }

    fn end(&mut self) {
        self.is_over = true;
        for mut waiting in std::mem::take(&mut self.waiting).into_values() {
            // a result would say that the server ended it in order
            if !waiting.listens {
                let why = "the MCP server ended; ask again";
                let text = answer::error_text(Some(&waiting.id), answer::SERVER_ENDED, why);
                waiting.send(text, Some(End::Error(answer::SERVER_ENDED)));
            }
        }
    }
}

impl Waiting {
    fn send(&mut self, text: String, end: Option<End>) {
        let event = Event { id: None, text: Some(text.into()), end };
        // one that takes no more comes to its end, and is cancelled by that
        self.reader = self.reader.take().filter(|reader| reader.send(event).is_ok());
    }
}

fn cancelled(number: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"{CANCELLED}","params":{{"requestId":{number},"reason":"the client went away"}}}}"#
    )
}

/// Takes what the program says to whom it is for, until it ends.
async fn listen(mut lines: Lines, asked: Arc<Mutex<Asked>>) {
    while let Some(line) = lines.next().await {
        match Message::read(line) {
            Ok(message) => asked.lock().route(message),
            Err(error) => tracing::warn!(%error, "an MCP server printed what is no message"),
        }
    }
    asked.lock().end();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(asked: &mut Asked, text: &str) -> (u64, Message, Receiver) {
        let mut request = Message::read(text).unwrap();
        let (reader, receiver) = events::stream();
        let number = asked.enter(&mut request, reader).unwrap();
        (number, request, receiver)
    }

    fn said(asked: &mut Asked, text: &str) {
        asked.route(Message::read(text).unwrap());
    }

    #[test]
    fn two_clients_with_one_id_and_one_token_hear_their_own() {
        let mut asked = Asked::default();
        let text = r#"{"id":1,"method":"tools/call","params":{"_meta":{"progressToken":"t"}}}"#;
        let (first, told, mut of_first) = enter(&mut asked, text);
        let (second, _, mut of_second) = enter(&mut asked, text);
        assert_ne!(first, second);
        assert_eq!(told.request_id(), Some(&Id::number(first)));
        assert_eq!(told.progress_token(), Some(Id::number(first)));
        said(
            &mut asked,
            &format!(r#"{{"method":"{PROGRESS}","params":{{"progressToken":{second}}}}}"#),
        );
        said(&mut asked, &format!(r#"{{"id":{first},"result":{{}}}}"#));
        assert_eq!(of_first.heard(), (vec![r#"{"id":1,"result":{}}"#.into()], true));
        let progress = format!(r#"{{"method":"{PROGRESS}","params":{{"progressToken":"t"}}}}"#);
        assert_eq!(of_second.heard(), (vec![progress], false));
    }

    #[test]
    fn a_subscription_has_its_clients_id_in_all_that_is_said_of_it() {
        let mut asked = Asked::default();
        let (number, _, mut events) =
            enter(&mut asked, r#"{"id":"s","method":"subscriptions/listen","params":{}}"#);
        let meta = |id: &str| format!(r#"{{"_meta":{{"{SUBSCRIPTION_ID}":{id}}}}}"#);
        let notification = |id: &str| format!(r#"{{"method":"n","params":{}}}"#, meta(id));
        said(&mut asked, &notification(&number.to_string()));
        said(&mut asked, &format!(r#"{{"id":{number},"result":{}}}"#, meta(&number.to_string())));
        let end = format!(r#"{{"id":"s","result":{}}}"#, meta("\"s\""));
        assert_eq!(events.heard(), (vec![notification("\"s\""), end], true));
    }

    #[test]
    fn log_messages_are_heard_by_the_one_who_asked_for_them_and_by_nobody_where_two_did() {
        let mut asked = Asked::default();
        let quiet = r#"{"id":1,"method":"tools/call"}"#;
        let logging =
            format!(r#"{{"id":2,"method":"a","params":{{"_meta":{{"{LOG_LEVEL}":"info"}}}}}}"#);
        let log = format!(r#"{{"method":"{LOG_MESSAGE}"}}"#);
        let (_, _, mut silent) = enter(&mut asked, quiet);
        let (_, _, mut one) = enter(&mut asked, &logging);
        said(&mut asked, &log);
        assert_eq!(one.heard(), (vec![log.clone()], false));
        let (_, _, mut two) = enter(&mut asked, &logging);
        said(&mut asked, &log);
        for receiver in [&mut one, &mut two, &mut silent] {
            assert_eq!(receiver.heard(), (vec![], false));
        }
    }

    #[test]
    fn the_end_of_the_program_fails_calls_and_ends_subscriptions_without_a_result() {
        let mut asked = Asked::default();
        let (_, _, mut call) = enter(&mut asked, r#"{"id":1,"method":"tools/call"}"#);
        let (_, _, mut listening) =
            enter(&mut asked, r#"{"id":2,"method":"subscriptions/listen"}"#);
        asked.end();
        let (told, is_end) = call.heard();
        assert!(is_end && told.len() == 1 && told[0].contains("\"id\":1"), "{told:?}");
        assert_eq!(listening.heard(), (vec![], true));
        let mut late = Message::read(r#"{"id":3,"method":"tools/call"}"#).unwrap();
        assert_eq!(asked.enter(&mut late, events::stream().0), None);
    }
}
