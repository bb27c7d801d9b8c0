//! What an activation makes of a cluster, and of workers, that change between two of its steps.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

mod cluster;
#[path = "../worker/mod.rs"]
mod worker;

use cluster::{
    Away, Cluster, Grants, Keys, Says, activate, alice, good, is_bound_to, placed, refusing,
    refusing_meanwhile, request, telling_of_binds, willing,
};
use http::StatusCode;
use jiff::SignedDuration;
use patchbay_core::{
    class::WorkerClass,
    fixtures,
    grant::GrantError,
    id::{Epoch, TenantUid},
    identity::Authenticated,
    latch::Claim,
    link::{BindRefusal, RESERVE_PATH},
    orchestrator::{Placement, TenantState},
};
use patchbay_gateway::activate::{ActivateError, Activator, Bound, InFlight, Request};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::yield_now, time::timeout};
use worker::Worker;

#[tokio::test]
async fn keys_are_renewed_beside_the_requests_and_once() {
    let own = Worker::new("own");
    let cluster = Cluster::new(TenantState::Assigned(placed(&own.offer, 7)), &[]);
    let mut binds = telling_of_binds(own);
    let keys = Keys::new(SignedDuration::from_mins(10));
    let activator = Activator::new(cluster, keys.clone(), good(), Arc::new(worker::context()));
    let (class, user) = (Arc::new(fixtures::class("tools", "/mcp")), alice());
    let tenant = user.identity.tenant(&class.name);
    let name = tenant.name();
    activator.activate(&request(&class, &user, &tenant, &name)).await.unwrap();
    binds.recv().await.unwrap();
    for _ in 0..10 {
        assert!(activator.ready(&request(&class, &user, &tenant, &name)).is_some(), "it waits");
    }
    binds.recv().await.unwrap();
    assert!(activator.ready(&request(&class, &user, &tenant, &name)).is_some());
    assert_eq!(keys.prepared(), 2);
}

/// A tenant of its own, bound with keys that are due so soon, and calls of it.
struct Calling {
    activator: Activator,
    class: Arc<WorkerClass>,
    user: Authenticated,
    keys: Arc<Keys>,
    binds: mpsc::UnboundedReceiver<()>,
}

impl Calling {
    async fn begin(name: &str, due_in: SignedDuration, judge: bool) -> (Self, Arc<Bound>) {
        let own = Worker::new(name);
        let cluster = Cluster::new(TenantState::Assigned(placed(&own.offer, 7)), &[]);
        let mut binds = telling_of_binds(own);
        let keys = Keys::due_in(due_in, SignedDuration::from_mins(10));
        let activator = Activator::new(
            cluster,
            keys.clone(),
            Arc::new(Says(judge)),
            Arc::new(worker::context()),
        );
        let (class, user) = (Arc::new(fixtures::class("tools", "/mcp")), alice());
        let tenant = user.identity.tenant(&class.name);
        let bound = activator.activate(&request(&class, &user, &tenant, &tenant.name())).await;
        binds.recv().await.unwrap();
        (Self { activator, class, user, keys, binds }, bound.unwrap().unwrap())
    }

    fn call(&self, bound: &Bound) -> InFlight {
        let tenant = self.user.identity.tenant(&self.class.name);
        let name = tenant.name();
        let request = request(&self.class, &self.user, &tenant, &name);
        self.activator.in_flight(&request, bound).unwrap()
    }
}

#[tokio::test]
async fn keys_that_are_about_to_end_are_renewed_before_a_request() {
    let own = Worker::new("own");
    let cluster = Cluster::new(TenantState::Assigned(placed(&own.offer, 7)), &[]);
    let mut binds = telling_of_binds(own);
    let keys = Keys::new(SignedDuration::from_secs(20));
    let activator = Activator::new(cluster, keys.clone(), good(), Arc::new(worker::context()));
    let (class, user) = (Arc::new(fixtures::class("tools", "/mcp")), alice());
    let tenant = user.identity.tenant(&class.name);
    let name = tenant.name();
    activator.activate(&request(&class, &user, &tenant, &name)).await.unwrap();
    assert!(activator.ready(&request(&class, &user, &tenant, &name)).is_none());
    activator.activate(&request(&class, &user, &tenant, &name)).await.unwrap();
    assert!(activator.ready(&request(&class, &user, &tenant, &name)).is_some());
    binds.recv().await.unwrap();
    binds.recv().await.unwrap();
    assert_eq!(keys.prepared(), 2);
}

