//! Where clients wait between two calls, until a test lets them go on. It must not know what happens meanwhile.

use axum::{Router, extract::State, routing::get};
use http::StatusCode;
use std::net::Ipv4Addr;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

/// A URL whose requests wait until they are let go, and those that do.
pub async fn waiting_room() -> anyhow::Result<(String, mpsc::Receiver<oneshot::Sender<()>>)> {
    let (came, who) = mpsc::channel(1);
    let waiting = async move |State(came): State<mpsc::Sender<_>>| {
        let (go, may_go) = oneshot::channel();
        match came.send(go).await {
            Ok(()) if may_go.await.is_ok() => StatusCode::NO_CONTENT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let pages = Router::new().route("/", get(waiting)).with_state(came);
    tokio::spawn(axum::serve(listener, pages).into_future());
    Ok((url, who))
}
