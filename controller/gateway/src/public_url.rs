//! How clients address a gateway: what documents and challenges tell them of a resource is said from there. It must not
//! know routes or credentials.

use crate::origin::RequestedHost;
use http::{
    Uri,
    uri::{Authority, Scheme},
};
use std::str::FromStr;

/// How clients address a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicUrl {
    /// By this URL: something in front of the gateway has another name.
    Fixed {
        /// `https`, or `http`.
        scheme: Scheme,
        /// `host[:port]`.
        authority: Authority,
    },
    /// Directly, without TLS.
    Http,
    /// Directly, with TLS.
    Https,
}

/// A URL that is not the beginning of those of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be https://HOST[:PORT], without a path")]
pub struct NotABase;

impl FromStr for PublicUrl {
    type Err = NotABase;

    fn from_str(url: &str) -> Result<Self, NotABase> {
        let parts = url.parse::<Uri>().map_err(|_| NotABase)?.into_parts();
        let (scheme, authority) = parts.scheme.zip(parts.authority).ok_or(NotABase)?;
        let is_web = scheme == Scheme::HTTPS || scheme == Scheme::HTTP;
        let is_whole = format!("{scheme}://{authority}") == url;
        if !is_web || !is_whole || authority.as_str().contains('@') {
            return Err(NotABase);
        }
        Ok(Self::Fixed { scheme, authority })
    }
}

impl PublicUrl {
    /// What comes before the path of a class, in URLs for clients: as configured, else as this one has asked for it.
    /// One that is limited to a host is reached by no other name, whatever the gateway is called.
    pub(crate) fn base(&self, class_host: Option<&str>, requested: &RequestedHost) -> String {
        match self {
            Self::Fixed { scheme, authority } => match (class_host, authority.port()) {
                (None, _) => format!("{scheme}://{authority}"),
                (Some(host), None) => format!("{scheme}://{host}"),
                (Some(host), Some(port)) => format!("{scheme}://{host}:{port}"),
            },
            Self::Http => format!("http://{}", requested.authority),
            Self::Https => format!("https://{}", requested.authority),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(name: &str, authority: &str) -> RequestedHost {
        RequestedHost { name: name.into(), authority: authority.into() }
    }

    #[test]
    fn a_class_with_a_host_is_addressed_by_that_whatever_the_gateway_is_called() {
        let inside = requested("b.example", "b.example:8080");
        for (url, its_own, another) in [
            ("https://a.example", "https://b.example", "https://a.example"),
            ("https://a.example:8443", "https://b.example:8443", "https://a.example:8443"),
            ("http://[::1]:80", "http://b.example:80", "http://[::1]:80"),
        ] {
            let public: PublicUrl = url.parse().unwrap();
            assert_eq!(public.base(Some("b.example"), &inside), its_own, "{url}");
            assert_eq!(public.base(None, &inside), another, "{url}");
        }
    }

    #[test]
    fn without_a_url_a_client_is_told_what_it_asked_for() {
        let asked = requested("b.example", "b.example:8080");
        for class_host in [None, Some("b.example")] {
            assert_eq!(PublicUrl::Http.base(class_host, &asked), "http://b.example:8080");
            assert_eq!(PublicUrl::Https.base(class_host, &asked), "https://b.example:8080");
        }
    }

    #[test]
    fn what_has_more_than_a_host_and_a_port_or_less_is_no_base() {
        for url in [
            "https://a.example/",
            "https://a.example/mcp",
            "https://a.example?x",
            "https://me@a.example",
            "https://",
            "ftp://a.example",
            "a.example",
            "",
        ] {
            assert_eq!(url.parse::<PublicUrl>(), Err(NotABase), "{url}");
        }
    }
}
