//! Where an issuer's keys come from: a URL, a document that names one, or whatever else answers a question.
//!
//! Only https is asked, bounded in time and bytes. This module must not know what is in a key set.

use crate::outbound::Outbound;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use patchbay_core::provider::SecretEntry;
use secrecy::SecretSlice;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// No key set is longer, bytes.
pub const MAX_KEY_SET_BYTES: usize = 64 * 1024;

/// Where keys come from.
#[async_trait]
pub trait KeySetSource: Send + Sync {
    /// What is there now, at most [`MAX_KEY_SET_BYTES`]; or why there is nothing, in words for logs. It may be a shared
    /// key.
    async fn key_set(&self) -> Result<SecretSlice<u8>, String>;

    /// How often it is looked at, where nothing that a token says tells that it changed. Default: never, it is asked when
    /// a key is missing.
    fn look_every(&self) -> Option<Duration> {
        None
    }
}

/// Keys, and what else is kept secret, in entries of Secrets.
pub trait NamedKeys: Send + Sync {
    /// Reads this entry whenever it is asked.
    fn source(&self, entry: &SecretEntry) -> Arc<dyn KeySetSource>;
}

/// A key set at a URL.
pub(super) struct Published {
    pub(super) url: String,
    pub(super) outbound: Outbound,
}

#[async_trait]
impl KeySetSource for Published {
    async fn key_set(&self) -> Result<SecretSlice<u8>, String> {
        get(&self.outbound, &self.url).await.map(|body| body.to_vec().into())
    }
}

/// A key set at the URL that the issuer's own document names (`OpenID` Connect Discovery 1.0, 4). The document is read
/// again with every fetch: an issuer may move its keys.
pub(super) struct Discovered {
    pub(super) issuer: String,
    pub(super) outbound: Outbound,
}

#[async_trait]
impl KeySetSource for Discovered {
    async fn key_set(&self) -> Result<SecretSlice<u8>, String> {
        let at = document_of(&self.issuer);
        let document =
            get(&self.outbound, &at).await.map_err(|why| format!("its document {at}: {why}"))?;
        let url = key_set_url(&document, &self.issuer)?;
        get(&self.outbound, &url).await.map(|body| body.to_vec().into())
    }
}

/// Where an issuer's document is: a final `/` of the issuer is not doubled.
fn document_of(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Where the keys are by an issuer's document. One of another issuer is refused: whoever answers at this address could
/// otherwise lend the issuer somebody else's keys (4.3).
fn key_set_url(document: &[u8], issuer: &str) -> Result<String, String> {
    let document: Document = serde_json::from_slice(document)
        .map_err(|error| format!("its document is no discovery document: {error}"))?;
    if document.issuer != issuer {
        return Err("its document is of another issuer: its `issuer` must be the provider's to \
                    the byte"
            .into());
    }
    if !document.jwks_uri.starts_with("https://") {
        return Err("its document names keys (`jwks_uri`) that are not at an https URL".into());
    }
    Ok(document.jwks_uri)
}

async fn get(outbound: &Outbound, url: &str) -> Result<Bytes, String> {
    let request = Request::get(url)
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::new()))
        .map_err(|error| error.to_string())?;
    let (status, body) = outbound.ask(request).await.map_err(|error| error.to_string())?;
    if status == StatusCode::OK { Ok(body) } else { Err(format!("it answered {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_below_its_issuer() {
        let below = |issuer: &str| document_of(issuer);
        assert_eq!(
            below("https://i.example"),
            "https://i.example/.well-known/openid-configuration"
        );
        assert_eq!(
            below("https://i.example/realms/a/"),
            "https://i.example/realms/a/.well-known/openid-configuration"
        );
    }

    #[test]
    fn only_the_issuers_own_document_names_its_keys_and_only_at_https() {
        let issuer = "https://i.example";
        let url =
            |document: serde_json::Value| key_set_url(document.to_string().as_bytes(), issuer);
        let good = json!({ "issuer": issuer, "jwks_uri": "https://keys.example/k", "more": 1 });
        assert_eq!(url(good).unwrap(), "https://keys.example/k");
        for (bad, why) in [
            (
                json!({ "issuer": "https://i.example/", "jwks_uri": "https://k/k" }),
                "another issuer",
            ),
            (json!({ "issuer": issuer, "jwks_uri": "http://keys.example/k" }), "https"),
            (json!({ "issuer": issuer }), "no discovery document"),
            (json!([]), "no discovery document"),
        ] {
            let error = url(bad.clone()).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
