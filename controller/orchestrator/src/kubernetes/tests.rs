//! Claims over views, as values: nothing here is asynchronous but the clock's type.

use super::{
    claim::{Before, Claimant, Plan, Settled, WaitPlan, Write, assign, refusal, settle, wait},
    pick::{Asking, RESERVED},
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

#[test]
fn a_new_tenant_is_made_with_its_first_worker_by_one_write() {
    let mut world = World::new();
    world.worker(1);
    let after = TenantAssignment { requested_at: Some(at(9)), ..assigned(1, 1) };
    assert_eq!(world.assign("a", 1, 1), Plan::Write(Write { before: None, after }));
    assert_eq!(world.assign("a", 1, 2), refused(AssignRefusal::StaleEpoch));
}

#[test]
fn a_known_tenant_goes_on_from_its_last_epoch() {
    let mut world = World::new();
    world.worker(1).tenant("a", waiting(4, 0));
    assert_eq!(world.lookup("a"), TenantState::Asleep { last: Epoch(4) });
    let Plan::Write(write) = world.assign("a", 1, 5) else { panic!() };
    assert_eq!(write.before.unwrap().assignment, Some(waiting(4, 0)));
    assert_eq!((write.after.epoch, write.after.uid.as_str()), (5, "pod-1"));
    assert_eq!(world.assign("a", 1, 4), refused(AssignRefusal::StaleEpoch));
}

#[test]
fn an_assignment_that_another_gateway_wrote_wins() {
    let mut world = World::new();
    world.worker(1).worker(2).tenant("a", assigned(1, 3));
    let TenantState::Assigned(placement) = world.lookup("a") else { panic!() };
    assert_eq!(placement.claim.epoch, Epoch(3));
    let lost = Plan::Answer(Assignment::Lost(placement));
    assert_eq!(world.assign("a", 2, 3), lost);
    // the offer was its own worker, which became known while it waited
    assert_eq!(world.assign("a", 1, 4), lost);
    // its worker refused it: it may move on
    assert!(matches!(world.assign("a", 2, 4), Plan::Write(_)));
}

#[test]
fn a_worker_that_is_somebodys_marked_gone_or_without_a_key_is_not_given_away() {
    let mut world = World::new();
    for n in 1..=5 {
        world.worker(n);
    }
    world.tenant("b", assigned(1, 1));
    let bound = |pod: &mut Value| pod["metadata"]["labels"]["patchbay.dev/bound"] = json!("true");
    world.view.worker_seen(worker(2, 9, bound), world.now);
    let keyless = |pod: &mut Value| pod["metadata"]["annotations"] = json!({});
    world.view.worker_seen(worker(3, 9, keyless), world.now);
    world.view.worker_left(&uid(4), world.now);
    for n in 1..=4 {
        assert_eq!(world.assign("a", n, 1), refused(AssignRefusal::OfferGone), "{n}");
    }
    let offer = world.pick("a", &[], Duration::ZERO).unwrap();
    assert_eq!(offer.incarnation, uid(5));
    assert_eq!(world.pick("a", &[uid(5)], Duration::ZERO), None);
}

#[test]
fn what_a_tenant_names_is_used_only_if_it_is_a_worker_of_its_class_with_a_key() {
    let mut world = World::new();
    let other = |pod: &mut Value| pod["metadata"]["labels"]["patchbay.dev/class"] = json!("other");
    world.view.worker_seen(worker(1, 1, other), world.now);
    world.tenant("a", assigned(1, 1));
    assert_eq!(world.lookup("a"), TenantState::Asleep { last: Epoch(1) });
    // one that was never seen may be known in a moment
    world.tenant("b", assigned(2, 1));
    let name = key("b").name();
    let of = |view: &View| view.worker_of(view.tenant(&name).unwrap());
    assert_eq!(of(&world.view), Named::Unseen(uid(2)));
    world.worker(2);
    assert!(matches!(of(&world.view), Named::Worker(_)));
    world.view.worker_deleted(&uid(2));
    assert_eq!(world.lookup("b"), TenantState::Asleep { last: Epoch(1) });
}

#[test]
fn a_suspended_a_misnamed_a_deleted_and_an_unprovisioned_tenant_get_nothing() {
    let changes: [Refused; 3] = [
        (|tenant| tenant.spec.suspended = true, AssignRefusal::Suspended),
        (|tenant| tenant.spec.identity.subject = "x".into(), AssignRefusal::NameMismatch),
        (
            |tenant| {
                let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1));
                tenant.metadata.deletion_timestamp = Some(now);
            },
            AssignRefusal::Deleting,
        ),
    ];
    for (change, why) in changes {
        let mut world = World::new();
        world.worker(1);
        let (name, seen) = tenant("a", 1, None, change);
        world.view.tenant_watched(name, seen, world.now);
        assert_eq!(world.assign("a", 1, 1), refused(why));
    }
    let mut world = World::new();
    world.worker(1);
    let unmade = Provisioning::Preprovisioned;
    let unknown = world.assign_with("a", 1, 1, unmade, Limits::default());
    assert_eq!(unknown, refused(AssignRefusal::NotProvisioned));
    let (name, seen) = tenant("a", 1, None, |_| ());
    world.view.tenant_watched(name, seen, world.now);
    let Plan::Write(write) = world.assign_with("a", 1, 1, unmade, Limits::default()) else {
        panic!()
    };
    assert_eq!(write.before.unwrap().assignment, None);
}

