//! The body that a client sends: bounded, streamed, and remembered up to the replay window.
//!
//! A worker that is leaving refuses a stream before it reads the body; the gateway may then send the
//! same request to another worker, if all that was taken from the client so far is still here. Nothing
//! is buffered beyond that window, but for the outline of what it says. This module must not know workers or HTTP statuses.

use super::outline::Outline;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Why a client's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the request body is longer than {0} bytes")]
    TooLong(u64),
    /// The client failed to send it.
    #[error("the client did not send the whole request body")]
    Client(#[source] hyper::Error),
}

/// How a body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client sent more than allowed.
    TooLong,
    /// The client failed to send it.
    ClientFailed,
}

/// A client's body, from which any number of attempts can be made one after the other.
pub struct Source<B>(Arc<Mutex<Inner<B>>>);

struct Inner<B> {
    body: B,
    /// What was taken from `body`, while it fits the window.
    prefix: Vec<Bytes>,
    prefix_bytes: usize,
    taken_bytes: u64,
    window: usize,
    limit: u64,
    /// All that was taken is in `prefix`.
    complete: bool,
    /// Of all that was taken, once it does not fit the window.
    outline: Option<Outline>,
    /// There is nothing more to take.
    is_over: bool,
    end: Option<End>,
}

impl<B: Body> Inner<B> {
    /// Whether all that the client sends was taken.
    fn has_all(&self) -> bool {
        (self.is_over || self.body.is_end_stream()) && self.end.is_none()
    }
}

impl<B> Source<B>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    /// Wraps a body: at most `limit` bytes, of which `window` are remembered.
    pub fn new(body: B, limit: u64, window: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            body,
            prefix: Vec::new(),
            prefix_bytes: 0,
            taken_bytes: 0,
            window,
            limit,
            complete: true,
            outline: None,
            is_over: false,
            end: None,
        })))
    }

    /// A body for one attempt that sends all that the client sent; none if that is no longer here. An
    /// earlier attempt's body must not be used any more.
    pub fn attempt(&self) -> Option<Attempt<B>> {
        let inner = self.0.lock();
        let whole = inner.complete && inner.end.is_none();
        whole.then(|| Attempt { source: self.0.clone(), position: 0 })
    }

    /// Takes and drops what the client still sends, up to `max_bytes`.
    ///
    /// An HTTP/1.1 client that is answered while it sends finds its connection broken before it has read
    /// the answer; one that may finish reads why it was refused.
    pub async fn drain(&self, max_bytes: u64) {
        let mut drained = 0;
        while drained < max_bytes {
            let frame = poll_fn(|cx| {
                let mut inner = self.0.lock();
                (inner.complete, inner.outline) = (false, None);
                Pin::new(&mut inner.body).poll_frame(cx)
            });
            match frame.await {
                Some(Ok(frame)) => drained += frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(_)) | None => return,
            }
        }
    }

    /// All of the body; none where it has not ended yet, or was not remembered.
    pub fn whole(&self) -> Option<Vec<u8>> {
        let inner = self.0.lock();
        (inner.has_all() && inner.complete).then(|| inner.prefix.concat())
    }

    /// What a longer one said at its outermost level; none where it has not ended yet.
    pub fn outline(&self) -> Option<Vec<u8>> {
        let inner = self.0.lock();
        let outline = inner.outline.as_ref().filter(|_| inner.has_all())?;
        outline.text().map(<[u8]>::to_vec)
    }

    /// How the body ended early, if it did.
    pub fn end(&self) -> Option<End> {
        self.0.lock().end
    }
}

/// One attempt to send a [`Source`].
pub struct Attempt<B> {
    source: Arc<Mutex<Inner<B>>>,
    /// Chunks of the prefix that this attempt has sent.
    position: usize,
}

