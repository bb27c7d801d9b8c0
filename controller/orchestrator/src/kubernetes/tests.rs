//! Claims over views, as values: nothing here is asynchronous but the clock's type.

mod claims;
mod views;

use super::{
    claim::{Before, Claimant, Plan, Settled, WaitPlan, Write, assign, refusal, settle, wait},
    pick::{Asking, RESERVED, TURNED_AWAY},
    seen::{SeenTenant, SeenWorker},
    view::{Named, View},
};
use jiff::Timestamp;
use patchbay_core::{
    class::Limits,
    id::{ClassName, Epoch, Incarnation},
    orchestrator::{AssignRefusal, Assignment, Offer, TenantState},
    provider::Provisioning,
    tenant::{Authority, TenantKey, TenantName},
};
use patchbay_crds::{Tenant, tenant::TenantAssignment};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const HOLD: Duration = Duration::from_mins(1);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn class() -> ClassName {
    ClassName::parse("tools").unwrap()
}

fn key(subject: &str) -> TenantKey {
    TenantKey {
        issuer: "i".into(),
        subject: subject.into(),
        class: class(),
        authority: Authority::unrestricted(),
    }
}

fn uid(n: u8) -> Incarnation {
    Incarnation::parse(format!("pod-{n}")).unwrap()
}

fn worker(n: u8, version: u64, change: impl FnOnce(&mut Value)) -> SeenWorker {
    let mut pod = json!({
        "metadata": {
            "name": format!("w-{n}"), "uid": format!("pod-{n}"), "resourceVersion": version.to_string(),
            "labels": {
                "app.kubernetes.io/component": "worker", "app.kubernetes.io/part-of": "patchbay",
                "patchbay.dev/class": "tools",
            },
            "annotations": { "patchbay.dev/fingerprint": format!("{n:064}") },
        },
        "status": {
            "podIP": format!("10.0.0.{n}"), "conditions": [{ "type": "Ready", "status": "True" }],
        },
    });
    change(&mut pod);
    SeenWorker::of(&serde_json::from_value(pod).unwrap()).unwrap()
}

fn assigned(n: u8, epoch: u64) -> TenantAssignment {
    TenantAssignment {
        worker: format!("w-{n}"),
        uid: format!("pod-{n}"),
        epoch,
        requested_at: Some(at(0)),
    }
}

fn waiting(epoch: u64, since: i64) -> TenantAssignment {
    let (worker, uid) = (String::new(), String::new());
    TenantAssignment { worker, uid, epoch, requested_at: Some(at(since)) }
}

fn tenant(
    subject: &str,
    version: u64,
    assignment: Option<TenantAssignment>,
    change: impl FnOnce(&mut Tenant),
) -> (TenantName, SeenTenant) {
    let mut tenant = Tenant::for_key(&key(subject));
    tenant.metadata.uid = Some(format!("tenant-{subject}"));
    tenant.metadata.resource_version = Some(version.to_string());
    tenant.spec.assignment = assignment;
    change(&mut tenant);
    SeenTenant::of(&tenant).unwrap()
}

fn offer(n: u8) -> Offer {
    worker(n, 1, |_| ()).offer().unwrap()
}

/// What is done to a tenant, and why it is refused then.
type Refused = (fn(&mut Tenant), AssignRefusal);

/// A view, and the moment at which everything was seen.
struct World {
    view: View,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { view: View::default(), now: Instant::now() }
    }

    fn worker(&mut self, n: u8) -> &mut Self {
        self.view.worker_seen(worker(n, u64::from(n), |_| ()), self.now);
        self
    }

    fn tenant(&mut self, subject: &str, assignment: TenantAssignment) -> &mut Self {
        let (name, seen) = tenant(subject, 100, Some(assignment), |_| ());
        self.view.tenant_watched(name, seen, self.now);
        self
    }

    fn lookup(&self, subject: &str) -> TenantState {
        self.view.lookup(&key(subject).name())
    }

    fn assign(&self, subject: &str, n: u8, epoch: u64) -> Plan {
        self.assign_with(subject, n, epoch, Provisioning::OnFirstContact, Limits::default())
    }

    fn assign_with(
        &self,
        subject: &str,
        n: u8,
        epoch: u64,
        provisioning: Provisioning,
        limits: Limits,
    ) -> Plan {
        let key = key(subject);
        let claimant = Claimant { key: &key, name: &key.name(), provisioning, limits };
        assign(&self.view, claimant, &offer(n), Epoch(epoch), at(9))
    }

    fn pick(&mut self, subject: &str, exclude: &[Incarnation], after: Duration) -> Option<Offer> {
        let name = key(subject).name();
        let asking = Asking { tenant: &name, exclude, seed: 1, now: self.now + after };
        self.view.pick(&class(), asking, HOLD, at(30)).ok()
    }
}

fn refused(why: AssignRefusal) -> Plan {
    Plan::Answer(Assignment::Refused(why))
}
