//! What fuzz targets are given: messages, as the bridge reads them and passes them on with another id.
//!
//! It turns texts into what a program would be sent. It must not judge that.

use super::message::{Id, Message};

/// The id that a request is given.
pub const OWN_ID: u64 = 7;

/// A message on its way.
#[derive(Debug)]
pub struct Passed {
    /// As it is passed on.
    pub text: String,
    /// The same with [`OWN_ID`] in the place of its id, its progress token and its subscription's.
    pub with_own_ids: String,
}

/// Reads what a client says at once; none where it is no message.
pub fn messages(text: &str) -> Option<Vec<Passed>> {
    let (messages, _) = Message::read_all(text).ok()?;
    let passed = messages.into_iter().map(|message| {
        let text = message.text.clone();
        let mut message = message;
        for path in PATHS {
            message.replace(path, &Id::number(OWN_ID));
        }
        Passed { text, with_own_ids: message.text }
    });
    Some(passed.collect())
}

/// Where ids are.
pub const PATHS: [&[&str]; 3] = [
    &["id"],
    &["params", "_meta", "progressToken"],
    &["result", "_meta", "io.modelcontextprotocol/subscriptionId"],
];
