//! Where a response of the MCP server points: to itself, in words that the gateway can turn into its own, or
//! nowhere.
//!
//! A server redirects to the address that it is spoken to at, which means nothing outside its worker, or
//! something else. And a client that follows a redirect may take its credentials along: what the server
//! has never seen, it could have sent wherever it likes. Pure; it must not know the public address.

use http::{HeaderMap, HeaderValue, Uri, header};
use patchbay_core::link::forward_path;

/// Turns `Location` into a path of the link, where it leads to the server's own endpoint, and removes it
/// otherwise. Returns whether it was removed.
pub(crate) fn confine(headers: &mut HeaderMap, authority: &HeaderValue, endpoint: &str) -> bool {
    let mut values = headers.get_all(header::LOCATION).iter();
    let Some(first) = values.next() else {
        return false;
    };
    let is_only = values.next().is_none();
    let own = first.to_str().ok().and_then(|location| own_path(location, authority, endpoint));
    let own = own.and_then(|path| HeaderValue::from_str(&path).ok()).filter(|_| is_only);
    headers.remove(header::LOCATION);
    let is_removed = own.is_none();
    headers.extend(own.map(|path| (header::LOCATION, path)));
    is_removed
}

/// The link's path for a location below the server's endpoint.
fn own_path(location: &str, authority: &HeaderValue, endpoint: &str) -> Option<String> {
    let (rest, query) = own(location, authority, endpoint)?;
    Some(forward_path(&rest, query.as_deref()))
}

/// What a location below the server's endpoint says behind that: the rest of the path, and the query.
pub(crate) fn own(
    location: &str,
    authority: &HeaderValue,
    endpoint: &str,
) -> Option<(String, Option<String>)> {
    let uri: Uri = location.parse().ok()?;
    let is_own = match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(named)) => *authority == *named.as_str(),
        // a path; two slashes would name a host
        (None, None) => location.starts_with('/') && !location.starts_with("//"),
        _ => false,
    };
    let rest = uri.path().strip_prefix(endpoint.trim_end_matches('/')).filter(|_| is_own)?;
    let is_below = is_below(rest) && !has_detours(rest);
    is_below.then(|| (rest.to_owned(), uri.query().map(str::to_owned)))
}

/// Whether a path has segments that clients resolve: they could lead out of what it begins with.
pub(crate) fn has_detours(path: &str) -> bool {
    path.split(['/', '\\'])
        .any(|segment| matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | ".."))
}

/// Whether this continues a path, and could not be read as the name of a host.
fn is_below(rest: &str) -> bool {
    let mut bytes = rest.bytes();
    match bytes.next() {
        None => true,
        Some(b'/') => !matches!(bytes.next(), Some(b'/' | b'\\')),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confined(location: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_str(location).unwrap());
        let authority = HeaderValue::from_static("127.0.0.1:8000");
        let is_removed = confine(&mut headers, &authority, "/mcp");
        let left = headers.get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(is_removed, left.is_none());
        left
    }

    #[test]
    fn the_servers_own_endpoint_becomes_a_path_of_the_link() {
        for (location, rest, query) in [
            ("http://127.0.0.1:8000/mcp", "", None),
            ("http://127.0.0.1:8000/mcp/a?b=c", "/a", Some("b=c")),
            ("/mcp", "", None),
            ("/mcp/", "/", None),
        ] {
            assert_eq!(confined(location), Some(forward_path(rest, query)), "{location}");
        }
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        for location in [
            "http://127.0.0.1:8000/other",
            "http://127.0.0.1:8000/mcpx",
            "/mcp//evil.example",
            "/mcp/\\evil.example",
            "/mcp/../other",
            "/mcp/a/%2E./..\\other",
            "http://127.0.0.1:8000/mcp/./x",
            "http://127.0.0.1:8001/mcp",
            "http://user@127.0.0.1:8000/mcp",
            "https://127.0.0.1:8000/mcp",
            "https://evil.example/mcp",
            "//evil.example/mcp",
            "/\\evil.example/mcp",
            "mcp",
            "?x",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(confined(location), None, "{location}");
        }
    }

    #[test]
    fn of_two_locations_neither_is_followed() {
        let mut headers = HeaderMap::new();
        headers.append(header::LOCATION, HeaderValue::from_static("/mcp"));
        headers.append(header::LOCATION, HeaderValue::from_static("https://evil.example"));
        assert!(confine(&mut headers, &HeaderValue::from_static("127.0.0.1:8000"), "/mcp"));
        assert!(headers.is_empty());
        assert!(!confine(&mut headers, &HeaderValue::from_static("127.0.0.1:8000"), "/mcp"));
    }
}
