//! Begins a session of the server as an earlier one began: `initialize` with the same parameters, and what follows it. It
//! goes on only if the server says of itself what that one said. It must not know ids of clients.

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
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either};
use patchbay_core::{link::FORWARD_PREFIX, session::Opening};
use std::time::Duration;
use tokio::time::timeout;

/// A server has this long for each of the two.
const LIMIT: Duration = Duration::from_secs(30);
/// What is left of an answer has this long to come to its end.
const REST_LIMIT: Duration = Duration::from_secs(10);

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
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
    #[error("the MCP server has no sessions any more")]
    NoSession,
    #[error("the MCP server is not what it was: another version, or other capabilities")]
    Changed,
}

/// The server's id of a new session that begins as `opening` says. `like` are the headers of the request for which it
/// begins: what a client says of itself there, it would have said then.
pub(super) async fn revive(
    server: &Server,
    opening: &Opening,
    like: &HeaderMap,
) -> Result<HeaderValue, NotRevived> {
    let params = &opening.params;
    let initialize =
        format!(r#"{{"jsonrpc":"2.0","id":"patchbay","method":"initialize","params":{params}}}"#);
    let headers = headers_like(like);
    let response = send(server, request(Method::POST, headers.clone(), initialize)).await?;
    let own = response.headers().get(&SESSION_ID).cloned().ok_or(NotRevived::NoSession)?;
    let (response, said) = answer::read(response).await;
    tokio::spawn(finish(response));

    let mut headers = headers;
    headers.insert(SESSION_ID, own.clone());
    if let Ok(version) = HeaderValue::from_str(&opening.version) {
        headers.insert(VERSION, version);
    }
    let was = Said { version: opening.version.clone(), facts: opening.facts };
    if said != Some(was) {
        // nobody will use it
        let _ = send(server, request(Method::DELETE, headers, String::new())).await;
        return Err(NotRevived::Changed);
    }
    send(server, request(Method::POST, headers, INITIALIZED.to_owned())).await?;
    Ok(own)
}

async fn send(
    server: &Server,
    request: Request<RequestBody>,
) -> Result<Response<ServerBody>, NotRevived> {
    let sent = timeout(LIMIT, server.send(request)).await;
    let response = sent.map_err(|_| NotRevived::TooSlow)??;
    let status = response.status();
    if status.is_success() { Ok(response) } else { Err(NotRevived::Refused(status)) }
}

fn request(method: Method, headers: HeaderMap, text: String) -> Request<RequestBody> {
    let mut request = Request::new(Either::Right(Held::of(text)));
    *request.method_mut() = method;
    *request.uri_mut() = http::Uri::from_static(FORWARD_PREFIX);
    *request.headers_mut() = headers;
    request
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
