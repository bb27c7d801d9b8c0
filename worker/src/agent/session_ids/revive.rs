//! Begins a session of the server as an earlier one began: `initialize` with the same parameters, and what follows it. It
//! goes on only if the server says of itself what that one said. Also asks whether a session is there at all. It must not
//! know ids of clients.

use super::{
    SESSION_ID,
    answer::{self, Said},
};
use crate::agent::{
    policy::body::Held,
    server::{NoAnswer, Server},
    stdio::ServerBody,
    upstream::RequestBody,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    request::Parts,
};
use http_body_util::{BodyExt as _, Either};
use patchbay_core::session::Opening;
use std::time::Duration;
use tokio::time::timeout;

/// A server has this long for each message.
const LIMIT: Duration = Duration::from_secs(30);
/// What is left of an answer has this long to come to its end.
const REST_LIMIT: Duration = Duration::from_secs(10);

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const PING: &str = r#"{"jsonrpc":"2.0","id":"patchbay","method":"ping"}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// What of the request for which a session begins is not said of its `initialize`: its body's, and its own.
const OF_THE_REQUEST: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::TE,
    HeaderName::from_static("last-event-id"),
];
const MCP_PREFIX: &str = "mcp-";

/// Why a session does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRevived {
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    #[error("the MCP server did not answer in time")]
    TooSlow,
    #[error("the MCP server answered {0}")]
    Refused(StatusCode),
    /// It may take the same later.
    #[error("the MCP server is too busy, or has a fault: it answered {0}")]
    NotNow(StatusCode),
    #[error("what the MCP server says of itself could not be read")]
    Unreadable,
    #[error("the MCP server has no sessions any more")]
    NoSession,
    #[error("the MCP server is not what it was: another version, or other capabilities")]
    Changed,
}

impl NotRevived {
    /// Whether this server will say the same as long as it lives.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::NoSession | Self::Changed)
    }
}

/// The server's id of a new session that begins as `opening` says. `like` is the request for which it begins: what a client
/// says of itself there, and where it says it, it would have said then.
pub(super) async fn revive(
    server: &Server,
    opening: &Opening,
    like: &Parts,
) -> Result<HeaderValue, NotRevived> {
    let params = &opening.params;
    let initialize =
        format!(r#"{{"jsonrpc":"2.0","id":"patchbay","method":"initialize","params":{params}}}"#);
    let like = Like { uri: &like.uri, headers: headers_like(&like.headers) };
    let response = send(server, like.request(Method::POST, initialize)).await?;
    let own = response.headers().get(&SESSION_ID).cloned().ok_or(NotRevived::NoSession)?;
    let (response, said) = answer::read(response).await;
    tokio::spawn(finish(response));

    let like = like.within(&own, opening);
    let was = Said { version: opening.version.clone(), facts: opening.facts };
    let goes_on = match said {
        Some(said) if said == was => {
            send(server, like.request(Method::POST, INITIALIZED.to_owned())).await.map(drop)
        }
        Some(_) => Err(NotRevived::Changed),
        None => Err(NotRevived::Unreadable),
    };
    if goes_on.is_err() {
        // nobody will use it
        let _ = send(server, like.request(Method::DELETE, String::new())).await;
    }
    goes_on.map(|()| own)
}

/// Whether the server has a session, since there are other things that it may not find. It has where that stays unknown.
pub(super) async fn is_there(
    server: &Server,
    own: &HeaderValue,
    opening: &Opening,
    like: &Parts,
) -> bool {
    let like = Like { uri: &like.uri, headers: headers_like(&like.headers) }.within(own, opening);
    let sent = send(server, like.request(Method::POST, PING.to_owned())).await;
    !matches!(sent, Err(NotRevived::Refused(StatusCode::NOT_FOUND)))
}

async fn send(
    server: &Server,
    request: Request<RequestBody>,
) -> Result<Response<ServerBody>, NotRevived> {
    let sent = timeout(LIMIT, server.send(request)).await;
    let response = sent.map_err(|_| NotRevived::TooSlow)??;
    match response.status() {
        status if status.is_success() => Ok(response),
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            Err(NotRevived::NotNow(status))
        }
        status => Err(NotRevived::Refused(status)),
    }
}

/// What requests here have of the one for which they are made.
struct Like<'a> {
    uri: &'a Uri,
    headers: HeaderMap,
}

impl Like<'_> {
    /// In a session of the server.
    fn within(mut self, own: &HeaderValue, opening: &Opening) -> Self {
        self.headers.insert(SESSION_ID, own.clone());
        if let Ok(version) = HeaderValue::from_str(&opening.version) {
            self.headers.insert(VERSION, version);
        }
        self
    }

    fn request(&self, method: Method, text: String) -> Request<RequestBody> {
        let mut request = Request::new(Either::Right(Held::of(text)));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

fn headers_like(like: &HeaderMap) -> HeaderMap {
    let is_left = |name: &HeaderName| {
        !OF_THE_REQUEST.contains(name) && !name.as_str().starts_with(MCP_PREFIX)
    };
    let left = like.iter().filter(|(name, _)| is_left(name));
    let mut headers: HeaderMap = left.map(|(name, value)| (name.clone(), value.clone())).collect();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let both = HeaderValue::from_static("application/json, text/event-stream");
    headers.insert(header::ACCEPT, both);
    headers
}

/// An answer that is cut short may be taken for a client that went away.
async fn finish(response: Response<ServerBody>) {
    let _ = timeout(REST_LIMIT, response.into_body().collect()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_of_itself_what_it_says_always() {
        let mut like = HeaderMap::new();
        for (name, value) in [
            ("user-agent", "client/1"),
            ("x-own", "1"),
            ("accept", "text/event-stream"),
            ("content-length", "100"),
            ("mcp-session-id", "old"),
            ("mcp-protocol-version", "2025-06-18"),
            ("last-event-id", "7"),
        ] {
            like.insert(name, HeaderValue::from_static(value));
        }
        let headers = headers_like(&like);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "content-type", "user-agent", "x-own"]);
        assert_eq!(headers["accept"], "application/json, text/event-stream");
    }
}
