//! What STS is asked for a user: whatever a token's claims say, the session policy allows nothing that they do not say, in a
//! size that STS takes, and the session is named in a form that STS takes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patchbay_broker::{Assume, Way, way};
use patchbay_core::{
    class::{AssumeRole, CredentialSource, PolicyClaims, RoleChoice, SessionPolicy, WorkerClass},
    digest::Digest,
    entitlement::Entitlement,
    fixtures,
    id::ProviderName,
    identity::{Authenticated, Identity, Mode},
    role::RoleArn,
};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// The longest policy that STS takes, characters.
const LONGEST: usize = 2048;

fuzz_target!(|data: &[u8]| {
    let Ok(Value::Object(claims)) = serde_json::from_slice(data) else { return };
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or("alice").to_owned();
    let user = user(&subject, claims.clone());
    let Ok(Some(Way::Assume(assume))) = way(&class(), &user, jiff::Timestamp::UNIX_EPOCH) else {
        return;
    };
    allows_only_what_is_claimed(&assume, &claims);
    is_named_as_sts_wants(&assume);
});

fn class() -> WorkerClass {
    let role = RoleArn::parse("arn:aws:iam::123456789012:role/r").expect("it is one");
    let source = AssumeRole {
        role: RoleChoice::Fixed(role),
        external_id: None,
        region: "us-east-1".into(),
        endpoint: None,
        duration: Duration::from_secs(3600),
        tags: [("team".to_owned(), "biology".to_owned())].into(),
        session_policy: SessionPolicy::Required,
        claims: Some(PolicyClaims { buckets: "b".into(), permissions: "p".into() }),
        catalog: None,
    };
    let credentials = CredentialSource::AssumeRole(Box::new(source));
    WorkerClass { credentials, ..fixtures::class("c", "/c") }
}

fn user(subject: &str, claims: Map<String, Value>) -> Authenticated {
    let entitlement = Entitlement { claims, ..Entitlement::default() };
    Authenticated {
        identity: Identity {
            provider: ProviderName::parse("p").expect("it is one"),
            issuer: "https://i.example".into(),
            subject: subject.into(),
            authority: entitlement.authority(),
            entitlement: Arc::new(entitlement),
            mode: Mode::Jwt,
            expires_at: None,
        },
        credential: "t".into(),
        digest: Digest::of(b"t"),
    }
}

fn allows_only_what_is_claimed(assume: &Assume, claims: &Map<String, Value>) {
    let text = assume.policy.as_deref().expect("the class requires one");
    assert!(text.chars().count() <= LONGEST, "{text}");
    let policy: Value = serde_json::from_str(text).expect("a policy is JSON");
    let (buckets, permissions) = (said(claims.get("b")), said(claims.get("p")));
    for statement in policy["Statement"].as_array().expect("it has statements") {
        if statement["Effect"] == "Deny" {
            continue;
        }
        let (actions, resources) =
            (one_or_more(&statement["Action"]), one_or_more(&statement["Resource"]));
        assert!(!actions.is_empty() && !resources.is_empty(), "{text}");
        for action in &actions {
            assert!(permissions.contains(action), "{action} is not claimed: {text}");
            assert!(!action.contains(['*', '?', '$']), "{text}");
        }
        for resource in &resources {
            if resource == "*" {
                let is_of_buckets = |it: &&String| it.starts_with("s3:") && it.contains("Object");
                assert!(actions.iter().find(is_of_buckets).is_none(), "{text}");
                continue;
            }
            let name = resource.strip_prefix("arn:aws:s3:::").unwrap_or_else(|| panic!("{text}"));
            let name = name.strip_suffix("/*").unwrap_or(name);
            assert!(buckets.contains(name), "{name} is not claimed: {text}");
            assert!(name == "*" || !name.contains(['*', '?', '$', '/']), "{text}");
        }
    }
}

fn is_named_as_sts_wants(assume: &Assume) {
    let is_word = |text: &str, most: usize| {
        (2..=most).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_+=,.@-".contains(&c))
    };
    assert!(is_word(&assume.source_identity, 64), "{:?}", assume.source_identity);
    for (key, value) in &assume.tags {
        assert!((1..=128).contains(&key.chars().count()), "{key:?}");
        assert!(value.chars().count() <= 256, "{value:?}");
        assert!(!value.chars().any(char::is_control), "{value:?}");
    }
    assert!(assume.tags.len() <= 50);
}

/// The words of a claim: those of a list, or those between spaces.
fn said(claim: Option<&Value>) -> BTreeSet<String> {
    match claim {
        Some(Value::String(text)) => text.split(' ').map(str::to_owned).collect(),
        Some(Value::Array(all)) => {
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => BTreeSet::new(),
    }
}

fn one_or_more(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        other => panic!("{other} is no text"),
    }
}
