//! A stream that a client opened while its user sleeps: it says nothing but that it is there, and ends when the user has a
//! worker, so that the client opens it there (DESIGN, life of a worker, step 7).
//!
//! Clients come back for such a stream as soon as they lose it. If that woke the user, an idle worker would leave and be
//! there again for as long as a client is open. This module must not know workers or clients.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body::{Body, Frame};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// A stream is silent for this long at most: half of what common proxies allow.
const SILENCE_LIMIT: Duration = Duration::from_secs(25);
const EVENTS: &str = "text/event-stream";
/// What is said instead (Server-Sent Events, HTML 9.2): a comment.
const ALIVE: Bytes = Bytes::from_static(b": asleep\n\n");

/// Whether a request wakes its user: all do, but for one that asks for events at the MCP endpoint itself. `rest` is what
/// follows the class's path.
pub(crate) fn wakes(method: &Method, rest: &str, headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes);
    let events = EVENTS.as_bytes();
    let asks_for_events = accepted
        .any(|value| value.to_ascii_lowercase().windows(events.len()).any(|it| it == events));
    *method != Method::GET || !rest.is_empty() || !asks_for_events
}

/// The body of such a stream.
pub struct Parked {
    is_over: Pin<Box<dyn Future<Output = ()> + Send>>,
    silence: Interval,
}

impl Parked {
    /// It ends with `is_over`.
    pub(crate) fn until(is_over: impl Future<Output = ()> + Send + 'static) -> Self {
        // the first word lets a proxy on the way pass on that there is a stream
        let mut silence = interval_at(Instant::now(), SILENCE_LIMIT);
        silence.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { is_over: Box::pin(is_over), silence }
    }
}

impl Body for Parked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        ready!(self.silence.poll_tick(context));
        Poll::Ready(Some(Ok(Frame::data(ALIVE))))
    }
}

/// The answer whose body such a stream is.
pub(crate) fn answer<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, EVENTS),
        (header::CACHE_CONTROL, "no-cache, no-transform"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use tokio::sync::oneshot;

    #[test]
    fn only_a_stream_at_the_endpoint_itself_wakes_nobody() {
        let asking = |accepted: &'static str| {
            HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accepted))])
        };
        let events = asking("application/json, Text/Event-Stream;q=0.9");
        assert!(!wakes(&Method::GET, "", &events));
        for rest in ["/sse", "/"] {
            assert!(wakes(&Method::GET, rest, &events));
        }
        for method in [Method::POST, Method::DELETE, Method::HEAD] {
            assert!(wakes(&method, "", &events));
        }
        // a browser, or a probe
        for other in [HeaderMap::new(), asking("*/*"), asking("text/html")] {
            assert!(wakes(&Method::GET, "", &other));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_stream_says_that_it_is_there_until_it_ends() {
        let (wake, woken) = oneshot::channel::<()>();
        let mut body = Parked::until(async { drop(woken.await) });
        let begun = Instant::now();
        for nth in 0..3 {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), ALIVE);
            assert_eq!(begun.elapsed(), SILENCE_LIMIT * nth);
        }
        wake.send(()).unwrap();
        assert!(body.frame().await.is_none());
        assert_eq!(begun.elapsed(), SILENCE_LIMIT * 2);
    }
}
