//! The two writes of a claim, and the read after one of which nobody knows how it ended.
//!
//! A known tenant's assignment is changed by a JSON patch (RFC 6902) that first tests what it was: the API server
//! applies it as one compare-and-swap, whatever else of the object has changed meanwhile, and leaves alone what it
//! does not name. This module must not know what is claimed or why.

use super::claim::{Before, Write};
use kube::{
    Api, Client, Error,
    api::{Patch, PostParams},
};
use patchbay_core::{
    orchestrator::Unavailable,
    tenant::{TenantKey, TenantName},
};
use patchbay_crds::{
    Tenant,
    marks::{FIRST_CONTACT, PROVISIONED_BY},
    tenant::TenantAssignment,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Tenants of one namespace, as they are written.
#[derive(Debug, Clone)]
pub(super) struct Tenants {
    api: Api<Tenant>,
    limit: Duration,
}

/// How a write ended.
#[derive(Debug)]
pub(super) enum Written {
    /// As it was to be.
    Done(Box<Tenant>),
    /// Another write was faster.
    Conflict(String),
    /// The API server refused it.
    Refused(String),
    /// Nobody knows: the answer was lost, or never came.
    Unknown(String),
}

impl Tenants {
    /// `limit` bounds each request.
    pub(super) fn new(client: Client, namespace: &str, limit: Duration) -> Self {
        Self { api: Api::namespaced(client, namespace), limit }
    }

    /// Writes.
    pub(super) async fn write(&self, key: &TenantKey, name: &TenantName, write: &Write) -> Written {
        let Write { before, after } = write;
        let written = match before {
            None => {
                let tenant = made(key, after.clone());
                timeout(self.limit, self.api.create(&PostParams::default(), &tenant)).await
            }
            Some(before) => {
                let patch = match serde_json::from_value(patch(before, after)) {
                    Ok(patch) => Patch::Json::<()>(patch),
                    Err(error) => return Written::Refused(error.to_string()),
                };
                let params = kube::api::PatchParams::default();
                timeout(self.limit, self.api.patch(name.as_str(), &params, &patch)).await
            }
        };
        match written {
            Ok(Ok(tenant)) => Written::Done(Box::new(tenant)),
            Ok(Err(Error::Api(status))) if status.code == 409 => Written::Conflict(status.message),
            Ok(Err(Error::Api(status))) if is_refusal(status.code) => {
                Written::Refused(status.message)
            }
            Ok(Err(error)) => Written::Unknown(error.to_string()),
            Err(_) => Written::Unknown(self.too_slow()),
        }
    }

    /// The tenant as it is; none if there is none.
    pub(super) async fn read(&self, name: &TenantName) -> Result<Option<Tenant>, Unavailable> {
        match timeout(self.limit, self.api.get_opt(name.as_str())).await {
            Ok(Ok(tenant)) => Ok(tenant),
            Ok(Err(error)) => Err(Unavailable(error.to_string())),
            Err(_) => Err(Unavailable(self.too_slow())),
        }
    }

    fn too_slow(&self) -> String {
        format!("no answer within {:?}", self.limit)
    }
}

/// Whether the API server has decided. 408, 429 and 5xx say that it could not, and perhaps not even whether.
const fn is_refusal(code: u16) -> bool {
    matches!(code, 400..=499) && !matches!(code, 408 | 429)
}

/// A tenant whom nobody has met before.
fn made(key: &TenantKey, assignment: TenantAssignment) -> Tenant {
    let mut tenant = Tenant::for_key(key);
    tenant.spec.assignment = Some(assignment);
    let label = (PROVISIONED_BY.to_owned(), FIRST_CONTACT.to_owned());
    tenant.metadata.labels = Some([label].into());
    tenant
}

/// The patch that makes one assignment out of another, if it is still the other.
fn patch(before: &Before, after: &TenantAssignment) -> Value {
    let test = |path: &str, value: Value| json!({ "op": "test", "path": path, "value": value });
    // on a member of an object, `add` also replaces
    let add = |path: &str, value: Value| json!({ "op": "add", "path": path, "value": value });
    let mut steps = vec![test("/metadata/uid", json!(before.uid))];
    match &before.assignment {
        // a member that is not there is null to a test
        None => {
            steps.push(test("/spec/assignment", Value::Null));
            steps.push(add("/spec/assignment", json!(after)));
        }
        Some(before) => {
            steps.push(test("/spec/assignment/epoch", json!(before.epoch)));
            steps.push(test("/spec/assignment/worker", json!(before.worker)));
            steps.push(test("/spec/assignment/uid", json!(before.uid)));
            steps.push(add("/spec/assignment/epoch", json!(after.epoch)));
            steps.push(add("/spec/assignment/worker", json!(after.worker)));
            steps.push(add("/spec/assignment/uid", json!(after.uid)));
            steps.push(add("/spec/assignment/requestedAt", json!(after.requested_at)));
        }
    }
    Value::Array(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use patchbay_core::{
        id::{ClassName, TenantUid},
        tenant::Authority,
    };

    fn assignment(worker: &str, epoch: u64) -> TenantAssignment {
        TenantAssignment {
            worker: worker.into(),
            uid: if worker.is_empty() { String::new() } else { "pod-uid".into() },
            epoch,
            requested_at: Some(Timestamp::from_second(0).unwrap()),
        }
    }

    fn key() -> TenantKey {
        TenantKey {
            issuer: "https://issuer.example".into(),
            subject: "alice".into(),
            class: ClassName::parse("tools").unwrap(),
            authority: Authority::unrestricted(),
        }
    }

    #[test]
    fn a_new_tenant_is_written_once_with_its_worker_and_who_made_it() {
        insta::assert_yaml_snapshot!(made(&key(), assignment("tools-x", 1)));
    }

    #[test]
    fn a_known_tenant_is_compared_and_only_its_assignment_changes() {
        let uid = TenantUid::parse("tenant-uid").unwrap();
        let before = Before { uid, assignment: Some(assignment("", 3)) };
        let patch = patch(&before, &assignment("tools-x", 4));
        insta::assert_json_snapshot!(patch);
        for step in patch.as_array().unwrap().iter().filter(|step| step["op"] != "test") {
            assert!(step["path"].as_str().unwrap().starts_with("/spec/assignment/"), "{step}");
        }
    }

    #[test]
    fn a_tenant_without_an_assignment_must_still_be_without_one() {
        let before = Before { uid: TenantUid::parse("tenant-uid").unwrap(), assignment: None };
        let patch = patch(&before, &assignment("tools-x", 1));
        assert_eq!(patch[1], json!({ "op": "test", "path": "/spec/assignment", "value": null }));
    }

    #[test]
    fn only_a_decision_is_a_refusal() {
        for code in [400, 403, 404, 422] {
            assert!(is_refusal(code), "{code}");
        }
        for code in [408, 429, 500, 502, 503, 504] {
            assert!(!is_refusal(code), "{code}");
        }
    }
}