#[test]
fn an_identity_that_no_tenant_could_hold_is_refused_before_any_write() {
    let world = World::new();
    let longest = "ä".repeat(1024);
    for (subject, expected) in
        [(longest.clone(), None), (longest + "x", Some(AssignRefusal::IdentityTooLong))]
    {
        let key = key(&subject);
        let claimant = Claimant {
            key: &key,
            name: &key.name(),
            provisioning: Provisioning::OnFirstContact,
            limits: Limits::default(),
        };
        assert_eq!(refusal(&world.view, claimant), expected);
    }
}

#[test]
fn the_limit_counts_tenants_that_have_a_worker_and_not_the_claimant() {
    let mut world = World::new();
    world.worker(1).worker(2).tenant("b", assigned(1, 1)).tenant("c", waiting(1, 0));
    let limits = Limits { tenants: Some(1) };
    let claim =
        |world: &World, who| world.assign_with(who, 2, 2, Provisioning::OnFirstContact, limits);
    assert_eq!(claim(&world, "a"), refused(AssignRefusal::TenantLimit));
    assert!(matches!(claim(&world, "b"), Plan::Write(_)));
}

#[test]
fn a_wait_keeps_the_epoch_and_is_renewed_only_when_it_is_about_to_be_forgotten() {
    let mut world = World::new();
    let name = key("a").name();
    let WaitPlan::Write(first) = wait(&world.view, &name, HOLD, at(5)) else { panic!() };
    assert_eq!(first, Write { before: None, after: waiting(1, 5) });
    world.tenant("a", waiting(1, 5));
    assert_eq!(wait(&world.view, &name, HOLD, at(34)), WaitPlan::Noted { until: at(35) });
    let WaitPlan::Write(again) = wait(&world.view, &name, HOLD, at(35)) else { panic!() };
    assert_eq!(again.after, waiting(1, 35));
    // what it had is given up, under the same epoch
    world.tenant("b", assigned(7, 3));
    let WaitPlan::Write(b) = wait(&world.view, &key("b").name(), HOLD, at(5)) else { panic!() };
    assert_eq!(b.after, waiting(3, 5));
}

#[test]
fn what_was_read_back_says_how_a_write_ended() {
    let mut world = World::new();
    world.worker(1).worker(2);
    let Plan::Write(write) = world.assign("a", 1, 1) else { panic!() };
    let name = key("a").name();
    let settled = |view: &View| settle(view, &name, &write, &offer(1));
    assert_eq!(settled(&world.view), Settled::NotWritten);

    let see = |assignment, change: fn(&mut Tenant)| {
        let mut world = World::new();
        world.worker(1).worker(2);
        let (name, seen) = tenant("a", 1, assignment, change);
        world.view.tenant_answered(name, seen, world.now);
        match settled(&world.view) {
            Settled::Ended(ended) => ended,
            Settled::NotWritten => panic!("it was"),
        }
    };
    let Assignment::Won(won) = see(Some(assigned(1, 1)), |_| ()) else { panic!() };
    assert_eq!(won.claim.tenant.as_str(), "tenant-a");
    let Assignment::Lost(lost) = see(Some(assigned(2, 1)), |_| ()) else { panic!() };
    assert_eq!(lost.offer.incarnation, uid(2));
    let stale = Assignment::Refused(AssignRefusal::StaleEpoch);
    assert_eq!(see(Some(waiting(1, 0)), |_| ()), stale);
    assert_eq!(see(None, |_| ()), stale);
    let suspended = see(Some(assigned(1, 1)), |tenant| tenant.spec.suspended = true);
    assert_eq!(suspended, Assignment::Refused(AssignRefusal::Suspended));
}

