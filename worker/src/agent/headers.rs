//! Which headers pass between the link and the MCP server, and whom a request says it is for.
//!
//! The gateway strips credentials too; this is the second lock on the same door. It must not know
//! what the MCP headers say, save the one that tells calls from streams.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use patchbay_core::{
    id::{Epoch, TenantUid},
    idle::Weight,
    latch::Claim,
    link::{EPOCH_HEADER, HEADER_PREFIX, REQUEST_ID_HEADER, TENANT_HEADER},
};

/// Headers of one connection, not of the message (RFC 9110, 7.6.1); `transfer-encoding` too, since
/// each hop frames anew.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::EXPECT,
];

/// What an MCP server never sees of a client: its credentials, and the names that the gateway has
/// already checked.
const NEVER_TO_SERVER: [HeaderName; 5] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    header::COOKIE,
    header::ORIGIN,
    header::HOST,
];

const PROXY_PREFIX: &str = "proxy-";

/// The modern era's header that names a message's method.
const MCP_METHOD: &str = "mcp-method";

/// Whom a request names; none unless both headers are there exactly once and well-formed.
pub(crate) fn claim(headers: &HeaderMap) -> Option<Claim> {
    let tenant = TenantUid::parse(only(headers, TENANT_HEADER)?).ok()?;
    let epoch = only(headers, EPOCH_HEADER)?;
    // `parse` alone would take a sign
    let is_decimal = epoch.bytes().all(|byte| byte.is_ascii_digit());
    let epoch = is_decimal.then(|| epoch.parse().ok())??;
    Some(Claim { tenant, epoch: Epoch(epoch) })
}

/// The gateway's id for a request.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(REQUEST_ID_HEADER)?.to_str().ok()
}

/// Whether a request is a call or waits for events.
pub(crate) fn weight(method: &Method, headers: &HeaderMap) -> Weight {
    Weight::of(method.as_str(), only(headers, MCP_METHOD))
}

/// Removes what must not reach the MCP server. Where the caller takes trailers the agent asks for
/// them too: it passes them on, but a server sends them only to who asks (RFC 9110, 6.5.1).
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    let takes_trailers = only(headers, header::TE.as_str()) == Some("trailers");
    strip_hop_by_hop(headers);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    for name in &NEVER_TO_SERVER {
        headers.remove(name);
    }
    remove_where(headers, |name| name.starts_with(HEADER_PREFIX) || name.starts_with(PROXY_PREFIX));
}

/// Removes what belongs to the connection to the MCP server, and what only the agent may say.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove_where(headers, |name| name.starts_with(HEADER_PREFIX));
}

/// Removes what belongs to a connection or its proxy: for messages that the relay passes on as they
/// are.
pub(crate) fn strip_through_proxy(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove_where(headers, |name| name.starts_with(PROXY_PREFIX));
}

/// Removes what one of the catalog's origins must not see of the MCP server: what it says of
/// itself, credentials above all. The user's is put in afterwards.
pub(crate) fn strip_to_origin(headers: &mut HeaderMap) {
    strip_through_proxy(headers);
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::COOKIE);
}

