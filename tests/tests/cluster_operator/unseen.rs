//! A way to the API server on which what happens to classes can be kept from whoever goes it: all else is answered.

use anyhow::Context;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use futures_util::StreamExt as _;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::Client;
use patchbay_tests::cluster::Cluster;
use serde_json::json;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};

/// How long anything may take on a machine with other things to do.
const LIMIT: Duration = Duration::from_mins(2);

/// The way. It ends with this.
pub(crate) struct Way {
    told: Told,
    files: TempDir,
    _serving: JoinSet<std::io::Result<()>>,
}

#[derive(Clone)]
struct Told {
    client: Client,
    are_classes_unseen: watch::Sender<bool>,
    /// Statuses of classes that were sent, and answered.
    statuses: watch::Sender<usize>,
}

impl Way {
    /// Leads to a cluster's API server, as its administrator.
    pub(crate) async fn to(cluster: &Cluster) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = format!("http://{}", listener.local_addr()?);
        let told = Told {
            client: cluster.client_without_retries().await?,
            are_classes_unseen: watch::Sender::new(false),
            statuses: watch::Sender::new(0),
        };
        let files = tempfile::Builder::new().prefix("pb").tempdir()?;
        let way = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "way",
            "clusters": [{ "name": "way", "cluster": { "server": server } }],
            "users": [{ "name": "way", "user": {} }],
            "contexts": [{ "name": "way", "context": { "cluster": "way", "user": "way" } }],
        });
        std::fs::write(files.path().join("kubeconfig"), way.to_string())?;
        let app = Router::new().fallback(pass).with_state(told.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await });
        Ok(Self { told, files, _serving: serving })
    }

    /// How to go it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.files.path().join("kubeconfig")
    }

    /// From now on watches of classes show nothing.
    pub(crate) fn hide_classes(&self) {
        self.told.are_classes_unseen.send_replace(true);
    }

    /// Watches show all that they have not shown.
    pub(crate) fn show_classes(&self) {
        self.told.are_classes_unseen.send_replace(false);
    }

    /// Returns when a further status of a class, from this call on, has been answered.
    pub(crate) fn next_status(&self) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let mut statuses = self.told.statuses.subscribe();
        async move {
            let sent = timeout(LIMIT, statuses.changed()).await;
            Ok(sent.context("no status of a class was sent")??)
        }
    }
}

async fn pass(
    State(told): State<Told>,
    request: Request,
) -> Result<Response, (StatusCode, String)> {
    let failed = |error: &dyn std::fmt::Display| (StatusCode::BAD_GATEWAY, error.to_string());
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    let is_watch = path.ends_with("/workerclasses") && query.contains("watch=");
    let is_status = head.method == Method::PATCH
        && path.contains("/workerclasses/")
        && path.ends_with("/status");
    let mut onward = http::Request::builder()
        .method(&head.method)
        .uri(head.uri.path_and_query().map_or("/", |it| it.as_str()));
    for name in [header::ACCEPT, header::CONTENT_TYPE] {
        if let Some(value) = head.headers.get(&name) {
            onward = onward.header(name, value);
        }
    }
    let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
    let onward = onward.body(body.into()).map_err(|error| failed(&error))?;
    let answer = told.client.send(onward).await.map_err(|error| failed(&error))?;
    if is_status {
        told.statuses.send_modify(|count| *count += 1);
    }
    let (head, body) = answer.into_parts();
    let parts = body.into_data_stream().then(move |part| {
        let mut unseen = told.are_classes_unseen.subscribe();
        async move {
            if is_watch {
                // the sender is kept by whoever hides
                let _ = unseen.wait_for(|unseen| !unseen).await;
            }
            part
        }
    });
    let mut shown = Response::new(Body::from_stream(parts));
    *shown.status_mut() = head.status;
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        shown.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    Ok(shown)
}
