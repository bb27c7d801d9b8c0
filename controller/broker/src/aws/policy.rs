//! From what a user's claims allow to a session policy that allows exactly that, or to why there is none.
//!
//! A session policy only takes away from a role. It is never wider than the claims: names that IAM would read as
//! patterns, and words that are no IAM action, allow nothing, and a policy that is too long for STS is refused and not
//! shortened by wider patterns. This module must not know where claims come from or which role they narrow.

use patchbay_core::enhanced::ALL_BUCKETS;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The longest session policy that STS takes, characters (`AssumeRole`, parameter `Policy`).
pub(super) const MAX_CHARACTERS: usize = 2048;

/// What a user's claims allow: these actions, in these buckets where they are about buckets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Claimed {
    pub(super) permissions: BTreeSet<String>,
    pub(super) buckets: BTreeSet<String>,
}

/// A policy of this many characters is too long for STS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it would be {0} characters long, and STS takes {MAX_CHARACTERS}")]
pub(super) struct TooLarge(pub(super) usize);

/// What an action is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Bucket,
    Object,
    /// No bucket: an account, or another service's things.
    Anything,
}

/// The session policy, as JSON. Claims that allow nothing are a policy that says so: IAM takes none without a
/// statement.
pub(super) fn session_policy(claimed: &Claimed, partition: &str) -> Result<String, TooLarge> {
    let is_everywhere = claimed.buckets.contains(ALL_BUCKETS);
    let actions = |about| -> Vec<&str> {
        let all = claimed.permissions.iter().map(String::as_str);
        all.filter(|action| is_action(action) && self::about(action) == about)
            .filter(|action| is_everywhere || !is_of_buckets_elsewhere(action))
            .collect()
    };
    let buckets = |suffix: &str| -> Vec<String> {
        let arn = |name: &str| format!("arn:{partition}:s3:::{name}{suffix}");
        if is_everywhere {
            return vec![arn("*")];
        }
        claimed.buckets.iter().filter(|name| is_bucket(name)).map(|name| arn(name)).collect()
    };
    let statements: Vec<Value> = [
        (actions(About::Bucket), buckets("")),
        (actions(About::Object), buckets("/*")),
        (actions(About::Anything), vec!["*".to_owned()]),
    ]
    .into_iter()
    .filter(|(actions, resources)| !actions.is_empty() && !resources.is_empty())
    .map(|(actions, resources)| {
        json!({ "Effect": "Allow", "Action": one_or_more(&actions), "Resource": one_or_more(&resources) })
    })
    .collect();
    let statements = if statements.is_empty() {
        vec![json!({ "Effect": "Deny", "Action": "*", "Resource": "*" })]
    } else {
        statements
    };
    let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    match policy.chars().count() {
        length if length > MAX_CHARACTERS => Err(TooLarge(length)),
        _ => Ok(policy),
    }
}

/// A list of one is written as what is in it: shorter, and the same to IAM.
fn one_or_more<T: AsRef<str>>(texts: &[T]) -> Value {
    match texts {
        [one] => one.as_ref().into(),
        more => more.iter().map(AsRef::as_ref).collect(),
    }
}

/// `service:Action`, without a pattern: a claim that says `s3:*` says nothing, because nobody knows what AWS will
/// come to mean by it.
fn is_action(word: &str) -> bool {
    let Some((service, action)) = word.split_once(':') else { return false };
    !service.is_empty()
        && service.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && action.starts_with(|c: char| c.is_ascii_uppercase())
        && action.bytes().all(|c| c.is_ascii_alphanumeric())
}

/// Whether an action is one of S3's sibling services (`s3express`, `s3-outposts`, `s3tables`), whose buckets have ARNs of their
/// own: the user's are not among them, and on all of them would be more than was claimed.
fn is_of_buckets_elsewhere(action: &str) -> bool {
    action.starts_with("s3") && !action.starts_with("s3:")
}

/// The names that S3 has had for buckets; none of them is a pattern or a variable to IAM.
fn is_bucket(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
}

/// S3's actions are about objects where their names say so, about no bucket in a few cases, and about buckets
/// otherwise (Service Authorization Reference, Amazon S3). One that is put wrong allows nothing.
fn about(action: &str) -> About {
    const ACCOUNT: [&str; 6] = [
        "ListAllMyBuckets",
        "GetAccountPublicAccessBlock",
        "PutAccountPublicAccessBlock",
        "ListAccessPoints",
        "ListJobs",
        "ListStorageLensConfigurations",
    ];
    const OBJECT: [&str; 3] =
        ["AbortMultipartUpload", "ListMultipartUploadParts", "BypassGovernanceRetention"];
    let Some(name) = action.strip_prefix("s3:") else { return About::Anything };
    if ACCOUNT.contains(&name) {
        About::Anything
    } else if OBJECT.contains(&name) || (name.contains("Object") && !name.contains("Bucket")) {
        About::Object
    } else {
        About::Bucket
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
