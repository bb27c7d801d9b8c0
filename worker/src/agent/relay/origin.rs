//! One of the two origins that the user's bearer is for, under both of its names: the real one, and
//! the plain-http one that the MCP server uses. Pure. It must not know requests or grants.

use http::uri::{Authority, PathAndQuery, Uri};
use patchbay_core::quilt::{origin_host, origin_port, plain_name};

/// The port of `https` where none is named.
const HTTPS_PORT: u16 = 443;
/// The port of `http` where none is named.
const HTTP_PORT: u16 = 80;

/// `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    host: String,
    port: u16,
    authority: Authority,
    plain_name: String,
}

/// The text is no https origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form https://host[:port]")]
pub(crate) struct InvalidOrigin(String);

impl Origin {
    /// Reads the form of a boot document.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(text.to_owned());
        let authority: Authority = text
            .strip_prefix("https://")
            .and_then(|authority| authority.parse().ok())
            .ok_or_else(invalid)?;
        let port = port_of(&authority).map_err(|InvalidPort| invalid())?.unwrap_or(HTTPS_PORT);
        if authority.host() != origin_host(text) || port != origin_port(text) {
            return Err(invalid());
        }
        Ok(Self {
            host: authority.host().to_owned(),
            port,
            authority,
            plain_name: plain_name(text),
        })
    }

    /// `host[:port]`, as requests to it name it.
    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// `http://host`, as the MCP server names it.
    pub(crate) fn plain_name(&self) -> &str {
        &self.plain_name
    }

    /// Whether the target of a plain http request is this origin's plain name.
    pub(crate) fn is_plainly(&self, host: &str, port: Option<u16>) -> bool {
        self.host.eq_ignore_ascii_case(host) && port.is_none_or(|port| port == HTTP_PORT)
    }

    /// The URL of a path of this origin.
    pub(crate) fn url(&self, path: Option<&PathAndQuery>) -> Result<Uri, http::Error> {
        let path = path.map_or("/", PathAndQuery::as_str);
        Uri::builder()
            .scheme("https")
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }

    /// What follows the origin in a URL of it: empty, or starting with `/`, `?` or `#`.
    pub(crate) fn rest_of<'a>(&self, url: &'a str) -> Option<&'a str> {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        let authority: Authority = authority.parse().ok()?;
        let port = port_of(&authority).ok()?.unwrap_or(HTTPS_PORT);
        let is_this = scheme.eq_ignore_ascii_case("https")
            && self.host.eq_ignore_ascii_case(authority.host())
            && self.port == port;
        is_this.then_some(rest)
    }
}

/// What stands behind an authority's host is no port; or something stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidPort;

/// The port that an authority names. The library's own reading takes a port out of range for none,
/// and user information for nothing.
pub(crate) fn port_of(authority: &Authority) -> Result<Option<u16>, InvalidPort> {
    match authority.as_str().strip_prefix(authority.host()) {
        Some("") => Ok(None),
        Some(port) => {
            let digits = port.strip_prefix(':').filter(|it| it.bytes().all(|c| c.is_ascii_digit()));
            digits.and_then(|it| it.parse().ok()).map(Some).ok_or(InvalidPort)
        }
        None => Err(InvalidPort),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    #[test]
    fn an_origin_is_read_whole_or_not_at_all() {
        let read = origin("https://[::1]:4443");
        assert_eq!((read.authority().as_str(), read.plain_name()), ("[::1]:4443", "http://[::1]"));
        assert_eq!(origin("https://a.example").port, 443);
        for bad in [
            "http://a.example",
            "https://",
            "https://a.example/",
            "https://a.example:0x1",
            "https://a.example:70000",
            "https://u@a.example",
            "a.example",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_plain_name_has_the_ports_of_plain_http() {
        let origin = origin("https://a.example:4443");
        assert!(origin.is_plainly("A.Example", None) && origin.is_plainly("a.example", Some(80)));
        assert!(!origin.is_plainly("a.example", Some(4443)));
        assert!(!origin.is_plainly("b.a.example", None));
    }

    #[test]
    fn only_its_own_urls_are_taken_apart() {
        let origin = origin("https://a.example");
        for (url, rest) in [
            ("https://a.example", ""),
            ("HTTPS://A.example:443/x?y#z", "/x?y#z"),
            ("https://a.example?y", "?y"),
        ] {
            assert_eq!(origin.rest_of(url), Some(rest), "{url}");
        }
        for url in [
            "http://a.example/",
            "https://a.example:444/",
            "https://a.example:99999/",
            "https://a.example.evil/",
            "https://a.example@evil/",
            "https://evil/https://a.example/",
            "/x",
            "",
        ] {
            assert_eq!(origin.rest_of(url), None, "{url}");
        }
    }

    #[test]
    fn a_path_stays_a_path() {
        let url = |path: &str| origin("https://a.example:4443").url(Some(&path.parse().unwrap()));
        assert_eq!(url("//evil.example/x?y").unwrap().host(), Some("a.example"));
        assert_eq!(url("/x?y").unwrap(), "https://a.example:4443/x?y");
    }
}
