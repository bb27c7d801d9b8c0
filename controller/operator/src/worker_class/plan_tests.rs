use super::{
    super::{
        fixtures::{World, assigned, at, bound, starting, waiting, worker, world},
        view::{Standing, TenantView},
    },
    *,
};
use crate::observe::{Known, Life, Trouble};
use patchbay_core::link::LeaveReason;

fn actions(world: &World) -> Vec<Action> {
    plan(&world.view()).actions
}

fn pod(name: &str) -> PodRef {
    PodRef { name: name.into(), uid: Incarnation::parse(format!("uid-{name}")).unwrap() }
}

fn uid(name: &str) -> TenantUid {
    TenantUid::parse(name).unwrap()
}

fn clear(tenant: &str, worker: &str, farewell: Option<Farewell>) -> Action {
    Action::ClearAssignment {
        name: tenant.into(),
        tenant: uid(tenant),
        worker: pod(worker).uid,
        epoch: Epoch(3),
        farewell,
    }
}

fn reap(name: &str, why: ReapReason) -> Action {
    Action::Reap { pod: pod(name), only_if: Some("1".into()), why }
}

fn suspended(tenant: TenantView) -> TenantView {
    TenantView { suspended: true, ..tenant }
}

fn unsaid(pod: ObservedPod) -> ObservedPod {
    ObservedPod { known: Known::default(), ..pod }
}

fn farewell(tenant: Option<&str>) -> Farewell {
    Farewell {
        tenant: tenant.map(uid),
        reason: LeaveReason::Idle,
        last_activity: Some(at(900)),
        detail: None,
    }
}

fn failed(name: &str, second: i64) -> ObservedPod {
    let trouble =
        Trouble { reason: "Error".into(), message: "exit code 1".into(), at: Some(at(second)) };
    ObservedPod { life: Life::Failed { trouble, farewell: None }, ..worker(name) }
}

#[test]
fn as_many_workers_are_kept_as_are_warm_and_waited_for() {
    let mut world = world(2);
    world.tenants = vec![waiting("t1"), suspended(waiting("t2"))];
    assert_eq!(actions(&world), [Action::Create(3)]);
    world.pods = vec![worker("a"), starting("b"), worker("c")];
    let asked = ["a", "c"].map(|name| Action::Inquire(pod(name)));
    assert_eq!(actions(&world), asked, "who waits should long have one of these");
    world.pods.iter_mut().for_each(|pod| pod.known.said.iter_mut().for_each(|s| s.at = at(999)));
    assert_eq!(actions(&world), []);
}

#[test]
fn a_wait_past_the_hold_does_not_count() {
    let mut world = world(0);
    world.tenants = vec![waiting("t1")];
    world.pace.hold = std::time::Duration::from_secs(1);
    assert_eq!(actions(&world), []);
}

#[test]
fn creation_is_bounded_by_pass_and_by_time_and_counts_what_is_not_seen_yet() {
    let mut world = world(200);
    assert_eq!(actions(&world), [Action::Create(100)]);
    world.expected = 150;
    assert_eq!(actions(&world), [Action::Create(50)]);
    world.pace.creates_per_window = 160;
    assert_eq!(actions(&world), [Action::Create(10)]);
    world.expected = 0;
    world.pods = (0..160).map(|n| starting(&format!("p{n}"))).collect();
    world.pods.iter_mut().for_each(|pod| pod.created = at(995));
    let full = plan(&world.view());
    assert_eq!((full.actions, full.look_again), (vec![], Some(at(1005))));
}

#[test]
fn of_too_many_those_that_never_had_a_key_go_first_and_then_the_youngest_through_their_latch() {
    let mut world = world(1);
    let trouble = Trouble { reason: "ErrImagePull".into(), message: String::new(), at: None };
    let stuck = Life::Starting { dialable: false, trouble: Some(trouble) };
    world.pods = vec![
        worker("old"),
        ObservedPod { created: at(5), ..worker("young") },
        ObservedPod { life: stuck, created: at(900), ..starting("stuck") },
    ];
    let expected =
        [Action::Retire(pod("young"), RetireReason::Surplus), reap("stuck", ReapReason::Surplus)];
    assert_eq!(actions(&world), expected);
}

#[test]
fn a_surplus_worker_lingers_for_the_client_that_it_was_started_for() {
    let mut world = world(0);
    world.pods = vec![ObservedPod { ready_since: Some(at(970)), ..worker("a") }];
    let plan = plan(&world.view());
    assert_eq!((plan.actions, plan.look_again), (vec![], Some(at(1020))));
}

