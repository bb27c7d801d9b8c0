//! Users of the class of a test, who have an API key each, and what they find at their worker.
//!
//! It turns a user's name into a credential, a tenant's name and calls. It must not know how many gateways there
//! are, or who makes workers.

use crate::{cluster::from, controller::api_key, mcp::McpClient};
use anyhow::{Context, ensure};
use patchbay_core::{
    digest::Digest,
    id::ClassName,
    tenant::{Authority, TenantKey, TenantName},
};
use patchbay_crds::IdentityProvider;
use serde_json::{Value, json};

/// The class.
pub const CLASS: &str = "tools";
/// Who vouches for them.
pub const ISSUER: &str = "urn:test:users";

/// The keys of a provider, for these users and what they present.
pub fn keys<'a>(users: impl IntoIterator<Item = (&'a str, String)>) -> Vec<Value> {
    let entry = |(user, key): (&str, String)| {
        let digest = Digest::of(key.as_bytes());
        json!({ "id": user, "subject": user, "digest": format!("sha256:{digest}") })
    };
    users.into_iter().map(entry).collect()
}

/// A provider with a key for each user, and these further fields.
pub fn provider(name: &str, users: &[&str], further: &Value) -> anyhow::Result<IdentityProvider> {
    let keys = keys(users.iter().map(|user| (*user, api_key(user))));
    let mut spec = json!({ "classes": [CLASS], "apiKeys": { "issuer": ISSUER, "keys": keys } });
    let further = further.as_object().context("fields are an object")?.clone();
    spec.as_object_mut().context("an object")?.extend(further);
    from(json!({
        "apiVersion": "patchbay.dev/v1alpha1", "kind": "IdentityProvider",
        "metadata": { "name": name }, "spec": spec,
    }))
}

/// What makes a user's tenant.
pub fn key(user: &str) -> anyhow::Result<TenantKey> {
    Ok(TenantKey {
        issuer: ISSUER.into(),
        subject: user.into(),
        class: ClassName::parse(CLASS)?,
        authority: Authority::unrestricted(),
    })
}

/// A user's tenant's name.
pub fn name(user: &str) -> anyhow::Result<TenantName> {
    Ok(key(user)?.name())
}

/// A user keeps something with the worker, and finds it and nobody else's there.
pub async fn has_its_own(client: &McpClient, user: &str) -> anyhow::Result<()> {
    client.call("remember", json!({ "key": "me", "value": user })).await?;
    let me = client.call("recall", json!({ "key": "me" })).await?.to_string();
    ensure!(me.contains(&format!("\"{user}\"")), "{user}: {me}");
    Ok(())
}
