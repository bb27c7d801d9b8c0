//! What every object that is made for a class has in common. It must not know the kinds of objects.

use super::labels::{self, Labels};
use crate::settings::Settings;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use patchbay_core::class::WorkerClass;

/// A class, validated, and the object that it was read from.
#[derive(Debug, Clone, Copy)]
pub struct ClassRef<'a> {
    /// What it says.
    pub class: &'a WorkerClass,
    /// The object's UID: a class of the same name that is made anew is another one.
    pub uid: &'a str,
}

impl ClassRef<'_> {
    /// Metadata of an object of this class. The class owns it: with the class, the cluster removes it.
    pub(super) fn metadata(self, settings: &Settings, name: Option<String>) -> ObjectMeta {
        ObjectMeta {
            namespace: Some(settings.namespace.clone()),
            name,
            labels: Some(labels::of_class(self.class)),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    fn owner(self) -> OwnerReference {
        OwnerReference {
            api_version: patchbay_crds::API_VERSION.into(),
            kind: "WorkerClass".into(),
            name: self.class.name.to_string(),
            uid: self.uid.into(),
            // a pod without a controller is one that `kubectl drain` refuses to evict
            controller: Some(true),
            // would take rights on the class's finalizers, and nothing has to wait for a worker's end
            block_owner_deletion: None,
        }
    }
}

pub(super) fn matching(labels: Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }
}
