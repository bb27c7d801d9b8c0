//! A request's body, read whole: bounded in length, in time, and in what all of them hold together.
//!
//! What is passed on is what was read. It must not know what a body says.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A body is at most this long, bytes: as long as a gateway takes.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;
/// All that are held together, bytes. More wait for their turn: they are one tenant's.
const ROOM_BYTES: usize = 4 * MAX_BYTES;
const PERMIT_BYTES: usize = 1024;
/// A client has this long to send the next part.
const PAUSE_LIMIT: Duration = Duration::from_secs(30);

/// Why a body is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBody {
    #[error("the request body is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the request body did not arrive completely")]
    Incomplete,
    #[error(
        "the request body is not plain UTF-8: send it without Content-Encoding, and in no other charset"
    )]
    Encoded,
}

/// A body must be what its bytes say: nothing else may tell the server to read them otherwise.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), BadBody> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(BadBody::Encoded);
    }
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(kind) = kinds.next() else { return Ok(()) };
    let is_plain = kind.to_str().is_ok_and(|kind| {
        let kind = kind.to_ascii_lowercase();
        kind.matches("charset").count() <= 1
            && kind.split_once("charset").is_none_or(|(_, rest)| {
                let value = rest.trim_start_matches([' ', '=']).trim_matches(['"', ' ']);
                matches!(value, "utf-8" | "utf8")
            })
    });
    if is_plain && kinds.next().is_none() { Ok(()) } else { Err(BadBody::Encoded) }
}

/// What the bodies of a tenant's requests may hold at one time.
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_BYTES / PERMIT_BYTES)))
    }
}

impl Room {
    /// Reads a body; its bytes, and a body of the same bytes.
    pub(crate) async fn read(&self, body: Incoming) -> Result<(Bytes, Held), BadBody> {
        let hint = body.size_hint();
        let longest =
            hint.upper().map_or(MAX_BYTES, |most| usize::try_from(most).unwrap_or(usize::MAX));
        if longest > MAX_BYTES {
            return Err(BadBody::TooLong);
        }
        let permits =
            u32::try_from(longest.div_ceil(PERMIT_BYTES)).map_err(|_| BadBody::TooLong)?;
        let room = Arc::clone(&self.0).acquire_many_owned(permits).await;
        // it is never closed
        let mut room = room.map_err(|_| BadBody::Incomplete)?;
        let text = read(body, longest).await?;
        // of one whose length was not said it may have been far too much
        drop(room.split(room.num_permits().saturating_sub(text.len().div_ceil(PERMIT_BYTES))));
        Ok((text.clone(), Held { body: Full::new(text.clone()), text, room: Some(room) }))
    }
}

async fn read(mut body: Incoming, most: usize) -> Result<Bytes, BadBody> {
    let mut text = Vec::new();
    while let Some(frame) =
        timeout(PAUSE_LIMIT, body.frame()).await.map_err(|_| BadBody::Incomplete)?
    {
        let Ok(data) = frame.map_err(|_| BadBody::Incomplete)?.into_data() else { continue };
        if text.len() + data.len() > most {
            return Err(BadBody::TooLong);
        }
        text.extend_from_slice(&data);
    }
    Ok(text.into())
}

/// A body that was read, and its part of the room.
#[derive(Debug, Default)]
pub(crate) struct Held {
    body: Full<Bytes>,
    text: Bytes,
    room: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// A body of our own.
    pub(crate) fn of(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self { body: Full::new(text.clone()), text, room: None }
    }

    /// All of its bytes.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// A body of the same bytes, for a request that may have to be made twice. It shares them, and takes no room.
    pub(crate) fn again(&self) -> Self {
        Self::of(self.text.clone())
    }

    /// All of its bytes, and what they hold of the room until that is dropped.
    pub(crate) fn into_parts(self) -> (Bytes, Option<OwnedSemaphorePermit>) {
        (self.text, self.room)
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
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
    use http::HeaderValue;

    #[test]
    fn what_tells_a_server_to_read_other_than_the_bytes_is_refused() {
        let with = |name: &'static str, values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name, HeaderValue::from_static(value));
            }
            check(&headers).is_ok()
        };
        for good in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert!(with("content-type", &[good]), "{good}");
        }
        assert!(check(&HeaderMap::new()).is_ok());
        for bad in [
            &["application/json; charset=utf-16"][..],
            &["application/json; charset=utf-7"],
            &["application/json; charset=utf-8; charset=utf-16"],
            &["application/json; charset*=utf-16''x"],
            &["application/json", "application/json"],
        ] {
            assert!(!with("content-type", bad), "{bad:?}");
        }
        assert!(!with("content-encoding", &["gzip"]) && !with("content-encoding", &["identity"]));
    }
}
