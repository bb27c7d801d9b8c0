//! Which events a session has said since it was begun in another's place, by their ids: a client may come back for what
//! came after an event that only the earlier session knew, and no server can tell the two apart.
//!
//! It reads the ids out of streams that pass by (Server-Sent Events, HTML 9.2) and must not know what the events say.

use crate::agent::{answer::Body, stdio::ServerBody};
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use patchbay_core::digest::Digest;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Whoever comes back names one of the last.
const MAX_KEPT: usize = 1024;
/// A line with an id is at most this long, bytes; a longer one is as one that was never said.
const MAX_LINE: usize = 1024;

/// The last ids that were said.
#[derive(Debug, Default)]
pub(super) struct EventIds(Mutex<VecDeque<Digest>>);

impl EventIds {
    /// Whether it was said.
    pub(super) fn contains(&self, id: &[u8]) -> bool {
        self.0.lock().contains(&Digest::of(id))
    }

    fn note(&self, id: &[u8]) {
        let mut ids = self.0.lock();
        if ids.len() >= MAX_KEPT {
            ids.pop_front();
        }
        ids.push_back(Digest::of(id));
    }
}

/// The same response, whose events' ids are noted before they pass.
pub(super) fn noted(response: Response<ServerBody>, ids: Arc<EventIds>) -> Response<ServerBody> {
    let noting = |source| Noting { source, ids, line: Line::default() };
    response.map(|body| ServerBody::Bridged(Body::new(noting(body))))
}

struct Noting {
    source: ServerBody,
    ids: Arc<EventIds>,
    line: Line,
}

impl http_body::Body for Noting {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let Self { ids, line, .. } = &mut *self;
            line.read(data, |id| ids.note(id));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

/// The beginning of a line whose end has not come, as much of it as an id may take and one byte more.
#[derive(Debug, Default)]
struct Line(Vec<u8>);

impl Line {
    /// Reads on; tells each id whose line ends.
    fn read(&mut self, data: &[u8], mut tell: impl FnMut(&[u8])) {
        for part in data.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            let (text, is_end) = match part {
                [text @ .., b'\r' | b'\n'] => (text, true),
                text => (text, false),
            };
            let room = (MAX_LINE + 1).saturating_sub(self.0.len());
            self.0.extend_from_slice(&text[..text.len().min(room)]);
            if is_end {
                if self.0.len() <= MAX_LINE
                    && let Some(id) = self.0.strip_prefix(b"id:")
                {
                    tell(id.strip_prefix(b" ").unwrap_or(id));
                }
                self.0.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_wherever_a_stream_is_cut() {
        let long = "x".repeat(MAX_LINE);
        let text = format!(
            "id: 1-2\ndata: id: 3\n\nevent: x\r\nid:b\r\n\r\nid:  c\r\rids: d\nid: {long}\n\nid\nid: last"
        );
        let ids_of = |parts: &[&[u8]]| {
            let (mut line, mut ids) = (Line::default(), Vec::new());
            for part in parts {
                line.read(part, |id| ids.push(String::from_utf8_lossy(id).into_owned()));
            }
            ids
        };
        let expected = ["1-2", "b", " c"];
        assert_eq!(ids_of(&[text.as_bytes()]), expected);
        for at in 0..text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            assert_eq!(ids_of(&[head, tail]), expected, "cut at {at}");
        }
    }

    #[test]
    fn of_many_the_last_are_known() {
        let ids = EventIds::default();
        for number in 0..=MAX_KEPT {
            ids.note(number.to_string().as_bytes());
        }
        assert!(!ids.contains(b"0") && ids.contains(b"1"));
        assert!(ids.contains(MAX_KEPT.to_string().as_bytes()));
    }
}
