//! What operators look at: `/livez`, `/readyz`, `/metrics`, `/tenants`. No secret, no way to change
//! anything, loopback only.

use crate::probes::{measured, readiness};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use patchbay_core::id::ClassName;
use patchbay_gateway::{Gateway, origin::AllowedNames};
use patchbay_orchestrator::local::{LocalOrchestrator, TenantRow};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) orchestrator: Arc<LocalOrchestrator>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) warm: WarmWorkers,
}

/// How many warm workers each class has: what a pool is scaled by.
#[derive(Clone, Default)]
pub(crate) struct WarmWorkers(Family<ClassLabel, Gauge>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: String,
}

impl WarmWorkers {
    /// Registers the gauge; it is read when the metrics are.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let warm = Self::default();
        let help = "Anonymous workers that are ready, by class";
        registry.register("patchbay_warm_workers", help, warm.0.clone());
        warm
    }

    fn update(&self, anonymous: Vec<(ClassName, usize)>) {
        for (class, count) in anonymous {
            let label = ClassLabel { class: class.to_string() };
            self.0.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// The pages.
///
/// They answer to loopback names and to `address`, where they listen.
pub(crate) fn router(admin: Admin, address: SocketAddr) -> Router {
    let names = Arc::new(AllowedNames::new(host_name(address), []));
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/tenants", get(tenants))
        .layer(middleware::from_fn(move |request, next| {
            only_our_names(names.clone(), request, next)
        }))
        .with_state(admin)
}

/// A page of another site, under a name that it rebound to loopback, sees nothing.
async fn only_our_names(names: Arc<AllowedNames>, request: Request, next: Next) -> Response {
    match names.check(request.uri(), request.headers(), std::iter::empty()) {
        Ok(_) => next.run(request).await,
        Err(error) => (StatusCode::FORBIDDEN, format!("{error}\n")).into_response(),
    }
}

/// A listener's address as a URL names it; a listener on all addresses has none of its own.
pub(crate) fn host_name(address: SocketAddr) -> Option<String> {
    match address.ip() {
        ip if ip.is_unspecified() => None,
        IpAddr::V4(ip) => Some(ip.to_string()),
        IpAddr::V6(ip) => Some(format!("[{ip}]")),
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.orchestrator.is_ready() {
        return readiness(&[]);
    }
    let classes = admin.orchestrator.anonymous().into_iter();
    let missing: Vec<_> =
        classes.map(|(class, ready)| format!("{class}: {ready} warm workers")).collect();
    readiness(&missing)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    admin.warm.update(admin.orchestrator.anonymous());
    measured(&admin.registry.lock())
}

async fn tenants(State(admin): State<Admin>) -> Json<Vec<TenantRow>> {
    let mut rows = admin.orchestrator.tenants();
    for row in &mut rows {
        // the worker's own word comes when it leaves; until then, what the gateway saw
        row.last_activity = row.last_activity.max(admin.gateway.last_request(&row.tenant));
    }
    Json(rows)
}
