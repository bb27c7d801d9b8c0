//! Takes reservations and their ends. It must not know roles, or when a reservation ends by itself.

use super::{
    answer::{Body, bare},
    bind::refused,
    clock::Moment,
    control_body,
    state::Worker,
};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use patchbay_core::link::{MAX_RESERVATION_BYTES, Reservation};

/// Keeps the worker for a tenant for a moment.
pub(crate) async fn reserve(worker: &Worker, request: Request<Incoming>) -> Response<Body> {
    match control_body::read::<Reservation>(request, MAX_RESERVATION_BYTES).await {
        Err(refusal) => refusal,
        Ok(Reservation { tenant }) => match worker.reserve(&tenant, Moment::now()) {
            Ok(()) => bare(StatusCode::NO_CONTENT),
            Err(reason) => refused(reason),
        },
    }
}

/// Ends that.
pub(crate) async fn release(worker: &Worker, request: Request<Incoming>) -> Response<Body> {
    match control_body::read::<Reservation>(request, MAX_RESERVATION_BYTES).await {
        Err(refusal) => refusal,
        Ok(Reservation { tenant }) => {
            worker.release(&tenant);
            bare(StatusCode::NO_CONTENT)
        }
    }
}
