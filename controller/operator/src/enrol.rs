//! Whether a key is this pod's: from what the cluster says of a worker's token to a fingerprint to record.
//!
//! The operator dialled the pod's own address, took the token from that connection and asked the cluster
//! whose it is (a `TokenReview` for the audience). A token alone proves too little: another pod of the class
//! has one as good. So pod and UID in it must be those of the pod that was dialled. This module must not know
//! tokens, connections or clients.

use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use patchbay_core::{id::Incarnation, pin::Fingerprint};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The pod that was dialled, and who it must be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Where workers are.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// This life of it.
    pub uid: &'a Incarnation,
    /// The account of workers.
    pub service_account: &'a str,
    /// The audience of the token.
    pub audience: &'a str,
    /// The pod's annotation, if it has one.
    pub recorded: Option<&'a str>,
}

/// What to do with an enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Record this key, where none is recorded: a write that fails if the pod has changed.
    Record(Fingerprint),
    /// It is recorded.
    AlreadyRecorded,
}

/// Why a key is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The cluster does not know the token, or it has expired.
    #[error("the cluster does not accept the worker's token")]
    NotAuthenticated,
    /// Good elsewhere, so also for somebody else who was shown it.
    #[error("the worker's token is not for this audience")]
    Audience,
    /// Not a worker's.
    #[error("the worker's token is of another service account")]
    ServiceAccount,
    /// Another pod's token, or one of no pod.
    #[error("the worker's token is of another pod")]
    OtherPod,
    /// Of an earlier pod of this name.
    #[error("the worker's token is of another life of this pod")]
    OtherLife,
    /// Somebody else answered before, or does now.
    #[error("another key is recorded for this pod: its worker or its address is not what it was")]
    OtherKey,
}

impl Refusal {
    /// Whether the pod is of no use any more. A token may not be accepted while the cluster is in trouble, and
    /// an address that was just taken over is another pod's only until the next look at this one.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::OtherKey)
    }
}

/// Judges an enrolment on a connection whose other end proved the key with this fingerprint.
pub fn verify(
    expected: &Expected<'_>,
    review: &TokenReviewStatus,
    proved: Fingerprint,
) -> Result<Verdict, Refusal> {
    if review.authenticated != Some(true) || review.error.as_deref().is_some_and(|e| !e.is_empty())
    {
        return Err(Refusal::NotAuthenticated);
    }
    // a server that knows no audiences answers without any, and has not checked this one
    let mut audiences = review.audiences.iter().flatten();
    if !audiences.any(|audience| audience == expected.audience) {
        return Err(Refusal::Audience);
    }
    let user = review.user.as_ref().ok_or(Refusal::NotAuthenticated)?;
    let account =
        format!("system:serviceaccount:{}:{}", expected.namespace, expected.service_account);
    if user.username.as_deref() != Some(account.as_str()) {
        return Err(Refusal::ServiceAccount);
    }
    if extra(user, POD_NAME) != Some(expected.pod) {
        return Err(Refusal::OtherPod);
    }
    if extra(user, POD_UID) != Some(expected.uid.as_str()) {
        return Err(Refusal::OtherLife);
    }
    match expected.recorded {
        None => Ok(Verdict::Record(proved)),
        Some(recorded) if Fingerprint::parse(recorded).as_ref() == Ok(&proved) => {
            Ok(Verdict::AlreadyRecorded)
        }
        Some(_) => Err(Refusal::OtherKey),
    }
}

/// The one value of an extra field; several are nobody's.
fn extra<'a>(user: &'a UserInfo, key: &str) -> Option<&'a str> {
    match user.extra.as_ref()?.get(key)?.as_slice() {
        [value] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn review() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["patchbay"],
            "user": {
                "username": "system:serviceaccount:ns:patchbay-worker",
                "extra": {(POD_NAME): ["c-x1"], (POD_UID): ["pod-1"]},
            },
        })
    }

    fn key() -> Fingerprint {
        Fingerprint::of_public_key(b"key")
    }

    fn judge(review: Value, recorded: Option<&str>) -> Result<Verdict, Refusal> {
        let uid = Incarnation::parse("pod-1").unwrap();
        let expected = Expected {
            namespace: "ns",
            pod: "c-x1",
            uid: &uid,
            service_account: "patchbay-worker",
            audience: "patchbay",
            recorded,
        };
        verify(&expected, &serde_json::from_value(review).unwrap(), key())
    }

    #[test]
    fn the_key_of_the_pod_that_was_dialled_is_recorded_once() {
        assert_eq!(judge(review(), None), Ok(Verdict::Record(key())));
        assert_eq!(judge(review(), Some(&key().to_string())), Ok(Verdict::AlreadyRecorded));
    }

    #[test]
    fn another_key_for_the_same_life_is_refused_for_good() {
        let other = Fingerprint::of_public_key(b"other").to_string();
        for recorded in [other.as_str(), "", "garbage"] {
            assert_eq!(judge(review(), Some(recorded)), Err(Refusal::OtherKey));
        }
        assert!(Refusal::OtherKey.is_final());
    }

    #[test]
    fn everything_in_the_token_must_be_this_pods() {
        let wrong: [(&str, Value, Refusal); 12] = [
            ("/authenticated", json!(false), Refusal::NotAuthenticated),
            ("/authenticated", json!(null), Refusal::NotAuthenticated),
            ("/user", json!(null), Refusal::NotAuthenticated),
            ("/audiences", json!(null), Refusal::Audience),
            ("/audiences", json!([]), Refusal::Audience),
            ("/audiences", json!(["https://kubernetes.default.svc"]), Refusal::Audience),
            ("/user/username", json!("system:serviceaccount:ns:default"), Refusal::ServiceAccount),
            (
                "/user/username",
                json!("system:serviceaccount:x:patchbay-worker"),
                Refusal::ServiceAccount,
            ),
            ("/user/extra", json!({}), Refusal::OtherPod),
            ("/user/extra", json!({(POD_NAME): ["c-x2"], (POD_UID): ["pod-1"]}), Refusal::OtherPod),
            (
                "/user/extra",
                json!({(POD_NAME): ["c-x1"], (POD_UID): ["pod-2"]}),
                Refusal::OtherLife,
            ),
            (
                "/user/extra",
                json!({(POD_NAME): ["c-x1"], (POD_UID): ["pod-1", "pod-2"]}),
                Refusal::OtherLife,
            ),
        ];
        for (field, value, refusal) in wrong {
            let mut changed = review();
            *changed.pointer_mut(field).unwrap() = value.clone();
            assert_eq!(judge(changed, None), Err(refusal), "{field} = {value}");
        }
    }

    #[test]
    fn a_review_with_an_error_proves_nothing() {
        let mut failed = review();
        failed["error"] = "cannot check".into();
        assert_eq!(judge(failed, None), Err(Refusal::NotAuthenticated));
    }
}
