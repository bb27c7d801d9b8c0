//! The way to a cluster: from a kubeconfig, or a pod's own service account.

use anyhow::{Context, ensure};
use kube::{Client, Config};
use patchbay_orchestrator::kubernetes;

/// The namespace, which is the one of the configuration if none is named, and a client of its API server that
/// repeats nothing by itself.
pub(crate) async fn connect(namespace: Option<String>) -> anyhow::Result<(String, Client)> {
    let config = Config::infer()
        .await
        .context("there is no cluster: run in a pod with a service account, or set KUBECONFIG")?;
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    ensure!(!namespace.is_empty(), "--namespace must not be empty");
    tracing::info!(namespace, cluster = %config.cluster_url, "watching");
    let client = kubernetes::connect(config).context("no client of the API server")?;
    Ok((namespace, client))
}
