//! Which stream of a session each message of its program belongs on (MCP 2025-11-25 and before).
//!
//! A program has one output, a client has many streams: the answer to a request goes where the request came from,
//! progress goes where its token came from, and what says of neither goes to the newest request that waits, since it
//! should be about one (basic/transports, Sending Messages); without one it goes to the stream that the client opened by
//! `GET`. Each message goes to one stream alone. It must not know programs or HTTP.

use super::{
    answer,
    events::{End, Event, Sender},
    log::{EventId, Log},
    message::{Id, Kind, Message},
};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// The stream that is no request's.
const UNASKED: u64 = 0;

const PROGRESS: &str = "notifications/progress";

/// Where the messages of one session go.
#[derive(Debug)]
pub(super) struct Routes {
    /// Of this session's events.
    session: u32,
    streams: BTreeMap<u64, Stream>,
    by_id: HashMap<Id, u64>,
    by_token: HashMap<Id, u64>,
    log: Log,
    newest: u64,
}

#[derive(Debug, Default)]
struct Stream {
    /// Where it is read, the newest last. None while its client is away.
    readers: Vec<Sender>,
    /// Of its last event.
    place: u64,
    /// The requests that are not answered yet.
    waiting: Vec<Id>,
    tokens: Vec<Id>,
}

/// A request has the id of another that is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another request with this id is not answered yet")]
pub(super) struct IdTaken;

impl Routes {
    /// Of a session without any streams yet, whose events are told from another's by `session`.
    pub(super) fn new(session: u32) -> Self {
        Self {
            session,
            streams: BTreeMap::from([(UNASKED, Stream::default())]),
            by_id: HashMap::new(),
            by_token: HashMap::new(),
            log: Log::default(),
            newest: UNASKED,
        }
    }

    /// Opens the stream of these requests. Where `is_primed`, an event without a message lets a client come back that has
    /// heard nothing yet (2025-11-25).
    pub(super) fn ask(
        &mut self,
        requests: &[&Message],
        reader: Sender,
        is_primed: bool,
    ) -> Result<(), IdTaken> {
        let ids: Vec<_> = requests.iter().filter_map(|request| request.request_id()).collect();
        let is_double = |(index, id): (usize, &&Id)| ids[..index].contains(id);
        if ids.iter().any(|id| self.by_id.contains_key(*id))
            || ids.iter().enumerate().any(is_double)
        {
            return Err(IdTaken);
        }
        self.newest += 1;
        let number = self.newest;
        if is_primed {
            let id = self.event_id(number, 0).to_string();
            // one that is gone already is found to be gone later
            let _ = reader.send(Event { id: Some(id), text: None, end: None });
        }
        let tokens = requests.iter().filter_map(|request| request.progress_token());
        let stream = Stream {
            readers: vec![reader],
            place: 0,
            waiting: ids.into_iter().cloned().collect(),
            tokens: tokens.collect(),
        };
        self.by_id.extend(stream.waiting.iter().map(|id| (id.clone(), number)));
        self.by_token.extend(stream.tokens.iter().map(|token| (token.clone(), number)));
        self.streams.insert(number, stream);
        Ok(())
    }

    /// Takes a message of the program to its stream.
    pub(super) fn route(&mut self, message: Message) {
        let (number, end) = match &message.kind {
            Kind::Response { id: Some(id), error } => {
                let Some(number) = self.by_id.remove(id) else {
                    return tracing::debug!("an MCP server answered what nobody asked");
                };
                (number, Some(error.map_or(End::Result, End::Error)))
            }
            Kind::Notification { method } if method == PROGRESS => {
                let token = message.id_at(&["params", "progressToken"]);
                (
                    token
                        .and_then(|token| self.by_token.get(&token).copied())
                        .unwrap_or(self.asked()),
                    None,
                )
            }
            _ => (self.asked(), None),
        };
        let answered = end.and(match message.kind {
            Kind::Response { id, .. } => id,
            Kind::Request { .. } | Kind::Notification { .. } => None,
        });
        self.deliver(number, message.text.into(), end);
        if let Some(id) = answered {
            self.answered(number, &id);
        }
    }

    /// Where what says of no request goes.
    fn asked(&self) -> u64 {
        self.streams.last_key_value().map_or(UNASKED, |(number, _)| *number)
    }

    fn event_id(&self, stream: u64, place: u64) -> EventId {
        EventId { session: self.session, stream, place }
    }

