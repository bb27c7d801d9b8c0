use super::*;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(name: &str, uid: &str, version: u64) -> Pod {
    serde_json::from_value(json!({ "metadata": {
        "name": name, "uid": uid, "resourceVersion": version.to_string(),
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": { "patchbay.dev/class": "c" },
    } }))
    .unwrap()
}

fn list(store: &mut Store<PodRecord>, asked: i64, pods: &[Pod]) -> usize {
    store.take(Event::Init, at(asked));
    for pod in pods {
        store.take(Event::InitApply(pod.clone()), at(asked + 1));
    }
    store.take(Event::InitDone, at(asked + 2)).len()
}

fn seen(store: &Store<PodRecord>) -> Vec<(String, String)> {
    let seen = |pod: &Arc<PodRecord>| (pod.uid().to_owned(), pod.version().to_owned());
    store.of_class("c").map(seen).collect()
}

fn pair(uid: &str, version: u64) -> (String, String) {
    (uid.into(), version.to_string())
}

#[test]
fn a_list_is_complete_as_of_when_it_was_asked_for_and_is_all_there_is() {
    let mut store = Store::default();
    assert_eq!((store.listed(), store.complete_as_of()), (None, Timestamp::MIN));
    assert_eq!(list(&mut store, 10, &[pod("a", "u1", 1), pod("b", "u2", 2)]), 2);
    assert_eq!(store.complete_as_of(), at(10));
    // one is gone, one is as it was, one is new
    assert_eq!(list(&mut store, 20, &[pod("b", "u2", 2), pod("c", "u3", 3)]), 2);
    assert_eq!(seen(&store), [pair("u2", 2), pair("u3", 3)]);
    assert_eq!(store.complete_as_of(), at(20));
}

#[test]
fn until_a_list_is_whole_what_was_known_stays() {
    let mut store = Store::default();
    list(&mut store, 10, &[pod("a", "u1", 1)]);
    store.take(Event::Init, at(20));
    assert_eq!(seen(&store), [pair("u1", 1)]);
    assert_eq!(store.complete_as_of(), at(10));
}

#[test]
fn what_is_gone_does_not_come_back_with_the_answer_to_its_deletion() {
    let mut store = Store::<PodRecord>::default();
    list(&mut store, 10, &[pod("a", "u1", 1)]);
    store.take(Event::Delete(pod("a", "u1", 2)), at(20));
    assert!(store.answered(pod("a", "u1", 2)).is_none());
    assert_eq!(seen(&store), []);
    // nor does an earlier life in the place of the next
    store.take(Event::Apply(pod("a", "u2", 3)), at(20));
    assert!(store.answered(pod("a", "u1", 2)).is_none());
    assert!(store.answered(pod("a", "u2", 4)).is_some());
    assert_eq!(seen(&store), [pair("u2", 4)]);
}

#[test]
fn what_a_write_answered_is_not_undone_by_an_event_from_before_it() {
    let mut store = Store::<PodRecord>::default();
    assert!(store.put(pod("a", "u1", 5)).is_some());
    assert!(store.take(Event::Apply(pod("a", "u1", 4)), at(0)).is_empty());
    assert!(store.take(Event::Apply(pod("a", "u1", 5)), at(0)).is_empty(), "seen already");
    assert_eq!(seen(&store), [pair("u1", 5)]);
    assert_eq!(store.take(Event::Apply(pod("a", "u1", 10)), at(0)).len(), 1);
    assert_eq!(seen(&store), [pair("u1", 10)]);
}

#[test]
fn what_a_write_answered_is_not_undone_by_a_list_from_before_it() {
    let mut store = Store::<PodRecord>::default();
    list(&mut store, 10, &[pod("a", "u1", 1), pod("b", "u2", 1), pod("c", "u3", 1)]);
    store.take(Event::Init, at(20));
    store.answered(pod("a", "u1", 5));
    store.answered(pod("b", "u2", 5));
    // the list shows one as it was before that, one as somebody wrote it after that, and one is gone
    store.take(Event::InitApply(pod("a", "u1", 1)), at(21));
    store.take(Event::InitApply(pod("b", "u2", 6)), at(21));
    assert_eq!(store.take(Event::InitDone, at(22)).len(), 2);
    assert_eq!(seen(&store), [pair("u1", 5), pair("u2", 6)]);
    // what was answered before a list was asked for is in it: that it is another now has its reason
    list(&mut store, 30, &[pod("a", "u1", 2)]);
    assert_eq!(seen(&store), [pair("u1", 2)]);
}

#[test]
fn another_life_of_a_name_takes_its_place_and_the_end_of_the_first_is_not_its_own() {
    let mut store = Store::<PodRecord>::default();
    store.put(pod("a", "u1", 5));
    store.put(pod("a", "u2", 9));
    assert_eq!(seen(&store), [pair("u2", 9)]);
    assert!(store.take(Event::Delete(pod("a", "u1", 8)), at(0)).is_empty());
    assert_eq!(seen(&store), [pair("u2", 9)]);
    assert_eq!(store.take(Event::Delete(pod("a", "u2", 11)), at(0)).len(), 1);
    assert!(seen(&store).is_empty());
}

#[test]
fn an_object_that_cannot_be_read_hides_no_other_and_nothing_is_complete_with_it() {
    let tenant = |value: serde_json::Value| {
        serde_json::from_value::<DeserializeGuard<Tenant>>(value).unwrap()
    };
    let good = json!({ "apiVersion": "patchbay.dev/v1alpha1", "kind": "Tenant",
        "metadata": { "name": "t-1", "uid": "u1", "resourceVersion": "1" },
        "spec": { "identity": { "issuer": "i", "subject": "s" }, "className": "c" } });
    let mut newer = good.clone();
    newer["metadata"]["name"] = "t-2".into();
    newer["status"] = json!({ "phase": "Dreaming" });
    let mut extended = good.clone();
    extended["spec"]["mood"] = "fine".into();
    extended["status"] = json!({ "mood": "fine" });
    let mut store = Store::<TenantRecord>::default();
    store.take(Event::Init, at(10));
    for value in [extended, newer.clone()] {
        store.take(Event::InitApply(tenant(value)), at(11));
    }
    store.take(Event::InitDone, at(12));
    assert_eq!(store.of_class("c").count(), 1, "what a later release added is no obstacle");
    assert_eq!(store.unread().keys().collect::<Vec<_>>(), ["t-2"]);
    assert_eq!(store.complete_as_of(), Timestamp::MIN);
    assert_eq!(store.listed(), Some(at(10)));
    newer["status"] = json!({});
    store.take(Event::Apply(tenant(newer)), at(13));
    assert_eq!(store.of_class("c").count(), 2);
    assert_eq!(store.complete_as_of(), at(10));
}

#[tokio::test]
async fn a_class_that_is_heard_of_first_is_told_and_then_wakes_its_own_task_alone() {
    let cache = Cache::default();
    cache.wake(&["c".to_owned()].into());
    cache.unheard().await;
    let (c, d) = (cache.waker("c"), cache.waker("d"));
    cache.wake(&["c".to_owned()].into());
    c.notified().await;
    tokio::select! {
        biased;
        () = d.notified() => panic!("woken for another class"),
        () = std::future::ready(()) => {}
    }
}
