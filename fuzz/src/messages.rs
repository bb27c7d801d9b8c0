//! Messages on their way through a worker: whatever a client writes, what it may call is judged by what a server would read in
//! it; and a program behind a bridge is sent one line for each message, which means what the client wrote, but for the ids.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patchbay_core::mcp::Said;
use patchbay_worker::fuzzing_of_stdio::{OWN_ID, PATHS, Passed, messages};
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    judged(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(all) = messages(text) else { return };
    // what is nested deeper than that is passed on and not understood here
    let Ok(said) = serde_json::from_str::<Value>(text) else { return };
    let said = if said.is_array() { said } else { Value::Array(vec![said]) };
    let Value::Array(said) = said else { return };
    assert_eq!(all.len(), said.len(), "{text:?}");
    for (Passed { text, with_own_ids }, mut said) in all.iter().zip(said) {
        for line in [text, with_own_ids] {
            assert!(!line.contains(['\n', '\r']), "{line:?} is more than one line");
        }
        let read = |line: &str| serde_json::from_str::<Value>(line).expect("it was read before");
        assert_eq!(read(text), said, "{text:?}");
        for path in PATHS {
            if let Some(own) = said.pointer_mut(&pointer(path)) {
                *own = OWN_ID.into();
            }
        }
        assert_eq!(read(with_own_ids), said, "{text:?} became {with_own_ids:?}");
    }
});

fn judged(data: &[u8]) {
    let Ok(said) = Said::read(data) else { return };
    let Ok(read) = serde_json::from_slice::<Value>(data) else { return };
    let read = if read.is_array() { read } else { Value::Array(vec![read]) };
    let all = read.as_array().expect("it was made one");
    assert_eq!(said.messages.len(), all.len());
    for (said, read) in said.messages.iter().zip(all) {
        assert_eq!(said.method.as_deref(), read["method"].as_str());
        let tool = read["params"]["name"].as_str().filter(|_| read["method"] == "tools/call");
        assert_eq!(said.tool(), tool);
    }
}

/// A path of names as a JSON pointer (RFC 6901).
fn pointer(path: &[&str]) -> String {
    path.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect()
}
