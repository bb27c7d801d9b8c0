//! Host names, origins and paths, each in the one spelling that later comparisons rely on.
//!
//! Routes, relays and tenants' names compare these texts byte by byte, so what has two spellings is
//! refused here. This module must not know which field a text is from.

use super::Problem;
use std::net::{IpAddr, Ipv6Addr};

fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_edge = |c: Option<u8>| c.is_some_and(|c| c != b'-');
        matches!(label.len(), 1..=63)
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && is_edge(label.bytes().next())
            && is_edge(label.bytes().next_back())
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A host that is all digits and dots is an address or nothing: no resolver may see `127.1`.
fn looks_numeric(text: &str) -> bool {
    text.rsplit('.').next().is_some_and(|label| {
        label.starts_with(|c: char| c.is_ascii_digit()) && {
            label.bytes().all(|c| c.is_ascii_digit()) || label.starts_with("0x")
        }
    })
}

/// A DNS name (RFC 1123) in lower case, without a final dot.
pub fn dns_name(text: &str) -> Result<(), Problem> {
    if is_dns_name(text) && !looks_numeric(text) {
        return Ok(());
    }
    Err(Problem::with(
        text,
        "is not a host name",
        "write a lower-case DNS name without scheme, port or final dot, such as `mcp.example.com`",
    ))
}

/// A DNS name, or an IP address in its canonical form.
pub fn host(text: &str) -> Result<(), Problem> {
    if text.contains('*') {
        return Err(Problem::with(text, "is a wildcard", "list each host by its own name"));
    }
    let is_address = text.parse::<IpAddr>().is_ok_and(|address| address.to_string() == text);
    if is_address || dns_name(text).is_ok() {
        return Ok(());
    }
    Err(Problem::with(
        text,
        "is not a host",
        "write a lower-case DNS name, or an IP address without brackets, without scheme and port",
    ))
}

/// An origin (RFC 6454): `https://host[:port]`, lower case, without a path and without the default
/// port.
pub fn origin(text: &str) -> Result<(), Problem> {
    let fix = "write `https://`, a lower-case host and, where it is not 443, a port: no path, no \
               final slash";
    let Some(authority) = text.strip_prefix("https://") else {
        return Err(Problem::with(text, "is not an https origin", fix));
    };
    let is_valid = split_port(authority).is_some_and(|(is_host, port)| {
        let is_port = |port: &str| {
            port.parse::<u16>().is_ok_and(|number| {
                number.to_string() == port && !matches!(number, 0 | DEFAULT_PORT)
            })
        };
        is_host && port.is_none_or(is_port)
    });
    if is_valid {
        return Ok(());
    }
    Err(Problem::with(text, "is not an origin", fix))
}

/// An https URL: an origin and a path, without query or fragment.
pub fn https_url(text: &str) -> Result<(), Problem> {
    let rest = text.strip_prefix("https://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = path.bytes().all(|c| c.is_ascii_graphic() && !b"?#\\\"<>".contains(&c));
    if !path.is_empty() && is_plain && origin(&format!("https://{authority}")).is_ok() {
        return Ok(());
    }
    let fix = "write an https URL with a path, without query, fragment and the default port";
    Err(Problem::with(text, "is not an https URL", fix))
}

/// An authorization server as it names itself (RFC 8414): an https URL whose path may be missing, and whose default port
/// may be written, since clients compare it.
pub fn authorization_server(text: &str) -> Result<(), Problem> {
    let rest = text.strip_prefix("https://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let bare = authority.strip_suffix(":443").unwrap_or(authority);
    let spelt = format!("https://{bare}{path}");
    if origin(&spelt).is_ok() || https_url(&spelt).is_ok() {
        return Ok(());
    }
    let fix = "write an https URL without query and fragment, as the server's own metadata names \
               its `issuer`";
    Err(Problem::with(text, "is not an https URL", fix))
}

const DEFAULT_PORT: u16 = 443;

/// Whether the host before the port is one, and the port, if any.
fn split_port(authority: &str) -> Option<(bool, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (text, rest) = rest.split_once(']')?;
        let is_address = text.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string() == text);
        return match rest {
            "" => Some((is_address, None)),
            port => Some((is_address, Some(port.strip_prefix(':')?))),
        };
    }
    let (name, port) = match authority.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (authority, None),
    };
    Some((host(name).is_ok(), port))
}

/// The path of a route: whole segments, so that a prefix of it is a prefix of segments.
pub fn route_path(text: &str) -> Result<(), Problem> {
    let fix = "write a path such as `/mcp`";
    server_path(text)?;
    if text.ends_with('/') {
        return Err(Problem::with(text, "ends in `/`", fix));
    }
    if text.contains("//") {
        return Err(Problem::with(text, "contains `//`", fix));
    }
    if text == "/.well-known" || text.starts_with("/.well-known/") {
        return Err(Problem::with(text, "is where the gateway's own metadata is served", fix));
    }
    Ok(())
}

