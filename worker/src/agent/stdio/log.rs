//! What was said on a session's streams, kept for a client that lost one and comes back (MCP 2025-11-25,
//! basic/transports, Resumability and Redelivery). Bounded: the oldest goes first. It must not know what was said.

use bytes::Bytes;
use std::collections::VecDeque;

/// Kept at most.
const MAX_EVENTS: usize = 1024;
const MAX_BYTES: usize = 1024 * 1024;

/// Names an event: its session, its stream, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventId {
    /// Stands for the session: a client that comes back may name an event of one whose place this has taken.
    pub(super) session: u32,
    pub(super) stream: u64,
    /// 0 is before the first.
    pub(super) place: u64,
}

impl EventId {
    pub(super) fn read(text: &str) -> Option<Self> {
        let (session, rest) = text.split_once('-')?;
        let (stream, place) = rest.split_once('-')?;
        Some(Self {
            session: session.parse().ok()?,
            stream: stream.parse().ok()?,
            place: place.parse().ok()?,
        })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}-{}-{}", self.session, self.stream, self.place)
    }
}

/// The last events of a session.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: VecDeque<(EventId, Bytes)>,
    bytes: usize,
}

impl Log {
    /// Keeps an event.
    pub(super) fn keep(&mut self, id: EventId, text: Bytes) {
        self.bytes += text.len();
        self.events.push_back((id, text));
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some((_, text)) = self.events.pop_front() else { return };
            self.bytes -= text.len();
        }
    }

    /// What came after an event on its stream; and whether that is all of it.
    pub(super) fn after(&self, last: EventId) -> (Vec<(EventId, Bytes)>, bool) {
        let later: Vec<_> = self
            .events
            .iter()
            .filter(|(id, _)| id.stream == last.stream && id.place > last.place)
            .cloned()
            .collect();
        let is_whole = later.first().is_none_or(|(id, _)| id.place == last.place + 1);
        (later, is_whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(stream: u64, place: u64) -> EventId {
        EventId { session: 5, stream, place }
    }

    #[test]
    fn ids_are_read_as_they_are_written_and_others_are_none() {
        assert_eq!(EventId::read(&id(3, 7).to_string()), Some(id(3, 7)));
        for other in ["", "3", "3-7", "3-7-", "-3-7", "a-b-c", "3-7-1-1"] {
            assert_eq!(EventId::read(other), None, "{other}");
        }
    }

    #[test]
    fn what_came_after_an_event_of_a_stream_is_found_and_nothing_else() {
        let mut log = Log::default();
        for (stream, place) in [(1, 1), (2, 1), (1, 2), (1, 3)] {
            log.keep(id(stream, place), format!("{stream}-{place}").into());
        }
        let (later, is_whole) = log.after(id(1, 1));
        assert_eq!(later.iter().map(|(id, _)| id.place).collect::<Vec<_>>(), [2, 3]);
        assert!(is_whole);
        assert_eq!(log.after(id(1, 3)), (Vec::new(), true));
    }

    #[test]
    fn the_oldest_goes_first_and_a_gap_is_seen() {
        let mut log = Log::default();
        for place in 1..=5 {
            log.keep(id(1, place), vec![0; MAX_BYTES / 4].into());
        }
        let (later, is_whole) = log.after(id(1, 0));
        assert_eq!((later.len(), is_whole), (4, false));
        log.keep(id(1, 6), vec![0; MAX_BYTES + 1].into());
        assert_eq!(log.after(id(1, 0)).0.len(), 0);
        for place in 7..=u64::try_from(MAX_EVENTS).unwrap() + 10 {
            log.keep(id(1, place), Bytes::new());
        }
        assert_eq!(log.after(id(1, 0)).0.len(), MAX_EVENTS);
    }
}
