//! What fuzz targets are given: a stream of bytes, cut into events. It must not judge that.

use super::events::Splitter;

/// The events of a stream that comes in parts of `chunk` bytes.
pub fn events(stream: &[u8], chunk: usize) -> Vec<Vec<u8>> {
    let (mut splitter, mut events) = (Splitter::default(), Vec::new());
    for part in stream.chunks(chunk) {
        splitter.push(part);
        while let Some(event) = splitter.next(false) {
            events.push(event.to_vec());
        }
    }
    while let Some(event) = splitter.next(true) {
        events.push(event.to_vec());
    }
    events
}