/// A path on the MCP server, which has its own idea of final slashes.
pub fn server_path(text: &str) -> Result<(), Problem> {
    let fix = "write a path such as `/mcp`";
    if !text.starts_with('/') {
        return Err(Problem::with(text, "does not start with `/`", fix));
    }
    if let Some(wrong) =
        text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '%' | '\\'))
    {
        let problem = format!("contains `{}`", wrong.escape_debug());
        return Err(Problem::with(text, problem, fix));
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Problem::with(text, "contains `.` or `..` as a segment", fix));
    }
    Ok(())
}

/// An absolute path of this machine, in one spelling.
pub fn file_path(text: &str) -> Result<(), Problem> {
    let fix = "write an absolute path such as `/opt/server`";
    if !text.starts_with('/') {
        return Err(Problem::with(text, "is not an absolute path", fix));
    }
    if text.contains('\0') {
        return Err(Problem::with(text, "contains a zero byte", fix));
    }
    let mut segments = text.split('/').skip(1);
    if segments.any(|segment| matches!(segment, "." | "..")) {
        return Err(Problem::with(text, "contains `.` or `..` as a segment", fix));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_have_one_spelling() {
        for good in ["a", "localhost", "mcp.example.com", "x-1.y", "1a.example", "0a"] {
            assert_eq!(dns_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "A",
            "a_b",
            "-a",
            "a-",
            "a:1",
            "a/b",
            "https://a",
            "a b",
            "é",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f",
            &"a".repeat(64),
            &"a.".repeat(127).repeat(2),
        ] {
            assert!(dns_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_may_be_an_address_in_canonical_form() {
        for good in ["10.0.0.1", "::1", "fd00::1", "s3.example"] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        for bad in ["[::1]", "0:0:0:0:0:0:0:1", "FD00::1", "010.0.0.1", "127.1", "h:443"] {
            assert!(host(bad).is_err(), "{bad}");
        }
        let wildcard = host("*.example.com").unwrap_err();
        assert!(wildcard.problem.contains("wildcard"), "{wildcard}");
    }

    #[test]
    fn key_sets_are_fetched_from_https_urls_alone() {
        for good in ["https://i.example/jwks.json", "https://127.0.0.2:4443/.well-known/jwks.json"]
        {
            assert_eq!(https_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "https://i.example",
            "http://i.example/jwks",
            "https://u@i.example/jwks",
            "https://i.example/jwks?a",
            "https://i.example/jwks#a",
            "https://i.example/j wks",
            "https:///jwks",
        ] {
            assert!(https_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_authorization_server_is_named_as_it_names_itself() {
        for good in [
            "https://login.example",
            "https://login.example/",
            "https://login.example:443",
            "https://login.example:443/tenant",
            "https://login.example:8443/tenant/",
            "https://[::1]:443",
        ] {
            assert_eq!(authorization_server(good), Ok(()), "{good}");
        }
        for bad in [
            "http://login.example",
            "https://",
            "https://:443",
            "https://login.example:443:443",
            "https://login.example:0",
            "https://Login.example",
            "https://login.example?a=b",
            "https://login.example/#a",
            "login.example:443",
        ] {
            assert!(authorization_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_have_one_spelling() {
        for good in [
            "https://a.example",
            "https://a.example:8443",
            "https://127.0.0.2:9000",
            "https://[::1]",
            "https://[::1]:8443",
        ] {
            assert_eq!(origin(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "http://a.example",
            "HTTPS://a.example",
            "https://",
            "https://A.example",
            "https://a.example/",
            "https://a.example/x",
            "https://a.example?x",
            "https://u@a.example",
            "https://a.example:",
            "https://a.example:443",
            "https://a.example:0",
            "https://a.example:08443",
            "https://a.example:+1",
            "https://a.example:65536",
            "https://::1",
            "https://[::1",
            "https://[::1]8443",
            "https://[::1]:",
            "https://[a.example]",
            "https://*.example",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_route_is_whole_segments() {
        for good in ["/mcp", "/a/b", "/.hidden", "/.well-known-not", "/a.b/c~d"] {
            assert_eq!(route_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "mcp",
            "/",
            "/mcp/",
            "/a//b",
            "/a?b",
            "/a#b",
            "/a%2f",
            "/a b",
            "/é",
            "/a/../b",
            "/.",
            "/a\\b",
            "/.well-known",
            "/.well-known/x",
        ] {
            assert!(route_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_may_end_its_path_in_a_slash() {
        assert_eq!(server_path("/mcp/"), Ok(()));
        assert_eq!(server_path("/"), Ok(()));
        assert!(server_path("/mcp?x").is_err());
    }

    #[test]
    fn file_paths_are_absolute_and_plain() {
        assert_eq!(file_path("/opt/a b/é"), Ok(()));
        for bad in ["", "opt", "~/x", "/a/../b", "/a/.", "/a\0b"] {
            assert!(file_path(bad).is_err(), "{bad:?}");
        }
    }
}