#[test]
fn a_class_change_and_a_cordon_retire_anonymous_workers_at_once_and_touch_no_bound_one() {
    let mut world = world(0);
    let old = |pod| ObservedPod { revision: "r0".into(), ..pod };
    let cordoned = |pod| ObservedPod { node: Some("n2".into()), ..pod };
    world.cordoned = BTreeSet::from(["n2".to_owned()]);
    world.pods = vec![
        old(worker("a")),
        old(starting("b")),
        old(bound("c", "t1")),
        cordoned(worker("d")),
        cordoned(bound("e", "t2")),
        old(worker("f")),
    ];
    world.tenants = vec![assigned("t1", "c"), assigned("t2", "e"), assigned("t3", "f")];
    let Standing::Assigned(recent) = &mut world.tenants[2].standing else { panic!("assigned") };
    recent.seen = at(999);
    let expected = [
        Action::MarkBound(pod("f")),
        Action::Retire(pod("a"), RetireReason::OldRevision),
        Action::Retire(pod("d"), RetireReason::Cordoned),
        reap("b", ReapReason::OldRevision),
        Action::AskToLeaveWhenIdle(pod("e")),
    ];
    assert_eq!(actions(&world), expected);
}

#[test]
fn a_suspended_tenants_worker_is_drained_once_it_has_said_that_it_is_this_tenants() {
    let mut world = world(0);
    world.tenants = vec![suspended(assigned("t1", "a"))];
    world.pods = vec![bound("a", "t1")];
    let why = DrainReason::Suspended;
    assert_eq!(actions(&world), [Action::Drain { pod: pod("a"), tenant: uid("t1"), why }]);
    world.pods = vec![unsaid(bound("a", "t1"))];
    assert_eq!(actions(&world), [Action::Inquire(pod("a"))]);
    // not bound: a bind may be on its way, so only the latch can say
    world.pods = vec![ObservedPod { marked_bound: true, ..worker("a") }];
    assert_eq!(actions(&world), [Action::Retire(pod("a"), RetireReason::Suspended)]);
}

#[test]
fn suspending_a_tenant_that_names_anothers_worker_ends_only_its_assignment() {
    let mut world = world(0);
    world.tenants = vec![assigned("t1", "a"), suspended(assigned("t2", "a"))];
    world.pods = vec![bound("a", "t1")];
    assert_eq!(actions(&world), [clear("t2", "a", None)]);
}

#[test]
fn an_orphan_is_drained_only_when_a_list_that_is_younger_than_its_word_proves_it() {
    let mut world = world(0);
    world.pods = vec![bound("a", "t1")];
    assert_eq!(actions(&world), [Action::Relist]);
    world.fresh = 501;
    let drain = |why| Action::Drain { pod: pod("a"), tenant: uid("t1"), why };
    assert_eq!(actions(&world), [drain(DrainReason::Deleted)]);
    // calls of who has another worker by now may finish
    world.tenants = vec![assigned("t1", "b")];
    world.pods.push(bound("b", "t1"));
    assert_eq!(actions(&world), [drain(DrainReason::Orphaned)]);
    assert!(DrainReason::Deleted.cuts() && !DrainReason::Orphaned.cuts());
}

#[test]
fn an_assignment_to_a_pod_that_is_not_there_is_cleared_only_when_a_younger_list_proves_it() {
    let mut world = world(0);
    world.tenants = vec![assigned("t1", "a")];
    assert_eq!(actions(&world), [Action::Relist]);
    world.fresh = 401;
    assert_eq!(actions(&world), [clear("t1", "a", None)]);
}

#[test]
fn who_waits_beyond_the_limit_of_the_class_is_given_no_worker() {
    let mut world = world(1);
    world.most_tenants = Some(2);
    world.pods = vec![bound("a", "t1")];
    world.tenants = vec![assigned("t1", "a"), waiting("t2"), waiting("t3")];
    assert_eq!(actions(&world), [Action::Create(2)]);
    world.most_tenants = Some(1);
    assert_eq!(actions(&world), [Action::Create(1)]);
}

#[test]
fn last_words_are_copied_before_the_pod_is_deleted() {
    let mut world = world(0);
    let farewell = farewell(Some("t1"));
    world.tenants = vec![assigned("t1", "a")];
    // whatever the operator remembers of it
    world.pods =
        vec![ObservedPod { life: Life::Finished(farewell.clone()), ..unsaid(bound("a", "t1")) }];
    assert_eq!(actions(&world), [clear("t1", "a", Some(farewell))]);
    world.tenants.clear();
    let reaped = Action::Reap { pod: pod("a"), only_if: None, why: ReapReason::Ended };
    assert_eq!(actions(&world), [reaped]);
}

