//! Turns method, path, query and the caller's role into what to do. Paths are compared as they are:
//! nothing is decoded or normalised, so no forwarded path can become a control path. It must not
//! know bodies, connections or state.

use http::{Method, StatusCode};
use patchbay_core::{
    link::{
        BIND_PATH, DRAIN_PATH, ENROL_PATH, FORWARD_PREFIX, RELEASE_PATH, RESERVE_PATH, RETIRE_PATH,
        STATUS_PATH, WHEN_IDLE,
    },
    pin::Role,
};

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// Keep the worker for a tenant.
    Reserve,
    /// Keep it no longer.
    Release,
    /// Take a bind.
    Bind,
    /// Show which pod this is.
    Enrol,
    /// Say where the worker is in its life.
    Status,
    /// Leave if anonymous.
    Retire,
    /// Finish and leave.
    Drain,
    /// Leave at the next idle moment.
    DrainWhenIdle,
    /// Relay to the MCP server: the path behind [`FORWARD_PREFIX`], empty or starting with `/`.
    Forward(&'a str),
    /// Answer with this status alone.
    Refuse(StatusCode),
}

/// Decides; `role` is what the caller's certificate names, if anything.
pub(crate) fn route<'a>(
    method: &Method,
    path: &'a str,
    query: Option<&str>,
    role: Option<Role>,
) -> Route<'a> {
    let (needed_role, needed_method, route) = match path {
        RESERVE_PATH => (Role::Gateway, Some(Method::POST), Route::Reserve),
        RELEASE_PATH => (Role::Gateway, Some(Method::POST), Route::Release),
        BIND_PATH => (Role::Gateway, Some(Method::POST), Route::Bind),
        ENROL_PATH => (Role::Operator, Some(Method::GET), Route::Enrol),
        STATUS_PATH => (Role::Operator, Some(Method::GET), Route::Status),
        RETIRE_PATH => (Role::Operator, Some(Method::POST), Route::Retire),
        DRAIN_PATH => (Role::Operator, Some(Method::POST), drain(query)),
        _ => match path.strip_prefix(FORWARD_PREFIX) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                (Role::Gateway, None, Route::Forward(rest))
            }
            _ => return Route::Refuse(StatusCode::NOT_FOUND),
        },
    };
    if role != Some(needed_role) {
        return Route::Refuse(StatusCode::FORBIDDEN);
    }
    if needed_method.is_some_and(|needed| needed != *method) {
        return Route::Refuse(StatusCode::METHOD_NOT_ALLOWED);
    }
    route
}

/// A worker that does not know a condition must not leave without it.
fn drain(query: Option<&str>) -> Route<'static> {
    match query {
        None => Route::Drain,
        Some(WHEN_IDLE) => Route::DrainWhenIdle,
        Some(_) => Route::Refuse(StatusCode::BAD_REQUEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route<'a>(method: &Method, path: &'a str, role: Option<Role>) -> Route<'a> {
        super::route(method, path, None, role)
    }

    const GATEWAY: Option<Role> = Some(Role::Gateway);
    const OPERATOR: Option<Role> = Some(Role::Operator);

    #[test]
    fn each_path_is_for_one_role() {
        for (method, path, role, expected) in [
            (Method::POST, RESERVE_PATH, GATEWAY, Route::Reserve),
            (Method::POST, RELEASE_PATH, GATEWAY, Route::Release),
            (Method::POST, BIND_PATH, GATEWAY, Route::Bind),
            (Method::GET, ENROL_PATH, OPERATOR, Route::Enrol),
            (Method::GET, STATUS_PATH, OPERATOR, Route::Status),
            (Method::POST, RETIRE_PATH, OPERATOR, Route::Retire),
            (Method::POST, DRAIN_PATH, OPERATOR, Route::Drain),
            (Method::PUT, "/mcp-server/x", GATEWAY, Route::Forward("/x")),
        ] {
            assert_eq!(route(&method, path, role), expected);
            for other in [None, GATEWAY, OPERATOR] {
                if other != role {
                    let refused = Route::Refuse(StatusCode::FORBIDDEN);
                    assert_eq!(route(&method, path, other), refused, "{path} for {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_method_is_refused_on_control_paths_only() {
        let refused = Route::Refuse(StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(route(&Method::GET, BIND_PATH, GATEWAY), refused);
        assert_eq!(route(&Method::GET, DRAIN_PATH, OPERATOR), refused);
        assert_eq!(route(&Method::POST, ENROL_PATH, OPERATOR), refused);
        assert_eq!(route(&Method::DELETE, FORWARD_PREFIX, GATEWAY), Route::Forward(""));
    }

    #[test]
    fn a_drain_with_a_condition_that_is_not_known_is_refused() {
        let drain = |query| super::route(&Method::POST, DRAIN_PATH, query, OPERATOR);
        assert_eq!(drain(Some("when=idle")), Route::DrainWhenIdle);
        for other in ["", "when=now", "when=idle&x=1"] {
            assert_eq!(drain(Some(other)), Route::Refuse(StatusCode::BAD_REQUEST), "{other}");
        }
        let gateways = super::route(&Method::POST, DRAIN_PATH, Some("when=idle"), GATEWAY);
        assert_eq!(gateways, Route::Refuse(StatusCode::FORBIDDEN));
    }

    #[test]
    fn no_forwarded_path_reaches_a_control_path() {
        for rest in ["/../v1/bind", "/%2e%2e/v1/bind", "//v1/bind", "/./../v1/drain"] {
            let path = format!("{FORWARD_PREFIX}{rest}");
            assert_eq!(route(&Method::POST, &path, GATEWAY), Route::Forward(rest));
        }
    }

    #[test]
    fn what_only_looks_like_a_known_path_is_unknown() {
        let unknown = Route::Refuse(StatusCode::NOT_FOUND);
        for path in
            ["/", "", "/v1/bind/", "/v1/enrol/", "/v1/", "/V1/bind", "/mcp-serverx", "/mcp", "*"]
        {
            assert_eq!(route(&Method::POST, path, GATEWAY), unknown, "{path}");
        }
    }
}
