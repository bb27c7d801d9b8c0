//! The command line of `patchbay operator`. Doc comments here are what `--help` prints.

use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// Arguments of `patchbay operator`.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    /// The namespace of classes, tenants and workers.
    #[arg(long, value_name = "NAME", env = "PATCHBAY_NAMESPACE")]
    pub(crate) namespace: String,
    /// The image that holds /patchbay-worker.
    #[arg(long, value_name = "IMAGE", env = "PATCHBAY_WORKER_IMAGE")]
    pub(crate) worker_image: String,
    /// A Secret with which nodes pull the images of workers.
    #[arg(long = "image-pull-secret", value_name = "NAME")]
    pub(crate) image_pull_secrets: Vec<String>,
    /// A range of the cluster's own: of nodes, pods or services. No worker reaches it.
    #[arg(long = "cluster-range", value_name = "CIDR")]
    pub(crate) cluster_ranges: Vec<String>,
    /// Where workers look names up, besides the pods of kube-dns: the address of the DNS service.
    #[arg(long, value_name = "CIDR")]
    pub(crate) dns: Vec<String>,
    /// For how many seconds a gateway holds a request that waits for a worker.
    #[arg(long, value_name = "SECONDS", default_value_t = patchbay_gateway::Limits::default().hold.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) hold: u64,
    /// PEM file of the certificate by which this operator proves its role to workers. It is read again when it changes.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_LINK_CERT")]
    pub(crate) link_cert: PathBuf,
    /// PEM file of its private key.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_LINK_KEY")]
    pub(crate) link_key: PathBuf,
    /// Where the cluster asks: /livez, /readyz, /metrics.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9090",
        env = "PATCHBAY_ADMIN_LISTEN"
    )]
    pub(crate) admin_listen: SocketAddr,
}
