//! Publishes what workers trust. It must not know where roots come from: of this operator's making, or of
//! somebody else's.

use super::{bundle::Bundle, error::KeepError};
use crate::{api_error::failed, params::apply};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::Patch};
use std::time::Duration;

/// Publishes roots in one `ConfigMap`.
pub struct Publisher {
    maps: Api<ConfigMap>,
    namespace: String,
    name: String,
    overlap: Duration,
}

impl Publisher {
    /// Publishes in the `ConfigMap` of this name. A root that is no longer wanted stays for `overlap`: as long as
    /// a certificate that it signed may be shown.
    pub fn new(client: Client, namespace: &str, name: &str, overlap: Duration) -> Self {
        Self {
            maps: Api::namespaced(client, namespace),
            namespace: namespace.into(),
            name: name.into(),
            overlap,
        }
    }

    /// Publishes these roots, each PEM, if they are not; what is published then. It writes nothing that changes
    /// nothing, and without a root nothing at all.
    pub async fn publish(&self, roots: &[String], now: Timestamp) -> Result<Bundle, KeepError> {
        let name = &self.name;
        let found = self.maps.get_opt(name).await.map_err(failed("read the ConfigMap", name))?;
        let published = found.as_ref().map(|map| Bundle::of(map, now)).unwrap_or_default();
        let next = published.clone().with(roots, self.overlap, now);
        let is_there = found.is_some() && next == published;
        if !is_there && !next.certificates().is_empty() {
            let map = next.config_map(&self.namespace, name);
            let applied = self.maps.patch(name, &apply(), &Patch::Apply(&map)).await;
            applied.map_err(failed("publish the ConfigMap", name))?;
        }
        Ok(next)
    }
}
