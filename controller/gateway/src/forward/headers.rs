//! Which headers cross the gateway, in both directions. Pure.
//!
//! What is not named here crosses untouched: MCP tells intermediaries to forward what they do not know.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use patchbay_core::{
    latch::Claim,
    link::{EPOCH_HEADER, FORWARD_PREFIX, HEADER_PREFIX, REQUEST_ID_HEADER, TENANT_HEADER},
};

/// Hop-by-hop headers (RFC 9110, 7.6.1); those that `Connection` lists are added to them.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What proves the user, and what is meant for this gateway alone: never shown to a worker.
const FOR_THE_GATEWAY: [HeaderName; 6] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    header::COOKIE,
    header::PROXY_AUTHORIZATION,
    // checked here; the worker is given another Host and might find them contradictory
    header::HOST,
    header::ORIGIN,
];

/// What only this gateway tells a client.
const FROM_THE_GATEWAY: [HeaderName; 2] = [header::WWW_AUTHENTICATE, header::SET_COOKIE];

fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with(HEADER_PREFIX)
        || name.strip_prefix("x-").is_some_and(|n| n.starts_with(HEADER_PREFIX))
}

fn connection_listed(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect()
}

fn strip(headers: &mut HeaderMap, further: &[HeaderName]) {
    let listed = connection_listed(headers);
    let ours: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in HOP_BY_HOP.iter().chain(further).chain(&listed).chain(&ours) {
        headers.remove(name);
    }
}

/// Turns a client's headers into those of the forwarded request.
pub fn to_worker(
    mut headers: HeaderMap,
    claim: &Claim,
    request_id: &HeaderValue,
) -> Result<HeaderMap, http::header::InvalidHeaderValue> {
    strip(&mut headers, &FOR_THE_GATEWAY);
    headers.insert(TENANT_HEADER, HeaderValue::from_str(claim.tenant.as_str())?);
    headers.insert(EPOCH_HEADER, HeaderValue::from(claim.epoch.0));
    headers.insert(REQUEST_ID_HEADER, request_id.clone());
    Ok(headers)
}

/// Turns a worker's headers into those of the client's response. A `Location` on the link becomes one
/// below the class's `path`; any other is dropped, since a client might take its credential there.
pub fn to_client(headers: &mut HeaderMap, path: &str) {
    strip(headers, &FROM_THE_GATEWAY);
    if let Some(location) = headers.remove(header::LOCATION)
        && let Some(public) = public_path(&location, path)
    {
        headers.insert(header::LOCATION, public);
    }
}

fn public_path(location: &HeaderValue, path: &str) -> Option<HeaderValue> {
    let rest = location.to_str().ok()?.strip_prefix(FORWARD_PREFIX)?;
    let public = match rest.as_bytes() {
        // under the path `/` this would name a host
        [b'/', b'/' | b'\\', ..] => return None,
        [] | [b'?', ..] => format!("{path}{rest}"),
        [b'/', ..] => format!("{}{rest}", path.trim_end_matches('/')),
        _ => return None,
    };
    HeaderValue::from_str(&public).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::id::{Epoch, TenantUid};
    use proptest::prelude::*;

    fn claim() -> Claim {
        Claim { tenant: TenantUid::parse("uid-1").unwrap(), epoch: Epoch(7) }
    }

    fn forwarded(headers: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        to_worker(map, &claim(), &HeaderValue::from_static("req")).unwrap()
    }

    #[test]
    fn credentials_never_reach_a_worker() {
        let out = forwarded(&[
            ("authorization", "Bearer secret"),
            ("x-api-key", "pb_k_secret"),
            ("cookie", "session=secret"),
            ("proxy-authorization", "Basic secret"),
        ]);
        assert!(!format!("{out:?}").contains("secret"));
    }

    #[test]
    fn identity_headers_are_never_taken_from_a_client() {
        let out = forwarded(&[
            ("patchbay-tenant", "forged"),
            ("patchbay-epoch", "99"),
            ("patchbay-anything", "forged"),
            ("x-patchbay-user", "forged"),
        ]);
        assert!(!format!("{out:?}").contains("forged"));
        assert_eq!(out.get_all(TENANT_HEADER).iter().count(), 1);
        assert_eq!(out[TENANT_HEADER], "uid-1");
        assert_eq!(out[EPOCH_HEADER], "7");
    }

    #[test]
    fn headers_that_connection_lists_stay_here_but_cannot_remove_ours() {
        let out = forwarded(&[
            ("connection", "close, X-Hop, patchbay-tenant"),
            ("x-hop", "1"),
            ("x-end", "2"),
        ]);
        assert!(!out.contains_key("x-hop"));
        assert_eq!(out["x-end"], "2");
        assert_eq!(out[TENANT_HEADER], "uid-1");
    }

    #[test]
    fn what_mcp_needs_crosses_untouched() {
        let names = [
            "accept",
            "content-type",
            "mcp-protocol-version",
            "mcp-session-id",
            "last-event-id",
            "mcp-method",
            "mcp-name",
            "mcp-param-region",
            "traceparent",
            "x-unknown",
        ];
        let headers: Vec<_> = names.iter().map(|name| (*name, "value")).collect();
        let out = forwarded(&headers);
        for name in names {
            assert_eq!(out[name], "value", "{name}");
        }
    }

    #[test]
    fn a_worker_cannot_send_a_client_into_a_login() {
        let mut headers = HeaderMap::new();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        headers.insert("patchbay-refusal", HeaderValue::from_static("x"));
        headers.insert("mcp-session-id", HeaderValue::from_static("s"));
        to_client(&mut headers, "/mcp");
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("mcp-session-id"));
    }

    #[test]
    fn a_client_is_sent_to_its_own_class_or_nowhere() {
        for (location, path, public) in [
            ("/mcp-server", "/mcp", Some("/mcp")),
            ("/mcp-server/", "/mcp", Some("/mcp/")),
            ("/mcp-server/a?b", "/mcp", Some("/mcp/a?b")),
            ("/mcp-server?b", "/mcp", Some("/mcp?b")),
            ("/mcp-server/a", "/", Some("/a")),
            ("/mcp-server", "/", Some("/")),
            ("/mcp-server//evil.example", "/", None),
            ("/mcp-server/\\evil.example", "/", None),
            ("/mcp-serverx", "/mcp", None),
            ("http://127.0.0.1:8000/mcp", "/mcp", None),
            ("https://evil.example/", "/mcp", None),
            ("/v1/bind", "/mcp", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(location));
            to_client(&mut headers, path);
            let left = headers.get(header::LOCATION).map(|value| value.to_str().unwrap());
            assert_eq!(left, public, "{location}");
        }
    }

    proptest! {
        #[test]
        fn no_set_of_headers_smuggles_a_hop_by_hop_or_identity_header(
            names in proptest::collection::vec(
                prop_oneof![
                    Just("connection".to_owned()), Just("te".into()), Just("upgrade".into()),
                    Just("authorization".into()), Just("Patchbay-Tenant".into()),
                    Just("keep-alive".into()), "[a-z][a-z-]{0,12}",
                ], 0..20),
            values in proptest::collection::vec("[a-zA-Z, -]{0,30}", 20),
        ) {
            let headers: Vec<_> =
                names.iter().zip(&values).map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let out = forwarded(&headers);
            for name in HOP_BY_HOP.iter().chain(&FOR_THE_GATEWAY) {
                prop_assert!(!out.contains_key(name), "{}", name);
            }
            prop_assert_eq!(out.keys().filter(|name| is_ours(name)).count(), 3);
        }
    }
}