impl<B> Body for Attempt<B>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let source = self.source.clone();
        let mut inner = source.lock();
        if let Some(chunk) = inner.prefix.get(self.position) {
            let chunk = chunk.clone();
            self.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let frame = match Pin::new(&mut inner.body).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => {
                inner.is_over = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => {
                inner.end = Some(End::ClientFailed);
                return Poll::Ready(Some(Err(BodyError::Client(error))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let Some(chunk) = frame.data_ref() else {
            // trailers cannot be sent twice
            inner.complete = false;
            return Poll::Ready(Some(Ok(frame)));
        };
        inner.taken_bytes += chunk.len() as u64;
        if inner.taken_bytes > inner.limit {
            inner.end = Some(End::TooLong);
            return Poll::Ready(Some(Err(BodyError::TooLong(inner.limit))));
        }
        if inner.complete && inner.prefix_bytes + chunk.len() <= inner.window {
            inner.prefix_bytes += chunk.len();
            let chunk = chunk.clone();
            inner.prefix.push(chunk);
            self.position += 1;
        } else {
            let so_far = std::mem::take(&mut inner.prefix);
            if inner.complete {
                let outline = inner.outline.insert(Outline::default());
                for earlier in &so_far {
                    outline.push(earlier);
                }
            }
            inner.complete = false;
            if let Some(outline) = &mut inner.outline {
                outline.push(chunk);
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.source.lock();
        self.position >= inner.prefix.len() && inner.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.source.lock();
        let pending: u64 =
            inner.prefix.iter().skip(self.position).map(|chunk| chunk.len() as u64).sum();
        let rest = inner.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(pending + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(pending + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;

    type Chunks = Vec<Result<Frame<Bytes>, Infallible>>;

    fn chunks(sizes: &[usize]) -> impl Body<Data = Bytes, Error = hyper::Error> + Unpin {
        let frames: Chunks =
            sizes.iter().map(|size| Ok(Frame::data(Bytes::from(vec![b'x'; *size])))).collect();
        StreamBody::new(futures_util::stream::iter(frames)).map_err(|never| match never {})
    }

    async fn take<B>(attempt: &mut Attempt<B>, frames: usize) -> usize
    where
        B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
    {
        let mut bytes = 0;
        for _ in 0..frames {
            bytes += attempt.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        bytes
    }

    #[tokio::test]
    async fn a_second_attempt_sends_what_the_first_took_and_then_the_rest() {
        let source = Source::new(chunks(&[10, 20, 30]), 1000, 64);
        let mut first = source.attempt().unwrap();
        assert_eq!(take(&mut first, 2).await, 30);
        drop(first);
        let second = source.attempt().unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(second.len(), 60);
    }

    #[tokio::test]
    async fn beyond_the_window_there_is_no_second_attempt_and_the_first_goes_on() {
        let source = Source::new(chunks(&[40, 40, 40]), 1000, 64);
        let mut first = source.attempt().unwrap();
        take(&mut first, 2).await;
        assert!(source.attempt().is_none());
        assert_eq!(take(&mut first, 1).await, 40);
        assert!(first.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_body_is_whole_once_all_of_it_was_taken_and_remembered() {
        let source = Source::new(chunks(&[10, 20]), 1000, 64);
        let mut attempt = source.attempt().unwrap();
        take(&mut attempt, 1).await;
        assert!(source.whole().is_none());
        assert_eq!(attempt.collect().await.unwrap().to_bytes().len(), 20);
        assert_eq!(source.whole().unwrap().len(), 30);
        assert!(source.outline().is_none());
        let long = Source::new(chunks(&[40, 40, 40]), 1000, 64);
        let mut attempt = long.attempt().unwrap();
        take(&mut attempt, 2).await;
        assert!(long.outline().is_none());
        attempt.collect().await.unwrap();
        assert!(long.whole().is_none());
        assert_eq!(long.outline().unwrap().len(), 120);
    }

    #[tokio::test]
    async fn draining_is_bounded_and_leaves_nothing_to_send_again() {
        let source = Source::new(chunks(&[40, 40, 40]), 1000, 64);
        source.drain(50).await;
        assert!(source.attempt().is_none());
        let mut body = Arc::into_inner(source.0).unwrap().into_inner().body;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 40);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_ends_with_an_error_and_says_so() {
        let source = Source::new(chunks(&[60, 60]), 100, 64);
        let result = source.attempt().unwrap().collect().await;
        assert!(matches!(result, Err(BodyError::TooLong(100))));
        assert_eq!(source.end(), Some(End::TooLong));
        assert!(source.attempt().is_none());
    }
}
