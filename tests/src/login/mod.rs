//! An authorization server at which clients of MCP log their users in, strictly: its metadata (RFC 8414, and `OpenID`'s),
//! clients that register themselves (RFC 7591), codes with PKCE (OAuth 2.1) for resources that it knows (RFC 8707), and
//! tokens for these resources and nothing else.
//!
//! It turns the session of a user's browser into a signed token. It must not know Patchbay.

mod codes;

use crate::{
    catalog::{keys::SigningKey, tls::TestCa},
    known,
    secrets::percent_encoded,
    tls_listener::TlsListener,
};
use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use codes::{Asked, Codes, Refused, Shown};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// Where its keys are, below its URL.
pub const KEYS: &str = "/auth/.well-known/jwks.json";

/// A running server; it ends with the runtime.
pub struct LoginServer {
    ca: TestCa,
    server: Arc<Server>,
}

struct Server {
    url: String,
    /// Whether it says who it is when a user comes back to a client (RFC 9207).
    is_told: bool,
    key: SigningKey,
    /// Beside those of every token.
    claims: Value,
    codes: Mutex<Codes>,
    sessions: Mutex<HashMap<String, String>>,
    seen: Mutex<Vec<String>>,
}

impl LoginServer {
    /// On a free port of 127.0.0.1; each of its tokens says this too.
    pub async fn start(claims: Value) -> anyhow::Result<Self> {
        let ca = TestCa::generate()?;
        let (listener, address) = TlsListener::bind(Ipv4Addr::LOCALHOST, &ca).await?;
        Self::serve(listener, ca, (format!("https://{address}"), true), claims)
    }

    /// On this address, by this name, and named by itself with its port, whatever the port is. It does not say so when a user
    /// comes back to a client: the SDK for Python reads a default port away, and takes the two for different servers.
    pub async fn start_as(name: &str, address: SocketAddr) -> anyhow::Result<Self> {
        let ca = TestCa::generate()?;
        let (listener, address) = TlsListener::bind_as(name, address, &ca).await?;
        let url = format!("https://{name}:{}", address.port());
        Self::serve(listener, ca, (url, false), json!({}))
    }

    fn serve(
        listener: TlsListener,
        ca: TestCa,
        (url, is_told): (String, bool),
        claims: Value,
    ) -> anyhow::Result<Self> {
        let server = Arc::new(Server {
            url,
            is_told,
            key: SigningKey::generate()?,
            claims,
            codes: Mutex::default(),
            sessions: Mutex::default(),
            seen: Mutex::default(),
        });
        let app = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/.well-known/openid-configuration", get(metadata))
            .route(KEYS, get(async |State(server): State<Arc<Server>>| Json(server.key.jwks())))
            .route("/register", post(register))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(server.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        Ok(Self { ca, server })
    }

    /// Its address, and `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// The authority that vouches for it.
    pub const fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// Tokens may be had for this resource.
    pub fn protect(&self, resource: &str) {
        self.server.codes.lock().protect(resource);
    }

    /// The cookie of a browser in which this user is logged in.
    pub fn session(&self, user: &str) -> String {
        let session = format!("session={}", uuid::Uuid::new_v4());
        self.server.sessions.lock().insert(session.clone(), user.to_owned());
        session
    }

    /// A token of a user for this resource, however the user came to it.
    pub fn token(&self, user: &str, resource: &str) -> anyhow::Result<String> {
        self.server.token(user, resource)
    }

    /// What was asked of it, in order: a path, and what it refused.
    pub fn seen(&self) -> Vec<String> {
        self.server.seen.lock().clone()
    }
}

impl Server {
    fn token(&self, user: &str, resource: &str) -> anyhow::Result<String> {
        let end = Timestamp::now() + SignedDuration::from_hours(1);
        let mut claims = json!({
            "iss": self.url, "aud": resource, "sub": user, "exp": end.as_second(),
        });
        if let (Some(claims), Some(more)) = (claims.as_object_mut(), self.claims.as_object()) {
            claims.extend(more.clone());
        }
        let token = self.key.sign(&claims)?;
        known::present("a token of the login", &token);
        Ok(token)
    }

    fn see(&self, path: &str, refused: Option<&str>) {
        let refused = refused.map(|error| format!(" {error}")).unwrap_or_default();
        self.seen.lock().push(format!("{path}{refused}"));
    }

    fn refuse(&self, path: &str, error: &str) -> Response {
        self.see(path, Some(error));
        (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
    }
}

async fn metadata(State(server): State<Arc<Server>>, uri: Uri) -> Json<Value> {
    server.see(uri.path(), None);
    let url = &server.url;
    Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "registration_endpoint": format!("{url}/register"),
        "jwks_uri": format!("{url}{KEYS}"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "authorization_response_iss_parameter_supported": server.is_told,
    }))
}

#[derive(Deserialize)]
struct Registration {
    redirect_uris: Vec<String>,
}

async fn register(State(server): State<Arc<Server>>, Json(asked): Json<Registration>) -> Response {
    let registered = server.codes.lock().register(asked.redirect_uris.clone());
    match registered {
        Err(error) => server.refuse("/register", error),
        Ok(client) => {
            server.see("/register", None);
            let client = json!({
                "client_id": client, "redirect_uris": asked.redirect_uris,
                "grant_types": ["authorization_code"], "response_types": ["code"],
                "token_endpoint_auth_method": "none",
            });
            (StatusCode::CREATED, Json(client)).into_response()
        }
    }
}

async fn authorize(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let cookie = headers.get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
    let user = cookie.and_then(|cookie| server.sessions.lock().get(cookie).cloned());
    let Some(user) = user else { return server.refuse("/authorize", "login_required") };
    let (back, state) = (asked.redirect_uri.clone(), asked.state.clone().unwrap_or_default());
    let authorized = server.codes.lock().authorize(asked, &user);
    let answer = match authorized {
        Ok(code) => ("code", code),
        Err(Refused::Here(error)) => return server.refuse("/authorize", error),
        Err(Refused::There(error)) => ("error", error.to_owned()),
    };
    server.see("/authorize", (answer.0 == "error").then_some(answer.1.as_str()));
    let iss = server.is_told.then(|| ("iss", server.url.clone()));
    let told = [answer, ("state", state)].into_iter().chain(iss);
    let told = told.map(|(name, value)| format!("{name}={}", percent_encoded(&value)));
    let query = told.collect::<Vec<_>>().join("&");
    (StatusCode::FOUND, [(header::LOCATION, format!("{back}?{query}"))]).into_response()
}

async fn token(State(server): State<Arc<Server>>, Form(shown): Form<Shown>) -> Response {
    let redeemed = server.codes.lock().redeem(&shown);
    let granted = match redeemed {
        Ok(granted) => granted,
        Err(error) => return server.refuse("/token", error),
    };
    server.see("/token", None);
    let Ok(token) = server.token(&granted.user, &granted.resource) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let token = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 });
    ([(header::CACHE_CONTROL, "no-store")], Json(token)).into_response()
}
