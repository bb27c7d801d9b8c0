//! What STS is asked for whom.

use super::*;
use patchbay_core::{
    class::{AssumeRole, RoleChoice},
    digest::Digest,
    enhanced::{Codes, EnhancedClaims},
    entitlement::SaidBy,
    id::ProviderName,
    identity::Mode,
};
use serde_json::json;
use std::sync::Arc;

/// alice, of whom this is said.
pub(crate) fn identity(entitlement: Entitlement) -> Identity {
    Identity {
        provider: ProviderName::parse("p").unwrap(),
        issuer: "https://login.example".into(),
        subject: "alice".into(),
        authority: entitlement.authority(),
        entitlement: Arc::new(entitlement),
        mode: Mode::Jwt,
        expires_at: None,
    }
}

/// One role for all, and standard claims that narrow it.
pub(crate) fn source() -> AssumeRole {
    AssumeRole {
        role: RoleChoice::Fixed(RoleArn::parse("arn:aws:iam::123456789012:role/r").unwrap()),
        external_id: None,
        region: "us-east-1".into(),
        endpoint: None,
        duration: Duration::from_hours(1),
        tags: BTreeMap::from([("team".to_owned(), "biology".to_owned())]),
        session_policy: SessionPolicy::Required,
        claims: Some(PolicyClaims { buckets: "buckets".into(), permissions: "permissions".into() }),
        catalog: None,
    }
}

/// A user with a token that says this. Who signed it was checked before.
pub(crate) fn signed(identity: Identity, claims: &Value) -> Authenticated {
    let payload = data_encoding::BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
    let token = format!("e30.{payload}.c2ln");
    let digest = Digest::of(token.as_bytes());
    Authenticated { identity, credential: token.into(), digest }
}

pub(crate) fn claims(claims: &Value) -> Entitlement {
    let claims = claims.as_object().unwrap().clone();
    Entitlement { claims, ..Entitlement::default() }
}

fn class() -> ClassName {
    ClassName::parse("quilt").unwrap()
}

fn policy_of(source: &AssumeRole, entitlement: Entitlement) -> Option<String> {
    assume(source, &class(), &identity(entitlement)).unwrap().policy
}

#[test]
fn a_session_says_whose_it_is_and_whose_not() {
    let said = claims(&json!({ "buckets": ["b-alice"], "permissions": ["s3:GetObject"] }));
    let user = identity(said);
    let asked = assume(&source(), &class(), &user).unwrap();
    assert_eq!(asked.source_identity, "alice");
    let now = Timestamp::from_second(1_767_225_600).unwrap();
    assert_eq!(asked.session_name(now), "mcp-alice-1767225600");
    let tags = [
        ("patchbay:class", "quilt"),
        ("patchbay:issuer", "https://login.example"),
        ("patchbay:subject", "alice"),
        ("patchbay:tenant", user.tenant(&class()).name().as_str()),
        ("team", "biology"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(asked.tags, BTreeMap::from(tags));
    let policy: Value = serde_json::from_str(&asked.policy.unwrap()).unwrap();
    assert_eq!(
        policy["Statement"],
        json!([{ "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b-alice/*" }])
    );
}

#[test]
fn enhanced_claims_narrow_whoever_made_them() {
    let payload =
        json!({ "p": ["g"], "b": ["b-alice"], "buckets": null, "tags": { "team": "all" } });
    let enhanced = EnhancedClaims::expand(payload.as_object().unwrap(), &Codes::new());
    for said_by in [SaidBy::Issuer, SaidBy::Holder] {
        let said =
            Entitlement { enhanced: Some(enhanced.clone()), said_by, ..Entitlement::default() };
        let asked = assume(&source(), &class(), &identity(said)).unwrap();
        assert!(asked.policy.unwrap().contains("arn:aws:s3:::b-alice/*"));
        assert_eq!(asked.tags["team"], "biology", "no claim is a tag");
    }
}

#[test]
fn a_user_whose_claims_do_not_narrow_gets_nothing_unless_the_class_says_so() {
    let silent = || claims(&json!({ "team": "x" }));
    let refused = assume(&source(), &class(), &identity(silent()));
    assert!(matches!(refused, Err(GrantError::RoleDenied(_))), "{refused:?}");
    let lenient = AssumeRole { session_policy: SessionPolicy::WhenClaimed, ..source() };
    assert_eq!(policy_of(&lenient, silent()), None);
    // an enhanced token that allows nothing does speak of it
    let nothing =
        Entitlement { enhanced: Some(EnhancedClaims::default()), ..Entitlement::default() };
    assert!(policy_of(&lenient, nothing).unwrap().contains("Deny"));
}

#[test]
fn one_claim_without_the_other_leaves_nothing_of_a_role() {
    for said in [
        json!({ "buckets": ["*"] }),
        json!({ "permissions": ["s3:GetObject"] }),
        json!({ "permissions": 7, "buckets": ["*"] }),
    ] {
        for session_policy in [SessionPolicy::Required, SessionPolicy::WhenClaimed] {
            let source = AssumeRole { session_policy, ..source() };
            assert!(policy_of(&source, claims(&said)).unwrap().contains("Deny"), "{said}");
        }
    }
    let spaced =
        claims(&json!({ "buckets": "b-one b-two", "permissions": "s3:GetObject s3:PutObject" }));
    let policy = policy_of(&source(), spaced).unwrap();
    assert!(policy.contains("b-two") && policy.contains("s3:PutObject"), "{policy}");
}

#[test]
fn durations_are_within_what_sts_takes() {
    let source =
        |duration| AssumeRole { duration, session_policy: SessionPolicy::WhenClaimed, ..source() };
    for (wanted, asked) in [(1, 900), (900, 900), (3600, 3600), (43_200, 43_200), (86_400, 43_200)]
    {
        let source = source(Duration::from_secs(wanted));
        let got = assume(&source, &class(), &identity(Entitlement::default())).unwrap();
        assert_eq!(got.duration.as_secs(), asked);
    }
}

#[test]
fn a_policy_that_is_too_long_is_said_to_be() {
    let buckets: Vec<String> = (0..200).map(|index| format!("bucket-number-{index}")).collect();
    let said = claims(&json!({ "buckets": buckets, "permissions": ["s3:GetObject"] }));
    let refused = assume(&source(), &class(), &identity(said));
    let Err(GrantError::PolicyTooLarge(why)) = refused else { panic!("{refused:?}") };
    assert!(why.ends_with("characters long, and STS takes 2048"), "{why}");
}
