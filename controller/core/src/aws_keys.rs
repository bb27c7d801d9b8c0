//! Where programs with an AWS SDK find temporary keys in their worker: the SDKs' container provider.
//!
//! The address is the worker's own proxy, which every SDK asks directly because it is a loopback one; the token is
//! worth nothing elsewhere. This module is pure; it must not know where keys come from or who serves them.

use crate::{grant::AwsGrant, quilt::PlacedFile};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::collections::BTreeMap;

/// The path, on the MCP server's side of the proxy, that answers with keys.
pub const PATH: &str = "/.patchbay/aws-credentials";

/// The file of the token, below HOME.
const TOKEN_FILE: &str = ".patchbay/aws-token";

/// The environment by which SDKs find it. `region` is the one of the user's data.
pub fn environment(proxy_port: u16, home: &str, region: Option<&str>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned(),
            format!("http://127.0.0.1:{proxy_port}{PATH}"),
        ),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE".to_owned(), format!("{home}/{TOKEN_FILE}")),
    ]);
    if let Some(region) = region {
        for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
            env.insert(name.to_owned(), region.to_owned());
        }
    }
    env
}

/// The file that SDKs read the token from at every fetch. They send all of it, so it ends without a newline.
pub fn token_file(home: &str, token: &str) -> PlacedFile {
    PlacedFile { path: format!("{home}/{TOKEN_FILE}"), text: token.into(), mode: 0o400 }
}

/// Keys in the container provider's words (botocore, `ContainerProvider`).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerKeys<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: String,
}

/// Keys in a Quilt registry's words (`/api/auth/get_credentials`).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegistryKeys<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    session_token: &'a str,
    expiration: String,
}

impl<'a> From<&'a AwsGrant> for ContainerKeys<'a> {
    fn from(keys: &'a AwsGrant) -> Self {
        Self {
            access_key_id: &keys.access_key_id,
            secret_access_key: keys.secret_access_key.expose_secret(),
            token: keys.session_token.expose_secret(),
            expiration: whole_seconds(keys),
        }
    }
}

impl<'a> From<&'a AwsGrant> for RegistryKeys<'a> {
    fn from(keys: &'a AwsGrant) -> Self {
        Self {
            access_key_id: &keys.access_key_id,
            secret_access_key: keys.secret_access_key.expose_secret(),
            session_token: keys.session_token.expose_secret(),
            expiration: whole_seconds(keys),
        }
    }
}

/// RFC 3339 without fractions: some SDKs read no other.
fn whole_seconds(keys: &AwsGrant) -> String {
    keys.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_told_in_the_words_of_either_asker() {
        let keys = AwsGrant {
            access_key_id: "ASIAX".into(),
            secret_access_key: "secret".into(),
            session_token: "token".into(),
            expires_at: "2026-01-01T00:15:00.25Z".parse().unwrap(),
            region: "us-east-1".into(),
            renew_at: None,
        };
        let told = serde_json::to_value(ContainerKeys::from(&keys)).unwrap();
        assert_eq!(
            told,
            json!({
                "AccessKeyId": "ASIAX",
                "SecretAccessKey": "secret",
                "Token": "token",
                "Expiration": "2026-01-01T00:15:00Z",
            })
        );
        let told = serde_json::to_value(RegistryKeys::from(&keys)).unwrap();
        assert_eq!(told["SessionToken"], "token");
        assert_eq!(told.as_object().unwrap().len(), 4);
    }

    #[test]
    fn the_token_is_all_of_its_file_and_the_environment_names_both_places() {
        let file = token_file("/home/worker", "pod-x");
        assert_eq!((file.text.expose_secret(), file.mode), ("pod-x", 0o400));
        let env = environment(3128, "/home/worker", Some("eu-west-1"));
        assert_eq!(env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"], file.path);
        assert_eq!(
            env["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
            "http://127.0.0.1:3128/.patchbay/aws-credentials"
        );
        assert_eq!(env["AWS_REGION"], "eu-west-1");
    }
}