#[tokio::test]
async fn keys_are_renewed_while_a_call_goes_on_though_no_request_comes() {
    let (mut one, bound) = Calling::begin("one", SignedDuration::from_millis(100), true).await;
    let (first, second) = (one.call(&bound), one.call(&bound));
    drop(first);
    one.binds.recv().await.unwrap();
    assert_eq!(one.keys.prepared(), 2);
    drop(second);
}

#[tokio::test]
async fn keys_are_not_renewed_when_the_last_call_has_ended() {
    let (ended, bound) = Calling::begin("ended", SignedDuration::from_millis(200), true).await;
    let calls = [ended.call(&bound), ended.call(&bound)];
    let (mut later, bound) = Calling::begin("later", SignedDuration::from_millis(400), true).await;
    let _call = later.call(&bound);
    drop(calls);
    // what was due before has been let pass by then
    later.binds.recv().await.unwrap();
    assert_eq!((ended.keys.prepared(), later.keys.prepared()), (1, 2));
}

#[tokio::test]
async fn keys_are_not_renewed_by_a_credential_that_is_no_longer_good() {
    let (revoked, bound) = Calling::begin("revoked", SignedDuration::from_millis(100), false).await;
    let _call = revoked.call(&bound);
    let (mut later, bound) = Calling::begin("later", SignedDuration::from_millis(300), true).await;
    let _other = later.call(&bound);
    later.binds.recv().await.unwrap();
    assert_eq!((revoked.keys.prepared(), later.keys.prepared()), (1, 2));
}

#[tokio::test]
async fn a_tenant_is_remembered_while_its_worker_lives_and_no_longer() {
    let own = Worker::new("own");
    let cluster = Cluster::new(TenantState::Assigned(placed(&own.offer, 7)), &[]);
    tokio::spawn(own.serve(0, willing));
    let context = Arc::new(worker::context());
    let activator = Activator::new(cluster.clone(), Arc::new(Grants), good(), context);
    let (class, user) = (Arc::new(fixtures::class("tools", "/mcp")), alice());
    let tenant = user.identity.tenant(&class.name);
    let name = tenant.name();
    activator.activate(&request(&class, &user, &tenant, &name)).await.unwrap();
    assert!(activator.last_request(&name).is_some());
    cluster.all_gone.send_replace(true);
    let forgotten = async {
        while activator.last_request(&name).is_some() {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), forgotten).await.expect("it is remembered");
}

#[tokio::test]
async fn a_request_that_wakes_nobody_finds_the_worker_that_there_is_and_takes_none() {
    let own = Worker::new("own");
    let (class, user) = (Arc::new(fixtures::class("tools", "/mcp")), alice());
    let tenant = user.identity.tenant(&class.name);
    let name = tenant.name();
    let asked = Request { wakes: false, ..request(&class, &user, &tenant, &name) };
    for state in [TenantState::Unknown, TenantState::Asleep { last: Epoch(6) }] {
        let cluster = Cluster::new(state.clone(), &[&own]);
        let context = Arc::new(worker::context());
        let activator = Activator::new(cluster.clone(), Arc::new(Grants), good(), context);
        assert!(activator.activate(&asked).await.unwrap().is_none());
        assert_eq!(cluster.state(), state);
    }
    let placement = placed(&own.offer, 7);
    let cluster = Cluster::new(TenantState::Assigned(placement.clone()), &[]);
    tokio::spawn(own.serve(0, willing));
    let context = Arc::new(worker::context());
    let activator = Activator::new(cluster, Arc::new(Grants), good(), context);
    assert_eq!(activator.activate(&asked).await.unwrap().unwrap().placement, placement);
}

