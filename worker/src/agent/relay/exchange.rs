//! Carries out one request of the MCP server at its destination: over https with the user's bearer
//! at one of the two origins, or as it is at a host that the class lists for plain http. Bodies are
//! streams both ways. It must not know how a request was judged.

use super::{
    Relay,
    config_json::{self, MAX_BYTES},
    connect::ConnectError,
    dial::DialError,
    keys,
    origin::Origin,
    readable,
    refusal::{Failure, Reason, refuse},
    request::{Origins, Target},
};
use crate::agent::{answer::Body, headers, held_grant::Session};
use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version, header, request, response,
    uri::Authority,
};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use std::{error::Error as _, sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// From the end of a request to the head of its answer.
const ANSWER_LIMIT: Duration = Duration::from_mins(2);
/// Some keys, and what else is said of them.
const MAX_KEYS_BYTES: usize = 64 * 1024;

/// The body of a request on its way out.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, hyper::Error>;

impl Relay {
    /// Sends a request for one of the two origins there, over https.
    pub(super) async fn originate(
        &self,
        origin: &Origin,
        swap: Option<&Arc<Session>>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let host = origin.authority().host();
        let Some(origins) = self.destinations.origins() else {
            return refuse(Reason::HostNotAllowed, host);
        };
        let (mut parts, body) = request.into_parts();
        let reads_config =
            config_json::is_asked_for(&parts.method, parts.uri.path(), origin, origins);
        let reads_keys = *origin == origins.registry && keys::are_the_registrys(parts.uri.path());
        let Ok(url) = origin.url(parts.uri.path_and_query()) else {
            return refuse(Reason::InvalidTarget, host);
        };
        headers::strip_to_origin(&mut parts.headers);
        if let Some(session) = swap {
            let Some(authorization) = session.authorization.clone() else {
                return refuse(Reason::ForeignCredential, host);
            };
            parts.headers.insert(header::AUTHORIZATION, authorization);
        }
        if reads_config || reads_keys {
            readable::ask(&mut parts.headers);
        }
        let answer = match self.send(parts, url, origin.authority(), body).await {
            Ok(answer) => answer,
            Err(failure) => return failure.answer(host),
        };
        let (mut parts, body) = answer.into_parts();
        headers::strip_from_origin(&mut parts.headers);
        if parts.status == StatusCode::UNAUTHORIZED
            && let Some(session) = swap
        {
            tracing::info!(host, "the grant's bearer was refused");
            self.worker.session_refused(session);
        }
        if parts.status.is_redirection()
            && let Some(location) = parts.headers.get_mut(header::LOCATION)
            && let Some(plain) = config_json::plain_location(location, origins)
        {
            *location = plain;
        }
        if reads_config && config_json::is_readable(parts.status, &parts.headers) {
            return configuration(parts, body, origins)
                .await
                .unwrap_or_else(|failure| failure.answer(host));
        }
        if reads_keys && parts.status.is_success() {
            return registrys_keys(parts, body)
                .await
                .unwrap_or_else(|failure| failure.answer(host));
        }
        Response::from_parts(parts, UnsyncBoxBody::new(body))
    }

    /// Sends a request as it is.
    pub(super) async fn pass(&self, target: &Target, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let url = parts.uri.clone();
        let Some(authority) = url.authority().cloned() else {
            return refuse(Reason::InvalidTarget, &target.host);
        };
        headers::strip_through_proxy(&mut parts.headers);
        match self.send(parts, url, &authority, body).await {
            Ok(answer) => {
                let (mut parts, body) = answer.into_parts();
                headers::strip_through_proxy(&mut parts.headers);
                Response::from_parts(parts, UnsyncBoxBody::new(body))
            }
            Err(failure) => failure.answer(&target.host),
        }
    }

    /// Sends a request; the answer's body may last as long as it likes.
    async fn send(
        &self,
        mut parts: request::Parts,
        url: Uri,
        authority: &Authority,
        body: Incoming,
    ) -> Result<Response<Incoming>, Failure> {
        // the target decides, not what the client says of it (RFC 9112, 3.2.2)
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::InvalidTarget)?;
        parts.headers.insert(header::HOST, host);
        parts.uri = url;
        parts.version = Version::HTTP_11;
        let is_sent = CancellationToken::new();
        let until_sent = is_sent.clone().drop_guard();
        let body = body.map_frame(move |frame| {
            let _ = &until_sent;
            frame
        });
        let overdue = async {
            is_sent.cancelled().await;
            sleep(ANSWER_LIMIT).await;
        };
        let request = Request::from_parts(parts, UnsyncBoxBody::new(body));
        let mut answer = tokio::select! {
            answer = self.client.request(request) => {
                answer.map_err(|error| Failure::new(reason(&error), &error))?
            }
            () = overdue => return Err(Reason::TimedOut.into()),
        };
        *answer.version_mut() = Version::HTTP_11;
        Ok(answer)
    }
}

/// The catalog's configuration, as the MCP server may see it.
async fn configuration(
    mut parts: response::Parts,
    body: Incoming,
    origins: &Origins,
) -> Result<Response<Body>, Failure> {
    let text = readable::whole(body, MAX_BYTES).await?;
    let text = match config_json::rewrite(&text, &origins.registry) {
        Some(rewritten) => {
            // a validator of other bytes
            parts.headers.remove(header::ETAG);
            rewritten.into()
        }
        None => text,
    };
    Ok(readable::answer(parts, text))
}

/// AWS keys that the registry gives, if they are temporary.
async fn registrys_keys(parts: response::Parts, body: Incoming) -> Result<Response<Body>, Failure> {
    if !readable::is_plain(&parts.headers) {
        // it was asked for what can be read
        return Err(Reason::BrokenAnswer.into());
    }
    let text = readable::whole(body, MAX_KEYS_BYTES).await?;
    if keys::are_long_term(&text) {
        return Err(Reason::LongTermKeys.into());
    }
    Ok(readable::answer(parts, text))
}

/// What a failed request is told to the MCP server as.
fn reason(error: &Error) -> Reason {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return match error {
                ConnectError::Dial(error) => error.reason(),
                ConnectError::TimedOut => Reason::TimedOut,
                ConnectError::NoTarget | ConnectError::Name(_) | ConnectError::Handshake(_) => {
                    Reason::Unreachable
                }
            };
        }
        cause = error.source();
    }
    Reason::BrokenAnswer
}

impl DialError {
    /// What it is told to the MCP server as.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::AddressNotAllowed => Reason::AddressNotAllowed,
            Self::Refused(403) => Reason::HostNotAllowed,
            Self::TimedOut | Self::Refused(504) => Reason::TimedOut,
            Self::Unreachable(_) | Self::NoProxy(_) | Self::BadProxy | Self::Refused(_) => {
                Reason::Unreachable
            }
        }
    }
}
