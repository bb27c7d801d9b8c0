//! Relays an admitted request to the MCP server and its response back, both as streams.
//!
//! Admission comes first: what names another tenant or epoch is answered before the MCP server sees
//! a byte, and what a leaving worker refuses is refused before its body is read. It must not know
//! control requests, TLS, or what MCP messages say.

use super::{
    answer::{Body, Reason, refuse},
    clock::Moment,
    headers,
    in_flight::InFlight,
    relayed::Relayed,
    state::{Entry, Worker},
    upstream::{RequestBody, Upstream},
};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{Either, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use patchbay_core::{
    chain::Chain,
    link::{FORWARD_PREFIX, REQUEST_ID_HEADER},
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// What the news of its end may take from an MCP server that takes no connection any more.
const NEWS_LIMIT: Duration = Duration::from_secs(1);

/// Answers a request whose path is under [`FORWARD_PREFIX`].
///
/// An error resets the stream with its reason; `REFUSED_STREAM` promises that nothing was done (RFC
/// 9113, 8.7), so that the gateway may send the request to another worker.
pub(crate) async fn forward(
    worker: &Arc<Worker>,
    upstream: &Upstream,
    request: Request<Incoming>,
) -> Result<Response<Body>, h2::Error> {
    let claim = headers::claim(request.headers());
    let weight = headers::weight(request.method(), request.headers());
    match worker.enter(claim.as_ref(), weight, Moment::now()) {
        Entry::Admitted(in_flight) => relay(worker, upstream, request, in_flight).await,
        Entry::Misdirected => {
            let request_id = request_id(request.headers());
            tracing::warn!(request_id, ?claim, "refused a request for another tenant or epoch");
            Ok(refuse(StatusCode::MISDIRECTED_REQUEST, Reason::Misdirected))
        }
        Entry::Leaving => Err(h2::Reason::REFUSED_STREAM.into()),
    }
}

async fn relay(
    worker: &Worker,
    upstream: &Upstream,
    request: Request<Incoming>,
    in_flight: InFlight,
) -> Result<Response<Body>, h2::Error> {
    let request_id = request_id(request.headers()).map(str::to_owned);
    let Some(request) = to_server(upstream, request) else {
        return Ok(refuse(StatusCode::BAD_REQUEST, Reason::InvalidPath));
    };
    let cut = in_flight.cut_by();
    let is_cut = async {
        match cut {
            Some(token) => token.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        result = upstream.send(request) => result,
        () = is_cut => {
            return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, Reason::Leaving));
        }
    };
    match result {
        Ok(mut response) => {
            if upstream.confine_location(response.headers_mut()) {
                tracing::warn!(request_id, "the MCP server points elsewhere; nobody is sent there");
            }
            Ok(from_server(response, in_flight))
        }
        Err(error) if error.is_connect() => {
            tracing::warn!(request_id, error = %Chain(&error), "the MCP server takes no connection");
            // A server that is gone saw nothing, and the worker leaves: the next one may be asked. One that lives keeps its
            // tenant, who would lose the worker by a refused stream.
            match timeout(NEWS_LIMIT, worker.leaving()).await {
                Ok(()) => Err(h2::Reason::REFUSED_STREAM.into()),
                Err(_) => Ok(refuse(StatusCode::BAD_GATEWAY, Reason::ServerFailed)),
            }
        }
        Err(error) => {
            tracing::warn!(request_id, error = %Chain(&error), "the MCP server did not answer");
            Ok(refuse(StatusCode::BAD_GATEWAY, Reason::ServerFailed))
        }
    }
}

fn to_server(upstream: &Upstream, request: Request<Incoming>) -> Option<Request<RequestBody>> {
    let (mut parts, body) = request.into_parts();
    let rest = parts.uri.path().strip_prefix(FORWARD_PREFIX)?;
    parts.uri = upstream.url(rest, parts.uri.query()).ok()?;
    parts.version = Version::HTTP_11;
    headers::strip_request(&mut parts.headers);
    Some(Request::from_parts(parts, Either::Left(body)))
}

fn from_server(response: Response<Incoming>, in_flight: InFlight) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_2;
    headers::strip_response(&mut parts.headers);
    Response::from_parts(parts, UnsyncBoxBody::new(Relayed::new(body, in_flight)))
}

fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(REQUEST_ID_HEADER)?.to_str().ok()
}
