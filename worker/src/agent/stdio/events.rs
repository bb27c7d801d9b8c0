//! A response as a stream of events: what is sent to it, as its client reads it (Server-Sent Events, HTML 9.2).
//!
//! A client that reads slowly holds up nobody else: what waits for it is bounded, and a stream that is over its bound is
//! cut. A stream with nothing to say says so from time to time. It must not know sessions, or what the events say.

use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

/// What may wait for a client, bytes; one message alone may be longer.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// What an event takes besides its text, bytes.
const OVERHEAD: usize = 128;
/// A message that is longer than this, bytes, is a frame of its own and not copied.
const LONG: usize = 64 * 1024;
/// A stream is silent for this long at most: half of what common proxies allow.
const SILENCE_LIMIT: Duration = Duration::from_secs(25);
/// When a client that lost its stream should come back (SEP-1699): said once, in the event without a message.
const RETRY: &[u8] = b"retry: 1000\n";
/// After each event.
const END: Bytes = Bytes::from_static(b"\n\n");
/// What is said instead.
const ALIVE: Bytes = Bytes::from_static(b": \n\n");

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// By which a client can ask for what came after it; none where it cannot.
    pub(super) id: Option<String>,
    /// One message on one line; none for an event that only has an id.
    pub(super) text: Option<Bytes>,
    /// What it ends, where it is the answer to a request.
    pub(super) end: Option<End>,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Result,
    /// With its code.
    Error(i64),
}

/// Where events are sent to.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    events: mpsc::UnboundedSender<Event>,
    waiting: Arc<AtomicUsize>,
}

/// The events of one stream.
#[derive(Debug)]
pub(super) struct Receiver {
    events: mpsc::UnboundedReceiver<Event>,
    waiting: Arc<AtomicUsize>,
}

/// A stream that takes no more: its client is gone, or reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// A new stream.
pub(super) fn stream() -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::<AtomicUsize>::default();
    (
        Sender { events: sender, waiting: Arc::clone(&waiting) },
        Receiver { events: receiver, waiting },
    )
}

impl Event {
    fn len(&self) -> usize {
        self.text.as_ref().map_or(0, Bytes::len)
    }

    /// What it counts for where it waits.
    fn weight(&self) -> usize {
        self.len() + OVERHEAD
    }

    /// It as a client reads it, in parts, the last first.
    fn encode(self) -> Vec<Bytes> {
        let is_long = self.len() > LONG;
        let mut text = Vec::with_capacity(if is_long { 0 } else { self.len() } + 48);
        if let Some(id) = &self.id {
            text.extend_from_slice(b"id: ");
            text.extend_from_slice(id.as_bytes());
            text.push(b'\n');
        }
        if self.text.is_none() {
            text.extend_from_slice(RETRY);
        }
        text.extend_from_slice(b"data: ");
        let message = self.text.unwrap_or_default();
        if is_long {
            return vec![END, message, text.into()];
        }
        text.extend_from_slice(&message);
        text.extend_from_slice(&END);
        vec![text.into()]
    }
}

impl Sender {
    /// Sends an event; the stream must be given up where it takes none.
    pub(super) fn send(&self, event: Event) -> Result<(), Closed> {
        let waiting = self.waiting.fetch_add(event.weight(), Ordering::Relaxed);
        // one alone may be as long as it likes
        if waiting > 0 && waiting.saturating_add(event.weight()) > MAX_WAITING_BYTES {
            tracing::warn!(waiting, "a client reads too slowly; its stream is cut");
            return Err(Closed);
        }
        self.events.send(event).map_err(|_| Closed)
    }

    /// Whether its client is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.events.is_closed()
    }
}

impl Receiver {
    /// The next event; none at the end.
    pub(super) async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let event = ready!(self.events.poll_recv(context));
        if let Some(event) = &event {
            self.waiting.fetch_sub(event.weight(), Ordering::Relaxed);
        }
        Poll::Ready(event)
    }
}

