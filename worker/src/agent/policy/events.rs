//! A stream of events (`text/event-stream`, WHATWG HTML 9.2) that may hold a list of tools: events pass as they come, one
//! by one, and those with such a list without what is denied. What cannot be looked through ends the stream with an error.
//! It must not know what a list of tools looks like, or which are denied.

use super::{Listing, MAX_LIST_BYTES, listing::Unlisted};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The body of such a response.
pub(super) struct Events<B> {
    /// None once it has ended, or was ended.
    source: Option<B>,
    listing: Listing,
    splitter: Splitter,
}

impl<B> Events<B> {
    pub(super) fn new(source: B, listing: Listing) -> Self {
        Self { source: Some(source), listing, splitter: Splitter::default() }
    }

    /// What can be passed on of what has come; ends the stream where something cannot.
    fn passed(&mut self, is_end: bool) -> Bytes {
        let mut passed = BytesMut::new();
        let last = loop {
            let event = match self.splitter.next(is_end) {
                Some(event) => event,
                None if self.splitter.held.len() > MAX_LIST_BYTES => {
                    break self.listing.too_long();
                }
                None => return passed.freeze(),
            };
            match self.listing.event(&event) {
                Ok(None) => passed.extend_from_slice(&event),
                Ok(Some(changed)) => passed.extend_from_slice(changed.as_bytes()),
                Err(last) => break last,
            }
        };
        self.source = None;
        passed.extend_from_slice(last.as_bytes());
        passed.freeze()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Events<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            let Some(source) = &mut self.source else { return Poll::Ready(None) };
            let passed = match ready!(Pin::new(source).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.splitter.push(&data);
                        self.passed(false)
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => {
                    self.source = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let rest = self.passed(true);
                    self.source = None;
                    rest
                }
            };
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }
}

/// Cuts a stream into events, each with the empty line that ends it.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    held: BytesMut,
    /// Where the first line begins that has not been seen whole.
    seen: usize,
    /// How much of that line has come, without a mark that ends it: it is looked at once, however long it is.
    unmarked: usize,
    /// Whether what was seen ends with a carriage return: a line feed that comes next is of the same mark.
    is_after_return: bool,
}

impl Splitter {
    /// What comes next.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.held.extend_from_slice(data);
    }

    /// What has come and was not taken as an event.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// All of that; what comes next is cut as if it were the beginning.
    pub(crate) fn take_held(&mut self) -> Bytes {
        std::mem::take(self).held.freeze()
    }

    /// The next event; at the end of the stream, also one without its empty line.
    pub(crate) fn next(&mut self, is_end: bool) -> Option<Bytes> {
        loop {
            if self.is_after_return
                && let Some(next) = self.held.get(self.seen)
            {
                self.seen += usize::from(*next == b'\n');
                self.is_after_return = false;
            }
            let line = &self.held[self.seen..];
            let Some(end) = line_end(line, self.unmarked) else {
                self.unmarked = line.len();
                break;
            };
            self.unmarked = 0;
            let is_empty = end.content == 0;
            self.seen += end.content + end.mark;
            self.is_after_return = self.held[..self.seen].ends_with(b"\r");
            if is_empty {
                let event = self.held.split_to(self.seen).freeze();
                self.seen = 0;
                return Some(event);
            }
        }
        if !is_end || self.held.is_empty() {
            return None;
        }
        (self.seen, self.unmarked) = (0, 0);
        Some(self.held.split().freeze())
    }
}

/// How long a line is, and the mark that ends it.
struct LineEnd {
    content: usize,
    mark: usize,
}

/// Lines end with a line feed, a carriage return, or both. This one does not within its first `unmarked` bytes.
fn line_end(text: &[u8], unmarked: usize) -> Option<LineEnd> {
    let rest = text.get(unmarked..)?;
    let content = unmarked + rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let mark = if text[content..].starts_with(b"\r\n") { 2 } else { 1 };
    Some(LineEnd { content, mark })
}

/// A message without what was taken out; none where nothing was.
type Filtered = Result<Option<Vec<u8>>, Unlisted>;

/// An event that is this message.
pub(crate) fn message(text: &str) -> String {
    format!("event: message\ndata: {text}\n\n")
}

/// The event with its data changed as `filter` says; none where it stays.
pub(super) fn event_without(
    event: &[u8],
    filter: &dyn Fn(&[u8]) -> Filtered,
) -> Result<Option<String>, Unlisted> {
    let text = std::str::from_utf8(event).map_err(|_| Unlisted::Form)?;
    let data = data(text);
    if data.trim().is_empty() {
        return Ok(None);
    }
    let Some(changed) = filter(data.as_bytes())? else { return Ok(None) };
    let changed = String::from_utf8(changed).map_err(|_| Unlisted::Form)?;
    // white space between tokens; in a text of JSON they are escaped
    Ok(Some(with_data(text, &changed.replace(['\r', '\n'], " "))))
}

/// The event with other data, which has one line.
pub(crate) fn with_data(event: &str, data: &str) -> String {
    let data = format!("data: {data}");
    let others = lines(event).into_iter();
    let others = others.filter(|line| !line.is_empty() && data_of(line).is_none());
    let lines: Vec<&str> = others.chain([&*data, "", ""]).collect();
    lines.join("\n")
}

/// The name of an event; empty where it says none.
pub(crate) fn name(event: &str) -> &str {
    let mut values = lines(event).into_iter().filter_map(|line| value_of(line, "event"));
    // of two, readers take the last
    values.next_back().unwrap_or_default()
}

/// The data of an event.
pub(crate) fn data(event: &str) -> String {
    let data: Vec<&str> = lines(event).into_iter().filter_map(data_of).collect();
    data.join("\n")
}

fn lines(event: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = event;
    while let Some(LineEnd { content, mark }) = line_end(rest.as_bytes(), 0) {
        lines.push(&rest[..content]);
        rest = &rest[content + mark..];
    }
    lines.push(rest);
    lines
}

fn data_of(line: &str) -> Option<&str> {
    value_of(line, "data")
}

/// What a line says of the field of this name.
fn value_of<'a>(line: &'a str, field: &str) -> Option<&'a str> {
    // a mark of the byte order may stand before the first line
    let rest = line.trim_start_matches('\u{feff}').strip_prefix(field)?;
    if rest.is_empty() {
        return Some("");
    }
    let value = rest.strip_prefix(':')?;
    Some(value.strip_prefix(' ').unwrap_or(value))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
