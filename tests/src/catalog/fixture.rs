//! Fixture servers for the users of a catalog. It must not know what a test asks of them.

use super::Catalog;
use crate::controller::{Controller, ControllerConfig, fixture_documents};
use serde_json::json;

/// A controller of the fixture whose users have keys and tokens of a catalog.
pub async fn fixture_of_catalog(
    class: &str,
    catalog: &Catalog,
    warm: u32,
) -> anyhow::Result<Controller> {
    let mut documents = fixture_documents(class, warm, &[], "")?;
    documents.truncate(1);
    let origins = catalog.origins();
    let jwks = catalog.jwks();
    for (name, method) in [
        ("keys", json!({ "introspection": { "catalog": origins } })),
        (
            "tokens",
            json!({ "jwt": { "issuer": catalog.url(), "audiences": [catalog.url()], "jwks": jwks } }),
        ),
    ] {
        let mut spec = method;
        spec["classes"] = json!([class]);
        let provider = json!({
            "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
            "metadata": { "name": name }, "spec": spec,
        });
        documents.push(provider.to_string());
    }
    ControllerConfig::new(documents).start().await
}
