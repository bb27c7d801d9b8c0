//! An authorization server that exchanges tokens of an issuer of its own for tokens of a catalog (RFC 8693), strictly: it
//! knows one client by its secret, and gives nothing that was not asked for in the words of the standard.
//!
//! It turns a form into a token of the catalog's double. It must not know Patchbay.

use crate::{
    catalog::{Catalog, tls::TestCa},
    known,
    tls_listener::TlsListener,
};
use anyhow::ensure;
use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use data_encoding::BASE64;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{net::Ipv4Addr, sync::Arc};

/// `iss` of the tokens that it takes.
pub const ISSUER: &str = "https://login.example";
/// `aud` of those tokens: they are for Patchbay and nobody else.
pub const PATCHBAY: &str = "patchbay";
/// The audience that it knows the catalog by.
pub const CATALOG: &str = "quilt-catalog";
/// The client that may ask.
pub const CLIENT: &str = "urn:patchbay";
/// Its secret.
pub const SECRET: &str = "it's 100% secret: /+=";
/// The key of its issuer.
pub const KEY: &[u8] = b"only the login and Patchbay have it";

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A running server; it ends with the runtime.
pub struct AuthorizationServer {
    url: String,
    ca_pem: String,
    state: Arc<Server>,
}

/// What a server that is busy asks for, seconds.
pub const RETRY_AFTER: u32 = 23;

/// What it does instead of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails.
    Failing,
    /// It is asked too often: 429 with `Retry-After` of [`RETRY_AFTER`] seconds.
    Busy,
    /// It no longer gives this user the catalog.
    Denying,
}

struct Server {
    catalog: Arc<Catalog>,
    lifetime: Mutex<SignedDuration>,
    fault: Mutex<Option<Fault>>,
    exchanged: Mutex<Vec<String>>,
    refused: Mutex<Vec<String>>,
}

#[derive(Deserialize)]
struct Asked {
    grant_type: String,
    subject_token: String,
    subject_token_type: String,
    requested_token_type: Option<String>,
    audience: String,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Subject {
    sub: String,
}

impl AuthorizationServer {
    /// On a free port of 127.0.0.1.
    pub async fn start(catalog: Arc<Catalog>) -> anyhow::Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, catalog).await
    }

    /// The same at another address of this machine.
    pub async fn start_at(at: Ipv4Addr, catalog: Arc<Catalog>) -> anyhow::Result<Self> {
        known::hold("the secret of the exchange's client", SECRET);
        let ca = TestCa::generate()?;
        let (listener, address) = TlsListener::bind(at, &ca).await?;
        let state = Arc::new(Server {
            catalog,
            lifetime: Mutex::new(SignedDuration::from_hours(1)),
            fault: Mutex::default(),
            exchanged: Mutex::default(),
            refused: Mutex::default(),
        });
        let app = Router::new().route("/token", post(answer)).with_state(state.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        let url = format!("https://{address}/token");
        Ok(Self { url, ca_pem: ca.pem().to_owned(), state })
    }

    /// Its token endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate authority to trust, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A token of a user that is meant for Patchbay alone.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        let end = Timestamp::now() + SignedDuration::from_hours(1);
        let claims = json!({
            "iss": ISSUER, "aud": PATCHBAY, "sub": user, "exp": end.as_second(),
            "jti": uuid::Uuid::new_v4(),
        });
        let key = EncodingKey::from_secret(KEY);
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
    }

    /// Tokens that are given from now on live this long.
    pub fn tokens_live_for(&self, lifetime: SignedDuration) {
        *self.state.lifetime.lock() = lifetime;
    }

    /// Does this in the place of exchanges, or exchanges again.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.state.fault.lock() = fault;
    }

    /// Whose tokens were exchanged, in order.
    pub fn exchanged(&self) -> Vec<String> {
        self.state.exchanged.lock().clone()
    }

    /// What was not, and why.
    pub fn refused(&self) -> Vec<String> {
        self.state.refused.lock().clone()
    }
}

async fn answer(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Form(asked): Form<Asked>,
) -> Response {
    let fault = *server.fault.lock();
    if fault == Some(Fault::Failing) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if fault == Some(Fault::Busy) {
        let after = [(header::RETRY_AFTER, RETRY_AFTER.to_string())];
        return (StatusCode::TOO_MANY_REQUESTS, after).into_response();
    }
    let denied = fault == Some(Fault::Denying);
    let given = server.exchange(&headers, &asked, denied);
    let answer = match given {
        Ok(token) => Json(token).into_response(),
        Err(error) => {
            server.refused.lock().push(error.to_owned());
            let status = if error == "invalid_client" {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::BAD_REQUEST
            };
            (status, Json(json!({ "error": error }))).into_response()
        }
    };
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}

impl Server {
    fn exchange(
        &self,
        headers: &HeaderMap,
        asked: &Asked,
        denied: bool,
    ) -> Result<Value, &'static str> {
        // RFC 6749, 2.3.1: both are encoded as a form's values first
        let pair = "urn%3Apatchbay:it%27s%20100%25%20secret%3A%20%2F%2B%3D";
        let expected = format!("Basic {}", BASE64.encode(pair.as_bytes()));
        if headers.get(header::AUTHORIZATION).is_none_or(|it| it.as_bytes() != expected.as_bytes())
        {
            return Err("invalid_client");
        }
        if asked.grant_type != "urn:ietf:params:oauth:grant-type:token-exchange" {
            return Err("unsupported_grant_type");
        }
        let types =
            [Some(asked.subject_token_type.as_str()), asked.requested_token_type.as_deref()];
        if types != [Some(ACCESS_TOKEN); 2] {
            return Err("invalid_request");
        }
        if asked.audience != CATALOG || denied {
            return Err("invalid_target");
        }
        if asked.scope.as_deref() != Some("packages search") {
            return Err("invalid_scope");
        }
        let user = subject(&asked.subject_token).map_err(|_| "invalid_request")?;
        let lifetime = *self.lifetime.lock();
        let credentials = self.catalog.credentials();
        let mut claims = credentials.claims(&user, Timestamp::now(), lifetime);
        claims["aud"] = json!([self.catalog.url()]);
        let token = credentials.key().sign(&claims).map_err(|_| "server_error")?;
        self.exchanged.lock().push(user);
        Ok(json!({
            "access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer",
            "expires_in": lifetime.as_secs(),
        }))
    }
}

/// Whose token it is.
fn subject(token: &str) -> anyhow::Result<String> {
    let mut rules = Validation::new(Algorithm::HS256);
    rules.set_issuer(&[ISSUER]);
    rules.set_audience(&[PATCHBAY]);
    let key = DecodingKey::from_secret(KEY);
    let sub = jsonwebtoken::decode::<Subject>(token, &key, &rules)?.claims.sub;
    ensure!(!sub.is_empty(), "a token of nobody");
    Ok(sub)
}
