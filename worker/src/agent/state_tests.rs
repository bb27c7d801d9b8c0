//! Tests of the state.

use super::*;
use patchbay_core::{
    digest::Digest,
    grant::Grant,
    id::{Epoch, TenantUid},
};

const POLICY: IdlePolicy = IdlePolicy { idle_timeout: Duration::from_mins(1), max_age: None };

fn claim(tenant: &str) -> Claim {
    Claim { tenant: TenantUid::parse(tenant).unwrap(), epoch: Epoch(1) }
}

fn offered(expires_at: Option<&str>) -> Grant {
    Grant {
        credential: Digest::of(b"credential"),
        expires_at: expires_at.map(|text| text.parse().unwrap()),
        catalog: None,
        aws: None,
        allowed: None,
    }
}

fn grant(expires_at: Option<&str>) -> HeldGrant {
    HeldGrant::new(offered(expires_at), None)
}

fn after(seconds: u64) -> Moment {
    let now = Moment::now();
    Moment { instant: now.instant + Duration::from_secs(seconds), ..now }
}

fn bound() -> Arc<Worker> {
    let worker = Arc::new(Worker::new(Credentials::Nothing));
    worker.set_ready();
    worker.apply_bind(&claim("t1"), Some(grant(None)), Moment::now()).unwrap();
    worker
}

#[tokio::test]
async fn a_worker_whose_server_does_not_answer_yet_is_bound_by_nobody() {
    let worker = Worker::new(Credentials::Nothing);
    let plan = worker.plan_bind(&claim("t1"), &offered(None), Moment::now());
    assert_eq!(plan, Err(BindRefusal::Warming));
    assert_eq!(worker.status().phase, WorkerPhase::Warming);
    worker.set_ready();
    assert_eq!(worker.plan_bind(&claim("t1"), &offered(None), Moment::now()), Ok(BindPlan::Latch));
    assert_eq!(worker.status().phase, WorkerPhase::Anonymous);
}

#[tokio::test]
async fn a_bind_again_replaces_only_a_worse_grant() {
    let worker = bound();
    let later = offered(Some("2100-01-01T00:00:00Z"));
    assert_eq!(worker.plan_bind(&claim("t1"), &later, Moment::now()), Ok(BindPlan::Keep));
    let short = grant(Some("2090-01-01T00:00:00Z"));
    worker.apply_bind(&claim("t1"), Some(short), Moment::now()).unwrap();
    assert_eq!(worker.plan_bind(&claim("t1"), &later, Moment::now()), Ok(BindPlan::Replace));
}

#[tokio::test]
async fn a_worker_that_could_not_store_its_grant_is_that_tenants_all_the_same() {
    let worker = Worker::new(Credentials::Nothing);
    worker.set_ready();
    worker.apply_bind(&claim("t1"), None, Moment::now()).unwrap();
    let now = Moment::now();
    assert_eq!(worker.plan_bind(&claim("t2"), &offered(None), now), Err(BindRefusal::OtherTenant));
    assert_eq!(worker.plan_bind(&claim("t1"), &offered(None), now), Ok(BindPlan::Replace));
}

#[tokio::test]
async fn only_calls_are_in_flight() {
    let worker = bound();
    let listening = worker.enter(Some(&claim("t1")), Weight::Listening, Moment::now());
    assert!(matches!(listening, Entry::Admitted(_)));
    assert!(worker.is_quiet());
    let call = worker.enter(Some(&claim("t1")), Weight::Call, Moment::now());
    assert_eq!(worker.status().in_flight, 1);
    drop(call);
    assert!(worker.is_quiet());
}

#[tokio::test]
async fn idleness_and_leaving_are_one_step() {
    let worker = bound();
    assert!(matches!(worker.leave_if_idle(&POLICY, Moment::now()), IdleCheck::In(_)));
    let call = worker.enter(Some(&claim("t1")), Weight::Call, Moment::now());
    assert!(matches!(worker.leave_if_idle(&POLICY, after(1000)), IdleCheck::In(_)));
    drop(call);
    assert_eq!(worker.leave_if_idle(&POLICY, after(1000)), IdleCheck::Left);
    let refused = worker.enter(Some(&claim("t1")), Weight::Call, Moment::now());
    assert!(matches!(refused, Entry::Leaving));
    assert_eq!(worker.farewell().reason, LeaveReason::Idle);
}