/// Removes what the MCP server must not see of an origin's answer: a cookie could be worth as much
/// as the bearer that it was set for.
pub(crate) fn strip_from_origin(headers: &mut HeaderMap) {
    strip_through_proxy(headers);
    headers.remove(header::SET_COOKIE);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn remove_where(headers: &mut HeaderMap, is_removed: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| is_removed(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

/// What fuzz targets are given.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{Claim, HeaderMap};

    /// Whom a request names.
    pub fn claim(headers: &HeaderMap) -> Option<Claim> {
        super::claim(headers)
    }

    /// What the MCP server is shown of a request's headers.
    pub fn to_server(mut headers: HeaderMap) -> HeaderMap {
        super::strip_request(&mut headers);
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        map.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn a_server_cannot_speak_for_the_agent() {
        let mut response = headers(&[("patchbay-refusal", "misdirected"), ("x-end", "1")]);
        strip_response(&mut response);
        assert_eq!(names(&response), ["x-end"]);
    }

    #[test]
    fn a_claim_needs_both_headers_once_and_well_formed() {
        let good = [("patchbay-tenant", "t1"), ("patchbay-epoch", "7")];
        let expected = Claim { tenant: TenantUid::parse("t1").unwrap(), epoch: Epoch(7) };
        assert_eq!(claim(&headers(&good)), Some(expected));
        for bad in [
            &[][..],
            &good[..1],
            &good[1..],
            &[good[0], good[1], good[1]],
            &[good[0], good[0], good[1]],
            &[("patchbay-tenant", "../t"), good[1]],
            &[good[0], ("patchbay-epoch", "")],
            &[good[0], ("patchbay-epoch", "+7")],
            &[good[0], ("patchbay-epoch", "99999999999999999999")],
        ] {
            assert_eq!(claim(&headers(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn the_server_sees_the_message_and_nothing_of_the_caller() {
        let mut map = headers(&[
            ("accept", "text/event-stream"),
            ("mcp-session-id", "s"),
            ("mcp-param-x", "1"),
            ("last-event-id", "3"),
            ("content-length", "5"),
            ("traceparent", "00"),
            ("connection", "close, X-Listed"),
            ("x-listed", "1"),
            ("te", "gzip"),
            ("expect", "100-continue"),
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("cookie", "secret"),
            ("origin", "https://a"),
            ("host", "b"),
            ("proxy-authorization", "secret"),
            ("proxy-anything", "1"),
            ("patchbay-tenant", "t1"),
            ("patchbay-later", "1"),
        ]);
        strip_request(&mut map);
        let mut left = names(&map);
        left.sort_unstable();
        assert_eq!(
            left,
            [
                "accept",
                "content-length",
                "last-event-id",
                "mcp-param-x",
                "mcp-session-id",
                "traceparent"
            ]
        );
    }

    #[test]
    fn trailers_are_asked_for_where_the_caller_takes_them() {
        let mut map = headers(&[("te", "trailers"), ("connection", "te, x-listed")]);
        strip_request(&mut map);
        assert_eq!(map, headers(&[("te", "trailers"), ("connection", "te")]));
    }

    #[test]
    fn a_response_keeps_all_but_its_connections_headers() {
        let mut map = headers(&[
            ("content-type", "text/event-stream"),
            ("x-accel-buffering", "no"),
            ("set-cookie", "a=b"),
            ("connection", "keep-alive, x-listed"),
            ("keep-alive", "timeout=5"),
            ("x-listed", "1"),
            ("transfer-encoding", "chunked"),
        ]);
        strip_response(&mut map);
        assert_eq!(names(&map), ["content-type", "x-accel-buffering", "set-cookie"]);
    }

    #[test]
    fn the_catalog_sees_no_credential_of_the_server_and_gives_it_none() {
        let all = headers(&[
            ("accept", "a"),
            ("authorization", "secret"),
            ("cookie", "secret"),
            ("set-cookie", "secret"),
            ("proxy-authorization", "secret"),
            ("connection", "x-listed"),
            ("x-listed", "1"),
        ]);
        let left = |strip: fn(&mut HeaderMap)| {
            let mut map = all.clone();
            strip(&mut map);
            names(&map).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(left(strip_to_origin), ["accept", "set-cookie"]);
        assert_eq!(left(strip_from_origin), ["accept", "authorization", "cookie"]);
        assert_eq!(left(strip_through_proxy), ["accept", "authorization", "cookie", "set-cookie"]);
    }

    #[test]
    fn a_header_given_twice_does_not_make_a_call_a_stream() {
        let twice = headers(&[("mcp-method", "ping"), ("mcp-method", "tools/call")]);
        assert_eq!(weight(&Method::POST, &twice), Weight::Call);
        let once = headers(&[("mcp-method", "subscriptions/listen")]);
        assert_eq!(weight(&Method::POST, &once), Weight::Listening);
    }
}
