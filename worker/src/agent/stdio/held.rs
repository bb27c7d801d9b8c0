//! A text that waits to be written, with its part of what all of them may hold. It must not know what it says.

use tokio::sync::OwnedSemaphorePermit;

/// A text, and the room that it takes until it is dropped.
#[derive(Debug)]
pub(super) struct HeldText {
    text: String,
    _room: Option<OwnedSemaphorePermit>,
}

impl HeldText {
    pub(super) const fn new(text: String, room: Option<OwnedSemaphorePermit>) -> Self {
        Self { text, _room: room }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl From<String> for HeldText {
    fn from(text: String) -> Self {
        Self::new(text, None)
    }
}
