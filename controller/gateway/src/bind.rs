//! Binds a worker: one control request over its link.
//!
//! This is the only place that puts a grant on the wire. Its bytes are wiped after use. This module must
//! not know how the worker was chosen or why.

use crate::forward::link::{Link, LinkBody, SendError, link_uri};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use patchbay_core::{
    grant::Grant,
    latch::Claim,
    link::{
        BIND_PATH, BindAccepted, BindOutcome, BindRefusal, BindRequest, MAX_BIND_BYTES, Refused,
    },
};
use zeroize::Zeroizing;

/// Why a worker is not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The request did not get through.
    #[error("the bind did not reach the worker")]
    Send(#[source] SendError),
    /// The worker said no.
    #[error("the worker refused the bind: {0}")]
    Refused(BindRefusal),
    /// The worker is leaving.
    #[error("the worker is leaving")]
    Leaving,
    /// The worker's answer makes no sense.
    #[error("the worker answered {0} in no form that is known")]
    Nonsense(StatusCode),
    /// The grant cannot be written as a bind.
    #[error("the grant is longer than {MAX_BIND_BYTES} bytes")]
    TooLarge,
}

/// An answer to a bind is short.
const MAX_ANSWER_BYTES: usize = 4096;

/// Binds, or offers a bound worker a newer grant.
pub async fn bind(link: &Link, claim: &Claim, grant: &Grant) -> Result<BindOutcome, BindError> {
    let bind =
        BindRequest { tenant: claim.tenant.clone(), epoch: claim.epoch, grant: grant.clone() };
    let body = serde_json::to_vec(&bind).map(Zeroizing::new).map_err(|_| BindError::TooLarge)?;
    if body.len() > MAX_BIND_BYTES {
        return Err(BindError::TooLarge);
    }
    // the copy that HTTP/2 frames are made from wipes itself when its last reference is dropped
    let body = Bytes::from_owner(body);
    let mut request = Request::new(LinkBody::Control(Full::new(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = link_uri(BIND_PATH).map_err(|_| BindError::TooLarge)?;
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    let response = match link.send(request).await {
        Ok(response) => response,
        Err(SendError::Refused) => return Err(BindError::Leaving),
        Err(error) => return Err(BindError::Send(error)),
    };
    let status = response.status();
    let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|_| BindError::Nonsense(status))?
        .to_bytes();
    match status {
        StatusCode::OK => serde_json::from_slice::<BindAccepted>(&answer)
            .map(|accepted| accepted.outcome)
            .map_err(|_| BindError::Nonsense(status)),
        StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE => {
            match serde_json::from_slice::<Refused>(&answer) {
                Ok(Refused { reason: BindRefusal::Leaving }) => Err(BindError::Leaving),
                Ok(Refused { reason }) => Err(BindError::Refused(reason)),
                Err(_) => Err(BindError::Nonsense(status)),
            }
        }
        other => Err(BindError::Nonsense(other)),
    }
}
