//! The `quilt` profile: what `quilt-mcp` and `quilt3` find in their worker.
//!
//! quilt3 freezes its session's bearer when it first uses it and never reads `auth.json` again, so the
//! bearer that it is given is a random one of this worker, worth nothing elsewhere; the relay puts the
//! user's real one in its place. Catalog and registry have plain-http names, so that quilt3 sends
//! requests that the relay can read. This module is pure; it must not know how files get to their places.

use crate::{
    class::{CatalogSource, Profile, Transport, WorkerClass},
    digest::{NoRandomness, random_bytes},
    grant::expose,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// quilt3's data directory, below HOME (platformdirs, `quilt3/util.py`).
pub const DATA_DIR: &str = ".local/share/Quilt";

/// A file that a worker's host writes into its memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlacedFile {
    /// Where, absolute.
    pub path: String,
    /// All of its text, which may be a credential.
    #[serde(serialize_with = "expose")]
    pub text: SecretString,
    /// Its permission bits.
    pub mode: u32,
}

impl PartialEq for PlacedFile {
    fn eq(&self, other: &Self) -> bool {
        let texts = [self, other].map(|file| file.text.expose_secret());
        self.path == other.path && self.mode == other.mode && texts[0] == texts[1]
    }
}

impl Eq for PlacedFile {}

/// The bearer that the MCP server holds instead of the user's: 256 random bits of one bind.
pub fn stand_in_bearer() -> Result<String, NoRandomness> {
    Ok(format!("pod-{}", data_encoding::BASE64URL_NOPAD.encode(&random_bytes::<32>()?)))
}

/// The host name of an origin: `https://host[:port]` without scheme and port.
pub fn origin_host(origin: &str) -> &str {
    let authority = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    match authority.rsplit_once(':') {
        // a colon inside brackets is the address's own
        Some((host, port)) if port.bytes().all(|c| c.is_ascii_digit()) && !port.is_empty() => host,
        _ => authority,
    }
}

/// The port of an origin.
pub fn origin_port(origin: &str) -> u16 {
    let authority = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    authority
        .strip_prefix(origin_host(origin))
        .and_then(|rest| rest.strip_prefix(':'))
        .and_then(|port| port.parse().ok())
        .unwrap_or(443)
}

/// The name under which the MCP server knows an origin: plain http, no port.
pub fn plain_name(origin: &str) -> String {
    format!("http://{}", origin_host(origin))
}

/// quilt3's configuration: part of the class, and nothing of any user. It is mounted read-only before the
/// server starts, so that `catalog_configure` cannot point the server elsewhere.
pub fn config_yml(catalog: &CatalogSource) -> String {
    format!(
        "navigator_url: {}\nregistryUrl: {}\nregion: {}\ntelemetry_disabled: true\n",
        plain_name(&catalog.origin),
        plain_name(&catalog.registry),
        catalog.region,
    )
}

/// What a bind writes: the session, with a stand-in for the user's bearer, and an AWS credential that has
/// expired, so that the first use of AWS fetches real ones through the relay. Without the second file
/// quilt3 would silently fall back to whatever identity the machine has.
pub fn session_files(catalog_registry: &str, stand_in: &str, home: &str) -> [PlacedFile; 2] {
    let auth = json!({
        plain_name(catalog_registry): {
            "access_token": stand_in,
            "refresh_token": "",
            // far in the future: quilt3 must not try to refresh; the relay decides what is current
            "expires_at": 4_102_444_800_u64,
        }
    });
    let credentials = json!({
        "access_key": "expired",
        "secret_key": "expired",
        "token": "expired",
        "expiry_time": "1970-01-01T00:00:00Z",
    });
    [("auth.json", auth), ("credentials.json", credentials)].map(|(name, value)| PlacedFile {
        path: format!("{home}/{DATA_DIR}/{name}"),
        text: value.to_string().into(),
        mode: 0o600,
    })
}

/// Where the launcher is written.
pub const LAUNCHER_PATH: &str = "/tmp/patchbay-quilt-launcher.py";

