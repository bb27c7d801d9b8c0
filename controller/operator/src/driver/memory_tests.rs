use super::*;
use crate::{
    cache::records::{PodRecord, TenantRecord},
    worker_class::{Freshness, advice::Swap},
};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use patchbay_core::{
    id::ClassName,
    tenant::{Authority, TenantKey},
};
use patchbay_crds::{Tenant, tenant::TenantAssignment};
use serde_json::json;
use std::sync::Arc;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn uid(name: &str) -> Incarnation {
    Incarnation::parse(format!("uid-{name}")).unwrap()
}

fn pod(name: &str) -> Arc<PodRecord> {
    let pod: Pod = serde_json::from_value(json!({ "metadata": {
        "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    } }))
    .unwrap();
    Arc::new(PodRecord::read(pod).unwrap())
}

fn tenant(worker: &str, epoch: u64) -> Arc<TenantRecord> {
    let mut tenant = Tenant::for_key(&TenantKey {
        issuer: "i".into(),
        subject: "s".into(),
        class: ClassName::parse("c").unwrap(),
        authority: Authority::unrestricted(),
    });
    tenant.metadata.uid = Some("t1".into());
    tenant.spec.assignment = Some(TenantAssignment {
        worker: worker.into(),
        uid: format!("uid-{worker}"),
        epoch,
        requested_at: None,
    });
    Arc::new(TenantRecord::read(DeserializeGuard(Ok(tenant))).unwrap())
}

fn snapshot(pods: &[&str], tenants: Vec<Arc<TenantRecord>>) -> Snapshot {
    Snapshot {
        class: None,
        is_unread: false,
        tenants,
        pods: pods.iter().map(|name| pod(name)).collect(),
        cordoned: BTreeSet::new(),
        swap: Swap::NotListed,
        fresh: Freshness { tenants: at(0), pods: at(0) },
    }
}

fn said(memory: &mut Memory, snapshot: &Snapshot) -> Option<Said> {
    memory.look(snapshot, at(100)).pods[0].known.said.clone()
}

fn anonymous() -> Said {
    Said { at: at(5), latch: Latched::Anonymous }
}

fn seen_since(seen: &Seen) -> Timestamp {
    let Standing::Assigned(assigned) = &seen.tenants[0].standing else { panic!("assigned") };
    assigned.seen
}

#[test]
fn an_assignment_is_seen_since_it_was_seen_first_and_another_one_anew() {
    let mut memory = Memory::default();
    let first = snapshot(&["a"], vec![tenant("a", 1)]);
    assert_eq!(seen_since(&memory.look(&first, at(10))), at(10));
    assert_eq!(seen_since(&memory.look(&first, at(20))), at(10));
    let moved = snapshot(&["a"], vec![tenant("b", 2)]);
    assert_eq!(seen_since(&memory.look(&moved, at(30))), at(30));
    let again = snapshot(&["a"], vec![tenant("b", 3)]);
    assert_eq!(seen_since(&memory.look(&again, at(40))), at(40));
}

#[test]
fn that_a_worker_is_nobodys_is_forgotten_when_its_tenant_goes_and_that_it_is_somebodys_is_not() {
    let assigned = snapshot(&["a"], vec![tenant("a", 1)]);
    let moved = snapshot(&["a"], vec![tenant("b", 2)]);
    let deleted = snapshot(&["a"], vec![]);
    let bound = Said { at: at(5), latch: Latched::Bound(TenantUid::parse("t1").unwrap()) };
    for lost in [&moved, &deleted] {
        for (before, after) in [(anonymous(), None), (bound.clone(), Some(bound.clone()))] {
            let mut memory = Memory::default();
            memory.look(&assigned, at(10));
            memory.said(uid("a"), before.clone());
            assert_eq!(said(&mut memory, &assigned), Some(before));
            assert_eq!(said(&mut memory, lost), after);
        }
    }
}

#[test]
fn a_pod_that_was_created_is_expected_until_it_is_seen_and_not_for_ever() {
    let mut memory = Memory::default();
    memory.created(uid("a"), at(10));
    memory.created(uid("b"), at(20));
    assert_eq!(memory.look(&snapshot(&[], vec![]), at(39)).expected, 2);
    assert_eq!(memory.look(&snapshot(&[], vec![]), at(40)).expected, 1);
    assert_eq!(memory.look(&snapshot(&["b"], vec![]), at(41)).expected, 0);
}

#[test]
fn a_worker_that_cannot_be_asked_is_left_alone_for_longer_each_time_until_it_answers() {
    let mut memory = Memory::default();
    let there = snapshot(&["a"], vec![]);
    let mut waits = Vec::new();
    for _ in 0..7 {
        memory.unreachable(uid("a"), at(0), 0);
        let rests = memory.look(&there, at(0)).pods[0].known.not_before.unwrap();
        waits.push(rests.as_millisecond());
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 15000, 15000]);
    memory.unreachable(uid("a"), at(0), 1000);
    let rests = memory.look(&there, at(0)).pods[0].known.not_before.unwrap();
    assert_eq!(rests.as_millisecond(), 7500);
    memory.heard(uid("a"));
    assert_eq!(memory.look(&there, at(0)).pods[0].known.not_before, None);
}

#[test]
fn nothing_is_remembered_of_a_pod_that_is_gone() {
    let mut memory = Memory::default();
    memory.said(uid("a"), anonymous());
    memory.refused(uid("a"), "other key".into());
    memory.look(&snapshot(&[], vec![]), at(10));
    assert_eq!(memory.look(&snapshot(&["a"], vec![]), at(20)).pods[0].known, Known::default());
}

#[test]
fn a_worker_that_its_tenant_has_left_is_still_known_as_the_tenants() {
    let mut memory = Memory::default();
    memory.look(&snapshot(&["w1", "w2"], vec![tenant("w1", 1)]), at(1));
    let seen = memory.look(&snapshot(&["w1", "w2"], vec![tenant("w2", 2)]), at(2));
    let named: Vec<_> = seen.pods.iter().map(|pod| pod.known.named_by.clone()).collect();
    let tenant = TenantUid::parse("t1").unwrap();
    assert_eq!(named, [Some(tenant.clone()), Some(tenant)]);
}
