//! Whether a request was meant for this gateway: its `Host`, and the `Origin` of a browser.
//!
//! A browser page can make requests to any address, a loopback one included, under a host name that its
//! author controls (DNS rebinding). MCP therefore requires the `Origin` to be checked (403), and because
//! the worker is given another `Host` than the client sent, that is checked here too. This module must
//! not know routes or credentials.

use http::{HeaderMap, Uri, header, uri::Authority};
use std::collections::BTreeSet;

/// Why a request was not meant for this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForUs {
    /// No host, several, or none that this gateway answers to.
    #[error(
        "the Host of the request is not one that this gateway answers to; if it is reached under \
         this name on purpose, start it with --allowed-host"
    )]
    Host,
    /// A browser page of another site.
    #[error(
        "the Origin of the request is not allowed; if a browser page of this origin shall use the \
         gateway, start it with --allowed-origin"
    )]
    Origin,
}

/// The host that a request asked for, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedHost {
    /// The name or address alone; an IPv6 address keeps its brackets.
    pub name: String,
    /// With the port, where one was given.
    pub authority: String,
}

/// The names under which a gateway may be addressed.
#[derive(Debug, Clone, Default)]
pub struct AllowedNames {
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
}

impl AllowedNames {
    /// Loopback names, and further hosts (no port) and origins (`scheme://host[:port]`), any case.
    pub fn new(
        hosts: impl IntoIterator<Item = String>,
        origins: impl IntoIterator<Item = String>,
    ) -> Self {
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(String::from);
        Self {
            hosts: loopback.into_iter().chain(hosts).map(|h| h.to_ascii_lowercase()).collect(),
            origins: origins.into_iter().map(|o| o.to_ascii_lowercase()).collect(),
        }
    }

    /// Checks a request and returns the host that it asked for. `class_hosts` are the hosts that the
    /// routes are limited to.
    pub fn check<'a>(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        mut class_hosts: impl Iterator<Item = &'a str>,
    ) -> Result<RequestedHost, NotForUs> {
        let host = request_host(uri, headers).ok_or(NotForUs::Host)?;
        let is_known = self.hosts.contains(&host.name)
            || class_hosts.any(|class_host| class_host.eq_ignore_ascii_case(&host.name));
        if !is_known {
            return Err(NotForUs::Host);
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(host),
            (Some(origin), None) => {
                let origin = origin.to_str().map_err(|_| NotForUs::Origin)?.to_ascii_lowercase();
                if self.allows_origin(&origin, &host) { Ok(host) } else { Err(NotForUs::Origin) }
            }
            (Some(_), Some(_)) => Err(NotForUs::Origin),
        }
    }

    /// An origin is allowed by name, or if its host is one of this gateway's own, or the one that is asked (on any
    /// port: the pages of local development tools live on other ports of the same host). A class's host is so to
    /// pages of that host alone: whoever may name it decides for no other class.
    fn allows_origin(&self, origin: &str, asked: &RequestedHost) -> bool {
        if self.origins.contains(origin) {
            return true;
        }
        let Some(authority) =
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
        else {
            return false;
        };
        requested(authority)
            .is_some_and(|host| host.name == asked.name || self.hosts.contains(&host.name))
    }
}

/// HTTP/2 names the host in the URI, HTTP/1.1 in exactly one `Host` header. Where both are present they
/// must agree (RFC 9113, 8.3.1).
fn request_host(uri: &Uri, headers: &HeaderMap) -> Option<RequestedHost> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let header = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(requested(host.to_str().ok()?)?),
        (Some(_), Some(_)) => return None,
    };
    let target = match uri.authority() {
        None => None,
        Some(authority) => Some(requested(authority.as_str())?),
    };
    match (header, target) {
        (Some(header), Some(target)) => (header == target).then_some(header),
        (header, target) => header.or(target),
    }
}

/// Reads `host[:port]`. User info, paths and garbage are no host.
fn requested(authority: &str) -> Option<RequestedHost> {
    let parsed: Authority = authority.parse().ok()?;
    (!parsed.as_str().contains('@')).then(|| RequestedHost {
        name: parsed.host().to_ascii_lowercase(),
        authority: parsed.as_str().to_ascii_lowercase(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check(names: &AllowedNames, headers: &[(&str, &str)]) -> Result<String, NotForUs> {
        Ok(check_host(names, headers)?.name)
    }

    fn check_host(
        names: &AllowedNames,
        headers: &[(&str, &str)],
    ) -> Result<RequestedHost, NotForUs> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                http::HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        names.check(&Uri::from_static("/mcp"), &map, ["class.example"].into_iter())
    }

    #[test]
    fn loopback_names_and_class_hosts_are_ours_on_any_port() {
        let names = AllowedNames::new([], []);
        for (host, parsed) in [
            ("localhost:8080", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("CLASS.example", "class.example"),
        ] {
            assert_eq!(check(&names, &[("host", host)]).as_deref(), Ok(parsed));
        }
    }

    #[test]
    fn a_rebound_or_doubtful_host_is_refused() {
        let names = AllowedNames::new([], []);
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1@evil", "user@localhost", ""]
        {
            assert_eq!(check(&names, &[("host", host)]), Err(NotForUs::Host), "{host}");
        }
        assert_eq!(check(&names, &[]), Err(NotForUs::Host));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(check(&names, &two), Err(NotForUs::Host));
    }

    #[test]
    fn a_host_header_that_contradicts_the_target_is_refused() {
        let names = AllowedNames::new([], []);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        let target = Uri::from_static("http://127.0.0.1/mcp");
        assert_eq!(names.check(&target, &headers, [].into_iter()), Err(NotForUs::Host));
    }

    #[test]
    fn a_browser_page_of_another_site_is_refused() {
        let names = AllowedNames::new([], ["https://app.example".to_owned()]);
        let with = |origin| check(&names, &[("host", "localhost:8080"), ("origin", origin)]);
        assert!(with("http://localhost:6274").is_ok());
        assert!(with("https://APP.example").is_ok());
        for bad in ["https://evil.example", "null", "http://localhost.evil.example", "file://"] {
            assert_eq!(with(bad), Err(NotForUs::Origin), "{bad}");
        }
    }

    #[test]
    fn a_page_of_a_classs_host_may_ask_that_class_and_no_other() {
        let names = AllowedNames::new([], []);
        let page = ("origin", "https://class.example");
        assert!(check(&names, &[("host", "class.example:8443"), page]).is_ok());
        assert_eq!(check(&names, &[("host", "localhost"), page]), Err(NotForUs::Origin));
        // a name that is led here by somebody else is refused before its pages are
        let rebound = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert_eq!(check(&names, &rebound), Err(NotForUs::Host));
    }
}
