//! What a session is: as it was asked for, if STS would take it, and what its policy leaves of its role. It must not know
//! keys or requests of other services.

use super::asked::Form;
use anyhow::{Context, ensure};
use iam_rs::{Arn, Decision, IAMPolicy, IAMRequest, Principal, PrincipalId, evaluate_policy};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// One session, as it was asked for.
#[derive(Debug, Clone)]
pub struct Session {
    /// The role.
    pub role: String,
    /// Its name.
    pub name: String,
    /// Who it says it is for.
    pub source_identity: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The keys of those that go on to further roles.
    pub transitive: BTreeSet<String>,
    /// What is left of the role.
    pub policy: Option<String>,
    /// How long its keys were to live, seconds.
    pub duration: u64,
    /// When its keys end.
    pub expires_at: Timestamp,
    /// Whether somebody's token was shown for it, and nobody's signature.
    pub by_token: bool,
}

/// What STS would take (API reference, `AssumeRole`).
pub(super) fn session_of(form: &Form) -> anyhow::Result<Session> {
    let text = |name: &str| form.get(name).cloned().with_context(|| format!("no {name}"));
    let is_name = |name: &str, more: &str| {
        (2..=64).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c) || more.contains(c))
    };
    let name = text("RoleSessionName")?;
    ensure!(is_name(&name, ""), "{name} is no RoleSessionName");
    let source_identity = form.get("SourceIdentity").cloned();
    ensure!(source_identity.iter().all(|it| is_name(it, "")), "no SourceIdentity");
    let mut tags = BTreeMap::new();
    for index in 1..=50 {
        let Some(key) = form.get(&format!("Tags.member.{index}.Key")) else { break };
        let value = text(&format!("Tags.member.{index}.Value"))?;
        let is_text =
            |text: &str| text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
        ensure!((1..=128).contains(&key.len()) && is_text(key), "{key} is no key of a tag");
        ensure!(value.len() <= 256 && is_text(&value), "{value} is no value of a tag");
        ensure!(tags.insert(key.clone(), value).is_none(), "{key} is there twice");
    }
    let transitive: BTreeSet<String> = (1..=50)
        .map_while(|index| form.get(&format!("TransitiveTagKeys.member.{index}")).cloned())
        .collect();
    ensure!(transitive.iter().all(|key| tags.contains_key(key)), "a transitive key is no tag's");
    let policy = form.get("Policy").cloned();
    if let Some(policy) = &policy {
        ensure!(policy.chars().count() <= 2048, "the policy is too long");
        IAMPolicy::from_json(policy).context("the policy is malformed")?;
    }
    let duration = text("DurationSeconds")?.parse()?;
    ensure!((900..=43_200).contains(&duration), "{duration} s is no duration");
    let (role, expires_at) = (text("RoleArn")?, Timestamp::now());
    let by_token = false;
    Ok(Session {
        role,
        name,
        source_identity,
        tags,
        transitive,
        policy,
        duration,
        expires_at,
        by_token,
    })
}

/// Whether a session's policy leaves this of its role. Who one is can always be asked.
pub(super) fn is_allowed(session: &Session, action: &str, resource: &str) -> anyhow::Result<bool> {
    let Some(policy) = &session.policy else { return Ok(true) };
    if action == "sts:GetCallerIdentity" {
        return Ok(true);
    }
    // what is about no resource is about all of the account
    let resource = if resource == "*" { "arn:aws:any:::any" } else { resource };
    let principal = Principal::Aws(PrincipalId::String(session.role.clone()));
    let request = IAMRequest::new(principal, action, Arn::parse(resource)?);
    Ok(evaluate_policy(&IAMPolicy::from_json(policy)?, &request)? == Decision::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(policy: &str) -> Session {
        Session {
            role: "arn:aws:iam::123456789012:role/r".into(),
            name: "n".into(),
            source_identity: None,
            tags: BTreeMap::new(),
            transitive: BTreeSet::new(),
            policy: Some(policy.into()),
            duration: 900,
            expires_at: Timestamp::UNIX_EPOCH,
            by_token: false,
        }
    }

    #[test]
    fn a_policy_decides_and_what_it_does_not_name_is_denied() {
        let session = session(
            r#"{"Version":"2012-10-17","Statement":[
                {"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"},
                {"Effect":"Allow","Action":["s3:ListAllMyBuckets"],"Resource":"*"}]}"#,
        );
        let allowed = |action, resource| is_allowed(&session, action, resource).unwrap();
        assert!(allowed("s3:GetObject", "arn:aws:s3:::b/a/key"));
        assert!(allowed("s3:ListAllMyBuckets", "*"));
        assert!(allowed("sts:GetCallerIdentity", "*"));
        assert!(!allowed("s3:PutObject", "arn:aws:s3:::b/a/key"));
        assert!(!allowed("s3:GetObject", "arn:aws:s3:::c/a/key"));
        assert!(!allowed("s3:ListBucket", "arn:aws:s3:::b"));
    }
}
