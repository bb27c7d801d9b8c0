//! What of a request stays the same over all attempts to forward it, and what an attempt's answer says of the next. It must
//! not know which worker there is.

use crate::{
    activate::{Bound, Request as Activation},
    authn::Admitted,
    config::Limits,
    drain::is_listening,
    forward::{
        body::{End, Source},
        headers,
        link::LinkBody,
    },
    respond::Refusal,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use jiff::Timestamp;
use patchbay_core::{
    link::{MISDIRECTED, REFUSAL_HEADER},
    routing::Route,
    tenant::{TenantKey, TenantName},
};

/// What stays the same over all attempts to forward one request.
pub(super) struct Forward<'a> {
    pub(super) tenant: TenantKey,
    /// The tenant's name, which costs a digest.
    pub(super) name: TenantName,
    pub(super) admitted: &'a Admitted,
    pub(super) route: &'a Route,
    pub(super) head: &'a Parts,
    /// Whether it takes a worker for a user who sleeps.
    pub(super) wakes: bool,
    pub(super) uri: http::Uri,
    pub(super) request_id: HeaderValue,
}

impl Forward<'_> {
    pub(super) fn activation(&self) -> Activation<'_> {
        Activation {
            tenant: &self.tenant,
            name: &self.name,
            class: &self.route.class,
            user: &self.admitted.user,
            provisioning: self.admitted.provisioning,
            wakes: self.wakes,
            now: Timestamp::now(),
            // made of hexadecimal digits by this gateway
            id: self.request_id.to_str().unwrap_or_default(),
        }
    }

    /// Whether something is answered, and so may need what the worker holds: a stream that only listens does not.
    pub(super) fn is_call(&self) -> bool {
        !is_listening(&self.head.method, &self.head.headers)
    }

    pub(super) fn request(
        &self,
        bound: &Bound,
        body: LinkBody,
    ) -> Result<Request<LinkBody>, Refusal> {
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() =
            headers::to_worker(self.head.headers.clone(), &bound.placement.claim, &self.request_id)
                .map_err(|_| Refusal::WorkerBroke)?;
        Ok(request)
    }

    /// What this request holds while it waits: its headers, and the part of its body that flow control
    /// may have let in.
    pub(super) fn held_bytes(&self, limits: &Limits) -> usize {
        header_bytes(&self.head.headers) + limits.replay_bytes
    }
}

/// An answer that an agent gave in its MCP server's place. Its own words are never passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentAnswer {
    /// The request is not for this worker's tenant; the server saw nothing of it.
    Misdirected,
    /// The server broke off, or the worker ended what it waited for.
    Failed,
}

pub(super) fn agents_own<B>(response: &Response<B>) -> Option<AgentAnswer> {
    let reason = response.headers().get(REFUSAL_HEADER)?;
    let is_misdirected =
        reason == MISDIRECTED && response.status() == StatusCode::MISDIRECTED_REQUEST;
    Some(if is_misdirected { AgentAnswer::Misdirected } else { AgentAnswer::Failed })
}

/// All header names and values together.
pub(super) fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Whose doing it is that a request got no answer of its MCP server: the client's, whose body ended early,
/// or else the worker's.
pub(super) fn broken(source: &Source<Incoming>, limit: u64) -> Refusal {
    match source.end() {
        Some(End::TooLong) => Refusal::BodyTooLarge(limit),
        Some(End::ClientFailed) => Refusal::BodyIncomplete,
        None => Refusal::WorkerBroke,
    }
}
