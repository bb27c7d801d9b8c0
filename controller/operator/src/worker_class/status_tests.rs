use super::{
    super::{
        fixtures::{World, assigned, at, bound, starting, waiting, worker, world},
        plan::plan,
    },
    *,
};

fn say(world: &World, known: &WorkerClassStatus) -> Option<WorkerClassStatus> {
    let view = world.view();
    status(&view, &plan(&view), &[], "a=b", Some(2), known)
}

fn first(world: &World) -> WorkerClassStatus {
    say(world, &WorkerClassStatus::default()).unwrap()
}

fn reason<'s>(status: &'s WorkerClassStatus, condition: &str) -> (ConditionStatus, &'s str) {
    let found = status.conditions.iter().find(|c| c.type_ == condition).unwrap();
    (found.status, &found.reason)
}

#[test]
fn what_is_seen_is_counted_and_seen_again_it_is_no_change() {
    let mut world = world(2);
    world.pods = vec![worker("a"), starting("b"), bound("c", "t1"), worker("d")];
    world.pods.push(ObservedPod { life: Life::Leaving, ..worker("e") });
    world.tenants = vec![assigned("t1", "c"), assigned("t2", "d"), waiting("t3")];
    let status = first(&world);
    let WorkerClassStatus { warm, bound, draining, tenants, waiting, .. } = &status;
    assert_eq!([warm, bound, draining, tenants, waiting], [&1, &2, &1, &3, &1]);
    assert_eq!((status.selector.as_deref(), status.observed_generation), (Some("a=b"), Some(2)));
    assert_eq!(reason(&status, READY), (ConditionStatus::True, "Available"));
    assert_eq!(reason(&status, PROGRESSING), (ConditionStatus::True, "StartingWorkers"));
    assert_eq!(say(&world, &status), None);
}

#[test]
fn a_class_whose_image_cannot_be_pulled_says_so() {
    let mut world = world(1);
    let trouble = Trouble {
        reason: "ImagePullBackOff".into(),
        message: "container `server`: no such tag".into(),
        at: None,
    };
    let life = Life::Starting { dialable: false, trouble: Some(trouble) };
    world.pods = vec![ObservedPod { life, ..starting("a") }];
    let status = first(&world);
    assert_eq!(reason(&status, READY), (ConditionStatus::False, "ImagePullBackOff"));
    assert!(status.conditions[0].message.contains("no such tag"));
}

#[test]
fn a_class_whose_pods_crash_says_why_and_that_it_is_tried_again() {
    let mut world = world(1);
    let trouble =
        Trouble { reason: "ServerExited".into(), message: "exit code 3".into(), at: Some(at(900)) };
    let life = Life::Failed { trouble, farewell: None };
    world.pods = vec![ObservedPod { life, ..worker("a") }];
    let status = first(&world);
    assert_eq!(reason(&status, READY), (ConditionStatus::False, "ServerExited"));
    assert_eq!(reason(&status, PROGRESSING), (ConditionStatus::False, "BackingOff"));
}

#[test]
fn a_class_without_warm_workers_is_ready_on_demand() {
    let status = first(&world(0));
    assert_eq!(reason(&status, READY), (ConditionStatus::True, "OnDemand"));
    assert_eq!(reason(&status, PROGRESSING), (ConditionStatus::False, "Settled"));
}

#[test]
fn an_invalid_class_keeps_its_counts_and_says_what_is_wrong() {
    let mut world = world(1);
    world.pods = vec![worker("a")];
    let known = first(&world);
    let error = FieldError {
        field: "spec.warm".into(),
        problem: "is odd".into(),
        fix: "use an even one".into(),
    };
    let why = Unusable::invalid(&[error]);
    let next = unusable(&why, Some(3), &known, at(1000)).unwrap();
    assert_eq!((next.warm, next.observed_generation), (1, Some(3)));
    assert_eq!(reason(&next, READY), (ConditionStatus::False, "InvalidSpec"));
    assert_eq!(next.conditions[0].message, "spec.warm: is odd; use an even one");
    assert_eq!(unusable(&why, Some(3), &next, at(2000)), None);
}
