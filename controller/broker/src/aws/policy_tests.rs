//! What a policy allows, asked of an evaluator that knows nothing of how policies are made.

use super::*;
use proptest::{collection::btree_set, prelude::*};

fn claimed(permissions: &[&str], buckets: &[&str]) -> Claimed {
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Claimed { permissions: set(permissions), buckets: set(buckets) }
}

fn policy(permissions: &[&str], buckets: &[&str]) -> Value {
    let text = session_policy(&claimed(permissions, buckets), "aws").unwrap();
    serde_json::from_str(&text).unwrap()
}

/// IAM's answer to one action on one resource: an explicit no, else a yes, else no. Actions are compared without case.
fn allows(policy: &Value, action: &str, resource: &str) -> bool {
    let texts = |value: &Value| -> Vec<String> {
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Array(all) => all.iter().map(|it| it.as_str().unwrap().to_owned()).collect(),
            other => panic!("{other}"),
        }
    };
    let matching = |effect: &str| {
        policy["Statement"].as_array().unwrap().iter().any(|statement| {
            assert_eq!(statement.as_object().unwrap().len(), 3, "{statement}");
            let is_action = texts(&statement["Action"])
                .iter()
                .any(|it| is_like(&it.to_lowercase(), &action.to_lowercase()));
            statement["Effect"] == effect
                && is_action
                && texts(&statement["Resource"]).iter().any(|it| is_like(it, resource))
        })
    };
    matching("Allow") && !matching("Deny")
}

fn is_like(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            is_like(&pattern[1..], text)
                || text.chars().next().is_some_and(|c| is_like(pattern, &text[c.len_utf8()..]))
        }
        (Some('?'), Some(t)) => is_like(&pattern[1..], &text[t.len_utf8()..]),
        (Some(p), Some(t)) => p == t && is_like(&pattern[p.len_utf8()..], &text[t.len_utf8()..]),
        _ => false,
    }
}

/// Where S3 checks an action: on a bucket, on an object in it, or on neither.
fn resource(action: &str, bucket: &str) -> String {
    match action {
        "s3:ListBucket"
        | "s3:GetBucketLocation"
        | "s3:PutBucketPolicy"
        | "s3:ListBucketVersions" => {
            format!("arn:aws:s3:::{bucket}")
        }
        "s3:GetObject"
        | "s3:GetObjectVersion"
        | "s3:PutObject"
        | "s3:PutObjectAcl"
        | "s3:DeleteObject"
        | "s3:AbortMultipartUpload" => format!("arn:aws:s3:::{bucket}/some/key"),
        _ => "*".to_owned(),
    }
}

const OF_BUCKETS: [&str; 10] = [
    "s3:ListBucket",
    "s3:GetBucketLocation",
    "s3:PutBucketPolicy",
    "s3:ListBucketVersions",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
];

const OF_NONE: [&str; 5] = [
    "s3:ListAllMyBuckets",
    "athena:StartQueryExecution",
    "athena:GetQueryResults",
    "glue:GetTables",
    "iam:PassRole",
];

#[test]
fn a_policy_says_what_is_allowed_and_where_in_the_fewest_words() {
    assert_eq!(
        policy(
            &["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation", "glue:GetTable"],
            &["b-a", "b-b"]
        ),
        json!({ "Version": "2012-10-17", "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetBucketLocation", "s3:ListBucket"],
                "Resource": ["arn:aws:s3:::b-a", "arn:aws:s3:::b-b"],
            },
            {
                "Effect": "Allow",
                "Action": "s3:GetObject",
                "Resource": ["arn:aws:s3:::b-a/*", "arn:aws:s3:::b-b/*"],
            },
            { "Effect": "Allow", "Action": "glue:GetTable", "Resource": "*" },
        ]})
    );
}

#[test]
fn every_bucket_is_every_bucket_and_still_these_actions_alone() {
    let policy = policy(&["s3:GetObject"], &["*", "b-a"]);
    assert!(allows(&policy, "s3:GetObject", "arn:aws:s3:::any/key"));
    assert!(!allows(&policy, "s3:PutObject", "arn:aws:s3:::any/key"));
    assert!(!allows(&policy, "s3:ListBucket", "arn:aws:s3:::any"));
}

