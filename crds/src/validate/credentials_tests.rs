//! What a class may say of AWS roles, and how each mistake is answered.

use crate::{
    WorkerClass,
    validate::{
        Place,
        worker_class::{validate, validate_in},
    },
};
use patchbay_core::class::{self, RoleChoice, SessionPolicy};
use serde_json::{Value, json};
use std::time::Duration;

const ARN: &str = "arn:aws:iam::123456789012:role/quilt-user";

fn spec(assume_role: Value) -> Value {
    let mut spec =
        json!({ "image": "i", "command": ["/s"], "credentials": { "source": "assumeRole" } });
    spec["credentials"]["assumeRole"] = assume_role;
    spec
}

fn of(spec: Value) -> Result<class::WorkerClass, Vec<String>> {
    let class = WorkerClass::new("c", serde_json::from_value(spec).unwrap());
    validate(&class).map_err(|errors| errors.into_iter().map(|error| error.field).collect())
}

fn source(assume_role: Value) -> class::AssumeRole {
    match of(spec(assume_role)).unwrap().credentials {
        class::CredentialSource::AssumeRole(source) => *source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_least_is_a_role_and_the_safe_choices() {
    let source = source(json!({ "role": ARN }));
    assert!(matches!(source.role, RoleChoice::Fixed(role) if role.as_str() == ARN));
    assert_eq!(source.duration, Duration::from_mins(15));
    assert_eq!(source.session_policy, SessionPolicy::Required);
    assert_eq!(source.region, "us-east-1");
    assert!(source.catalog.is_none() && source.claims.is_none() && source.tags.is_empty());
}

#[test]
fn everything_that_can_be_written_arrives() {
    let source = source(json!({
        "roleClaim": { "claim": "aws_role", "roles": ["arn:aws:iam::*:role/quilt-*"] },
        "externalId": "patchbay/1", "region": "eu-west-1", "endpoint": "http://127.0.0.2:5000",
        "duration": "12h", "tags": { "team": "biology" }, "sessionPolicy": "whenClaimed",
        "claims": { "buckets": "b", "permissions": "p" },
    }));
    let RoleChoice::Claim { claim, patterns } = &source.role else { panic!("{:?}", source.role) };
    assert_eq!((claim.as_str(), patterns.len()), ("aws_role", 1));
    assert_eq!(source.external_id.as_deref(), Some("patchbay/1"));
    assert_eq!(source.endpoint.as_deref(), Some("http://127.0.0.2:5000"));
    assert_eq!(source.duration, Duration::from_hours(12));
    assert_eq!(source.tags["team"], "biology");
    assert_eq!(source.session_policy, SessionPolicy::WhenClaimed);
    assert_eq!(source.claims.unwrap().permissions, "p");
}

#[test]
fn roles_are_mapped_by_subject_or_claim() {
    let source = source(json!({ "roleMap": { "roles": { "alice": ARN } } }));
    let RoleChoice::Map { claim: None, roles } = source.role else { panic!("{:?}", source.role) };
    assert_eq!(roles["alice"].as_str(), ARN);
}

#[test]
fn a_quilt_class_takes_its_aws_keys_from_either_and_needs_a_catalog_for_both() {
    let mut quilt = spec(json!({ "role": ARN }));
    quilt["profile"] = json!("quilt");
    assert_eq!(of(quilt.clone()).unwrap_err(), ["spec.credentials.catalog"]);
    quilt["credentials"]["catalog"] =
        json!({ "origin": "https://c.example", "registry": "https://r.example" });
    let class = of(quilt).unwrap();
    assert_eq!(class.credentials.catalog().unwrap().origin, "https://c.example");
    assert!(class.credentials.grants_aws_keys());
}

#[test]
fn what_would_not_be_used_and_what_is_missing_is_refused() {
    let missing =
        json!({ "image": "i", "command": ["/s"], "credentials": { "source": "assumeRole" } });
    assert_eq!(of(missing).unwrap_err(), ["spec.credentials.assumeRole"]);
    let mut unused = spec(json!({ "role": ARN }));
    unused["credentials"]["source"] = json!("none");
    assert_eq!(of(unused).unwrap_err(), ["spec.credentials.assumeRole"]);
}

/// A class of one machine with these credentials.
fn here(credentials: &Value) -> Result<class::CredentialSource, Vec<String>> {
    let spec = json!({ "image": "i", "command": ["/s"], "credentials": credentials });
    let class = WorkerClass::new("c", serde_json::from_value(spec).unwrap());
    validate_in(Place::OneMachine, &class)
        .map(|class| class.credentials)
        .map_err(|errors| errors.into_iter().map(|error| error.field).collect())
}

#[test]
fn keys_that_tokens_carry_are_of_one_region() {
    for (said, region) in
        [(json!({}), "us-east-1"), (json!({ "region": "eu-west-1" }), "eu-west-1")]
    {
        let source = here(&json!({ "source": "inlineClaims", "inlineClaims": said })).unwrap();
        assert_eq!(source.region(), Some(region));
        assert!(source.grants_aws_keys());
    }
    assert_eq!(here(&json!({ "source": "inlineClaims" })).unwrap().region(), Some("us-east-1"));
    let bad = here(&json!({ "source": "inlineClaims", "inlineClaims": { "region": "EU" } }));
    assert_eq!(bad.unwrap_err(), ["spec.credentials.inlineClaims.region"]);
    let unused = here(&json!({ "inlineClaims": {} }));
    assert_eq!(unused.unwrap_err(), ["spec.credentials.inlineClaims"]);
}

#[test]
fn a_users_own_token_is_exchanged_for_a_role_without_tags_and_only_where_it_is_for_aws() {
    let exchanged = |role: Value, web: Value| {
        here(&json!({ "source": "webIdentity", "assumeRole": role, "webIdentity": web }))
    };
    let for_aws = json!({ "audience": "sts.amazonaws.com" });
    let source = exchanged(json!({ "role": ARN, "region": "eu-west-1" }), for_aws.clone()).unwrap();
    let class::CredentialSource::WebIdentity(source) = source else { panic!("{source:?}") };
    assert_eq!(source.audience, "sts.amazonaws.com");
    assert_eq!(source.role.region, "eu-west-1");
    for (role, web, field) in [
        (json!({ "role": ARN, "externalId": "xx" }), for_aws.clone(), "assumeRole.externalId"),
        (json!({ "role": ARN, "tags": { "a": "b" } }), for_aws.clone(), "assumeRole.tags"),
        (json!({ "role": ARN }), json!({ "audience": " " }), "webIdentity.audience"),
        (json!({ "role": ARN }), Value::Null, "webIdentity"),
        (Value::Null, for_aws.clone(), "assumeRole"),
    ] {
        let refused = exchanged(role, web).unwrap_err();
        assert_eq!(refused, [format!("spec.credentials.{field}")]);
    }
    let unused = here(&json!({ "webIdentity": for_aws }));
    assert_eq!(unused.unwrap_err(), ["spec.credentials.webIdentity"]);
}

#[test]
fn the_machines_own_identity_is_one_users_by_name_and_nobodys_in_a_cluster() {
    let whose = json!({ "issuer": "https://i", "subject": "alice" });
    let own = json!({ "source": "ambient", "ambient": whose });
    let source = here(&own).unwrap();
    let class::CredentialSource::Ambient(source) = source else { panic!("{source:?}") };
    assert_eq!((source.issuer.as_str(), source.subject.as_str()), ("https://i", "alice"));
    let mut in_cluster = spec(json!({}));
    in_cluster["credentials"] = own;
    assert_eq!(of(in_cluster).unwrap_err(), ["spec.credentials.source"]);
    for (said, field) in [
        (json!({ "source": "ambient" }), "ambient"),
        (json!({ "ambient": whose }), "ambient"),
        (
            json!({ "source": "ambient", "ambient": { "issuer": " ", "subject": "a" } }),
            "ambient.issuer",
        ),
        (
            json!({ "source": "ambient", "ambient": { "issuer": "i", "subject": "" } }),
            "ambient.subject",
        ),
    ] {
        assert_eq!(here(&said).unwrap_err(), [format!("spec.credentials.{field}")]);
    }
}

#[test]
fn each_bad_value_is_named_by_its_field() {
    let role = |name: &str, value: Value| json!({ "role": ARN, name: value });
    for (said, field) in [
        (json!({}), ""),
        (json!({ "role": ARN, "roleMap": { "roles": { "a": ARN } } }), ""),
        (json!({ "role": "admin" }), ".role"),
        (json!({ "role": "arn:aws:iam::123456789012:role/*" }), ".role"),
        (json!({ "roleMap": { "roles": { "a": "b" } } }), ".roleMap.roles.a"),
        (json!({ "roleMap": { "roles": {} } }), ".roleMap.roles"),
        (json!({ "roleMap": { "claim": "", "roles": { "a": ARN } } }), ".roleMap.claim"),
        (json!({ "roleClaim": { "claim": "c", "roles": [ARN, "*"] } }), ".roleClaim.roles[1]"),
        (json!({ "roleClaim": { "claim": "c", "roles": [] } }), ".roleClaim.roles"),
        (role("externalId", json!("x")), ".externalId"),
        (role("externalId", json!("a b")), ".externalId"),
        (role("region", json!("US")), ".region"),
        (role("endpoint", json!("http://sts.example")), ".endpoint"),
        (role("endpoint", json!("http://127.0.0.1.example")), ".endpoint"),
        (role("endpoint", json!("https://sts.example/")), ".endpoint"),
        (role("duration", json!("14m")), ".duration"),
        (role("duration", json!("13h")), ".duration"),
        (role("tags", json!({ "patchbay:tenant": "x" })), ".tags[`patchbay:tenant`]"),
        (role("tags", json!({ "AWS:x": "x" })), ".tags[`AWS:x`]"),
        (role("tags", json!({ "x": "a|b" })), ".tags.x"),
        (role("tags", json!({ "x": "a", "X": "b" })), ".tags.x"),
        (role("claims", json!({ "buckets": "", "permissions": "p" })), ".claims.buckets"),
    ] {
        let expected = format!("spec.credentials.assumeRole{field}");
        assert_eq!(of(spec(said.clone())).unwrap_err(), [expected], "{said}");
    }
}