#[test]
fn a_rejected_change_of_a_known_tenant_is_told_from_a_lost_race() {
    let mut world = World::new();
    world.worker(1).tenant("a", waiting(1, 0));
    let Plan::Write(write) = world.assign("a", 1, 2) else { panic!() };
    let name = key("a").name();
    let offer = offer(1);
    assert_eq!(settle(&world.view, &name, &write, &offer), Settled::NotWritten);
    // made anew: another life of the object
    let (_, anew) = tenant("a", 101, Some(waiting(1, 0)), |tenant| {
        tenant.metadata.uid = Some("another".into());
    });
    world.view.tenant_watched(name.clone(), anew, world.now);
    let ended = settle(&world.view, &name, &write, &offer);
    assert_eq!(ended, Settled::Ended(Assignment::Refused(AssignRefusal::StaleEpoch)));
}

#[test]
fn an_answer_is_not_forgotten_for_an_older_word_of_the_watch() {
    let mut world = World::new();
    world.worker(1);
    let (name, before) = tenant("a", 10, Some(waiting(1, 0)), |_| ());
    world.view.tenant_watched(name.clone(), before.clone(), world.now);
    let (_, ours) = tenant("a", 20, Some(assigned(1, 2)), |_| ());
    assert!(world.view.tenant_answered(name.clone(), ours, world.now));
    assert!(!world.view.tenant_watched(name.clone(), before, world.now));
    assert!(matches!(world.lookup("a"), TenantState::Assigned(_)));

    // a list that was taken before the write does not undo it either
    world.view.list_tenants();
    let (other, new) = tenant("b", 25, Some(waiting(1, 0)), |_| ());
    world.view.tenant_answered(other, new, world.now);
    let (_, old) = tenant("a", 10, Some(waiting(1, 0)), |_| ());
    world.view.tenant_listed(&name, &old);
    world.view.tenants_complete(world.now);
    assert!(matches!(world.lookup("a"), TenantState::Assigned(_)));
    assert!(matches!(world.lookup("b"), TenantState::Asleep { .. }));
    world.view.list_tenants();
    world.view.tenants_complete(world.now);
    assert_eq!(world.lookup("a"), TenantState::Unknown);
}

#[test]
fn a_tenant_that_the_watch_saw_go_is_not_brought_back_by_an_old_answer() {
    let mut world = World::new();
    let (name, seen) = tenant("a", 10, Some(waiting(1, 0)), |_| ());
    world.view.tenant_watched(name.clone(), seen.clone(), world.now);
    let (_, gone) = tenant("a", 30, None, |_| ());
    assert!(world.view.tenant_deleted(&name, gone.version, world.now));
    assert!(!world.view.tenant_answered(name.clone(), seen, world.now));
    assert_eq!(world.lookup("a"), TenantState::Unknown);
    // one that was made anew by this gateway survives the word that the old one went
    let (_, anew) = tenant("a", 40, Some(waiting(1, 0)), |_| ());
    world.view.tenant_answered(name.clone(), anew, world.now);
    assert!(!world.view.tenant_deleted(&name, gone.version, world.now));
    assert!(matches!(world.lookup("a"), TenantState::Asleep { .. }));
}

#[test]
fn a_worker_is_over_when_it_leaves_fails_its_probe_or_goes() {
    let ends: [fn(&mut World); 3] = [
        |world| assert!(world.view.worker_left(&uid(1), world.now)),
        |world| {
            let unready =
                |pod: &mut Value| pod["status"]["conditions"][0]["status"] = json!("False");
            assert!(world.view.worker_seen(worker(1, 5, unready), world.now));
        },
        |world| {
            world.view.list_workers();
            world.view.workers_complete(world.now);
        },
    ];
    for end in ends {
        let mut world = World::new();
        world.worker(1).tenant("a", assigned(1, 1));
        let over = world.view.until_over(&uid(1)).unwrap();
        assert!(!over.is_cancelled());
        end(&mut world);
        assert!(over.is_cancelled());
        assert!(world.view.until_over(&uid(1)).is_none());
        assert_eq!(world.lookup("a"), TenantState::Asleep { last: Epoch(1) });
    }
}

