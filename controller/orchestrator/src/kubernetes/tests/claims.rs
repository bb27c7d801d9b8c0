//! What a claim writes, and what comes of it.

use super::*;

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
    // nor is one none whose key or address was not seen yet, unless it has ended
    let incomplete: [fn(&mut Value); 2] = [
        |pod| pod["metadata"]["annotations"] = json!({}),
        |pod| pod["status"]["podIP"] = json!(null),
    ];
    for change in incomplete {
        let mut world = World::new();
        world.tenant("b", assigned(2, 1));
        world.view.worker_seen(worker(2, 1, change), world.now);
        assert_eq!(of(&world.view), Named::Unseen(uid(2)));
        let ended = |pod: &mut Value| {
            change(pod);
            pod["status"]["phase"] = json!("Failed");
        };
        let mut over = World::new();
        over.tenant("b", assigned(2, 1));
        over.view.worker_seen(worker(2, 2, ended), over.now);
        assert_eq!(of(&over.view), Named::Nobody);
        assert!(
            world.view.worker_seen(worker(2, 3, |_| ()), world.now),
            "whoever waits looks again"
        );
        assert!(matches!(of(&world.view), Named::Worker(_)));
    }
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
    assert_eq!(wait(&world.view, &name, HOLD, at(58)), WaitPlan::Noted { until: at(59) });
    let WaitPlan::Write(again) = wait(&world.view, &name, HOLD, at(59)) else { panic!() };
    assert_eq!(again.after, waiting(1, 59));
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
fn a_write_compares_what_was_seen_and_nothing_else() {
    let mut world = World::new();
    world.worker(1).tenant("a", waiting(1, 0));
    let Plan::Write(write) = world.assign("a", 1, 2) else { panic!() };
    let uid = world.view.tenant(&key("a").name()).unwrap().uid.clone();
    assert_eq!(write.before, Some(Before { uid, assignment: Some(waiting(1, 0)) }));
}
