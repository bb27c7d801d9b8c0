//! Headers on their way from a client to an MCP server, through gateway and agent: whatever a client sends, its worker is told
//! one tenant and one epoch, the gateway's; the server is shown no credential, no word of ours and nothing of a connection;
//! and all else crosses as it came.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use patchbay_core::{
    id::{Epoch, TenantUid},
    latch::Claim,
};
use patchbay_gateway::forward::headers::to_worker;
use patchbay_worker::fuzzing_of_headers::{claim, to_server};

/// What an MCP server never sees.
const SECRET: [&str; 6] =
    ["authorization", "x-api-key", "cookie", "proxy-authorization", "host", "origin"];
/// What is said of one connection (RFC 9110, 7.6.1), in a request.
const OF_A_CONNECTION: [&str; 11] = [
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
];

fn is_ours(name: &str) -> bool {
    name.starts_with("patchbay-") || name.starts_with("x-patchbay-")
}

/// Lines of a name, a colon and a value; what is none of that is left out, as a server would refuse it.
fn read(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    headers
}

fuzz_target!(|data: &[u8]| {
    let asked = read(data);
    let Ok(tenant) = TenantUid::parse("the-tenant") else { return };
    let own = Claim { tenant, epoch: Epoch(7) };
    let request_id = HeaderValue::from_static("the-request");
    let Ok(told) = to_worker(asked.clone(), &own, &request_id) else { return };
    assert_eq!(claim(&told).as_ref(), Some(&own));
    let ours: Vec<_> = told.keys().filter(|name| is_ours(name.as_str())).collect();
    assert_eq!(ours.len(), 3, "{ours:?}");
    for name in told.keys() {
        assert!(!SECRET.contains(&name.as_str()), "{name} reaches the worker");
    }

    let shown = to_server(told);
    for name in shown.keys().map(HeaderName::as_str) {
        assert!(!SECRET.contains(&name) && !is_ours(name), "{name} reaches the server");
        assert!(!OF_A_CONNECTION.contains(&name), "{name} is of another connection");
        assert!(asked.contains_key(name), "{name} was never sent");
    }
    let listed: Vec<_> = asked
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in asked.keys() {
        let is_kept = |name: &str| {
            !SECRET.contains(&name)
                && !OF_A_CONNECTION.contains(&name)
                && !is_ours(name)
                && !name.starts_with("proxy-")
                && !listed.iter().any(|listed| listed == name)
        };
        if is_kept(name.as_str()) {
            let (sent, came) = (asked.get_all(name), shown.get_all(name));
            assert!(sent.iter().eq(came.iter()), "{name} was changed");
        }
    }
});
