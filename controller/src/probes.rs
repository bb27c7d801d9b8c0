//! What a cluster asks of a process: `/livez`, `/readyz`, `/metrics`. No secret, no way to change anything.
//!
//! Kubelets and scrapers come by a pod's address, so no name is asked for. It must not know what the process does:
//! what is missing and what is measured is handed in.

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Probes {
    pub(crate) registry: Arc<Mutex<Registry>>,
    /// What the process still waits for before it does its work; nothing = it is ready.
    pub(crate) missing: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// Listens, or says how to listen elsewhere.
pub(crate) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}: choose another address (--admin-listen) if it is taken"
        )
    })
}

/// Serves the pages until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    probes: Probes,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let serving = axum::serve(listener, router(probes));
    Ok(serving.with_graceful_shutdown(shutdown.cancelled_owned()).await?)
}

fn router(probes: Probes) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

async fn readyz(State(probes): State<Probes>) -> Response {
    readiness(&(probes.missing)())
}

async fn metrics(State(probes): State<Probes>) -> Response {
    measured(&probes.registry.lock())
}

/// The answer of a process that still waits for these.
pub(crate) fn readiness(missing: &[String]) -> Response {
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    let lines: String = missing.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

/// All that is measured.
pub(crate) fn measured(registry: &Registry) -> Response {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_process_is_alive_before_it_is_ready_and_says_what_it_waits_for() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let missing = Arc::new(Mutex::new(vec!["the first list".to_owned()]));
        let probes = Probes {
            registry: Arc::default(),
            missing: Arc::new({
                let missing = missing.clone();
                move || missing.lock().clone()
            }),
        };
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, probes, shutdown.clone()));
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let waits = get(address, "/readyz").await;
        assert!(
            waits.starts_with("HTTP/1.1 503") && waits.ends_with("the first list\n"),
            "{waits}"
        );
        missing.lock().clear();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("# EOF"));
        shutdown.cancel();
        serving.await.unwrap().unwrap();
    }
}
