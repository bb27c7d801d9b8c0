//! What a view knows, whatever it hears in whatever order.

use super::*;

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
fn a_tenant_that_was_made_while_it_was_looked_for_is_not_forgotten() {
    let mut world = World::new();
    world.worker(1);
    let name = key("a").name();
    let asked_at = world.view.version(&name);
    world.tenant("a", assigned(1, 1));
    assert!(!world.view.tenant_not_found(&name, asked_at, world.now));
    assert!(matches!(world.lookup("a"), TenantState::Assigned(_)));
    // one of which nothing was seen meanwhile is gone
    let asked_at = world.view.version(&name);
    assert!(world.view.tenant_not_found(&name, asked_at, world.now));
    assert_eq!(world.lookup("a"), TenantState::Unknown);
}

#[test]
fn a_worker_is_over_when_it_leaves_ends_or_goes() {
    let ends: [fn(&mut World); 3] = [
        |world| assert!(world.view.worker_left(&uid(1), world.now)),
        |world| {
            let ended = |pod: &mut Value| pod["status"]["phase"] = json!("Failed");
            assert!(world.view.worker_seen(worker(1, 5, ended), world.now));
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

fn unready(pod: &mut Value) {
    pod["status"]["conditions"][0]["status"] = json!("False");
}

#[test]
fn a_worker_that_is_not_ready_stays_its_tenants_unless_it_is_not_reached_either() {
    let mut world = World::new();
    world.worker(1).tenant("a", assigned(1, 1));
    let over = world.view.until_over(&uid(1)).unwrap();
    assert!(world.view.worker_seen(worker(1, 5, unready), world.now));
    assert!(!over.is_cancelled());
    assert!(matches!(world.lookup("a"), TenantState::Assigned(_)));
    assert!(world.view.worker_unreachable(&uid(1), world.now));
    assert!(over.is_cancelled());
    assert_eq!(world.lookup("a"), TenantState::Asleep { last: Epoch(1) });
    // the cluster vouches for it again
    world.view.worker_seen(worker(1, 6, |_| ()), world.now);
    assert!(matches!(world.lookup("a"), TenantState::Assigned(_)));
    assert!(!world.view.until_over(&uid(1)).unwrap().is_cancelled());
}

#[test]
fn a_worker_that_is_not_reached_stays_its_tenants_unless_the_cluster_doubts_it_soon() {
    for (later, is_lost) in [(1, true), (11, false)] {
        let mut world = World::new();
        world.worker(1).tenant("a", assigned(1, 1));
        let over = world.view.until_over(&uid(1)).unwrap();
        assert!(!world.view.worker_unreachable(&uid(1), world.now));
        assert!(!over.is_cancelled());
        let now = world.now + Duration::from_secs(later);
        world.view.worker_seen(worker(1, 5, unready), now);
        assert_eq!(over.is_cancelled(), is_lost, "{later}");
        assert_eq!(matches!(world.lookup("a"), TenantState::Assigned(_)), !is_lost, "{later}");
    }
}

#[test]
fn a_worker_that_is_not_ready_is_not_free() {
    let mut world = World::new();
    world.worker(1);
    assert!(world.view.is_free(&uid(1), &class()));
    world.view.worker_seen(worker(1, 5, unready), world.now);
    assert!(!world.view.is_free(&uid(1), &class()));
    world.view.worker_seen(worker(1, 6, |_| ()), world.now);
    assert!(world.view.is_free(&uid(1), &class()));
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
fn a_worker_that_says_that_it_is_taken_is_given_to_nobody_and_stays_its_tenants() {
    let mut world = World::new();
    world.worker(1);
    assert!(world.view.worker_taken(&uid(1), world.now));
    assert_eq!(world.pick("a", &[], Duration::ZERO), None);
    // whatever else is seen of it
    world.view.worker_seen(worker(1, 9, |_| ()), world.now);
    assert_eq!(world.pick("a", &[], Duration::from_hours(1)), None);
    world.tenant("b", assigned(1, 1));
    assert!(matches!(world.lookup("b"), TenantState::Assigned(_)));
}

#[test]
fn a_worker_that_was_not_reached_is_asked_again_a_moment_later() {
    let mut world = World::new();
    world.worker(1);
    world.view.worker_unreachable(&uid(1), world.now);
    assert_eq!(world.pick("a", &[], Duration::ZERO), None);
    assert!(world.pick("a", &[], TURNED_AWAY).is_some());
}