/// Starts `quilt-mcp` with the tools that its 0.21 refactoring left unregistered: `package_browse`,
/// `_create`, `_update`, `_delete` and `_diff` live in a module that its list does not name.
pub const LAUNCHER: &str = r#"import sys

sys.argv = ["quilt-mcp", "--skip-banner"]

import quilt_mcp.tools

quilt_mcp.tools._MODULE_PATHS.setdefault("package_crud", "quilt_mcp.tools.package_crud")

from quilt_mcp.main import main

main()
"#;

/// The environment that makes `quilt-mcp` the server of one user over HTTP.
pub fn environment(class: &WorkerClass) -> BTreeMap<String, String> {
    let region = class.credentials.region().unwrap_or("us-east-1");
    let mut environment: BTreeMap<String, String> = [
        // the one mode that acts as whoever is logged in under HOME and ignores inbound tokens
        ("QUILT_DEPLOYMENT", "legacy".to_owned()),
        ("FASTMCP_CHECK_FOR_UPDATES", "off".to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
        // evaluated at import, before config.yml could say so
        ("QUILT_DISABLE_USAGE_METRICS", "1".to_owned()),
        ("QUILT_DISABLE_CACHE", "true".to_owned()),
        ("MCP_TELEMETRY_LEVEL", "disabled".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ("MPLCONFIGDIR", "/tmp/matplotlib".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let spoken_to = match class.transport {
        Transport::Http { port, .. } => vec![
            ("FASTMCP_TRANSPORT", "http".to_owned()),
            ("FASTMCP_HOST", "127.0.0.1".to_owned()),
            ("FASTMCP_PORT", port.to_string()),
        ],
        Transport::Stdio => vec![("FASTMCP_TRANSPORT", "stdio".to_owned())],
    };
    environment.extend(spoken_to.into_iter().map(|(name, value)| (name.to_owned(), value)));
    environment
}

/// The command line and the files that start the MCP server of a class.
pub fn start(class: &WorkerClass, command: &[String]) -> (Vec<String>, Vec<PlacedFile>) {
    match class.profile {
        Profile::Generic => (command.to_vec(), Vec::new()),
        Profile::Quilt => {
            let mut command = command.to_vec();
            command.push(LAUNCHER_PATH.to_owned());
            let launcher =
                PlacedFile { path: LAUNCHER_PATH.to_owned(), text: LAUNCHER.into(), mode: 0o400 };
            (command, vec![launcher])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> CatalogSource {
        CatalogSource {
            origin: "https://catalog.example".into(),
            registry: "https://registry.example:8443".into(),
            region: "eu-west-1".into(),
            ca_bundle: None,
            audience: None,
            exchange: None,
        }
    }

    #[test]
    fn the_configuration_names_both_origins_plainly_and_without_port() {
        let text = config_yml(&catalog());
        assert!(text.contains("navigator_url: http://catalog.example\n"), "{text}");
        assert!(text.contains("registryUrl: http://registry.example\n"), "{text}");
    }

    #[test]
    fn the_session_is_found_under_the_very_name_in_the_configuration() {
        let [auth, credentials] = session_files(&catalog().registry, "stand-in", "/home/worker");
        let auth: serde_json::Value = serde_json::from_str(auth.text.expose_secret()).unwrap();
        assert_eq!(auth["http://registry.example"]["access_token"], "stand-in");
        assert!(credentials.text.expose_secret().contains("1970"));
        assert_eq!(credentials.mode, 0o600);
        assert_eq!(credentials.path, "/home/worker/.local/share/Quilt/credentials.json");
    }

    #[test]
    fn an_origin_is_taken_apart() {
        for (origin, host, port) in [
            ("https://a.example", "a.example", 443),
            ("https://a.example:8443", "a.example", 8443),
            ("https://127.0.0.2:4443", "127.0.0.2", 4443),
            ("https://[::1]:4443", "[::1]", 4443),
            ("https://[::1]", "[::1]", 443),
        ] {
            assert_eq!((origin_host(origin), origin_port(origin)), (host, port), "{origin}");
        }
    }

    #[test]
    fn every_bind_has_a_stand_in_of_its_own() {
        assert_ne!(stand_in_bearer().unwrap(), stand_in_bearer().unwrap());
    }
}
