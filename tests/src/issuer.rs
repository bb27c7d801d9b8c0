//! An issuer of tokens over TLS: its discovery document, and a key set that a test exchanges. It turns keys into what
//! anybody may read. It must not know who its users are, nor Patchbay.

use crate::{
    catalog::{keys::SigningKey, tls::TestCa},
    tls_listener::TlsListener,
};
use axum::{Json, Router, extract::State, routing::get};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{net::Ipv4Addr, sync::Arc};

/// The audience of its tokens.
pub const AUDIENCE: &str = "patchbay";

/// A running issuer; it ends with the runtime.
pub struct Issuer {
    url: String,
    ca_pem: String,
    published: Arc<Mutex<Value>>,
}

impl Issuer {
    /// On a free port of 127.0.0.1, with this key.
    pub async fn start(key: &SigningKey) -> anyhow::Result<Self> {
        let ca = TestCa::generate()?;
        let (listener, address) = TlsListener::bind(Ipv4Addr::LOCALHOST, &ca).await?;
        let url = format!("https://{address}");
        let published = Arc::new(Mutex::new(key.jwks()));
        let document = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        let keys = async |State(keys): State<Arc<Mutex<Value>>>| Json(keys.lock().clone());
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(document)))
            .route("/keys", get(keys))
            .with_state(published.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        Ok(Self { url, ca_pem: ca.pem().to_owned(), published })
    }

    /// `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its keys are.
    pub fn keys_url(&self) -> String {
        format!("{}/keys", self.url)
    }

    /// The certificate authority to trust, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Has these keys in the place of those that it had.
    pub fn publish(&self, keys: &[&SigningKey]) {
        let all: Vec<_> = keys.iter().map(|key| key.jwks()["keys"][0].clone()).collect();
        *self.published.lock() = json!({ "keys": all });
    }
}

/// What a token of this issuer says of a user for the next hour.
pub fn claims(issuer: &str, subject: &str) -> Value {
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    json!({ "iss": issuer, "aud": AUDIENCE, "sub": subject, "exp": end.as_second() })
}

/// A token that whoever has this key can make.
pub fn hs256(claims: &Value, key: &[u8]) -> anyhow::Result<String> {
    let key = EncodingKey::from_secret(key);
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)?)
}
