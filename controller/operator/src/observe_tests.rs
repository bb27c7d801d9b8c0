use super::*;
use serde_json::{Value, json};

fn pod(status: &Value) -> ObservedPod {
    let pod = json!({
        "metadata": {
            "name": "c-x1", "uid": "pod-1", "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"patchbay.dev/revision": "r1"},
        },
        "spec": {"nodeName": "n1", "containers": []},
        "status": status,
    });
    ObservedPod::of(&serde_json::from_value(pod).unwrap()).unwrap()
}

fn ended(phase: &str, message: &str, code: i32) -> ObservedPod {
    let end = json!({"exitCode": code, "message": message, "finishedAt": "2026-01-01T00:01:00Z"});
    let agent = json!({"name": "agent", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": end}});
    pod(&json!({"phase": phase, "containerStatuses": [agent]}))
}

fn waiting(reason: &str) -> ObservedPod {
    let server = json!({"name": "server", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": reason, "message": "pull:\nno such tag"}}});
    pod(&json!({"phase": "Pending", "containerStatuses": [server]}))
}

#[test]
fn a_farewell_is_read_whatever_else_a_newer_worker_says_and_its_detail_is_bounded() {
    let said = json!({"tenant": "t1", "reason": "idle", "lastActivity": "2026-01-01T00:00:30Z", "mood": "fine",
        "detail": "x\ny".repeat(500)});
    let Life::Finished(farewell) = ended("Succeeded", &said.to_string(), 0).life else {
        panic!("it finished");
    };
    assert_eq!(farewell.reason, LeaveReason::Idle);
    assert_eq!(farewell.tenant.unwrap().as_str(), "t1");
    let detail = farewell.detail.unwrap();
    assert_eq!(detail.len(), 256);
    assert!(!detail.contains('\n'));
}

#[test]
fn a_server_that_was_killed_after_an_orderly_farewell_does_not_make_it_a_failure() {
    let found = ended("Failed", r#"{"reason":"drained"}"#, 137);
    assert!(matches!(found.life, Life::Finished(Farewell { reason: LeaveReason::Drained, .. })));
}

#[test]
fn anything_else_in_a_termination_message_is_no_farewell_and_is_not_shown() {
    for message in ["", "secret", "[1]", r#"{"reason":"bored"}"#, r#"{"reason":"idle","detail":7}"#]
    {
        let Life::Failed { trouble, farewell: None } = ended("Failed", message, 1).life else {
            panic!("{message}");
        };
        assert_eq!(trouble.reason, "Failed");
        assert_eq!(trouble.message, "container `agent` ended with exit code 1");
        assert!(trouble.at.is_some());
    }
}

#[test]
fn a_server_that_ended_by_itself_is_a_failure_in_the_workers_words() {
    let found = ended("Succeeded", r#"{"reason":"serverExited","detail":"exit code 3"}"#, 0);
    let Life::Failed { trouble, farewell: Some(_) } = found.life else { panic!("it failed") };
    assert_eq!(
        (trouble.reason.as_str(), trouble.message.as_str()),
        ("ServerExited", "exit code 3")
    );
    assert!(trouble.blames_class());
}

#[test]
fn a_server_that_the_kernel_ended_for_its_memory_is_told_in_the_nodes_words() {
    let end = |name: &str, end: serde_json::Value| {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": end}})
    };
    let said = json!({"tenant": "t1", "reason": "serverExited",
        "detail": "the MCP server was ended by signal 9"});
    let found = pod(&json!({"phase": "Failed", "containerStatuses": [
        end("agent", json!({"exitCode": 1, "reason": "Error", "message": said.to_string()})),
        end("server", json!({"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:01:00Z"})),
    ]}));
    let Life::Failed { trouble, farewell: Some(farewell) } = found.life else {
        panic!("it failed")
    };
    assert_eq!(trouble.reason, "OOMKilled");
    assert_eq!(trouble.message, "container `server` took more memory than its limit");
    assert!(trouble.at.is_some() && trouble.blames_class());
    assert_eq!(farewell.reason, LeaveReason::ServerExited);
}

#[test]
fn an_image_that_cannot_be_pulled_is_trouble_and_a_usual_start_is_none() {
    let Life::Starting { dialable: false, trouble: Some(trouble) } =
        waiting("ImagePullBackOff").life
    else {
        panic!("it is held up");
    };
    assert_eq!(trouble.reason, "ImagePullBackOff");
    assert_eq!(trouble.message, "container `server`: pull: no such tag");
    let usual = waiting("ContainerCreating").life;
    assert_eq!(usual, Life::Starting { dialable: false, trouble: None });
}

#[test]
fn an_evicted_or_unplaced_pod_does_not_blame_its_class() {
    let evicted = pod(&json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}));
    let Life::Failed { trouble, .. } = evicted.life else { panic!("it failed") };
    assert_eq!((trouble.reason.as_str(), trouble.blames_class()), ("Evicted", false));
    let unplaced = pod(&json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
        "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}));
    let Life::Starting { trouble: Some(trouble), .. } = unplaced.life else { panic!("it waits") };
    assert_eq!((trouble.message.as_str(), trouble.blames_class()), ("0/3 nodes", false));
}

#[test]
fn a_pod_that_is_deleted_is_leaving_and_an_object_without_identity_is_not_seen() {
    let object = json!({"metadata": {"name": "p", "uid": "u", "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-01T00:00:01Z"},
        "status": {"phase": "Running"}});
    let mut object: Pod = serde_json::from_value(object).unwrap();
    assert_eq!(ObservedPod::of(&object).unwrap().life, Life::Leaving);
    object.metadata.uid = None;
    assert_eq!(ObservedPod::of(&object), None);
}

#[test]
fn a_status_that_contradicts_itself_says_nothing() {
    let status = |phase, tenant: Option<&str>| WorkerStatus {
        phase,
        tenant: tenant.map(|uid| TenantUid::parse(uid).unwrap()),
        in_flight: 0,
        last_activity: None,
    };
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(Said::of(&status(WorkerPhase::Bound, None), now), None);
    assert_eq!(Said::of(&status(WorkerPhase::Anonymous, Some("t")), now), None);
    let bound = Said::of(&status(WorkerPhase::Bound, Some("t")), now).unwrap();
    assert_eq!(bound.latch, Latched::Bound(TenantUid::parse("t").unwrap()));
}
