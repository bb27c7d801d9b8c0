//! What is answered without a credential: documents under `/.well-known/`, and nothing else.
//!
//! RFC 9728 metadata names the authorization servers of a resource. A route whose providers name none
//! has no such document, and 404 is the right answer there: clients probe, and must not be sent into a
//! login that does not exist. This module must not know requests, only paths.

use patchbay_core::routing::RouteTable;

/// Whether a path is `/.well-known/...`, at the root or below a route's path.
pub fn is_well_known(path: &str, table: &RouteTable) -> bool {
    path.starts_with("/.well-known/")
        || path == "/.well-known"
        || table.routes().iter().any(|route| {
            path.strip_prefix(route.class.path.as_str())
                .is_some_and(|rest| rest == "/.well-known" || rest.starts_with("/.well-known/"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::fixtures::{api_keys, class};
    use std::sync::Arc;

    #[test]
    fn well_known_paths_are_found_at_the_root_and_below_a_route() {
        let table = RouteTable::build(
            &[Arc::new(class("a", "/mcp"))],
            &[Arc::new(api_keys("p", &["a"], &[]))],
        )
        .unwrap();
        for path in [
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/mcp",
            "/.well-known/openid-configuration",
            "/mcp/.well-known/oauth-authorization-server",
        ] {
            assert!(is_well_known(path, &table), "{path}");
        }
        for path in ["/mcp", "/mcp/x", "/.well-knownx", "/other/.well-known/x"] {
            assert!(!is_well_known(path, &table), "{path}");
        }
    }
}
