//! What decisions need of nodes: which of them take no new pods, and which may put memory on a disk.

use crate::worker_class::advice::Swap;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::Event;
use std::collections::BTreeSet;

/// The first release, as major and minor, whose kubelets all say that a node has swap.
const SAY_SWAP: (u32, u32) = (1, 34);

/// The nodes that matter. None where nodes may not be watched: then no worker is known to be on a cordoned one, and nothing
/// is known of swap.
#[derive(Debug, Default)]
pub struct Nodes {
    known: Option<Known>,
    listing: Option<Known>,
    is_refused: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    cordoned: BTreeSet<String>,
    swapping: BTreeSet<String>,
    silent: BTreeSet<String>,
}

impl Nodes {
    /// Nodes that take no new pods.
    pub fn cordoned(&self) -> BTreeSet<String> {
        self.known.as_ref().map(|known| known.cordoned.clone()).unwrap_or_default()
    }

    /// Which have swap, so that a tmpfs may end up on their disk.
    pub fn swap(&self) -> Swap {
        match &self.known {
            Some(known) => Swap::Told { has: known.swapping.clone(), silent: known.silent.clone() },
            None if self.is_refused => Swap::Unwatched,
            None => Swap::NotListed,
        }
    }

    /// Nodes may not be watched.
    pub fn refused(&mut self) {
        *self = Self { is_refused: true, ..Self::default() };
    }

    /// Takes an event of a watch. Returns whether it changes anything: a node's status does all the time.
    pub fn take(&mut self, event: &Event<Node>) -> bool {
        match event {
            Event::Init => {
                self.listing = Some(Known::default());
                false
            }
            Event::InitApply(node) => {
                if let Some(listing) = &mut self.listing {
                    listing.put(node);
                }
                false
            }
            Event::InitDone => {
                let Some(listed) = self.listing.take() else { return false };
                let changes = self.known.as_ref() != Some(&listed);
                self.known = Some(listed);
                changes
            }
            Event::Apply(node) => self.known.as_mut().is_some_and(|known| known.put(node)),
            Event::Delete(node) => self.known.as_mut().is_some_and(|known| known.remove(node)),
        }
    }
}

impl Known {
    fn put(&mut self, node: &Node) -> bool {
        let (has_swap, is_silent) = swap(node);
        let cordoned = put(&mut self.cordoned, node, is_cordoned(node));
        let swapping = put(&mut self.swapping, node, has_swap);
        let silent = put(&mut self.silent, node, is_silent);
        cordoned || swapping || silent
    }

    fn remove(&mut self, node: &Node) -> bool {
        let cordoned = put(&mut self.cordoned, node, false);
        let swapping = put(&mut self.swapping, node, false);
        let silent = put(&mut self.silent, node, false);
        cordoned || swapping || silent
    }
}

fn put(nodes: &mut BTreeSet<String>, node: &Node, is_in: bool) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if is_in { nodes.insert(name.to_owned()) } else { nodes.remove(name) }
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

/// Whether a node has swap, and whether it says nothing of it. Kubelets say so from 1.34 on whatever they are told, and then
/// only if there is some.
fn swap(node: &Node) -> (bool, bool) {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let capacity = info.and_then(|info| info.swap.as_ref()?.capacity);
    let says = info.is_some_and(|info| is_from(SAY_SWAP, &info.kubelet_version));
    (capacity.is_some_and(|bytes| bytes > 0), capacity.is_none() && !says)
}

/// Whether a version such as `v1.34.2-x.1` is this one of Kubernetes or a later one. A text that is no version is none.
fn is_from(least: (u32, u32), version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|it| it.parse().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= least
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, cordoned: bool, kubelet: &str, swap: Option<i64>) -> Node {
        let swap = swap.map(|bytes| json!({ "capacity": bytes }));
        let info = json!({ "swap": swap, "architecture": "", "bootID": "",
            "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
            "kubeletVersion": kubelet, "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "" });
        serde_json::from_value(json!({
            "metadata": { "name": name }, "spec": { "unschedulable": cordoned },
            "status": { "nodeInfo": info },
        }))
        .unwrap()
    }

    fn dry(name: &str, cordoned: bool) -> Node {
        node(name, cordoned, "v1.36.2", None)
    }

    fn list(nodes: &mut Nodes, all: Vec<Node>) -> bool {
        nodes.take(&Event::Init);
        for node in all {
            assert!(!nodes.take(&Event::InitApply(node)));
        }
        nodes.take(&Event::InitDone)
    }

    fn told(has: &[&str], silent: &[&str]) -> Swap {
        let [has, silent] =
            [has, silent].map(|nodes| nodes.iter().map(|node| (*node).to_owned()).collect());
        Swap::Told { has, silent }
    }

    #[test]
    fn only_what_matters_of_a_node_is_a_change() {
        let mut nodes = Nodes::default();
        assert!(list(&mut nodes, vec![dry("a", false)]), "now it is known");
        assert!(!list(&mut nodes, vec![dry("a", false)]));
        assert!(nodes.take(&Event::Apply(dry("a", true))));
        assert!(!nodes.take(&Event::Apply(dry("a", true))));
        assert!(nodes.take(&Event::Apply(node("b", false, "v1.36.2", Some(7)))));
        assert_eq!(nodes.cordoned(), ["a".to_owned()].into());
        assert_eq!(nodes.swap(), told(&["b"], &[]));
        assert!(nodes.take(&Event::Delete(dry("a", true))));
        // a list is all there is
        assert!(list(&mut nodes, vec![]));
        assert_eq!(nodes.swap(), told(&[], &[]));
    }

    #[test]
    fn a_node_is_silent_if_its_kubelet_would_not_say_that_it_has_swap() {
        let mut nodes = Nodes::default();
        let all = vec![
            node("new", false, "v1.34.0-eks-1", None),
            node("next", false, "v2.0.0", None),
            node("old", false, "v1.33.9", None),
            node("old-that-says", false, "v1.33.9", Some(0)),
            node("odd", false, "simulated", None),
        ];
        list(&mut nodes, all);
        assert_eq!(nodes.swap(), told(&[], &["odd", "old"]));
        assert!(nodes.take(&Event::Apply(dry("old", false))), "its kubelet is another one");
        assert_eq!(nodes.swap(), told(&[], &["odd"]));
    }

    #[test]
    fn nothing_is_known_of_nodes_that_are_not_watched() {
        let mut nodes = Nodes::default();
        assert_eq!((nodes.swap(), nodes.cordoned()), (Swap::NotListed, BTreeSet::new()));
        list(&mut nodes, vec![dry("a", true)]);
        nodes.refused();
        assert_eq!((nodes.swap(), nodes.cordoned()), (Swap::Unwatched, BTreeSet::new()));
    }
}
