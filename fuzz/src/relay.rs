//! Requests of the MCP server at its relay: whatever one looks like, the user's bearer goes to the catalog's two origins alone,
//! only in the place of the stand-in, and nothing goes where the class does not list.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patchbay_worker::fuzzing::{ORIGINS, PLAIN, Request, STAND_IN, TUNNEL, Taken, read, relay};

fuzz_target!(|data: &[u8]| {
    let Some(request) = read(data) else { return };
    let before = relay(&request, false);
    assert!(
        !matches!(before, Taken::Originated { .. } | Taken::Keys),
        "{request:?} reached {before:?} before there was a grant"
    );
    let credentials = presented(&request);
    match relay(&request, true) {
        Taken::Originated { host, with_bearer } => {
            let text = request.target.to_string().to_ascii_lowercase();
            let named = format!("http://{host}");
            let rest = text.strip_prefix(&named).unwrap_or_else(|| panic!("{text} led to {host}"));
            assert!(rest.is_empty() || rest.starts_with([':', '/', '?']), "{text} led to {host}");
            assert!(ORIGINS.contains(&host.as_str()));
            match credentials.as_slice() {
                [] => assert!(!with_bearer, "{request:?} was given a bearer"),
                [one] => {
                    let token = token_of(one).unwrap_or_else(|| panic!("{request:?} passed"));
                    assert!(with_bearer && token == STAND_IN.as_bytes(), "{request:?} passed");
                }
                _ => panic!("{request:?} passed with several credentials"),
            }
        }
        Taken::Keys => {
            let [one] = credentials.as_slice() else { panic!("{request:?} was given keys") };
            let token = token_of(one).unwrap_or(one);
            assert_eq!(token, STAND_IN.as_bytes(), "{request:?} was given keys");
        }
        Taken::Plain(host, port) => {
            assert!(is_among(&PLAIN, &host, port), "{request:?} led to {host}:{port}");
            let path = request.target.path_and_query().map_or("", |path| path.as_str());
            assert!(!holds_stand_in(path.as_bytes()), "{request:?} carried the stand-in away");
            for value in request.headers.values() {
                assert!(!holds_stand_in(value.as_bytes()), "{request:?} carried the stand-in away");
            }
        }
        Taken::Tunnel(host, port) => {
            assert!(is_among(&TUNNEL, &host, port), "{request:?} led to {host}:{port}");
        }
        Taken::Refused => {}
    }
});

/// The values of `Authorization`.
fn presented(request: &Request) -> Vec<&[u8]> {
    request.headers.get_all("authorization").iter().map(|value| value.as_bytes()).collect()
}

/// What follows `Bearer `.
fn token_of(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn is_among(listed: &[(&str, u16)], host: &str, port: u16) -> bool {
    listed.iter().any(|(one, at)| host.eq_ignore_ascii_case(one) && port == *at)
}

fn holds_stand_in(text: &[u8]) -> bool {
    text.windows(STAND_IN.len()).any(|part| part == STAND_IN.as_bytes())
}