#[test]
fn a_worker_that_just_became_free_is_the_longest_waiting_tenants() {
    let mut world = World::new();
    world.tenant("late", waiting(1, 20)).tenant("early", waiting(1, 10)).worker(1);
    assert_eq!(world.pick("late", &[], Duration::ZERO), None);
    assert_eq!(world.pick("new", &[], Duration::ZERO), None);
    assert!(world.pick("early", &[], Duration::ZERO).is_some());
    // the gateway of the one whose turn it is may be gone
    assert!(world.pick("new", &[], RESERVED).is_some());
    // and a wait longer than any hold is nobody's any more
    world.tenant("early", waiting(1, -40));
    assert!(world.pick("late", &[], Duration::ZERO).is_some());
}

#[derive(Debug, Clone)]
enum Step {
    Worker(u8, bool, bool),
    Deleted(u8),
    Left(u8),
    Assigned(u8, u8),
    Waits(u8),
    TenantGone(u8),
    Relist,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, any::<bool>(), any::<bool>())
            .prop_map(|(n, up, bound)| Step::Worker(n, up, bound)),
        (0..4_u8).prop_map(Step::Deleted),
        (0..4_u8).prop_map(Step::Left),
        (0..3_u8, 0..4_u8).prop_map(|(t, n)| Step::Assigned(t, n)),
        (0..3_u8).prop_map(Step::Waits),
        (0..3_u8).prop_map(Step::TenantGone),
        Just(Step::Relist),
    ]
}

proptest! {
    #[test]
    fn a_worker_is_free_exactly_while_it_takes_work_and_nobody_has_it(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut world = World::new();
        for (version, step) in (1_u64..).zip(steps) {
            let now = world.now;
            match step {
                Step::Worker(n, is_up, is_bound) => {
                    let change = |pod: &mut Value| {
                        let up = if is_up { "True" } else { "False" };
                        pod["status"]["conditions"][0]["status"] = json!(up);
                        let bound = is_bound.to_string();
                        pod["metadata"]["labels"]["patchbay.dev/bound"] = json!(bound);
                    };
                    world.view.worker_seen(worker(n, version, change), now);
                }
                Step::Deleted(n) => { world.view.worker_deleted(&uid(n)); }
                Step::Left(n) => { world.view.worker_left(&uid(n), now); }
                Step::Assigned(t, n) => {
                    let (name, seen) =
                        tenant(&t.to_string(), version, Some(assigned(n, version)), |_| ());
                    world.view.tenant_watched(name, seen, now);
                }
                Step::Waits(t) => {
                    let (name, seen) =
                        tenant(&t.to_string(), version, Some(waiting(version, 0)), |_| ());
                    world.view.tenant_watched(name, seen, now);
                }
                Step::TenantGone(t) => {
                    world.view.tenant_missing(&key(&t.to_string()).name(), now);
                }
                Step::Relist => {
                    world.view.list_workers();
                    world.view.workers_complete(now);
                }
            }
            let names: Vec<_> = (0..3_u8)
                .filter_map(|t| world.view.tenant(&key(&t.to_string()).name())?.names())
                .collect();
            let mut free = 0;
            for n in 0..4 {
                let is_free = world.view.is_free(&uid(n), &class());
                free += usize::from(is_free);
                let takes_work = world.view.until_over(&uid(n)).is_some();
                prop_assert!(!is_free || takes_work && !names.contains(&uid(n)), "{}", n);
            }
            prop_assert_eq!(world.view.count_free(&class()), free);
        }
    }
}

#[test]
fn a_write_compares_what_was_seen_and_nothing_else() {
    let mut world = World::new();
    world.worker(1).tenant("a", waiting(1, 0));
    let Plan::Write(write) = world.assign("a", 1, 2) else { panic!() };
    let uid = world.view.tenant(&key("a").name()).unwrap().uid.clone();
    assert_eq!(write.before, Some(Before { uid, assignment: Some(waiting(1, 0)) }));
}
