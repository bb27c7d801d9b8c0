//! The body of what a client is answered. It must not know requests.

use crate::{
    activate::InFlight, drain::Ending, last_word::LastWord, parked::Parked, streams::OpenStream,
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// The body of an answer: a worker's, passed on frame by frame, or the gateway's own.
pub enum AnswerBody {
    /// A worker's.
    Worker {
        /// Its frames.
        body: Ending<LastWord<Incoming>>,
        /// The call that it answers, which goes on as long as it does.
        _call: Option<InFlight>,
        /// The event stream that it is.
        _stream: Option<OpenStream>,
    },
    /// A stream of a user who sleeps.
    Parked {
        /// That it is there.
        body: Ending<Parked>,
        /// The event stream that it is.
        _stream: Option<OpenStream>,
    },
    /// The gateway's own.
    Own(Full<Bytes>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Worker { body, .. } => Pin::new(body).poll_frame(cx),
            Self::Parked { body, .. } => {
                Pin::new(body).poll_frame(cx).map_err(|never| match never {})
            }
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Worker { body, .. } => body.is_end_stream(),
            Self::Parked { body, .. } => body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Worker { body, .. } => body.size_hint(),
            Self::Parked { body, .. } => body.size_hint(),
            Self::Own(body) => body.size_hint(),
        }
    }
}