#[test]
fn last_words_are_given_to_nobody_but_the_tenant_that_they_name() {
    let mut world = world(0);
    world.tenants = vec![assigned("t1", "a"), assigned("t2", "a")];
    let ended =
        |whose| ObservedPod { life: Life::Finished(farewell(whose)), ..unsaid(bound("a", "t1")) };
    world.pods = vec![ended(None)];
    assert_eq!(actions(&world), [clear("t1", "a", None), clear("t2", "a", None)]);
    world.pods = vec![ended(Some("t1"))];
    let last_words = Some(farewell(Some("t1")));
    assert_eq!(actions(&world), [clear("t1", "a", last_words), clear("t2", "a", None)]);
}

#[test]
fn an_assignment_that_nobody_came_back_for_gives_its_worker_up_through_the_latch() {
    let mut world = world(0);
    world.tenants = vec![assigned("t1", "a")];
    world.pods = vec![ObservedPod { marked_bound: true, ..worker("a") }];
    assert_eq!(actions(&world), [Action::Retire(pod("a"), RetireReason::Abandoned)]);
    // what it said before is no answer; and whether it is bound is asked once the bind should be over
    world.pods[0].known.said.as_mut().unwrap().at = at(600);
    assert_eq!(actions(&world), [Action::Inquire(pod("a"))]);
    let Standing::Assigned(recent) = &mut world.tenants[0].standing else { panic!("assigned") };
    recent.seen = at(980);
    world.pods[0].known.said = None;
    assert_eq!(actions(&world), [Action::Inquire(pod("a"))]);
}

#[test]
fn pods_that_fail_are_replaced_more_and_more_rarely_and_one_at_a_time() {
    let mut world = world(3);
    world.pods = vec![failed("a", 995), failed("b", 996)];
    let first = plan(&world.view());
    assert_eq!((first.backoff.failures, first.look_again), (1, Some(at(1001))));
    assert!(!first.actions.iter().any(|action| matches!(action, Action::Create(_))));
    world.backoff = first.backoff;
    assert_eq!(plan(&world.view()).backoff.failures, 1, "seen again, it is no other failure");
    world.pods.clear();
    world.backoff.not_before = Some(at(1000));
    assert_eq!(actions(&world), [Action::Create(3)]);
    world.backoff.failures = 7;
    assert_eq!(actions(&world), [Action::Create(1)]);
    world.pods = vec![starting("c")];
    assert_eq!(actions(&world), []);
    let ready_since = Some(at(998));
    world.pods = vec![ObservedPod { ready_since, ..worker("c") }];
    assert_eq!(plan(&world.view()).backoff.failures, 7, "not yet steady");
    world.backoff.last = Some(at(900));
    world.pods[0].ready_since = Some(at(980));
    let recovered = plan(&world.view());
    assert_eq!((recovered.backoff.failures, recovered.actions), (0, vec![Action::Create(2)]));
}

#[test]
fn a_pod_that_starts_is_enrolled_and_one_that_lies_is_deleted_if_it_has_not_changed() {
    let mut world = world(1);
    let life = Life::Starting { dialable: true, trouble: None };
    world.pods = vec![ObservedPod { life, ..starting("a") }];
    assert_eq!(actions(&world), [Action::Enrol(pod("a"))]);
    world.pods[0].known.not_before = Some(at(1001));
    assert_eq!(actions(&world), []);
    world.pods[0].known.refused = Some("another key".into());
    assert_eq!(actions(&world), [Action::Create(1), reap("a", ReapReason::Refused)]);
}

#[test]
fn a_pod_that_does_not_get_a_key_in_time_is_made_anew_unless_no_node_has_room() {
    let mut world = world(1);
    let life = Life::Starting { dialable: true, trouble: None };
    world.pods = vec![ObservedPod { life, created: at(100), ..starting("a") }];
    assert_eq!(actions(&world), [Action::Create(1), reap("a", ReapReason::NotStarting)]);
    let trouble = Trouble { reason: "Unschedulable".into(), message: String::new(), at: None };
    world.pods[0].life = Life::Starting { dialable: false, trouble: Some(trouble) };
    assert_eq!(actions(&world), []);
}

#[test]
fn a_worker_that_is_still_starting_is_the_one_that_is_too_many() {
    let mut world = world(1);
    world.pods = vec![worker("a"), starting("b")];
    assert_eq!(actions(&world), []);
}

#[test]
fn a_tenant_whose_name_is_wrong_has_and_gets_nothing() {
    let mut world = world(1);
    let usable = false;
    world.tenants = vec![
        TenantView { usable, ..waiting("t1") },
        TenantView { usable, ..suspended(assigned("t2", "a")) },
    ];
    world.pods = vec![worker("a")];
    assert_eq!(actions(&world), []);
}

#[test]
fn a_pass_is_bounded_and_goes_on_at_once() {
    let mut world = world(0);
    world.pace.actions = 2;
    world.pods = ["a", "b", "c"].map(worker).to_vec();
    let plan = plan(&world.view());
    assert_eq!((plan.actions.len(), plan.look_again), (2, Some(at(1000))));
}
