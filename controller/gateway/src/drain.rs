//! How connections and event streams end when the gateway does, and streams with their user's credential: between two
//! requests, and between two events, so that clients open the next one instead of reporting a broken connection.
//!
//! An HTTP/1.1 client that sends a request in the moment in which its connection is closed has lost it, and may not
//! send it again. So clients are told with their answers, while new connections already go elsewhere: what is closed
//! in the end has been silent for as long.
//!
//! A stream that only listens ends as soon as the gateway drains; one on which a call is answered may go on until the
//! drain is nearly over. This module must not know connections or what is in an event.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The end of a gateway, in three steps.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    announced: CancellationToken,
    listening: CancellationToken,
    calls: CancellationToken,
}

impl Drain {
    /// The gateway will end soon: every HTTP/1.1 connection ends with its next answer.
    pub fn announce(&self) {
        self.announced.cancel();
    }

    /// Whether it will.
    pub fn is_announced(&self) -> bool {
        self.announced.is_cancelled()
    }

    /// No new work comes: streams that only listen end.
    pub fn begin(&self) {
        self.announce();
        self.listening.cancel();
    }

    /// The time is over: all streams end.
    pub fn finish(&self) {
        self.begin();
        self.calls.cancel();
    }

    /// What ends an answer in time, or sooner by whoever holds it; none if it is no event stream. `asked` are the method
    /// and the headers of the request, `answered` those of the answer.
    pub(crate) fn end_of(
        &self,
        (method, asked): (&Method, &HeaderMap),
        answered: &HeaderMap,
    ) -> Option<CancellationToken> {
        let token = if is_listening(method, asked) { &self.listening } else { &self.calls };
        is_event_stream(answered).then(|| token.child_token())
    }
}

/// Whether a request only listens: nothing that is asked for is answered on it.
pub(crate) fn is_listening(method: &Method, asked: &HeaderMap) -> bool {
    *method == Method::GET
        || asked.get("mcp-method").is_some_and(|method| method == "subscriptions/listen")
}

pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"text/event-stream"))
}

/// A body that ends when it is told to, if it is an event stream.
pub struct Ending<B> {
    body: B,
    end: Option<End>,
}

impl<B> Ending<B> {
    /// An answer's body, which ends with this: see [`Drain::end_of`].
    pub(crate) fn new(body: B, end: Option<CancellationToken>) -> Self {
        let end = end.map(|end| End {
            is_over: Box::pin(end.cancelled_owned()),
            tail: Tail::default(),
            is_told: false,
        });
        Self { body, end }
    }
}

struct End {
    is_over: Pin<Box<WaitForCancellationFutureOwned>>,
    is_told: bool,
    tail: Tail,
}

/// The last bytes that were sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tail([u8; 4]);

impl Default for Tail {
    /// A stream on which nothing was sent is between two events.
    fn default() -> Self {
        Self(*b"\r\n\r\n")
    }
}

impl Tail {
    pub(crate) fn push(&mut self, data: &[u8]) {
        for byte in data.iter().skip(data.len().saturating_sub(self.0.len())) {
            self.0.rotate_left(1);
            self.0[3] = *byte;
        }
    }

    /// Whether an event has just ended: lines end with LF, CR LF or CR.
    pub(crate) fn is_between_events(self) -> bool {
        let Self(tail) = self;
        tail.ends_with(b"\n\n") || tail.ends_with(b"\r\r") || tail == *b"\r\n\r\n"
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Ending<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(end) = &mut this.end {
            end.is_told = end.is_told || end.is_over.as_mut().poll(cx).is_ready();
            if end.is_told && end.tail.is_between_events() {
                return Poll::Ready(None);
            }
        }
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if let (Some(end), Poll::Ready(Some(Ok(frame)))) = (&mut this.end, &frame)
            && let Some(data) = frame.data_ref()
        {
            end.tail.push(data);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use std::convert::Infallible;
    use tokio::sync::mpsc;

    type Source = mpsc::UnboundedSender<&'static str>;

    /// An answer that a test sends piece by piece.
    fn answer(
        drain: &Drain,
        method: &Method,
        asked: &[(&'static str, &'static str)],
        kind: &'static str,
    ) -> (Source, Ending<impl Body<Data = Bytes, Error = Infallible> + Unpin + use<>>) {
        let (source, pieces) = mpsc::unbounded_channel();
        let pieces = stream::unfold(pieces, |mut pieces| async move {
            let piece: &str = pieces.recv().await?;
            Some((Ok(Frame::data(Bytes::from_static(piece.as_bytes()))), pieces))
        });
        let asked = asked
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let mut answered = HeaderMap::new();
        answered.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let body = StreamBody::new(pieces.boxed());
        (source, Ending::new(body, drain.end_of((method, &asked), &answered)))
    }

    const EVENTS: &str = "text/event-stream; charset=utf-8";

    #[tokio::test]
    async fn a_listening_stream_ends_between_two_events() {
        let drain = Drain::default();
        let (source, mut body) = answer(&drain, &Method::GET, &[], EVENTS);
        source.send("data: 1\n\ndata: 2").unwrap();
        assert!(body.frame().await.is_some());
        drain.begin();
        source.send("\r\n\r\n").unwrap();
        source.send("data: 3\n\n").unwrap();
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(rest, "\r\n\r\n");
    }

    #[tokio::test]
    async fn a_silent_stream_ends_without_another_word() {
        let drain = Drain::default();
        let subscribed = [("mcp-method", "subscriptions/listen")];
        let (_source, body) = answer(&drain, &Method::POST, &subscribed, EVENTS);
        let waiting = tokio::spawn(body.collect());
        tokio::task::yield_now().await;
        drain.begin();
        assert!(waiting.await.unwrap().unwrap().to_bytes().is_empty());
    }

    #[tokio::test]
    async fn a_call_is_answered_during_the_drain_and_ends_with_it() {
        let drain = Drain::default();
        let (source, mut body) = answer(&drain, &Method::POST, &[], EVENTS);
        drain.begin();
        source.send("data: progress\n\n").unwrap();
        assert!(body.frame().await.is_some());
        drain.finish();
        assert!(body.frame().await.is_none());
    }

    #[test]
    fn one_stream_can_be_ended_alone_and_all_of_them_together() {
        let drain = Drain::default();
        let (asked, mut answered) = (HeaderMap::new(), HeaderMap::new());
        assert!(drain.end_of((&Method::GET, &asked), &answered).is_none());
        answered.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENTS));
        let end = || drain.end_of((&Method::GET, &asked), &answered).unwrap();
        let (one, other) = (end(), end());
        one.cancel();
        assert!(one.is_cancelled() && !other.is_cancelled());
        drain.begin();
        assert!(other.is_cancelled());
    }

    #[tokio::test]
    async fn what_is_no_event_stream_is_never_cut() {
        let drain = Drain::default();
        let (source, body) = answer(&drain, &Method::GET, &[], "application/json");
        drain.finish();
        source.send("{\"whole\":").unwrap();
        source.send("true}\n\n").unwrap();
        drop(source);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{\"whole\":true}\n\n");
    }
}
