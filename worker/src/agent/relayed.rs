//! The body of a relayed response: the MCP server's frames as they come, trailers too, and with
//! them the token that keeps the worker busy. It must not know what the frames say.

use super::in_flight::InFlight;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A response's body; the request is over when it has ended or is dropped.
pub(crate) struct Relayed<B> {
    /// None once it has ended. Dropping it lets go of the connection to the MCP server.
    open: Option<Open<B>>,
}

struct Open<B> {
    body: B,
    /// Ends a stream that waits for events when the worker leaves; none for a call.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _in_flight: InFlight,
}

impl<B> Relayed<B> {
    pub(crate) fn new(body: B, in_flight: InFlight) -> Self {
        let cut = in_flight.cut_by().map(|token| Box::pin(token.cancelled_owned()));
        Self { open: Some(Open { body, cut, _in_flight: in_flight }) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Relayed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(open) = &mut self.open else {
            return Poll::Ready(None);
        };
        let is_cut = open.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(context).is_ready());
        let frame =
            if is_cut { None } else { ready!(Pin::new(&mut open.body).poll_frame(context)) };
        if !matches!(frame, Some(Ok(_))) {
            self.open = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.open.as_ref().map_or_else(|| SizeHint::with_exact(0), |open| open.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{
        clock::Moment,
        credentials::Credentials,
        state::{Entry, Worker},
    };
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, channel::Channel};
    use patchbay_core::{
        id::{Epoch, TenantUid},
        idle::Weight,
        latch::Claim,
    };
    use std::{convert::Infallible, sync::Arc};

    fn admitted(weight: Weight) -> (Arc<Worker>, InFlight) {
        let claim = Claim { tenant: TenantUid::parse("t1").unwrap(), epoch: Epoch(1) };
        let worker = Arc::new(Worker::new(Credentials::Nothing));
        worker.apply_bind(&claim, None, Moment::now()).unwrap();
        let Entry::Admitted(in_flight) = worker.enter(Some(&claim), weight, Moment::now()) else {
            panic!("not admitted");
        };
        (worker, in_flight)
    }

    #[tokio::test]
    async fn a_call_is_over_when_its_last_frame_was_taken() {
        let (worker, in_flight) = admitted(Weight::Call);
        let (mut server, body) = Channel::<Bytes, Infallible>::new(4);
        let mut relayed = Relayed::new(body, in_flight);
        server.send_data("event".into()).await.unwrap();
        assert_eq!(relayed.frame().await.unwrap().unwrap().into_data().unwrap(), "event");
        server.send_trailers(HeaderMap::new()).await.unwrap();
        drop(server);
        assert!(relayed.frame().await.unwrap().unwrap().is_trailers());
        assert!(!worker.is_quiet());
        assert!(relayed.frame().await.is_none());
        assert!(worker.is_quiet());
    }

    #[tokio::test]
    async fn a_call_whose_client_went_away_is_over() {
        let (worker, in_flight) = admitted(Weight::Call);
        let (_server, body) = Channel::<Bytes, Infallible>::new(4);
        drop(Relayed::new(body, in_flight));
        assert!(worker.is_quiet());
    }

    #[tokio::test]
    async fn closing_ends_a_waiting_stream_and_no_call() {
        for (weight, is_ended) in [(Weight::Listening, true), (Weight::Call, false)] {
            let (worker, in_flight) = admitted(weight);
            let (_server, silent) = Channel::<Bytes, Infallible>::new(1);
            let mut relayed = Relayed::new(silent, in_flight);
            worker.close();
            let frame = tokio::select! {
                biased;
                frame = relayed.frame() => Some(frame.is_none()),
                () = tokio::task::yield_now() => None,
            };
            assert_eq!(frame, is_ended.then_some(true), "{weight:?}");
        }
    }
}
