//! What is answered without a credential: documents under `/.well-known/`, and nothing else.
//!
//! RFC 9728 metadata names the authorization servers of a resource, at a path that carries the
//! resource's and, where there is only one such resource, at the root. A route whose providers name no
//! authorization server has no such document, and 404 is the right answer there: clients probe, and must
//! not be sent into a login that does not exist. This module must not know credentials.

use patchbay_core::{
    provider::Method,
    routing::{Route, RouteTable},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The path of RFC 9728 metadata; a resource's own path follows it.
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// What a path is, before any credential is looked at.
#[derive(Debug)]
pub enum WellKnown<'a> {
    /// Not a well-known path.
    No,
    /// The metadata of this route's resource.
    Metadata(&'a Route),
    /// A well-known path at which there is nothing.
    NotFound,
}

/// Classifies a path: `/.well-known/...` at the root, or below a route's path.
pub fn classify<'a>(host: &str, path: &str, table: &'a RouteTable) -> WellKnown<'a> {
    if let Some(resource) = path.strip_prefix(METADATA) {
        let route = if resource.is_empty() {
            only_advertised(host, table)
        } else {
            table.find(host, resource).filter(|(_, rest)| rest.is_empty()).map(|(route, _)| route)
        };
        return match route.filter(|route| !authorization_servers(route).is_empty()) {
            Some(route) => WellKnown::Metadata(route),
            None => WellKnown::NotFound,
        };
    }
    let is_below_a_route = table.routes().iter().any(|route| {
        path.strip_prefix(route.class.path.as_str())
            .is_some_and(|rest| rest == "/.well-known" || rest.starts_with("/.well-known/"))
    });
    if path == "/.well-known" || path.starts_with("/.well-known/") || is_below_a_route {
        WellKnown::NotFound
    } else {
        WellKnown::No
    }
}

/// The one route that has metadata, if it is the only one that this host could mean.
fn only_advertised<'a>(host: &str, table: &'a RouteTable) -> Option<&'a Route> {
    let mut advertised = table.routes().iter().filter(|route| {
        let is_here = route.class.host.as_deref().is_none_or(|wanted| wanted == host);
        is_here && !authorization_servers(route).is_empty()
    });
    advertised.next().filter(|_| advertised.next().is_none())
}

/// The authorization servers from which a route's clients get their tokens, each once.
fn authorization_servers(route: &Route) -> Vec<&str> {
    let servers = route.providers.iter().filter_map(|provider| match &provider.method {
        Method::Jwt(jwt) => jwt.authorization_server.as_deref(),
        _ => None,
    });
    // in order of names: providers have none of their own that a client would know
    servers.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The metadata of a route's resource; `base` is how clients address this gateway, without a path.
pub fn metadata(base: &str, route: &Route) -> Value {
    json!({
        "resource": format!("{base}{}", route.class.path),
        "authorization_servers": authorization_servers(route),
        "bearer_methods_supported": ["header"],
    })
}

/// Where a route's metadata is, for the challenge of a 401; none if it has none.
pub fn metadata_url(base: &str, route: &Route) -> Option<String> {
    let is_advertised = !authorization_servers(route).is_empty();
    is_advertised.then(|| format!("{base}{METADATA}{}", route.class.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{
        fixtures::{api_keys, class, jwt},
        provider::IdentityProvider,
    };
    use std::sync::Arc;

    fn advertised(name: &str, class: &str) -> IdentityProvider {
        let mut provider = jwt(name, &[class], "https://issuer.example");
        if let Method::Jwt(jwt) = &mut provider.method {
            jwt.authorization_server = Some("https://login.example".into());
        }
        provider
    }

    fn table(classes: &[(&str, &str)], providers: Vec<IdentityProvider>) -> RouteTable {
        let classes: Vec<_> =
            classes.iter().map(|(name, path)| Arc::new(class(name, path))).collect();
        let providers: Vec<_> = providers.into_iter().map(Arc::new).collect();
        RouteTable::build(&classes, &providers).unwrap()
    }

    #[test]
    fn a_resource_with_an_authorization_server_has_metadata_at_both_forms() {
        let table = table(&[("a", "/a/mcp")], vec![advertised("p", "a")]);
        for path in [METADATA.to_owned(), format!("{METADATA}/a/mcp")] {
            let WellKnown::Metadata(route) = classify("h", &path, &table) else { panic!("{path}") };
            let document = metadata("https://mcp.example", route);
            assert_eq!(document["resource"], "https://mcp.example/a/mcp");
            assert_eq!(document["authorization_servers"], json!(["https://login.example"]));
        }
        let url = metadata_url("https://mcp.example", &table.routes()[0]);
        assert_eq!(url.unwrap(), format!("https://mcp.example{METADATA}/a/mcp"));
    }

    #[test]
    fn an_authorization_server_of_several_providers_is_named_once() {
        let mut other = advertised("q", "a");
        let Method::Jwt(rules) = &mut other.method else { panic!() };
        rules.issuer = "https://other.example".into();
        let table = table(&[("a", "/mcp")], vec![advertised("p", "a"), other]);
        let document = metadata("https://mcp.example", &table.routes()[0]);
        assert_eq!(document["authorization_servers"], json!(["https://login.example"]));
    }

    #[test]
    fn a_resource_without_one_has_none() {
        let table = table(&[("a", "/mcp")], vec![api_keys("p", &["a"], &[])]);
        for path in [
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/mcp",
            "/.well-known/openid-configuration",
            "/mcp/.well-known/oauth-authorization-server",
        ] {
            assert!(matches!(classify("h", path, &table), WellKnown::NotFound), "{path}");
        }
        assert_eq!(metadata_url("https://mcp.example", &table.routes()[0]), None);
    }

    #[test]
    fn the_root_form_names_no_resource_where_there_are_several() {
        let providers = vec![advertised("p", "a"), advertised("q", "b")];
        let table = table(&[("a", "/a"), ("b", "/b")], providers);
        assert!(matches!(classify("h", METADATA, &table), WellKnown::NotFound));
        let own = format!("{METADATA}/b");
        assert!(matches!(classify("h", &own, &table), WellKnown::Metadata(_)));
        let deeper = format!("{METADATA}/b/c");
        assert!(matches!(classify("h", &deeper, &table), WellKnown::NotFound));
    }

    #[test]
    fn other_paths_are_not_well_known() {
        let table = table(&[("a", "/mcp")], vec![api_keys("p", &["a"], &[])]);
        for path in ["/mcp", "/mcp/x", "/.well-knownx", "/other/.well-known/x"] {
            assert!(matches!(classify("h", path, &table), WellKnown::No), "{path}");
        }
    }
}
