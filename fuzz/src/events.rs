//! Streams of events, cut into events: however the bytes come, the events are the same ones, and together they are the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patchbay_worker::fuzzing_of_events::events;

fuzz_target!(|data: &[u8]| {
    let Some((first, stream)) = data.split_first() else { return };
    let chunk = usize::from(*first).max(1);
    let (whole, parts) = (events(stream, stream.len().max(1)), events(stream, chunk));
    assert_eq!(whole.concat(), stream);
    assert_eq!(parts.concat(), stream);
    // between a carriage return and a line feed an event may end twice, which means nothing
    let meant = |events: &[Vec<u8>]| -> Vec<Vec<u8>> {
        let is_more = |event: &&Vec<u8>| event.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        let text = |event: &Vec<u8>| {
            event.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
        };
        events.iter().filter(is_more).map(text).collect()
    };
    assert_eq!(meant(&whole), meant(&parts), "in parts of {chunk}");
});
