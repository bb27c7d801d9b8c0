//! What `patchbay gateway` and `patchbay operator` have in common: where they are, as arguments, and the way to the
//! cluster, from a kubeconfig or a pod's own service account. Doc comments on arguments are what `--help` prints.
#![allow(clippy::doc_markdown, reason = "the help text is not Markdown")]

use anyhow::{Context, ensure};
use clap::Args;
use kube::{Client, Config};
use patchbay_crds::validate;
use patchbay_orchestrator::kubernetes;
use std::{net::SocketAddr, time::Duration};

/// What both must be told alike.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// The namespace of classes, providers, tenants and workers [default: the one of the kubeconfig or of
    /// the pod's own service account].
    #[arg(long, value_name = "NAME", env = "PATCHBAY_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Where kubelets and scrapers look: /livez, /readyz, /metrics.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9090",
        env = "PATCHBAY_ADMIN_LISTEN"
    )]
    pub(crate) admin_listen: SocketAddr,
    /// How long a request waits for a worker. Gateways and operator must be told the same.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub(crate) hold: Duration,
}

/// A duration as it is written in manifests, such as `30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    validate::duration::parse(text).map_err(|problem| problem.to_string())
}

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