#[tokio::test]
async fn requests_that_waited_for_an_activation_share_its_failure_and_the_next_one_tries_again() {
    let own = Worker::new("own");
    let cluster = Cluster::new(TenantState::Assigned(placed(&own.offer, 7)), &[]);
    let (away, context) = (Arc::new(Away::default()), Arc::new(worker::context()));
    let activator = Activator::new(cluster, away.clone(), good(), context);
    let (class, user) = (Arc::new(fixtures::class("tools", "/mcp")), alice());
    let tenant = user.identity.tenant(&class.name);
    let name = tenant.name();
    let asked = request(&class, &user, &tenant, &name);
    let waited = async { tokio::join!(activator.activate(&asked), activator.activate(&asked)) };
    // what is joined has been begun once this is
    let all = Box::pin(async { tokio::join!(waited, async { away.may_fail.notify_one() }).0 });
    let (one, other) = timeout(Duration::from_secs(5), all).await.expect("each of them asked");
    for failed in [one, other] {
        assert!(matches!(failed, Err(ActivateError::Grant(GrantError::Unavailable { .. }))));
    }
    assert_eq!(away.prepared.load(Ordering::SeqCst), 1);
    assert!(activator.last_request(&name).is_none(), "a user with nothing here is remembered");
    away.may_fail.notify_one();
    assert!(activator.activate(&asked).await.is_err());
    assert_eq!(away.prepared.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_worker_that_the_tenant_has_by_now_is_not_replaced_by_the_one_that_was_offered() {
    let (free, others) = (Worker::new("free"), Worker::new("others"));
    let cluster = Cluster::new(TenantState::Unknown, &[&free]);
    let given = placed(&others.offer, 1);
    *cluster.meanwhile.lock() = Some(given.clone());
    tokio::spawn(free.serve(0, willing));
    tokio::spawn(others.serve(0, willing));
    is_bound_to(&cluster, given).await;
}

#[tokio::test]
async fn a_worker_that_says_that_it_is_taken_may_be_the_tenants_own_and_is_bound_then() {
    let (own, free) = (Worker::new("own"), Worker::new("free"));
    let cluster = Cluster::new(TenantState::Unknown, &[&own, &free]);
    let given = placed(&own.offer, 1);
    // another gateway has bound it, and this one hears so while it asks
    let refuse = refusing_meanwhile(&cluster, &given);
    tokio::spawn(own.serve(0, move |path| {
        if path != RESERVE_PATH {
            return willing(path);
        }
        refuse()
    }));
    tokio::spawn(free.serve(0, willing));
    is_bound_to(&cluster, given).await;
}

#[tokio::test]
async fn a_worker_that_refused_a_life_of_its_tenant_that_is_over_is_bound_for_the_next_one() {
    let (own, free) = (Worker::new("own"), Worker::new("free"));
    let over = placed(&own.offer, 1);
    let cluster = Cluster::new(TenantState::Assigned(over.clone()), &[&free]);
    let tenant = TenantUid::parse("tenant-again").unwrap();
    let given = Placement { claim: Claim { tenant, ..over.claim }, offer: own.offer.clone() };
    // it was deleted, came back through another gateway and has the same worker: this one hears so after the refusal
    let refuse = refusing_meanwhile(&cluster, &given);
    let has_refused = AtomicBool::default();
    tokio::spawn(own.serve(0, move |path| {
        if has_refused.swap(true, Ordering::SeqCst) {
            return willing(path);
        }
        refuse()
    }));
    tokio::spawn(free.serve(0, willing));
    is_bound_to(&cluster, given).await;
}

#[tokio::test]
async fn a_free_worker_that_gave_no_answer_is_asked_again() {
    let only = Worker::new("only");
    let cluster = Cluster::new(TenantState::Unknown, &[&only]);
    let given = placed(&only.offer, 1);
    tokio::spawn(only.serve(1, willing));
    assert_eq!(activate(&cluster).await.unwrap().placement, given);
}

#[tokio::test]
async fn a_tenants_worker_that_gave_no_answer_is_bound_the_next_time() {
    let own = Worker::new("own");
    let given = placed(&own.offer, 7);
    let cluster = Cluster::new(TenantState::Assigned(given.clone()), &[]);
    tokio::spawn(own.serve(2, willing));
    assert_eq!(activate(&cluster).await.unwrap().placement, given);
}

#[tokio::test]
async fn a_worker_that_cannot_store_a_grant_is_not_asked_for_ever() {
    let own = Worker::new("own");
    let cluster = Cluster::new(TenantState::Assigned(placed(&own.offer, 7)), &[]);
    let was_asked = Arc::new(AtomicBool::default());
    let asked = Arc::clone(&was_asked);
    tokio::spawn(own.serve(0, move |_| {
        asked.store(true, Ordering::Relaxed);
        refusing(StatusCode::SERVICE_UNAVAILABLE, BindRefusal::StorageFailed)
    }));
    assert!(matches!(activate(&cluster).await, Err(ActivateError::BindFailed)));
    assert!(was_asked.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_server_that_does_not_start_for_its_user_is_tried_once_and_no_other_worker_is_taken() {
    let (own, free) = (Worker::new("own"), Worker::new("free"));
    let given = placed(&own.offer, 7);
    let cluster = Cluster::new(TenantState::Assigned(given.clone()), &[&free]);
    let asked = Arc::new(AtomicUsize::default());
    let counted = Arc::clone(&asked);
    tokio::spawn(own.serve(0, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        refusing(StatusCode::SERVICE_UNAVAILABLE, BindRefusal::ServerFailed)
    }));
    tokio::spawn(free.serve(0, willing));
    assert!(matches!(activate(&cluster).await, Err(ActivateError::ServerFailed)));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(cluster.state(), TenantState::Assigned(given));
}
