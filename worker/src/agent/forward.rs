//! Relays an admitted request to the MCP server and its response back, both as streams.
//!
//! Admission comes first: what names another tenant or epoch is answered before the MCP server sees
//! a byte, and what a leaving worker refuses is refused before its body is read. Then a class's policy
//! says whether it passes; what it is held to is [`policy`](super::policy)'s. This module must not know
//! control requests, TLS, or what MCP messages say.

use super::{
    answer::{Body, Reason, refuse},
    clock::Moment,
    headers,
    in_flight::InFlight,
    policy::{Passed, Policy},
    relayed::Relayed,
    server::{NoAnswer, Server},
    session_ids::SessionIds,
    sse_pair::{Opening, Pair, Pairs},
    state::{Entry, Worker},
    stdio,
};
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use patchbay_core::chain::Chain;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// What the news of its end may take from an MCP server that takes no connection any more.
const NEWS_LIMIT: Duration = Duration::from_secs(1);

/// Answers a request whose path is under [`FORWARD_PREFIX`](patchbay_core::link::FORWARD_PREFIX).
///
/// An error resets the stream with its reason; `REFUSED_STREAM` promises that nothing was done (RFC
/// 9113, 8.7), so that the gateway may send the request to another worker.
pub(crate) async fn forward(
    worker: &Arc<Worker>,
    server: &Arc<Server>,
    ids: &SessionIds,
    pairs: &Arc<Pairs>,
    policy: Option<&Arc<Policy>>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, h2::Error> {
    let claim = headers::claim(request.headers());
    let weight = headers::weight(request.method(), request.headers());
    match worker.enter(claim.as_ref(), weight, Moment::now()) {
        Entry::Admitted(mut in_flight) => {
            let pair = pairs.of(&request);
            let opening = Opening::asked(&mut request).map(|asked| Opening {
                server: Arc::clone(server),
                pairs: Arc::clone(pairs),
                asked,
                listing: policy.and_then(|it| it.listing(worker.claims(), request.headers())),
                request_id: headers::request_id(request.headers()).map(str::to_owned),
            });
            if opening.as_ref().is_some_and(|opening| opening.listing.is_some()) {
                // what is compressed could not be looked through
                request.headers_mut().remove(header::ACCEPT_ENCODING);
            }
            let passed = match policy {
                None => Passed::unread(request),
                Some(policy) => {
                    match policy.admit(worker.claims(), request, &mut in_flight).await {
                        Ok(passed) => passed,
                        Err(answer) => {
                            return Ok(match pair {
                                Some(pair) => pair.tell(answer).await,
                                None => answer,
                            });
                        }
                    }
                }
            };
            match pair {
                None => relay(worker, server, ids, passed, opening, in_flight).await,
                Some(pair) => message(worker, server, ids, pairs, pair, passed, in_flight).await,
            }
        }
        Entry::Misdirected => {
            let request_id = headers::request_id(request.headers());
            tracing::warn!(request_id, ?claim, "refused a request for another tenant or epoch");
            Ok(refuse(StatusCode::MISDIRECTED_REQUEST, Reason::Misdirected))
        }
        Entry::Leaving => Err(h2::Reason::REFUSED_STREAM.into()),
    }
}

/// Relays a message whose answer comes on another request's stream: what it asks for runs until then.
async fn message(
    worker: &Worker,
    server: &Arc<Server>,
    ids: &SessionIds,
    pairs: &Pairs,
    pair: Arc<Pair>,
    passed: Passed,
    in_flight: InFlight,
) -> Result<Response<Body>, h2::Error> {
    let Passed { request, listing } = passed;
    let (request, begun) = match pairs.begin(pair, request, &in_flight).await {
        Ok(begun) => begun,
        Err(error) => return Ok(stdio::bad_body(&error).map(UnsyncBoxBody::new)),
    };
    let passed = Passed { request, listing };
    let response = relay(worker, server, ids, passed, None, in_flight).await?;
    if response.status().is_success() {
        begun.taken();
    }
    Ok(response)
}

async fn relay(
    worker: &Worker,
    server: &Arc<Server>,
    ids: &SessionIds,
    passed: Passed,
    opening: Option<Opening>,
    in_flight: InFlight,
) -> Result<Response<Body>, h2::Error> {
    let Passed { request, listing } = passed;
    let request_id = headers::request_id(request.headers()).map(str::to_owned);
    let cut = in_flight.cut_by();
    let is_cut = async {
        match cut {
            Some(token) => token.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        result = ids.send(worker, server, request) => result,
        () = is_cut => {
            return Ok(refuse(StatusCode::SERVICE_UNAVAILABLE, Reason::Leaving));
        }
    };
    match result {
        Ok(mut response) => Ok(match (listing, opening, Opening::is_answered(&response)) {
            (Some(listing), ..)
            | (None, Some(Opening { listing: Some(listing), .. }), Some(false)) => {
                listing.response(response, in_flight).await
            }
            (None, Some(opening), Some(true)) => {
                response.headers_mut().remove(header::CONTENT_LENGTH);
                let followed = |body| Relayed::new(opening.answered(body), in_flight);
                response.map(|body| UnsyncBoxBody::new(followed(body)))
            }
            _ => response.map(|body| UnsyncBoxBody::new(Relayed::new(body, in_flight))),
        }),
        Err(NoAnswer::Path) => Ok(refuse(StatusCode::BAD_REQUEST, Reason::InvalidPath)),
        Err(error @ NoAnswer::NoConnection(_)) => {
            tracing::warn!(request_id, error = %Chain(&error), "a request was not passed on");
            // A server that is gone saw nothing, and the worker leaves: the next one may be asked. One that lives keeps its
            // tenant, who would lose the worker by a refused stream.
            match timeout(NEWS_LIMIT, worker.leaving()).await {
                Ok(()) => Err(h2::Reason::REFUSED_STREAM.into()),
                Err(_) => Ok(refuse(StatusCode::BAD_GATEWAY, Reason::ServerFailed)),
            }
        }
        Err(error @ NoAnswer::Broken(_)) => {
            tracing::warn!(request_id, error = %Chain(&error), "a request was not answered");
            Ok(refuse(StatusCode::BAD_GATEWAY, Reason::ServerFailed))
        }
    }
}
