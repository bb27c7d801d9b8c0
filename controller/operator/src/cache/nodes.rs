//! What decisions need of nodes: which of them take no new pods, and which may put memory on a disk.

use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::Event;
use std::collections::BTreeSet;

/// The nodes that matter. None where nodes may not be watched: then no worker is known to be on a cordoned one.
#[derive(Debug, Default)]
pub struct Nodes {
    cordoned: BTreeSet<String>,
    swapping: BTreeSet<String>,
    listing: Option<(BTreeSet<String>, BTreeSet<String>)>,
}

impl Nodes {
    /// Nodes that take no new pods.
    pub const fn cordoned(&self) -> &BTreeSet<String> {
        &self.cordoned
    }

    /// Nodes that have swap: a tmpfs may end up on their disk.
    pub const fn swapping(&self) -> &BTreeSet<String> {
        &self.swapping
    }

    /// Takes an event of a watch. Returns whether it changes anything: a node's status does all the time.
    pub fn take(&mut self, event: &Event<Node>) -> bool {
        match event {
            Event::Init => {
                self.listing = Some(Default::default());
                false
            }
            Event::InitApply(node) => {
                if let Some((cordoned, swapping)) = &mut self.listing {
                    put(cordoned, node, is_cordoned(node));
                    put(swapping, node, has_swap(node));
                }
                false
            }
            Event::InitDone => {
                let Some((cordoned, swapping)) = self.listing.take() else { return false };
                let changes = cordoned != self.cordoned || swapping != self.swapping;
                (self.cordoned, self.swapping) = (cordoned, swapping);
                changes
            }
            Event::Apply(node) => {
                let cordoned = put(&mut self.cordoned, node, is_cordoned(node));
                let swapping = put(&mut self.swapping, node, has_swap(node));
                cordoned || swapping
            }
            Event::Delete(node) => {
                let cordoned = put(&mut self.cordoned, node, false);
                let swapping = put(&mut self.swapping, node, false);
                cordoned || swapping
            }
        }
    }
}

fn put(nodes: &mut BTreeSet<String>, node: &Node, is_in: bool) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if is_in { nodes.insert(name.to_owned()) } else { nodes.remove(name) }
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

/// Nodes say so from Kubernetes 1.34 on.
fn has_swap(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let capacity = info.and_then(|info| info.swap.as_ref()?.capacity);
    capacity.is_some_and(|bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, cordoned: bool, swap: i64) -> Node {
        let info = json!({ "swap": { "capacity": swap }, "architecture": "", "bootID": "",
            "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
            "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "" });
        serde_json::from_value(json!({
            "metadata": { "name": name }, "spec": { "unschedulable": cordoned },
            "status": { "nodeInfo": info },
        }))
        .unwrap()
    }

    #[test]
    fn only_what_matters_of_a_node_is_a_change() {
        let mut nodes = Nodes::default();
        for event in [Event::Init, Event::InitApply(node("a", false, 0)), Event::InitDone] {
            assert!(!nodes.take(&event));
        }
        assert!(nodes.take(&Event::Apply(node("a", true, 0))));
        assert!(!nodes.take(&Event::Apply(node("a", true, 0))));
        assert!(nodes.take(&Event::Apply(node("b", false, 7))));
        assert_eq!(nodes.cordoned(), &["a".to_owned()].into());
        assert_eq!(nodes.swapping(), &["b".to_owned()].into());
        assert!(nodes.take(&Event::Delete(node("a", true, 0))));
        // a list is all there is
        nodes.take(&Event::Init);
        assert!(nodes.take(&Event::InitDone));
        assert!(nodes.swapping().is_empty());
    }
}
