//! The catalog's HTTP surface: three routers over one state. Each route turns a request into a
//! question to the module that knows the answer; what a credential is worth is decided in one
//! place, [`Caller`].

use super::{
    Shared,
    graphql::{self, Directory},
    search::{self, SearchError},
    world::Member,
};
use axum::{
    Form, Json, Router,
    extract::{FromRequestParts, Query, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the catalog's own origin serves: no credential is needed for any of it.
pub(super) fn catalog(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/config.json", get(config))
        .route("/.well-known/jwks.json", get(key_set))
        .route("/.well-known/openid-configuration", get(discovery))
        .fallback(not_found)
        .with_state(shared)
}

/// What the registry's origin serves.
pub(super) fn registry(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/token", post(token))
        .route("/api/auth/get_credentials", get(credentials))
        .route("/api/search", get(search))
        .route("/graphql", post(graphql))
        .fallback(not_found)
        .with_state(shared)
}

/// What whoever started the double may ask it.
pub(super) fn control(shared: Arc<Shared>) -> Router {
    Router::new().route("/__double/requests", get(requests)).fallback(not_found).with_state(shared)
}

/// A refusal in the registry's form.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "message": self.1 }))).into_response()
    }
}

/// The user whose credential a request carries.
struct Caller(Member);

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared>,
    ) -> Result<Self, Self::Rejection> {
        let unauthorized = || Refusal(StatusCode::UNAUTHORIZED, "unauthorized".into());
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(unauthorized());
        };
        let name = value
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(|bearer| shared.credentials.verify(bearer))
            .filter(|name| shared.directory.lock().is_active(name))
            .ok_or_else(unauthorized)?;
        let member = shared.world.users.iter().find(|member| member.name == name);
        member.cloned().map(Self).ok_or_else(unauthorized)
    }
}

async fn config(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let registry = &shared.registry_url;
    Json(json!({
        "registryUrl": registry,
        "s3Proxy": format!("{registry}/s3proxy"),
        "apiGatewayEndpoint": format!("{registry}/gateway"),
        "binaryApiGatewayEndpoint": format!("{registry}/binary-gateway"),
        "region": shared.world.region,
        "alwaysRequiresAuth": true,
        "mode": "PRODUCT",
        "serviceBucket": "double-service",
        "analyticsBucket": "double-analyticsbucket-1",
        "stackVersion": "double",
    }))
}

async fn key_set(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.credentials.key().jwks())
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let issuer = shared.credentials.issuer();
    Json(json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/.well-known/jwks.json") }))
}

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

async fn token(
    State(shared): State<Arc<Shared>>,
    Form(refresh): Form<Refresh>,
) -> Result<Response, Refusal> {
    // The registry answers 200 with an error here, and quilt3 looks for exactly that.
    match shared.credentials.refresh(&refresh.refresh_token) {
        Ok(Some(pair)) => Ok(Json(pair).into_response()),
        Ok(None) => Ok(Json(json!({ "error": "invalid refresh token" })).into_response()),
        Err(error) => Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

async fn credentials(
    State(shared): State<Arc<Shared>>,
    Caller(user): Caller,
) -> Result<Response, Refusal> {
    let role = user
        .role_arn
        .as_deref()
        .ok_or_else(|| Refusal(StatusCode::FORBIDDEN, "the user has no role".into()))?;
    let assumed = shared.sts.credentials(&shared.world, &user, role).await;
    assumed
        .map(|credentials| Json(credentials).into_response())
        .map_err(|error| Refusal(StatusCode::BAD_GATEWAY, format!("{error:#}")))
}

async fn search(
    Caller(user): Caller,
    Query(request): Query<search::Request>,
) -> Result<Json<Value>, Refusal> {
    search::search(&user, &request).map(Json).map_err(|error| {
        let status = match error {
            SearchError::Wildcard => StatusCode::FORBIDDEN,
            SearchError::Invalid(_) | SearchError::Unsupported(_) => StatusCode::BAD_REQUEST,
        };
        Refusal(status, error.to_string())
    })
}

async fn graphql(
    State(shared): State<Arc<Shared>>,
    Caller(user): Caller,
    Json(request): Json<graphql::Request>,
) -> Json<Value> {
    let directory: &mut Directory = &mut shared.directory.lock();
    let new_key = || shared.credentials.api_key(&user.name);
    Json(graphql::answer(&shared.world, directory, &user.name, &new_key, &request))
}

async fn requests(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.record.all()).into_response()
}

async fn not_found() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "not found".into())
}
