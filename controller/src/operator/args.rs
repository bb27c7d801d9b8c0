//! The command line of `patchbay operator`. Doc comments here are what `--help` prints.

use crate::cluster::ClusterArgs;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `patchbay operator`.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
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
    /// The Secret in which this operator keeps the root keys of sessions, which gateways mount. It must be there,
    /// if empty [default: none are kept, and sessions end with their worker].
    #[arg(long, value_name = "NAME")]
    pub(crate) session_secret: Option<String>,
    #[command(flatten)]
    pub(crate) authority: AuthorityArgs,
}

/// Who vouches for the operator and the gateways.
#[derive(Debug, Args)]
pub(crate) struct AuthorityArgs {
    /// The Secret in which this operator keeps the control plane's certificate authority. It must be there, if
    /// empty.
    #[arg(
        long,
        value_name = "NAME",
        requires = "gateway_link_secret",
        required_unless_present = "link_cert",
        conflicts_with_all = ["link_cert", "link_key", "link_ca"]
    )]
    pub(crate) ca_secret: Option<String>,
    /// The Secret into which it puts the gateways' certificate. It must be there, if empty.
    #[arg(long, value_name = "NAME", requires = "ca_secret")]
    pub(crate) gateway_link_secret: Option<String>,
    /// Where somebody else keeps the authority: PEM file of this operator's certificate. It is read again when it
    /// changes.
    #[arg(long, value_name = "FILE", requires = "link_key", env = "PATCHBAY_LINK_CERT")]
    pub(crate) link_cert: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, value_name = "FILE", requires = "link_cert", env = "PATCHBAY_LINK_KEY")]
    pub(crate) link_key: Option<PathBuf>,
    /// PEM file of the roots that workers are to trust, to be published by this operator; read again when it
    /// changes [default: somebody else publishes them].
    #[arg(long, value_name = "FILE", requires = "link_cert")]
    pub(crate) link_ca: Option<PathBuf>,
}
