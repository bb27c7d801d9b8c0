//! Objects that are taken as they are, and ways to make others of them.

#![allow(clippy::unwrap_used, reason = "what is unwrapped is written here")]

use patchbay_core::{
    id::ClassName,
    tenant::{Authority, TenantKey},
};
use patchbay_crds::{API_VERSION, Tenant};
use serde_json::{Value, json};

pub(crate) const DIGEST: &str =
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": kind, "metadata": { "name": name }, "spec": spec,
    })
}

/// The least that a class says.
pub(crate) fn class(name: &str) -> Value {
    object("WorkerClass", name, &json!({ "image": "i", "command": ["/usr/bin/server"] }))
}

/// A class whose server acts as a catalog's user.
pub(crate) fn quilt_class(name: &str) -> Value {
    let catalog = json!({ "origin": "https://c.example", "registry": "https://r.example" });
    let spec = json!({
        "image": "i", "command": ["/opt/python"], "profile": "quilt",
        "credentials": { "source": "catalog", "catalog": catalog },
    });
    object("WorkerClass", name, &spec)
}

/// A provider of signed tokens.
pub(crate) fn jwt_provider(name: &str) -> Value {
    let jwt = json!({
        "issuer": "https://i.example", "audiences": ["patchbay"],
        "jwks": { "url": "https://i.example/jwks.json" },
    });
    object("IdentityProvider", name, &json!({ "classes": ["quilt"], "jwt": jwt }))
}

/// A provider that asks a catalog.
pub(crate) fn asking_provider(name: &str) -> Value {
    let catalog = json!({ "origin": "https://c.example", "registry": "https://r.example" });
    let spec = json!({ "classes": ["quilt"], "introspection": { "catalog": catalog } });
    object("IdentityProvider", name, &spec)
}

/// A provider of one API key.
pub(crate) fn key_provider(name: &str) -> Value {
    let key = json!({ "id": "alice1", "subject": "alice", "digest": DIGEST });
    let spec = json!({ "classes": ["quilt"], "apiKeys": { "keys": [key] } });
    object("IdentityProvider", name, &spec)
}

/// A tenant of the class `quilt`, under the name that follows from its subject.
pub(crate) fn tenant(subject: &str) -> Value {
    let class = ClassName::parse("quilt").unwrap();
    let authority = Authority::unrestricted();
    let issuer = "https://issuer.example".to_owned();
    let key = TenantKey { issuer, subject: subject.to_owned(), class, authority };
    serde_json::to_value(Tenant::for_key(&key)).unwrap()
}

/// An assignment; empty names are a wait.
pub(crate) fn assignment(worker: &str, uid: &str, epoch: u64) -> Value {
    json!({
        "worker": worker, "uid": uid, "epoch": epoch, "requestedAt": "2030-01-31T00:00:00Z",
    })
}

/// `object` with `value` at a JSON pointer below its spec, or with nothing there if it is null. What is on the
/// way is made.
pub(crate) fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let mut place = &mut object["spec"];
    let (parents, last) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    for segment in parents.split('/').filter(|segment| !segment.is_empty()) {
        place = match segment.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[segment],
        };
    }
    match (last.parse::<usize>(), value) {
        (Ok(index), value) => place[index] = value,
        (Err(_), Value::Null) => {
            place.as_object_mut().unwrap().remove(last);
        }
        (Err(_), value) => place[last] = value,
    }
    object
}
