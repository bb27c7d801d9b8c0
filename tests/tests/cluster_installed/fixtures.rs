//! Users with keys that nobody has had before, and classes of the fixture server, as values of the chart.

use patchbay_tests::{
    installation,
    pods::{images::Images, users::keys},
};
use serde_json::{Value, json};

/// A user, and the one key that is theirs.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) key: String,
}

impl User {
    pub(crate) fn new(name: &'static str) -> Self {
        let random = uuid::Uuid::new_v4().simple();
        Self { name, key: format!("pb_{name}_{random}") }
    }
}

/// An `IdentityProvider` of these users.
pub(crate) fn provider(class: &str, users: &[&User]) -> Value {
    let keys = keys(users.iter().map(|user| (user.name, user.key.clone())));
    json!({ "classes": [class], "apiKeys": { "issuer": "urn:test:users", "keys": keys } })
}

/// A class of the fixture server.
pub(crate) fn class(
    images: &Images,
    idle: &str,
    edition: &str,
    warm: u32,
    memory: &str,
) -> anyhow::Result<Value> {
    let further = json!({
        "resources": { "memory": memory }, "env": { "EDITION": edition },
        "idleTimeout": idle, "warm": warm,
    });
    installation::class(images, "/notes", further)
}
