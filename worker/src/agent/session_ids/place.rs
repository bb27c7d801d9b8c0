//! What a request has to do with sessions, by what is said outside of its body, and by what is said in it. It must not know
//! which sessions there are.

use super::SESSION_ID;
use crate::agent::stdio::{self, Kind, Message};
use http::{Method, request::Parts};
use patchbay_core::{link::FORWARD_PREFIX, session};

/// What an id that ends with its worker begins with: no other worker reads it.
const OF_THIS_WORKER: &str = "pbw1.";

/// What a request has to do with sessions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing, or nothing that can be read; or it names an id that was not made here, which the server judges.
    Elsewhere,
    /// It may begin one.
    Beginning,
    /// It is of this one.
    Session(String),
    /// It names two, or none that can be read.
    Unclear,
}

impl Place {
    /// Of a request, by what is said outside of its body.
    pub(super) fn of(parts: &Parts) -> Self {
        if parts.uri.path() != FORWARD_PREFIX || stdio::is_stateless(&parts.headers) {
            return Self::Elsewhere;
        }
        match stdio::only(&parts.headers, SESSION_ID.as_str()) {
            Err(_) => Self::Unclear,
            Ok(Some(id)) if session::is_sealed(id) || id.starts_with(OF_THIS_WORKER) => {
                Self::Session(id.to_owned())
            }
            Ok(None) if parts.method == Method::POST => Self::Beginning,
            Ok(_) => Self::Elsewhere,
        }
    }
}

/// An id that nobody can guess, of a session that ends with this worker; none without random numbers.
pub(super) fn id_of_this_worker() -> Option<String> {
    stdio::new_id().map(|id| format!("{OF_THIS_WORKER}{id}"))
}

/// What the message of a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// A request that the server made, or one that was made of it: of these a session that begins knows nothing.
    Past,
    /// That the session has begun.
    Beginning,
    /// Anything else, or nothing that can be read.
    Present,
}

impl About {
    /// Of a body.
    pub(super) fn of(text: &[u8]) -> Self {
        let message = std::str::from_utf8(text).ok().and_then(|text| Message::read(text).ok());
        match message.map(|message| message.kind) {
            Some(Kind::Response { .. }) => Self::Past,
            Some(Kind::Notification { method }) => match method.as_str() {
                "notifications/cancelled" | "notifications/progress" => Self::Past,
                "notifications/initialized" => Self::Beginning,
                _ => Self::Present,
            },
            Some(Kind::Request { .. }) | None => Self::Present,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn place(method: Method, path: &str, headers: &[(&'static str, &'static str)]) -> Place {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Place::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_session_is_named_once_at_the_endpoint_and_in_the_era_that_has_them() {
        let session = ("mcp-session-id", "pbs1.s");
        let at = FORWARD_PREFIX;
        assert_eq!(place(Method::POST, at, &[session]), Place::Session("pbs1.s".into()));
        assert_eq!(place(Method::GET, at, &[session]), Place::Session("pbs1.s".into()));
        assert_eq!(place(Method::POST, at, &[]), Place::Beginning);
        assert_eq!(place(Method::GET, at, &[]), Place::Elsewhere);
        assert_eq!(place(Method::POST, at, &[session, session]), Place::Unclear);
        let modern = ("mcp-protocol-version", "2026-07-28");
        for headers in [&[modern][..], &[modern, session]] {
            assert_eq!(place(Method::POST, at, headers), Place::Elsewhere);
        }
        assert_eq!(place(Method::POST, "/mcp-server/x", &[session]), Place::Elsewhere);
    }

    #[test]
    fn an_id_that_was_not_made_here_is_the_servers() {
        for id in ["s", "pbs2.s", "PBS1.s"] {
            let of = |method| place(method, FORWARD_PREFIX, &[("mcp-session-id", id)]);
            assert_eq!([of(Method::POST), of(Method::GET)], [Place::Elsewhere, Place::Elsewhere]);
        }
        let own: &'static str = id_of_this_worker().unwrap().leak();
        let place = place(Method::GET, FORWARD_PREFIX, &[("mcp-session-id", own)]);
        assert_eq!(place, Place::Session(own.to_owned()));
    }

    #[test]
    fn what_answers_cancels_or_tells_of_progress_is_about_the_past() {
        for (text, about) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, About::Past),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#, About::Past),
            (r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}"#, About::Past),
            (r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#, About::Past),
            (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, About::Beginning),
            (r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#, About::Present),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, About::Present),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call"}]"#, About::Present),
            ("", About::Present),
        ] {
            assert_eq!(About::of(text.as_bytes()), about, "{text}");
        }
        assert_eq!(About::of(b"\xff"), About::Present);
    }
}
