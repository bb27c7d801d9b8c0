//! The catalog's `/config.json`, as the MCP server may see it: the registry under its plain name,
//! because three paths of quilt-mcp take the registry's URL from there and not from their own
//! configuration. Pure. It must not know requests.

use super::{origin::Origin, readable, request::Origins};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;

/// A configuration is at most this long, bytes.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

const PATH: &str = "/config.json";
const REGISTRY_URL: &str = "registryUrl";

/// Whether a request asks `origin` for the catalog's configuration.
pub(crate) fn is_asked_for(
    method: &Method,
    path: &str,
    origin: &Origin,
    origins: &Origins,
) -> bool {
    *method == Method::GET && path == PATH && *origin == origins.catalog
}

/// Whether an answer is a configuration that can be read.
pub(crate) fn is_readable(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::OK && readable::is_plain(headers)
}

/// The configuration with the registry's plain name, if it names the class's registry; none where
/// it is to be passed on as it is.
pub(crate) fn rewrite(text: &[u8], registry: &Origin) -> Option<Vec<u8>> {
    let mut config: Value = serde_json::from_slice(text).ok()?;
    let url = config.get_mut(REGISTRY_URL)?;
    let rest = registry.rest_of(url.as_str()?)?;
    if !matches!(rest, "" | "/") {
        return None;
    }
    // without the slash: it must be the very key in `auth.json`
    *url = registry.plain_name().into();
    serde_json::to_vec(&config).ok()
}

/// The `Location` of an answer with an origin's plain name, if it names one of the two; none where
/// it is to be passed on as it is.
pub(crate) fn plain_location(location: &HeaderValue, origins: &Origins) -> Option<HeaderValue> {
    let location = location.to_str().ok()?;
    [&origins.catalog, &origins.registry].into_iter().find_map(|origin| {
        let rest = origin.rest_of(location)?;
        HeaderValue::from_str(&format!("{}{rest}", origin.plain_name())).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;
    use serde_json::json;

    fn origins() -> Origins {
        Origins {
            catalog: Origin::parse("https://catalog.example").unwrap(),
            registry: Origin::parse("https://registry.example:8443").unwrap(),
        }
    }

    #[test]
    fn the_registry_is_renamed_and_nothing_else_is_touched() {
        for url in ["https://registry.example:8443", "https://Registry.example:8443/"] {
            let config = json!({"registryUrl": url, "region": "us-east-1", "n": [1, {"a": null}]});
            let rewritten = rewrite(config.to_string().as_bytes(), &origins().registry).unwrap();
            let mut expected = config;
            expected["registryUrl"] = "http://registry.example".into();
            assert_eq!(serde_json::from_slice::<Value>(&rewritten).unwrap(), expected);
        }
    }

    #[test]
    fn another_registry_or_what_is_no_configuration_is_left_alone() {
        for text in [
            r#"{"registryUrl":"https://registry.example"}"#,
            r#"{"registryUrl":"https://registry.example:8443/sub"}"#,
            r#"{"registryUrl":"https://evil.example:8443"}"#,
            r#"{"registryUrl":7}"#,
            r#"{"region":"us-east-1"}"#,
            "[]",
            "<html>",
        ] {
            assert_eq!(rewrite(text.as_bytes(), &origins().registry), None, "{text}");
        }
    }

    #[test]
    fn a_redirect_to_one_of_the_two_origins_is_renamed() {
        for (location, expected) in [
            ("https://catalog.example/b?c#d", Some("http://catalog.example/b?c#d")),
            ("https://registry.example:8443", Some("http://registry.example")),
            ("https://registry.example/", None),
            ("https://bucket.example/signed", None),
            ("/login", None),
        ] {
            let plain = plain_location(&location.parse().unwrap(), &origins());
            assert_eq!(plain, expected.map(HeaderValue::from_static), "{location}");
        }
    }

    #[test]
    fn only_the_catalogs_own_configuration_is_read() {
        let origins = origins();
        let asks = |method, path, origin| is_asked_for(method, path, origin, &origins);
        assert!(asks(&Method::GET, "/config.json", &origins.catalog));
        assert!(!asks(&Method::HEAD, "/config.json", &origins.catalog));
        assert!(!asks(&Method::GET, "/x/config.json", &origins.catalog));
        assert!(!asks(&Method::GET, "/config.json", &origins.registry));
        let gzip = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
        assert!(!is_readable(StatusCode::OK, &gzip.into_iter().collect()));
        assert!(!is_readable(StatusCode::NOT_MODIFIED, &HeaderMap::new()));
    }
}