#[test]
fn what_iam_would_read_as_a_pattern_or_nobody_reads_allows_nothing() {
    let nothing = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Deny", "Action": "*", "Resource": "*" },
    ]});
    for word in [
        "s3:*",
        "s3:Get*",
        "*",
        "s3",
        "s3:",
        ":GetObject",
        "S3:GetObject",
        "s3:getObject",
        "s3:Get Object",
        "s3:Get?bject",
        "unknown",
    ] {
        assert_eq!(policy(&[word], &["bucket"]), nothing, "{word}");
    }
    for name in [
        "b-*",
        "b?c",
        "${aws:username}",
        "a/b",
        "bucket/*",
        "ab",
        "",
        "b\u{e9}cket",
        "a b c",
        "a\"b",
    ] {
        assert_eq!(policy(&["s3:GetObject"], &[name]), nothing, "{name}");
    }
    assert_eq!(policy(&[], &["bucket"]), nothing);
    assert_eq!(policy(&["s3:GetObject"], &[]), nothing);
}

#[test]
fn other_parts_of_aws_have_arns_of_their_own() {
    let text = session_policy(&claimed(&["s3:GetObject"], &["bucket"]), "aws-us-gov").unwrap();
    assert!(text.contains("\"arn:aws-us-gov:s3:::bucket/*\""), "{text}");
}

#[test]
fn a_policy_that_is_too_long_is_refused_and_not_widened() {
    let names: Vec<String> = (0..100).map(|index| format!("quilt-bucket-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let permissions = ["s3:GetObject", "s3:ListBucket"];
    let TooLarge(length) = session_policy(&claimed(&permissions, &names), "aws").unwrap_err();
    assert!(length > 6000, "{length}");
    // the longest that fits is exactly as long as STS takes, and one more bucket is one too many
    let fitting = (0..names.len())
        .take_while(|count| session_policy(&claimed(&permissions, &names[..*count]), "aws").is_ok())
        .count();
    assert!((20..60).contains(&fitting), "{fitting}");
}

fn bucket() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{3,4}", "b-[a-c]{1,3}", Just("*".to_owned()), "[a-c*?${}/]{1,5}"]
}

fn permission() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = OF_BUCKETS.iter().chain(&OF_NONE).copied().collect();
    prop_oneof![
        6 => proptest::sample::select(known).prop_map(str::to_owned),
        1 => "(s3|glue|[a-z*]{1,3}):[A-Za-z*?]{0,6}",
    ]
}

#[test]
fn services_with_buckets_of_their_own_are_allowed_only_who_may_use_all_buckets() {
    let siblings = ["s3express:CreateSession", "s3-outposts:GetObject", "s3tables:GetTable"];
    let denied = policy(&siblings, &["b-alice"]);
    assert_eq!(denied["Statement"][0]["Effect"], "Deny");
    let allowed = policy(&siblings, &[ALL_BUCKETS]);
    assert!(allows(&allowed, siblings[0], "arn:aws:s3express:us-east-1:1:bucket/x"));
    assert!(allows(&policy(&["sqs:SendMessage"], &["b"]), "sqs:SendMessage", "arn:aws:sqs:x"));
}

proptest! {
    #[test]
    fn a_policy_allows_an_action_in_a_bucket_exactly_if_the_claims_do(
        permissions in btree_set(permission(), 0..6),
        buckets in btree_set(bucket(), 0..6),
        asked in "([a-c]{3,4}|b-[a-c]{1,3})",
    ) {
        let claims = Claimed { permissions, buckets };
        let text = session_policy(&claims, "aws").unwrap();
        let policy: Value = serde_json::from_str(&text).unwrap();
        let mut asked_of: Vec<&str> = claims.buckets.iter().map(String::as_str).filter(|name| is_bucket(name)).collect();
        asked_of.push(&asked);
        for bucket in asked_of {
            let is_theirs = claims.buckets.contains("*") || claims.buckets.contains(bucket);
            for action in OF_BUCKETS {
                let expected = is_theirs && claims.permissions.contains(action);
                prop_assert_eq!(allows(&policy, action, &resource(action, bucket)), expected, "{} {} {}", action, bucket, text);
            }
            for action in OF_NONE {
                let expected = claims.permissions.contains(action);
                prop_assert_eq!(allows(&policy, action, &resource(action, bucket)), expected, "{} {}", action, text);
            }
        }
    }

    #[test]
    fn whatever_is_claimed_a_policy_is_never_wider_than_its_words(
        permissions in btree_set(".{0,12}", 0..4),
        buckets in btree_set(".{0,12}", 0..4),
    ) {
        let claims = Claimed { permissions, buckets };
        let Ok(text) = session_policy(&claims, "aws") else { return Ok(()) };
        prop_assert!(text.chars().count() <= MAX_CHARACTERS);
        let policy: Value = serde_json::from_str(&text).unwrap();
        for action in OF_BUCKETS.iter().chain(&OF_NONE) {
            if allows(&policy, action, &resource(action, "some-bucket")) {
                prop_assert!(claims.permissions.contains(*action));
            }
        }
    }
}
