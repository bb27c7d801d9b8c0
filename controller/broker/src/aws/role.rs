//! Which of a class's roles is a user's: from what the class says and what was verified to one role, or a refusal.
//!
//! A claim chooses only where its issuer alone can have made it; whoever holds the key that signs could choose any
//! (DESIGN, credentials). This module must not know what a role allows.

use patchbay_core::{
    class::RoleChoice,
    entitlement::{Entitlement, SaidBy},
    identity::Identity,
    role::{RoleArn, RolePattern},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The claim of an enhanced token that lists roles, in either form.
const ENHANCED_ROLES: [&str; 2] = ["roles", "r"];

/// Why a user has no role. The texts are for users and name no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRole {
    #[error("the class lists none for this subject")]
    UnknownSubject,
    #[error(
        "the token does not say `{0}`, or says what the class does not take; the provider must list it in \
         `authorityClaims`"
    )]
    NotClaimed(String),
    #[error("`{0}` leads to several roles, and the class must take one of them")]
    Several(String),
    #[error("whoever holds this token can have made its claims, and such claims choose no role")]
    SaidByHolder,
}

/// The role of a user.
pub(super) fn role<'a>(choice: &'a RoleChoice, identity: &'a Identity) -> Result<RoleArn, NoRole> {
    let entitlement = &*identity.entitlement;
    match choice {
        RoleChoice::Fixed(role) => Ok(role.clone()),
        RoleChoice::Map { claim: None, roles } => {
            roles.get(&identity.subject).cloned().ok_or(NoRole::UnknownSubject)
        }
        RoleChoice::Map { claim: Some(claim), roles } => {
            let said = said(claim, entitlement)?;
            the_one(claim, mapped(&said, roles))
        }
        RoleChoice::Claim { claim, patterns } => {
            let said = said(claim, entitlement)?;
            the_one(claim, taken(&said, patterns))
        }
    }
}

/// The words of a claim, which only its issuer can have made.
fn said<'a>(claim: &str, entitlement: &'a Entitlement) -> Result<Vec<&'a str>, NoRole> {
    if entitlement.said_by == SaidBy::Holder {
        return Err(NoRole::SaidByHolder);
    }
    Ok(match (entitlement.claims.get(claim), &entitlement.enhanced) {
        (Some(Value::String(one)), _) => vec![one],
        (Some(Value::Array(several)), _) => several.iter().filter_map(Value::as_str).collect(),
        (None, Some(enhanced)) if ENHANCED_ROLES.contains(&claim) => {
            enhanced.roles.iter().map(String::as_str).collect()
        }
        _ => Vec::new(),
    })
}

fn mapped(said: &[&str], roles: &BTreeMap<String, RoleArn>) -> BTreeSet<RoleArn> {
    said.iter().filter_map(|word| roles.get(*word).cloned()).collect()
}

fn taken(said: &[&str], patterns: &[RolePattern]) -> BTreeSet<RoleArn> {
    let roles = said.iter().filter_map(|word| RoleArn::parse(*word).ok());
    roles.filter(|role| patterns.iter().any(|pattern| pattern.matches(role))).collect()
}

