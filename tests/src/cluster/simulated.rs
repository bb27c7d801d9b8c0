//! Nodes that are none: kwok tells the API server what a kubelet would tell of pods, and runs nothing. Thousands
//! of pods cost what their objects cost, and their addresses may be this machine's own, where a test listens.

use super::{Cluster, Component, ready, strict::from};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};

/// The label and the taint of every such node.
const MARK: &str = "kwok.x-k8s.io/node";
const VALUE: &str = "fake";

/// What kwok takes for its own.
pub(super) const SELECTOR: &str = "kwok.x-k8s.io/node=fake";

/// The address of every such node, which nothing has (RFC 5737). A pod of the real node has another host's.
pub(super) const NODE_IP: &str = "192.0.2.1";

/// The annotation with which a pod chooses its own address.
pub const ADDRESS: &str = "test.patchbay.dev/address";

/// What a pod's spec, or a class's, says to be on such a node: no other pod ever is.
pub fn placement() -> Value {
    json!({
        "nodeSelector": { MARK: VALUE },
        "tolerations": [{ "key": MARK, "operator": "Equal", "value": VALUE, "effect": "NoSchedule" }],
    })
}

impl Cluster {
    /// Adds a node whose pods become ready without being run, and waits until it takes some. Their addresses are
    /// of `range`, each once as long as its pod is there; a pod with [`ADDRESS`] has that one.
    pub async fn simulate_node(&self, name: &str, range: &str) -> anyhow::Result<()> {
        self.start(Component::Kwok).await?;
        let node = json!({
            "metadata": { "name": name, "labels": { MARK: VALUE, "kubernetes.io/hostname": name } },
            "spec": {
                "podCIDR": range,
                "podCIDRs": [range],
                "taints": [{ "key": MARK, "value": VALUE, "effect": "NoSchedule" }],
            },
        });
        let client = self.client().await?;
        let nodes = Api::<Node>::all(client.clone());
        nodes.create(&PostParams::default(), &from(node)?).await?;
        ready::until("the simulated node takes pods", async || {
            ready::is_node_ready(&client, name).await
        })
        .await
    }

    /// Takes away all such nodes, and kwok with them.
    pub async fn end_simulation(&self) -> anyhow::Result<()> {
        let nodes = Api::<Node>::all(self.client().await?);
        let simulated = ListParams::default().labels(SELECTOR);
        nodes.delete_collection(&DeleteParams::default(), &simulated).await?;
        self.kill(Component::Kwok)
    }
}
