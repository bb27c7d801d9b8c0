//! What is remembered, in whatever order requests and workers come and go.

use super::*;
use crate::{
    config::Limits,
    forward::{
        link::LinkContext,
        pinned::{GatewayCertificate, LinkCertificate},
    },
};
use patchbay_core::{
    digest::Digest,
    id::{Epoch, TenantUid, WorkerId},
    latch::Claim,
    orchestrator::{Endpoint, Offer, Placement},
    pin::Fingerprint,
};
use proptest::prelude::*;
use rustls::{crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use std::sync::LazyLock;

/// What happens. Tenants and workers are few, so that things meet.
#[derive(Debug, Clone)]
enum Event {
    /// A request of a tenant begins.
    Begins(usize),
    /// The oldest, or another one, of those that go on ends.
    Ends(usize),
    /// One of them has this worker bound to its tenant, which another tenant's cannot be.
    Binds(usize, usize),
    /// A request finds that the tenant's worker leaves.
    Unbinds(usize),
    /// A worker is met.
    Met(usize),
    /// It is gone.
    Gone(usize),
}

const TENANTS: usize = 3;
const WORKERS: usize = 6;

fn event() -> impl Strategy<Value = Event> {
    let (tenant, worker, request) = (0..TENANTS, 0..WORKERS, 0..4_usize);
    prop_oneof![
        3 => tenant.clone().prop_map(Event::Begins),
        3 => request.clone().prop_map(Event::Ends),
        4 => (request, worker.clone()).prop_map(|(r, w)| Event::Binds(r, w)),
        1 => tenant.prop_map(Event::Unbinds),
        2 => worker.clone().prop_map(Event::Met),
        2 => worker.prop_map(Event::Gone),
    ]
}

fn name(tenant: usize) -> TenantName {
    let letter = ["a", "b", "c"][tenant];
    TenantName::parse(format!("t-{}", letter.repeat(20))).unwrap()
}

fn life(worker: usize) -> Incarnation {
    Incarnation::parse(format!("life-{worker}")).unwrap()
}

/// Every worker, bound, and the link to it, which nobody dials.
static WORKERS_BOUND: LazyLock<Vec<Arc<Bound>>> = LazyLock::new(|| {
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["worker".to_owned()]).unwrap();
    let own = own.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let fingerprint = Fingerprint::of_certificate(own.der()).unwrap();
    let certificate = GatewayCertificate { chain: vec![own.der().clone()], key };
    let certificate = Arc::new(LinkCertificate::new(certificate, &crypto).unwrap());
    let context =
        LinkContext { crypto, certificate, sessions: Arc::default(), limits: Limits::default() };
    let bound = |worker| {
        let offer = Offer {
            worker: WorkerId::parse(format!("worker-{worker}")).unwrap(),
            incarnation: life(worker),
            endpoint: Endpoint::Unix("/nowhere".into()),
            fingerprint,
        };
        let claim = Claim { tenant: TenantUid::parse("tenant").unwrap(), epoch: Epoch(1) };
        let link = Arc::new(Link::new(&offer, &context).unwrap());
        let (placement, acknowledged) = (Placement { claim, offer }, Digest::of(b"credential"));
        Arc::new(Bound { placement, link, acknowledged, renewal: None })
    };
    (0..WORKERS).map(bound).collect()
});

/// The world that the slots are about.
#[derive(Default)]
struct World {
    slots: Arc<Slots>,
    requests: Vec<(usize, Held)>,
    /// Workers that live and are known.
    met: [bool; WORKERS],
    /// Whose each of them is for its life.
    latched: [Option<usize>; WORKERS],
    /// What each tenant has.
    bound: [Option<usize>; TENANTS],
}

impl World {
    fn after(&mut self, event: &Event) {
        match *event {
            Event::Begins(tenant) => {
                self.requests.push((tenant, self.slots.hold(&name(tenant))));
            }
            Event::Ends(request) if request < self.requests.len() => {
                drop(self.requests.remove(request));
            }
            Event::Binds(request, worker) if request < self.requests.len() => {
                let (tenant, held) = &self.requests[request];
                if *self.latched[worker].get_or_insert(*tenant) != *tenant {
                    return;
                }
                self.slots.bind(held, &WORKERS_BOUND[worker]);
                if self.met[worker] {
                    self.bound[*tenant] = Some(worker);
                }
            }
            Event::Unbinds(tenant) => {
                if let Some(worker) = self.bound[tenant].take() {
                    self.slots.unbind(&name(tenant), &WORKERS_BOUND[worker]);
                }
            }
            Event::Met(worker) => {
                self.slots.meet(&life(worker), WORKERS_BOUND[worker].link.clone());
                self.met[worker] = true;
            }
            Event::Gone(worker) => {
                self.slots.gone(&life(worker));
                self.met[worker] = false;
                for bound in self.bound.iter_mut().filter(|bound| **bound == Some(worker)) {
                    *bound = None;
                }
            }
            Event::Ends(_) | Event::Binds(..) => {}
        }
    }

    /// Each tenant has one slot, for as long as a request uses it or its worker lives, and it says what the tenant has.
    fn check(&self) {
        for tenant in 0..TENANTS {
            let slot = self.slots.get(&name(tenant));
            let of_it = || self.requests.iter().filter(|(of, _)| *of == tenant);
            let is_of_use = of_it().next().is_some() || self.bound[tenant].is_some();
            assert_eq!(slot.is_some(), is_of_use, "of tenant {tenant}");
            let Some(slot) = slot else { continue };
            for (_, held) in of_it() {
                assert!(Arc::ptr_eq(&held.slot, &slot), "tenant {tenant} has two slots");
            }
            let has = slot.bound.load_full().map(|bound| bound.placement.offer.incarnation.clone());
            assert_eq!(has, self.bound[tenant].map(life), "tenant {tenant} has another worker");
        }
        for worker in 0..WORKERS {
            assert_eq!(self.slots.link(&life(worker)).is_some(), self.met[worker]);
        }
    }
}

proptest! {
    #[test]
    fn a_tenant_has_one_slot_while_it_is_of_use_and_no_longer(
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut world = World::default();
        for event in &events {
            world.after(event);
            world.check();
        }
        world.requests.clear();
        for worker in 0..WORKERS {
            world.after(&Event::Gone(worker));
        }
        let known = world.slots.0.lock();
        prop_assert!(known.tenants.is_empty() && known.lives.is_empty());
    }
}
