//! The MCP server as the agent sees it: it answers HTTP requests, whether it speaks HTTP itself or on its standard
//! streams. It must not know tenants, or who asks.

use super::{
    headers,
    lifeline::Orders,
    readiness,
    sse_pair::Endpoint,
    stdio::{Bridge, ServerBody},
    upstream::{RequestBody, Upstream},
};
use http::{HeaderValue, Request, Response, Version};
use hyper_util::client::legacy::Error;
use patchbay_core::{boot::Variable, chain::Chain, class::Transport, link::FORWARD_PREFIX};
use std::{path::PathBuf, time::Duration};
use tokio::time::Instant;

/// The MCP server.
#[derive(Debug)]
pub(crate) enum Server {
    /// It listens on a port.
    Http(Box<Upstream>),
    /// It is a program, or many, behind a bridge.
    Stdio(Bridge),
}

/// A request that was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("its path makes no URL")]
    Path,
    #[error("the MCP server takes no connection")]
    NoConnection(#[source] Error),
    #[error("the MCP server did not answer")]
    Broken(#[source] Error),
}

impl Server {
    /// The server behind the host's `socket`. Sessions of a bridge that nobody uses for `idle_timeout` end.
    pub(crate) fn new(socket: PathBuf, transport: Transport, idle_timeout: Duration) -> Self {
        match transport {
            Transport::Http { port, path, ready_path } => {
                Self::Http(Box::new(Upstream::new(socket, port, path, ready_path)))
            }
            Transport::Stdio => Self::Stdio(Bridge::new(socket, idle_timeout)),
        }
    }

    /// Returns when the server answers, or at `deadline` with what was in the way, for people.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<(), String> {
        match self {
            Self::Http(upstream) => readiness::wait(upstream, deadline).await,
            Self::Stdio(bridge) => bridge.prepare(deadline).await,
        }
    }

    /// Has the server run with these variables; it need not answer yet. The error is for people.
    pub(crate) async fn start(
        &self,
        orders: &Orders,
        variables: Vec<Variable>,
    ) -> Result<(), String> {
        match self {
            Self::Http(_) => {
                orders.start(variables).await.map_err(|error| Chain(&error).to_string())
            }
            Self::Stdio(bridge) => {
                bridge.set_variables(variables).await;
                Ok(())
            }
        }
    }

    /// Whether the server has a session, as far as can be known without asking it.
    pub(crate) fn has_session(&self, id: &HeaderValue) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Stdio(bridge) => bridge.has_session(id),
        }
    }

    /// Where it has `named` that it be sent messages, in its answer to a request for `asked`; none if that is elsewhere.
    pub(crate) fn endpoint(&self, named: &str, asked: &str) -> Option<Endpoint> {
        match self {
            Self::Http(upstream) => upstream.endpoint(named, asked),
            Self::Stdio(_) => None,
        }
    }

    /// Sends a request whose path is under [`FORWARD_PREFIX`]. Dropping the future, or the response's body, tells the
    /// server as its transport does.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<ServerBody>, NoAnswer> {
        let (mut parts, body) = request.into_parts();
        headers::strip_request(&mut parts.headers);
        let path = parts.uri.path().strip_prefix(FORWARD_PREFIX).ok_or(NoAnswer::Path)?;
        let mut response = match self {
            Self::Http(upstream) => {
                let url = upstream.url(path, parts.uri.query()).map_err(|_| NoAnswer::Path)?;
                parts.uri = url;
                parts.version = Version::HTTP_11;
                let sent = upstream.send(Request::from_parts(parts, body)).await;
                let mut response = sent.map_err(NoAnswer::of)?;
                if upstream.confine_location(response.headers_mut()) {
                    tracing::warn!("the MCP server points elsewhere; nobody is sent there");
                }
                response.map(ServerBody::Http)
            }
            Self::Stdio(bridge) => {
                let path = path.to_owned();
                bridge.send(Request::from_parts(parts, body), &path).await
            }
        };
        *response.version_mut() = Version::HTTP_2;
        headers::strip_response(response.headers_mut());
        Ok(response)
    }
}

impl NoAnswer {
    fn of(error: Error) -> Self {
        if error.is_connect() { Self::NoConnection(error) } else { Self::Broken(error) }
    }
}