/// Lists have no order that means anything, so several are none.
fn the_one(claim: &str, mut roles: BTreeSet<RoleArn>) -> Result<RoleArn, NoRole> {
    match (roles.pop_first(), roles.is_empty()) {
        (Some(role), true) => Ok(role),
        (Some(_), false) => Err(NoRole::Several(claim.to_owned())),
        (None, _) => Err(NoRole::NotClaimed(claim.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::tests::identity;
    use patchbay_core::enhanced::{Codes, EnhancedClaims};
    use serde_json::json;

    fn arn(name: &str) -> RoleArn {
        RoleArn::parse(format!("arn:aws:iam::123456789012:role/{name}")).unwrap()
    }

    fn saying(claims: &Value, said_by: SaidBy) -> Identity {
        let claims = claims.as_object().unwrap().clone();
        identity(Entitlement { claims, enhanced: None, said_by })
    }

    fn enhanced(payload: &Value, said_by: SaidBy) -> Identity {
        let claims = EnhancedClaims::expand(payload.as_object().unwrap(), &Codes::new());
        identity(Entitlement { enhanced: Some(claims), said_by, ..Entitlement::default() })
    }

    fn claim(name: &str) -> RoleChoice {
        let patterns =
            ["arn:aws:iam::123456789012:role/quilt-*", "arn:aws:iam::123456789012:role/one"];
        let patterns = patterns.map(|text| RolePattern::parse(text).unwrap()).into();
        RoleChoice::Claim { claim: name.into(), patterns }
    }

    fn map(claim: Option<&str>, key: &str) -> RoleChoice {
        let roles = BTreeMap::from([(key.to_owned(), arn("mapped"))]);
        RoleChoice::Map { claim: claim.map(str::to_owned), roles }
    }

    #[test]
    fn a_fixed_role_is_everybodys() {
        let forged = saying(&json!({ "role": arn("evil").as_str() }), SaidBy::Holder);
        assert_eq!(role(&RoleChoice::Fixed(arn("one")), &forged), Ok(arn("one")));
    }

    #[test]
    fn a_map_by_subject_knows_its_subjects_alone() {
        let user = saying(&json!({}), SaidBy::Holder);
        assert_eq!(role(&map(None, "alice"), &user), Ok(arn("mapped")));
        assert_eq!(role(&map(None, "bob"), &user), Err(NoRole::UnknownSubject));
    }

    #[test]
    fn a_claim_names_a_role_that_the_class_takes() {
        for value in [
            json!(arn("quilt-a").as_str()),
            json!([7, "x", arn("evil").as_str(), arn("quilt-a").as_str()]),
        ] {
            let user = saying(&json!({ "aws_role_arn": value }), SaidBy::Issuer);
            assert_eq!(role(&claim("aws_role_arn"), &user), Ok(arn("quilt-a")), "{value}");
        }
        let listed = enhanced(&json!({ "r": ["Reader", arn("one").as_str()] }), SaidBy::Issuer);
        assert_eq!(role(&claim("roles"), &listed), Ok(arn("one")));
    }

    #[test]
    fn a_role_that_the_class_does_not_take_is_none_and_two_are_none() {
        for value in [
            json!(arn("evil").as_str()),
            json!("arn:aws:iam::210987654321:role/quilt-a"),
            json!("arn:aws:iam::123456789012:role/quilt-*"),
            json!(null),
            json!({ "0": arn("one").as_str() }),
            json!([]),
        ] {
            let user = saying(&json!({ "role": value }), SaidBy::Issuer);
            assert_eq!(
                role(&claim("role"), &user),
                Err(NoRole::NotClaimed("role".into())),
                "{value}"
            );
        }
        let both = saying(
            &json!({ "role": [arn("one").as_str(), arn("quilt-a").as_str()] }),
            SaidBy::Issuer,
        );
        assert_eq!(role(&claim("role"), &both), Err(NoRole::Several("role".into())));
        let twice =
            saying(&json!({ "role": [arn("one").as_str(), arn("one").as_str()] }), SaidBy::Issuer);
        assert_eq!(role(&claim("role"), &twice), Ok(arn("one")));
    }

    #[test]
    fn a_map_by_a_claim_takes_the_values_that_it_lists() {
        let user = saying(&json!({ "team": ["x", "biology"] }), SaidBy::Issuer);
        assert_eq!(role(&map(Some("team"), "biology"), &user), Ok(arn("mapped")));
        assert_eq!(
            role(&map(Some("team"), "chemistry"), &user),
            Err(NoRole::NotClaimed("team".into()))
        );
        // a subject is no claim
        assert_eq!(
            role(&map(Some("team"), "alice"), &user),
            Err(NoRole::NotClaimed("team".into()))
        );
    }

    #[test]
    fn claims_that_their_holder_can_make_choose_nothing() {
        let said = json!({ "role": arn("one").as_str(), "team": "biology" });
        let user = saying(&said, SaidBy::Holder);
        assert_eq!(role(&claim("role"), &user), Err(NoRole::SaidByHolder));
        assert_eq!(role(&map(Some("team"), "biology"), &user), Err(NoRole::SaidByHolder));
        let forged = enhanced(&json!({ "r": [arn("one").as_str()] }), SaidBy::Holder);
        assert_eq!(role(&claim("roles"), &forged), Err(NoRole::SaidByHolder));
    }
}