#[tokio::test]
async fn an_anonymous_worker_is_never_idle() {
    let worker = Worker::new(Credentials::Nothing);
    assert_eq!(worker.leave_if_idle(&POLICY, after(100_000)), IdleCheck::AtChange);
}

#[tokio::test]
async fn a_bound_worker_is_not_retired_and_an_anonymous_one_is_never_bound_again() {
    let now = Moment::now();
    assert_eq!(bound().retire(now), Err(BindRefusal::OtherTenant));
    let worker = Worker::new(Credentials::Nothing);
    worker.set_ready();
    assert_eq!(worker.retire(now), Ok(()));
    let bind = worker.apply_bind(&claim("t1"), None, Moment::now());
    assert_eq!(bind, Err(BindRefusal::Leaving));
    assert_eq!(worker.farewell().reason, LeaveReason::Retired);
}

#[tokio::test]
async fn a_worker_that_is_kept_is_not_retired_and_who_binds_first_has_it_all_the_same() {
    let [alice, bob] =
        ["a", "b"].map(|it| TenantName::parse(format!("t-{}", it.repeat(20))).unwrap());
    let worker = Worker::new(Credentials::Nothing);
    let now = Moment::now();
    assert_eq!(worker.reserve(&alice, now), Err(BindRefusal::Warming));
    worker.set_ready();
    assert_eq!(worker.reserve(&alice, now), Ok(()));
    assert_eq!(worker.reserve(&bob, now), Err(BindRefusal::Reserved));
    assert_eq!(worker.retire(now), Err(BindRefusal::Reserved));
    worker.release(&alice);
    assert_eq!(worker.reserve(&bob, now), Ok(()));
    // a reservation is a courtesy: a bind needs none
    worker.apply_bind(&claim("t1"), Some(grant(None)), now).unwrap();
    assert_eq!(worker.reserve(&bob, now), Err(BindRefusal::OtherTenant));
    assert_eq!(worker.retire(now), Err(BindRefusal::OtherTenant));
    worker.leave(LeaveReason::Drained.into());
    assert_eq!(worker.reserve(&bob, now), Err(BindRefusal::Leaving));
}

#[tokio::test]
async fn a_worker_that_is_asked_serves_on_until_it_is_idle_and_says_whose_it_was() {
    let worker = bound();
    let call = worker.enter(Some(&claim("t1")), Weight::Call, Moment::now());
    worker.leave_when_idle();
    assert!(matches!(worker.leave_if_idle(&POLICY, Moment::now()), IdleCheck::In(_)));
    let another = worker.enter(Some(&claim("t1")), Weight::Call, Moment::now());
    assert!(matches!(another, Entry::Admitted(_)));
    drop((call, another));
    assert_eq!(worker.leave_if_idle(&POLICY, Moment::now()), IdleCheck::Left);
    let farewell = worker.farewell();
    assert_eq!(farewell.reason, LeaveReason::Drained);
    assert_eq!(farewell.tenant, Some(claim("t1").tenant));
}

#[tokio::test]
async fn an_anonymous_worker_that_is_asked_leaves_at_once() {
    let worker = Worker::new(Credentials::Nothing);
    worker.leave_when_idle();
    assert!(worker.is_leaving());
    assert_eq!((worker.farewell().reason, worker.farewell().tenant), (LeaveReason::Retired, None));
}

#[tokio::test]
async fn the_first_reason_to_leave_stands() {
    let worker = bound();
    worker.leave(LeaveReason::Drained.into());
    worker.leave(Departure::new(LeaveReason::ServerExited, "later"));
    assert_eq!(worker.farewell().reason, LeaveReason::Drained);
    assert!(!worker.is_without_server());
}
