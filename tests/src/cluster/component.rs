//! The processes of a cluster, by name. Each can be killed and started alone.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One process of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The container runtime. Containers outlive it.
    Containerd,
    /// Where the API server keeps objects.
    Etcd,
    /// kube-apiserver.
    Apiserver,
    /// kube-controller-manager.
    Controllers,
    /// kube-scheduler.
    Scheduler,
    /// The node's agent. Containers outlive it.
    Kubelet,
    /// kube-proxy: leads from the addresses of services to pods. What it has set up outlives it.
    Proxy,
    /// kube-router, for network policies alone. What it has set up outlives it.
    Firewall,
    /// kwok, for nodes that are simulated. It runs only where a test asks for one.
    Kwok,
}

impl Component {
    /// Those of every cluster, in the order in which they are started.
    pub const ALL: [Self; 8] = [
        Self::Containerd,
        Self::Etcd,
        Self::Apiserver,
        Self::Controllers,
        Self::Scheduler,
        Self::Kubelet,
        Self::Proxy,
        Self::Firewall,
    ];

    /// Its usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Firewall => "kube-router",
            Self::Kwok => "kwok",
        }
    }

    /// Whether it ends by itself where no API server answers, so that it has to be started after it.
    pub const fn needs_api(self) -> bool {
        !matches!(self, Self::Containerd | Self::Etcd | Self::Apiserver)
    }

    /// Whether it ends by itself where the node is not known yet.
    pub const fn needs_node(self) -> bool {
        matches!(self, Self::Firewall)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
