//! Patchbay's API: the kinds `WorkerClass`, `IdentityProvider` and `Tenant`.
//!
//! Two orchestrators read this one API. In a cluster (Kubernetes 1.30 or later) the generated
//! schemas and rules (`crds/yaml/`) guard it; on one machine [`documents`] reads the same manifests
//! from YAML files and checks them against the same schemas. [`validate`] turns what was written
//! into the words of `patchbay-core`. This crate must not know an API server, nor how a worker or a
//! credential works.

pub mod bounds;
pub mod condition;
pub mod documents;
pub mod identity_provider;
pub mod marks;
pub mod reference;
mod rules;
pub mod schema;
pub mod tenant;
pub mod validate;
pub mod worker_class;

pub use identity_provider::{IdentityProvider, IdentityProviderSpec};
pub use tenant::{Tenant, TenantSpec};
pub use worker_class::{WorkerClass, WorkerClassSpec, ignored_locally};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The API group of every kind.
pub const GROUP: &str = "patchbay.dev";

/// The version of every kind.
pub const VERSION: &str = "v1alpha1";

/// What a manifest says as its `apiVersion`.
pub const API_VERSION: &str = "patchbay.dev/v1alpha1";

/// The definitions of all kinds, as they are installed into a cluster.
pub fn all() -> Vec<CustomResourceDefinition> {
    [IdentityProvider::crd(), Tenant::crd(), WorkerClass::crd()]
        .into_iter()
        .map(schema::conformed)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_namespaced_has_a_short_name_and_the_category() {
        let found: Vec<_> = all()
            .into_iter()
            .map(|crd| {
                assert_eq!(crd.spec.group, GROUP);
                assert_eq!(crd.spec.scope, "Namespaced");
                assert_eq!(crd.spec.versions.len(), 1);
                assert_eq!(crd.spec.versions[0].name, VERSION);
                let names = crd.spec.names;
                assert_eq!(names.categories, Some(vec!["patchbay".to_owned()]));
                (names.kind, names.plural, names.short_names.unwrap().concat())
            })
            .collect();
        let expected = [
            ("IdentityProvider", "identityproviders", "idp"),
            ("Tenant", "tenants", "tn"),
            ("WorkerClass", "workerclasses", "wc"),
        ]
        .map(|(kind, plural, short)| (kind.to_owned(), plural.to_owned(), short.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_api_version_is_group_and_version() {
        assert_eq!(API_VERSION, format!("{GROUP}/{VERSION}"));
    }
}
