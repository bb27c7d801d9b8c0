//! What is kept of each kind of object: what decisions need, and no more, so that ten thousand tenants and their
//! workers fit into little memory.

use super::store::{Record, Unread};
use crate::{
    build::labels::{CLASS, COMPONENT, WORKER},
    observe::ObservedPod,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, api::ObjectMeta, core::DeserializeGuard};
use patchbay_crds::{Tenant, WorkerClass, tenant::name_matches};
use std::{net::IpAddr, sync::Arc};

/// What is kept of a tenant.
#[derive(Debug)]
pub struct TenantRecord {
    /// The object, without what nobody here reads.
    pub object: Arc<Tenant>,
    /// Whether its name is its identity's.
    pub usable: bool,
}

/// What is kept of a worker's pod.
#[derive(Debug)]
pub struct PodRecord {
    /// What is seen of it.
    pub seen: ObservedPod,
    /// Where its agent is.
    pub ip: Option<IpAddr>,
    /// The UID of the class that owns it.
    pub owner: Option<String>,
    class: String,
}

/// What is kept of a class.
#[derive(Debug)]
pub struct ClassRecord {
    /// The object, without what nobody here reads.
    pub object: Arc<WorkerClass>,
}

impl Record for TenantRecord {
    type Object = DeserializeGuard<Tenant>;

    fn read(object: Self::Object) -> Result<Self, Unread> {
        let mut object = decoded(object)?;
        prune(&mut object.metadata);
        Ok(Self { usable: name_matches(&object), object: Arc::new(object) })
    }

    fn name(&self) -> &str {
        word(self.object.metadata.name.as_ref())
    }

    fn class(&self) -> &str {
        &self.object.spec.class_name
    }

    fn uid(&self) -> &str {
        word(self.object.metadata.uid.as_ref())
    }

    fn version(&self) -> &str {
        word(self.object.metadata.resource_version.as_ref())
    }
}

impl Record for PodRecord {
    type Object = Pod;

    fn read(pod: Pod) -> Result<Self, Unread> {
        let unread = |error: &str| Unread {
            name: pod.metadata.name.clone().unwrap_or_default(),
            error: error.into(),
        };
        let labels = pod.metadata.labels.as_ref();
        let class = labels.and_then(|labels| labels.get(CLASS)).cloned();
        let seen = ObservedPod::of(&pod).ok_or_else(|| unread("has no name, UID or version"))?;
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok());
        let owners = pod.metadata.owner_references.as_ref();
        let owner = owners.into_iter().flatten().find(|owner| owner.controller == Some(true));
        Ok(Self {
            seen,
            ip,
            owner: owner.map(|owner| owner.uid.clone()),
            // the label was taken away: no class's, and the sweep's
            class: class.unwrap_or_default(),
        })
    }

    fn name(&self) -> &str {
        &self.seen.name
    }

    fn class(&self) -> &str {
        &self.class
    }

    fn uid(&self) -> &str {
        self.seen.uid.as_str()
    }

    fn version(&self) -> &str {
        &self.seen.resource_version
    }
}

impl Record for ClassRecord {
    type Object = DeserializeGuard<WorkerClass>;

    fn read(object: Self::Object) -> Result<Self, Unread> {
        let mut object = decoded(object)?;
        prune(&mut object.metadata);
        Ok(Self { object: Arc::new(object) })
    }

    fn name(&self) -> &str {
        word(self.object.metadata.name.as_ref())
    }

    fn class(&self) -> &str {
        self.name()
    }

    fn uid(&self) -> &str {
        word(self.object.metadata.uid.as_ref())
    }

    fn version(&self) -> &str {
        word(self.object.metadata.resource_version.as_ref())
    }
}

/// The selector of all workers, in the words of `kubectl get -l`.
pub fn all_workers() -> String {
    format!("{COMPONENT}={WORKER},{CLASS}")
}

/// One object that this release cannot read must not hide the others.
fn decoded<K: Resource>(object: DeserializeGuard<K>) -> Result<K, Unread> {
    object.0.map_err(|invalid| Unread {
        name: invalid.metadata.name.unwrap_or_default(),
        error: invalid.error,
    })
}

fn prune(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.annotations = None;
    metadata.owner_references = None;
    metadata.generate_name = None;
    metadata.self_link = None;
}

fn word(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}
