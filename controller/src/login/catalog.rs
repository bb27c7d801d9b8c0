//! What a Quilt catalog is asked for a key: its configuration, its registry's exchange of codes, its own mutation.
//!
//! The forms are those of quilt3 8.0 (`session.py`, `_graphql_client`). No answer is repeated in an error: it may hold a
//! credential. It must not know where a code comes from.

use crate::form;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use patchbay_core::provider::CATALOG_KEY_PREFIX;
use patchbay_gateway::outbound::Outbound;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

const CREATE: &str = "mutation apiKeyCreate($input: APIKeyCreateInput!) { apiKeyCreate(input: \
                      $input) { __typename ... on APIKeyCreated { apiKey { expiresAt } secret } \
                      ... on InvalidInput { errors { path message } } } }";

/// Asks catalogs.
pub(super) struct Catalog(Outbound);

/// A new API key.
pub(super) struct ApiKey {
    pub(super) secret: SecretString,
    /// In the catalog's words.
    pub(super) expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    registry_url: String,
}

/// `200` with an `error` is how a registry refuses a code.
#[derive(Deserialize)]
#[serde(untagged)]
enum Exchanged {
    Session { access_token: SecretString },
    Refused { error: String },
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    api_key_create: Option<Created>,
}

#[derive(Deserialize)]
#[serde(tag = "__typename")]
enum Created {
    #[serde(rename = "APIKeyCreated", rename_all = "camelCase")]
    Made {
        api_key: Described,
        secret: SecretString,
    },
    InvalidInput {
        errors: Vec<Flaw>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    expires_at: Option<String>,
}

#[derive(Deserialize)]
struct Flaw {
    path: Option<String>,
    message: String,
}

impl Catalog {
    /// It trusts `roots` (PEM) besides the public authorities.
    pub(super) fn new(roots: Option<&str>) -> anyhow::Result<Self> {
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(Self(Outbound::new(crypto, roots).context("--ca-file")?))
    }

    /// The registry's origin, as the catalog itself says.
    pub(super) async fn registry_of(&self, catalog: &str) -> anyhow::Result<String> {
        let url = format!("{catalog}/config.json");
        let request = Request::get(&url).body(Full::default())?;
        let (status, body) = self.ask(&url, request).await?;
        ensure!(
            status == StatusCode::OK,
            "{url} answered {status}; name the registry (--registry)"
        );
        let configuration: Configuration = serde_json::from_slice(&body)
            .ok()
            .with_context(|| format!("{url} names no registry; name it (--registry)"))?;
        Ok(configuration.registry_url)
    }

    /// Spends a code, or a refresh token, for a session's access token.
    pub(super) async fn exchange(
        &self,
        registry: &str,
        code: &SecretString,
    ) -> anyhow::Result<SecretString> {
        let url = format!("{registry}/api/token");
        let form = form::encode([("refresh_token", code.expose_secret())]);
        let request = Request::post(&url)
            .header(header::CONTENT_TYPE, form::MEDIA_TYPE)
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::copy_from_slice(form.as_bytes())))?;
        let (status, body) = self.ask(&url, request).await?;
        match (status, serde_json::from_slice(&body)) {
            (StatusCode::OK, Ok(Exchanged::Session { access_token })) => Ok(access_token),
            (StatusCode::OK, Ok(Exchanged::Refused { error })) => bail!(
                "the registry refuses the code ({}): it is good once, and not for long; get a new one",
                shown(&error)
            ),
            _ => bail!("{url} answered {status} and no session; is it this catalog's registry?"),
        }
    }

    /// Makes a key of the session's user.
    pub(super) async fn make_key(
        &self,
        registry: &str,
        session: &SecretString,
        name: &str,
        days: u16,
    ) -> anyhow::Result<ApiKey> {
        let url = format!("{registry}/graphql");
        let bearer = format!("Bearer {}", session.expose_secret());
        let mut bearer =
            HeaderValue::try_from(bearer).ok().context("the registry's session is no token")?;
        bearer.set_sensitive(true);
        let input = json!({ "input": { "name": name, "expiresInDays": days } });
        let body = json!({ "operationName": "apiKeyCreate", "query": CREATE, "variables": input });
        let request = Request::post(&url)
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let (status, body) = self.ask(&url, request).await?;
        made(status, &body).with_context(|| url)
    }

    async fn ask(
        &self,
        url: &str,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        self.0.ask(request).await.with_context(|| format!("cannot ask {url}"))
    }
}

fn made(status: StatusCode, body: &[u8]) -> anyhow::Result<ApiKey> {
    ensure!(status == StatusCode::OK, "it answered {status}");
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    match answer.and_then(|answer| answer.data?.api_key_create) {
        Some(Created::Made { api_key, secret }) => {
            let is_key = secret.expose_secret().starts_with(CATALOG_KEY_PREFIX);
            ensure!(is_key, "what it made is no API key: it does not begin with `qk_`");
            Ok(ApiKey { secret, expires_at: api_key.expires_at.map(|end| shown(&end)) })
        }
        Some(Created::InvalidInput { errors }) => {
            let flaw = |flaw: &Flaw| {
                shown(&format!("{}: {}", flaw.path.as_deref().unwrap_or("input"), flaw.message))
            };
            let flaws: Vec<_> = errors.iter().map(flaw).collect();
            bail!("it makes no such key: {}", flaws.join("; "))
        }
        None => bail!("it made no API key; they need Quilt Platform 1.67 or later"),
    }
}

/// What a catalog says of itself may hold anything.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_is_a_key_and_no_answer_is_repeated() {
        let said = |body: &str| {
            let made = made(StatusCode::OK, body.as_bytes());
            made.map(|key| key.secret.expose_secret().to_owned()).map_err(|error| error.to_string())
        };
        let created = |secret: &str| {
            format!(
                r#"{{"data": {{"apiKeyCreate": {{"__typename": "APIKeyCreated",
                "apiKey": {{"expiresAt": null}}, "secret": "{secret}"}}}}}}"#
            )
        };
        assert_eq!(said(&created("qk_abc")).as_deref(), Ok("qk_abc"));
        let other = said(&created("hunter2")).unwrap_err();
        assert!(other.contains("no API key") && !other.contains("hunter2"), "{other}");
        let flawed = r#"{"data": {"apiKeyCreate": {"__typename": "InvalidInput",
            "errors": [{"path": "input.name", "message": "too long"}]}}}"#;
        assert!(said(flawed).unwrap_err().contains("input.name: too long"));
        for none in ["", "{}", r#"{"data": {"apiKeyCreate": null}}"#, r#"{"data": null}"#] {
            assert!(said(none).unwrap_err().contains("1.67"), "{none}");
        }
        assert!(made(StatusCode::UNAUTHORIZED, b"").is_err());
    }
}
