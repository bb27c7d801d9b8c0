//! What fuzz targets are given: the relay's decision about a request of the MCP server, as a value.
//!
//! It turns bytes that look like the head of a request into where the relay would take it. It must not judge that.

use super::request::{Authorization, Destinations, Route, Target, decide};
use crate::agent::held_grant::StandIn;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use patchbay_core::{
    boot::{RelayBoot, RelayCatalog},
    class::HostPort,
};

/// What the MCP server holds in the place of a bearer.
pub const STAND_IN: &str = "stand-in";
/// The catalog's host and the registry's.
pub const ORIGINS: [&str; 2] = ["catalog.example", "registry.example"];
/// What is reached by plain http.
pub const PLAIN: [(&str, u16); 2] = [("plain.example", 80), ("127.0.0.2", 5000)];
/// What is reached by a tunnel.
pub const TUNNEL: [(&str, u16); 2] = [("api.example", 443), ("::1", 6000)];

/// A request, as far as it is one.
#[derive(Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub target: Uri,
    /// Its headers.
    pub headers: HeaderMap,
}

/// Where the relay takes it.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// To the catalog or the registry, with the user's bearer or without one.
    Originated {
        /// The host.
        host: String,
        /// Whether the bearer goes along.
        with_bearer: bool,
    },
    /// It is answered with AWS keys.
    Keys,
    /// Somewhere by plain http.
    Plain(String, u16),
    /// Somewhere through a tunnel.
    Tunnel(String, u16),
    /// Nowhere.
    Refused,
}

/// Reads `METHOD TARGET` and lines of `NAME: VALUE`; none where HTTP would not let it come so far.
pub fn read(head: &[u8]) -> Option<Request> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, target) = split(lines.next()?, b' ')?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = split(line, b':')?;
        let name = HeaderName::from_bytes(name).ok()?;
        headers.append(name, HeaderValue::from_bytes(value.trim_ascii()).ok()?);
    }
    Some(Request {
        method: Method::from_bytes(method).ok()?,
        target: Uri::try_from(target).ok()?,
        headers,
    })
}

fn split(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = line.iter().position(|byte| *byte == at)?;
    Some((&line[..index], &line[index + 1..]))
}

/// Where the relay of a class with all of these takes a request, before there is a grant or while there is one.
pub fn relay(request: &Request, has_grant: bool) -> Taken {
    let listed = |plain_http| {
        move |&(host, port): &(&str, u16)| HostPort { host: host.to_owned(), port, plain_http }
    };
    let [catalog, registry] = ORIGINS.map(|host| format!("https://{host}"));
    let boot = RelayBoot {
        hosts: PLAIN.iter().map(listed(true)).chain(TUNNEL.iter().map(listed(false))).collect(),
        catalog: Some(RelayCatalog { origin: catalog, registry, ca_bundle: None }),
        aws_keys: true,
        via: None,
    };
    let Ok(destinations) = Destinations::new(&boot) else { return Taken::Refused };
    let stand_in = has_grant.then(|| StandIn::new(STAND_IN));
    let Request { method, target, headers } = request;
    match decide(method, target, headers, &destinations, stand_in.as_ref()) {
        Route::Originate(origin, authorization) => Taken::Originated {
            host: origin.authority().host().to_owned(),
            with_bearer: authorization == Authorization::Swap,
        },
        Route::Keys(_) => Taken::Keys,
        Route::Plain(Target { host, port }) => Taken::Plain(host, port),
        Route::Tunnel(Target { host, port }) => Taken::Tunnel(host, port),
        Route::Refuse(_) => Taken::Refused,
    }
}