    fn deliver(&mut self, number: u64, text: Bytes, end: Option<End>) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.place += 1;
        let id = EventId { session: self.session, stream: number, place: stream.place };
        self.log.keep(id, text.clone());
        let event = Event { id: Some(id.to_string()), text: Some(text), end };
        while let Some(reader) = stream.readers.last() {
            if reader.send(event.clone()).is_ok() {
                return;
            }
            stream.readers.pop();
        }
    }

    fn answered(&mut self, number: u64, id: &Id) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.waiting.retain(|other| other != id);
        if !stream.waiting.is_empty() {
            return;
        }
        // its readers read what was sent, and its end
        let stream = self.streams.remove(&number);
        for token in stream.into_iter().flat_map(|stream| stream.tokens) {
            self.by_token.remove(&token);
        }
    }

    /// A client that wants what the program says of itself. Of several the newest hears it.
    pub(super) fn listen(&mut self, reader: Sender) {
        let stream = self.streams.entry(UNASKED).or_default();
        stream.readers.retain(|other| !other.is_closed());
        stream.readers.push(reader);
    }

    /// A client that comes back for what came after an event: it is sent that, and what comes. An event of another
    /// session is none of this one: its client hears what comes.
    pub(super) fn resume(&mut self, last: EventId, reader: Sender) {
        if last.session != self.session {
            return self.listen(reader);
        }
        let (missed, is_whole) = self.log.after(last);
        if !is_whole {
            tracing::warn!("a client came back too late for all that it missed");
        }
        for (id, text) in missed {
            // one that is gone again is found to be gone later
            let _ = reader.send(Event { id: Some(id.to_string()), text: Some(text), end: None });
        }
        if let Some(stream) = self.streams.get_mut(&last.stream) {
            stream.readers.retain(|other| !other.is_closed());
            stream.readers.push(reader);
        }
    }

    /// The program has ended: whoever waits is told, and nobody waits any more.
    pub(super) fn end(&mut self, why: &str) {
        for (id, number) in std::mem::take(&mut self.by_id) {
            let text = answer::error_text(Some(&id), answer::SERVER_ENDED, why);
            self.deliver(number, text.into(), Some(End::Error(answer::SERVER_ENDED)));
        }
        self.streams.clear();
        self.by_token.clear();
    }

    /// A request that the program was not told.
    pub(super) fn fail(&mut self, id: &Id, why: &str) {
        if let Some(number) = self.by_id.remove(id) {
            let text = answer::error_text(Some(id), answer::SERVER_ENDED, why);
            self.deliver(number, text.into(), Some(End::Error(answer::SERVER_ENDED)));
            self.answered(number, id);
        }
    }

    /// A request that its client cancelled: its program need not answer it, and whatever comes of it nobody waits for.
    pub(super) fn cancelled(&mut self, id: &Id) {
        if let Some(number) = self.by_id.remove(id) {
            self.answered(number, id);
        }
    }

    /// Whether anybody waits or listens.
    pub(super) fn is_used(&self) -> bool {
        let is_read = |stream: &Stream| stream.readers.iter().any(|reader| !reader.is_closed());
        !self.by_id.is_empty() || self.streams.values().any(is_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stdio::events::{Receiver, stream};

    fn routes() -> Routes {
        Routes::new(7)
    }

    fn message(text: &str) -> Message {
        Message::read(text).unwrap()
    }

    fn ask(routes: &mut Routes, id: u32, token: Option<&str>) -> Receiver {
        let meta =
            token.map(|token| format!(r#","params":{{"_meta":{{"progressToken":"{token}"}}}}"#));
        let text = format!(r#"{{"id":{id},"method":"tools/call"{}}}"#, meta.unwrap_or_default());
        let (sender, receiver) = stream();
        routes.ask(&[&message(&text)], sender, false).unwrap();
        receiver
    }

    const LOG: &str = r#"{"method":"notifications/message"}"#;
    const ANSWER: &str = r#"{"id":1,"result":{}}"#;

    #[test]
    fn an_answer_ends_the_stream_of_its_request_and_no_other() {
        let mut routes = routes();
        let (mut first, mut second) = (ask(&mut routes, 1, None), ask(&mut routes, 2, None));
        routes.route(message(ANSWER));
        assert_eq!(first.heard(), (vec![ANSWER.into()], true));
        assert_eq!(second.heard(), (vec![], false));
        routes.route(message(ANSWER));
        assert_eq!(second.heard(), (vec![], false), "it was answered before");
    }

    #[test]
    fn progress_goes_by_its_token_and_what_has_none_to_the_newest_request() {
        let mut routes = routes();
        let (mut first, mut second) = (ask(&mut routes, 1, Some("t")), ask(&mut routes, 2, None));
        let progress = r#"{"method":"notifications/progress","params":{"progressToken":"t"}}"#;
        routes.route(message(progress));
        let question = r#"{"id":1,"method":"sampling/createMessage"}"#;
        for text in [LOG, question] {
            routes.route(message(text));
        }
        assert_eq!(first.heard(), (vec![progress.into()], false));
        assert_eq!(second.heard(), (vec![LOG.into(), question.into()], false));
    }

    #[test]
    fn what_nobody_asked_for_is_kept_until_somebody_listens() {
        let mut routes = routes();
        routes.route(message(LOG));
        let (sender, mut receiver) = stream();
        routes.listen(sender);
        routes.route(message(LOG));
        assert_eq!(receiver.heard(), (vec![LOG.into()], false));
        let (sender, mut again) = stream();
        routes.resume(routes.event_id(UNASKED, 0), sender);
        assert_eq!(again.heard().0.len(), 2, "both from the log");
        routes.route(message(LOG));
        assert_eq!(again.heard().0.len(), 1, "the newest hears it");
        assert_eq!(receiver.heard().0.len(), 0, "and it alone");
        drop(again);
        routes.route(message(LOG));
        assert_eq!(receiver.heard().0.len(), 1);
    }

    #[test]
    fn a_client_that_lost_its_stream_hears_the_rest_and_the_end() {
        let mut routes = routes();
        let lost = ask(&mut routes, 1, None);
        routes.route(message(LOG));
        drop(lost);
        routes.route(message(LOG));
        let (sender, mut again) = stream();
        routes.resume(routes.event_id(1, 1), sender);
        assert_eq!(again.heard(), (vec![LOG.into()], false));
        routes.route(message(ANSWER));
        assert_eq!(again.heard(), (vec![ANSWER.into()], true));
        let (sender, mut late) = stream();
        routes.resume(routes.event_id(1, 2), sender);
        assert_eq!(late.heard(), (vec![ANSWER.into()], true), "after it was answered too");
    }

    #[test]
    fn a_client_that_names_an_event_of_another_session_hears_what_comes_and_nothing_of_a_streams() {
        let mut routes = routes();
        let mut call = ask(&mut routes, 1, None);
        routes.route(message(ANSWER));
        assert!(call.heard().1);
        let (sender, mut strange) = stream();
        routes.resume(EventId { session: 8, ..routes.event_id(1, 0) }, sender);
        routes.route(message(LOG));
        assert_eq!(strange.heard(), (vec![LOG.into()], false));
    }

    #[test]
    fn the_end_of_the_program_is_told_to_everybody_who_waits() {
        let mut routes = routes();
        let mut waiting = ask(&mut routes, 1, None);
        let (sender, mut listening) = stream();
        routes.listen(sender);
        assert!(routes.is_used());
        routes.end("it crashed");
        let (heard_last, is_end) = waiting.heard();
        assert!(is_end && heard_last[0].contains("it crashed"), "{heard_last:?}");
        assert!(heard_last[0].contains("\"id\":1"), "{heard_last:?}");
        assert_eq!(listening.heard(), (vec![], true));
        assert!(!routes.is_used());
    }

    #[test]
    fn a_request_that_was_cancelled_is_nobodys_any_more() {
        let mut routes = routes();
        let mut call = ask(&mut routes, 1, Some("t"));
        routes.cancelled(&Id::number(1));
        assert_eq!(call.heard(), (vec![], true));
        assert!(!routes.is_used());
        // what comes of it all the same is dropped, and what is of no request goes where it went before
        routes.route(message(ANSWER));
        let (sender, mut listening) = stream();
        routes.listen(sender);
        routes.route(message(LOG));
        assert_eq!(listening.heard(), (vec![LOG.into()], false));
        ask(&mut routes, 1, None);
    }

    #[test]
    fn one_id_cannot_be_asked_twice_at_one_time() {
        let mut routes = routes();
        let _first = ask(&mut routes, 1, None);
        let again = message(r#"{"id":1,"method":"ping"}"#);
        assert_eq!(routes.ask(&[&again], stream().0, false), Err(IdTaken));
        let other = message(r#"{"id":3,"method":"ping"}"#);
        assert_eq!(routes.ask(&[&other, &other], stream().0, false), Err(IdTaken));
        routes.route(message(ANSWER));
        routes.ask(&[&again], stream().0, false).unwrap();
    }

    #[test]
    fn a_batch_is_over_when_all_of_it_is_answered() {
        let mut routes = routes();
        let (sender, mut receiver) = stream();
        let both = [r#"{"id":1,"method":"a"}"#, r#"{"id":2,"method":"b"}"#].map(message);
        routes.ask(&both.iter().collect::<Vec<_>>(), sender, true).unwrap();
        routes.route(message(r#"{"id":2,"result":{}}"#));
        assert!(!receiver.heard().1);
        routes.route(message(ANSWER));
        assert_eq!(receiver.heard(), (vec![ANSWER.into()], true));
    }
}
