//! Small values for tests of decisions about a class.

use super::{Assigned, Freshness, Pace, Standing, TenantView, View, backoff::Backoff};
use crate::observe::{Known, Latched, Life, ObservedPod, Said};
use jiff::Timestamp;
use patchbay_core::id::{Epoch, Incarnation, TenantUid};
use std::collections::BTreeSet;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A worker that has been Ready since second 10 and said at second 990 that it is nobody's.
pub(super) fn worker(name: &str) -> ObservedPod {
    ObservedPod {
        name: name.into(),
        uid: Incarnation::parse(format!("uid-{name}")).unwrap(),
        resource_version: "1".into(),
        revision: "r1".into(),
        created: at(0),
        node: Some("n1".into()),
        marked_bound: false,
        ready_since: Some(at(10)),
        fingerprint: Some("key".into()),
        life: Life::Up,
        known: Known {
            said: Some(Said { at: at(990), latch: Latched::Anonymous }),
            ..Known::default()
        },
    }
}

pub(super) fn starting(name: &str) -> ObservedPod {
    ObservedPod {
        ready_since: None,
        fingerprint: None,
        life: Life::Starting { dialable: false, trouble: None },
        known: Known::default(),
        created: at(990),
        ..worker(name)
    }
}

pub(super) fn bound(name: &str, tenant: &str) -> ObservedPod {
    let latch = Latched::Bound(TenantUid::parse(tenant).unwrap());
    let known = Known { said: Some(Said { at: at(500), latch }), ..Known::default() };
    ObservedPod { marked_bound: true, known, ..worker(name) }
}

/// A tenant whose UID is its name.
pub(super) fn tenant(name: &str, standing: Standing) -> TenantView {
    let uid = TenantUid::parse(name).unwrap();
    TenantView { name: name.into(), uid, suspended: false, usable: true, standing }
}

/// One that was given the worker of this name at second 400.
pub(super) fn assigned(name: &str, worker: &str) -> TenantView {
    tenant(
        name,
        Standing::Assigned(Assigned {
            worker: worker.into(),
            uid: Incarnation::parse(format!("uid-{worker}")).unwrap(),
            epoch: Epoch(3),
            seen: at(400),
        }),
    )
}

pub(super) fn waiting(name: &str) -> TenantView {
    tenant(name, Standing::Waiting { since: at(999) })
}

pub(super) struct World {
    pub(super) warm: u32,
    pub(super) most_tenants: Option<u32>,
    pub(super) pods: Vec<ObservedPod>,
    pub(super) tenants: Vec<TenantView>,
    pub(super) cordoned: BTreeSet<String>,
    pub(super) expected: usize,
    pub(super) fresh: i64,
    pub(super) backoff: Backoff,
    pub(super) pace: Pace,
}

/// Nothing, at second 1000, with lists of second 300.
pub(super) fn world(warm: u32) -> World {
    World {
        warm,
        most_tenants: None,
        pods: vec![],
        tenants: vec![],
        cordoned: BTreeSet::new(),
        expected: 0,
        fresh: 300,
        backoff: Backoff::default(),
        pace: Pace::default(),
    }
}

impl World {
    pub(super) fn view(&self) -> View<'_> {
        View {
            warm: self.warm,
            most_tenants: self.most_tenants,
            revision: "r1",
            pods: &self.pods,
            tenants: &self.tenants,
            cordoned: &self.cordoned,
            expected: self.expected,
            fresh: Freshness { tenants: at(self.fresh), pods: at(self.fresh) },
            backoff: &self.backoff,
            pace: &self.pace,
            now: at(1000),
            jitter: 0,
        }
    }
}
