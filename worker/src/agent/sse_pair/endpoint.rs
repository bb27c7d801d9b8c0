//! Where a server of the transport of 2024 wants to be sent messages, in words that lead there from outside too.
//!
//! The server names a path of its own, or a URL at the address that it is spoken to at. Its client holds that against the
//! URL that it asked: on a gateway, an absolute path would lead past the class. So it is told a reference relative to what
//! it asked, which needs nobody to know the public address. Pure.

use crate::agent::location;
use http::HeaderValue;
use patchbay_core::link::forward_path;

/// An endpoint for messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// For the client: relative to what it asked.
    pub(super) reference: String,
    /// The path and query with which a message to it comes over the link.
    pub(super) on_link: String,
}

impl Endpoint {
    /// What a server whose endpoint is `path` at `authority` has `named` in its answer to `asked`, the rest of a path that
    /// was forwarded. None where it is not the server's own endpoint, or no reference leads there.
    pub(crate) fn of(
        named: &str,
        asked: &str,
        authority: &HeaderValue,
        path: &str,
    ) -> Option<Self> {
        let depth = depth(asked)?;
        let asked = format!("{}{asked}", path.trim_end_matches('/'));
        let absolute = absolute(named, &asked);
        let (rest, query) = location::own(&absolute, authority, path)?;
        // the endpoint itself is below nothing: its name in the public address is not known here
        let below = rest.strip_prefix('/')?;
        let mut reference = "../".repeat(depth);
        let first = below.split('/').next().unwrap_or_default();
        if depth == 0 && (first.is_empty() || first.contains(':')) {
            // without it, this would be no path, or a URL of another scheme
            reference.push_str("./");
        }
        reference.push_str(below);
        if let Some(query) = &query {
            reference.push('?');
            reference.push_str(query);
        }
        Some(Self { reference, on_link: forward_path(&rest, query.as_deref()) })
    }
}

/// How many folders below the class's own path this is; none where clients may not agree on that.
fn depth(asked: &str) -> Option<usize> {
    let mut segments = asked.strip_prefix('/')?.split('/');
    segments.next_back()?;
    let folders: Vec<&str> = segments.collect();
    let is_clear = !location::has_detours(asked) && folders.iter().all(|it| !it.is_empty());
    is_clear.then_some(folders.len())
}

/// What is named, as a path from the server's root, or as the URL that it is.
fn absolute(named: &str, asked: &str) -> String {
    let first = named.split(['/', '?', '#']).next().unwrap_or_default();
    match named.as_bytes().first() {
        None | Some(b'/' | b'\\' | b'#') => named.to_owned(),
        Some(b'?') => format!("{asked}{named}"),
        Some(_) if first.contains(':') => named.to_owned(),
        Some(_) => {
            let folder = asked.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{named}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(named: &str, asked: &str, path: &str) -> Option<(String, String)> {
        let authority = HeaderValue::from_static("127.0.0.1:8000");
        let found = Endpoint::of(named, asked, &authority, path);
        found.map(|it| (it.reference, it.on_link))
    }

    #[test]
    fn a_client_is_led_from_what_it_asked_to_where_the_server_wants_it() {
        for (named, asked, path, reference, rest) in [
            (
                "/messages/?session_id=a",
                "/sse",
                "/",
                "messages/?session_id=a",
                "/messages/?session_id=a",
            ),
            ("http://127.0.0.1:8000/messages?s=a", "/sse", "/", "messages?s=a", "/messages?s=a"),
            ("/messages", "/a/b/sse", "/", "../../messages", "/messages"),
            ("/a/b/messages", "/a/b/sse", "/", "../../a/b/messages", "/a/b/messages"),
            ("/messages", "/sse/", "/", "../messages", "/messages"),
            ("/messages", "/", "/", "messages", "/messages"),
            ("/mcp/messages?s=a/../b", "/sse", "/mcp", "messages?s=a/../b", "/messages?s=a/../b"),
            ("/mcp/messages", "/sse", "/mcp/", "messages", "/messages"),
            // it is relative already
            ("messages?s=a", "/x/sse", "/", "../x/messages?s=a", "/x/messages?s=a"),
            ("?s=a", "/sse", "/", "sse?s=a", "/sse?s=a"),
            // what could be read as something else than a path
            ("/a:b/c", "/sse", "/", "./a:b/c", "/a:b/c"),
            ("/?s=a", "/sse", "/", "./?s=a", "/?s=a"),
        ] {
            let expected = (reference.to_owned(), format!("/mcp-server{rest}"));
            assert_eq!(endpoint(named, asked, path), Some(expected), "{named} from {asked}");
        }
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        for named in [
            "https://127.0.0.1:8000/mcp/messages",
            "http://127.0.0.1:8001/mcp/messages",
            "http://evil.example/mcp/messages",
            "http://user@127.0.0.1:8000/mcp/messages",
            "//evil.example/mcp/messages",
            "/\\evil.example/mcp/messages",
            "\\\\evil.example",
            "javascript:alert(1)",
            "/messages",
            "/mcpx/messages",
            "/mcp/../messages",
            "/mcp/a/%2E%2e/%2e./messages",
            "/mcp/..\\..\\messages",
            "/mcp//evil.example",
            "../messages",
            "#x",
            "",
            "a b",
            "/mcp/a\tb",
        ] {
            assert_eq!(endpoint(named, "/sse", "/mcp"), None, "{named}");
        }
        // the endpoint's own name is not known
        assert_eq!(endpoint("/mcp?s=a", "/sse", "/mcp"), None);
        assert_eq!(endpoint("/mcp/messages", "", "/mcp"), None);
        // where clients may not agree how deep they are
        for asked in ["/a/../sse", "//sse", "/a//sse", "/a/%2e%2e/sse"] {
            assert_eq!(endpoint("/messages", asked, "/"), None, "{asked}");
        }
    }
}
