//! One control request over a worker's link. Its bytes are wiped after use, since a bind's are secret. It must not know
//! what is asked.

use crate::forward::link::{Link, LinkBody, SendError, link_uri};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use zeroize::Zeroizing;

/// An answer to a control request is short.
const MAX_ANSWER_BYTES: usize = 4096;

/// Why a control request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// It did not get through.
    #[error("the request did not reach the worker")]
    Send(#[source] SendError),
    /// The answer is broken or too long.
    #[error("the answer, a {0}, cannot be read")]
    Unreadable(StatusCode),
}

/// Posts a JSON body to a path of the worker's own; its answer's status and body.
pub(crate) async fn control(
    link: &Link,
    path: &'static str,
    body: Zeroizing<Vec<u8>>,
) -> Result<(StatusCode, Bytes), ControlError> {
    // the copy that HTTP/2 frames are made from wipes itself when its last reference is dropped
    let mut request = Request::new(LinkBody::Control(Full::new(Bytes::from_owner(body))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() =
        link_uri(path).map_err(|_| ControlError::Unreadable(StatusCode::NOT_FOUND))?;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    let response = link.send(request).await.map_err(ControlError::Send)?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    Ok((status, answer.map_err(|_| ControlError::Unreadable(status))?.to_bytes()))
}