#[cfg(test)]
impl Receiver {
    /// The messages that were sent and not taken, and whether that is all there will be.
    pub(super) fn heard(&mut self) -> (Vec<String>, bool) {
        let mut heard = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        loop {
            match self.poll_next(&mut context) {
                Poll::Ready(Some(event)) => {
                    heard.extend(event.text.map(|text| String::from_utf8(text.to_vec()).unwrap()));
                }
                Poll::Ready(None) => return (heard, true),
                Poll::Pending => return (heard, false),
            }
        }
    }
}

/// The body of a response. What goes with it is dropped when the client has all of it, or goes away.
#[derive(Debug)]
pub(crate) struct Events<G = ()> {
    /// Of an event that was taken, the last first.
    parts: Vec<Bytes>,
    /// None once it has ended.
    rest: Option<(Receiver, G)>,
    silence: Interval,
}

impl<G> Events<G> {
    /// The body of a stream, after events that were taken from it already.
    pub(super) fn new(
        first: impl IntoIterator<Item = Event, IntoIter: DoubleEndedIterator>,
        rest: Receiver,
        guard: G,
    ) -> Self {
        let mut silence = interval_at(Instant::now() + SILENCE_LIMIT, SILENCE_LIMIT);
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let parts = first.into_iter().rev().flat_map(Event::encode).collect();
        Self { parts, rest: Some((rest, guard)), silence }
    }
}

impl<G: Unpin> Body for Events<G> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(part) = self.parts.pop() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let Some((rest, _)) = &mut self.rest else { return Poll::Ready(None) };
        match rest.poll_next(context) {
            Poll::Ready(Some(event)) => {
                self.silence.reset();
                self.parts = event.encode();
                Poll::Ready(self.parts.pop().map(|part| Ok(Frame::data(part))))
            }
            Poll::Ready(None) => {
                self.rest = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.silence.poll_tick(context));
                Poll::Ready(Some(Ok(Frame::data(ALIVE))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.rest.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn event(id: Option<&str>, text: &str) -> Event {
        Event { id: id.map(Into::into), text: Some(text.to_owned().into()), end: None }
    }

    #[tokio::test]
    async fn events_arrive_as_they_are_sent_and_the_end_is_the_end() {
        let (sender, receiver) = stream();
        let mut body =
            Events::new(Some(Event { text: None, ..event(Some("1-0"), "") }), receiver, ());
        sender.send(event(Some("1-1"), "{\"a\":1}")).unwrap();
        sender.send(event(None, "{}")).unwrap();
        drop(sender);
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert_eq!(
            String::from_utf8(all).unwrap(),
            "id: 1-0\nretry: 1000\ndata: \n\nid: 1-1\ndata: {\"a\":1}\n\ndata: {}\n\n"
        );
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_long_message_is_passed_on_and_not_copied() {
        let (sender, receiver) = stream();
        let mut body = Events::new(None, receiver, ());
        let text = Bytes::from("x".repeat(LONG + 1));
        sender.send(Event { id: None, text: Some(text.clone()), end: None }).unwrap();
        let mut parts = Vec::new();
        for _ in 0..3 {
            parts.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(
            (&*parts[0], parts[1].as_ptr(), &*parts[2]),
            (&b"data: "[..], text.as_ptr(), &b"\n\n"[..])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_silent_says_that_it_lives() {
        let (sender, receiver) = stream();
        let mut body = Events::new(None, receiver, ());
        let begun = Instant::now();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ALIVE);
        assert_eq!(begun.elapsed(), SILENCE_LIMIT);
        sender.send(event(None, "{}")).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: {}\n\n");
        body.frame().await.unwrap().unwrap();
        assert_eq!(begun.elapsed(), 2 * SILENCE_LIMIT);
    }

    #[tokio::test]
    async fn a_stream_whose_client_does_not_read_is_cut_but_for_one_message_of_any_length() {
        let (sender, mut receiver) = stream();
        let long = "x".repeat(MAX_WAITING_BYTES + 1);
        sender.send(event(None, &long)).unwrap();
        assert_eq!(sender.send(event(None, "x")), Err(Closed));
        assert_eq!(receiver.next().await.unwrap().len(), long.len());
    }
}
