//! Turns the body of a control request into what it says, within bounds of length and time. Errors never quote it: it
//! may hold secrets. It must not know what is asked.

use super::answer::{Body, Reason, refuse};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// A client has this long to send a body.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads a body of at most `limit` bytes, or says how it is refused.
pub(crate) async fn read<T: DeserializeOwned>(
    request: Request<Incoming>,
    limit: usize,
) -> Result<T, Response<Body>> {
    let body = Limited::new(request.into_body(), limit).collect();
    let body = match timeout(LIMIT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, Reason::BodyTooLong));
        }
        Ok(Err(_)) => return Err(refuse(StatusCode::BAD_REQUEST, Reason::InvalidBody)),
        Err(_) => return Err(refuse(StatusCode::REQUEST_TIMEOUT, Reason::BodyTooSlow)),
    };
    // the frames' own buffers are the TLS library's; this copy, the only whole one, is wiped
    let body = Zeroizing::new(Vec::from(body));
    serde_json::from_slice(&body).map_err(|error| {
        // its text may quote a secret; its place cannot
        let (line, column) = (error.line(), error.column());
        tracing::warn!(line, column, kind = ?error.classify(), "a control request's body is not one");
        refuse(StatusCode::BAD_REQUEST, Reason::InvalidBody)
    })
}
