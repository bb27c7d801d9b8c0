//! What an installation says about all workers of all classes. It must not know any class.

use patchbay_core::cidr::Cidr;

/// One installation's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where classes, workers and Patchbay's own pods are.
    pub namespace: String,
    /// The image that holds the static `/patchbay-worker`.
    pub worker_image: String,
    /// The `ConfigMap` whose `ca.crt` is the control plane's CA.
    pub control_plane_ca: String,
    /// The audience of the token by which a worker shows which pod it is in.
    pub audience: String,
    /// Secrets with which nodes pull images.
    pub image_pull_secrets: Vec<String>,
    /// The cluster's own ranges: of nodes, pods and services, and of the API server where no node has it. No class
    /// reaches them, whatever it lists. That of services alone protects nothing: where kube-proxy translates
    /// addresses, policies see what a service leads to (`cluster_network` tries it).
    pub cluster_ranges: Vec<Cidr>,
    /// Further addresses at which names are looked up: that of the cluster's DNS service, where network
    /// policies see it before it is translated.
    pub dns: Vec<Cidr>,
}

impl Settings {
    /// The usual settings of an installation in `namespace` whose worker image this is.
    pub fn new(namespace: impl Into<String>, worker_image: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            worker_image: worker_image.into(),
            control_plane_ca: "patchbay-control-plane-ca".into(),
            audience: "patchbay".into(),
            image_pull_secrets: Vec::new(),
            cluster_ranges: Vec::new(),
            dns: Vec::new(),
        }
    }
}
