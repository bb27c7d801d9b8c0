//! What STS is asked with a user's own token: which role, and what is left of it. No identity of the gateway's takes part.
//!
//! A token is shown to STS only if it is meant for it: one that names the gateway alone would be passed on to somebody
//! for whom it was not issued, which MCP forbids. This module must not know how STS is asked.

use super::{duration, role_and_policy, session};
use crate::token::Said;
use jiff::Timestamp;
use patchbay_core::{
    class::WebIdentity,
    digest::Digest,
    entitlement::SaidBy,
    grant::{GrantError, NoKeys},
    identity::Authenticated,
    role::RoleArn,
};
use secrecy::SecretString;
use std::time::Duration;

/// What STS is asked for one user's token. Tags and source identity are what the token itself says to AWS.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The role.
    pub role: RoleArn,
    /// What is left of the role; none = all of it.
    pub policy: Option<String>,
    /// How long keys live: within what STS takes.
    pub duration: Duration,
    /// The region of the endpoint, and of the user's data.
    pub region: String,
    /// An endpoint in the place of the region's own.
    pub endpoint: Option<String>,
    /// The user, for the session's name.
    pub subject: String,
    /// The token.
    pub token: SecretString,
    /// Tells tokens apart.
    pub digest: Digest,
    /// When the token ends, and with it the keys that it was exchanged for.
    pub ends: Timestamp,
}

/// What to ask STS for a user of a class.
pub(super) fn exchange(
    source: &WebIdentity,
    user: &Authenticated,
    now: Timestamp,
) -> Result<Exchange, GrantError> {
    let identity = &user.identity;
    if identity.entitlement.said_by == SaidBy::Holder {
        return Err(NoKeys::SaidByHolder.into());
    }
    if !Said::by(user)?.is_for(&source.audience) {
        return Err(NoKeys::NotForAws.into());
    }
    // a token that is late by less than the gateway's leeway has ended for AWS
    let ends = identity.expires_at.filter(|end| *end > now).ok_or(NoKeys::TokenEnded)?;
    let (role, policy) = role_and_policy(&source.role, identity)?;
    Ok(Exchange {
        role,
        policy,
        duration: duration(&source.role),
        region: source.role.region.clone(),
        endpoint: source.role.endpoint.clone(),
        subject: identity.subject.clone(),
        token: user.credential.clone(),
        digest: user.digest,
        ends,
    })
}

impl Exchange {
    /// The session's name, for one that begins now.
    pub(super) fn session_name(&self, now: Timestamp) -> String {
        session::session_name(&self.subject, now.as_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::tests::{claims, identity, signed, source};
    use patchbay_core::{entitlement::Entitlement, identity::Mode};
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    const NOW: i64 = 1_767_225_600;
    const AUDIENCE: &str = "sts.amazonaws.com";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// alice, whose buckets are told, with a token of an hour for these.
    fn alice(aud: &Value) -> Authenticated {
        let said = claims(&json!({ "buckets": ["b-alice"], "permissions": ["s3:GetObject"] }));
        let mut user = signed(identity(said), &json!({ "aud": aud }));
        user.identity.expires_at = Some(at(NOW + 3600));
        user
    }

    fn asked(user: &Authenticated) -> Result<Exchange, GrantError> {
        exchange(&WebIdentity { audience: AUDIENCE.into(), role: source() }, user, at(NOW))
    }

    #[test]
    fn a_token_for_both_is_exchanged_for_less_than_the_role() {
        for aud in [json!(AUDIENCE), json!(["https://gateway.example", AUDIENCE])] {
            let user = alice(&aud);
            let asked = asked(&user).unwrap();
            assert!(asked.policy.as_ref().is_some_and(|it| it.contains("b-alice")));
            assert_eq!(asked.token.expose_secret(), user.credential.expose_secret());
            assert_eq!((asked.ends, asked.digest), (at(NOW + 3600), user.digest));
            assert_eq!(asked.session_name(at(NOW)), "mcp-alice-1767225600");
            assert!(!format!("{asked:?}").contains(user.credential.expose_secret()));
        }
    }

    #[test]
    fn a_token_that_is_not_for_aws_is_not_shown_to_it() {
        for aud in
            [json!("https://gateway.example"), json!([]), json!(7), json!("sts.amazonaws.com ")]
        {
            assert_eq!(asked(&alice(&aud)).err(), Some(NoKeys::NotForAws.into()), "{aud}");
        }
    }

    #[test]
    fn a_token_that_has_ended_or_that_its_holder_made_is_none() {
        let mut late = alice(&json!(AUDIENCE));
        late.identity.expires_at = Some(at(NOW));
        assert_eq!(asked(&late).err(), Some(NoKeys::TokenEnded.into()));
        let holder = Entitlement { said_by: SaidBy::Holder, ..Entitlement::default() };
        let user = signed(identity(holder), &json!({ "aud": AUDIENCE }));
        assert_eq!(asked(&user).err(), Some(NoKeys::SaidByHolder.into()));
        let mut key = alice(&json!(AUDIENCE));
        key.identity.mode = Mode::ApiKey;
        assert_eq!(asked(&key).err(), Some(NoKeys::NotAToken.into()));
    }

    #[test]
    fn a_user_whom_the_class_gives_no_role_is_refused_before_aws_is_asked() {
        let mut user = signed(identity(Entitlement::default()), &json!({ "aud": AUDIENCE }));
        user.identity.expires_at = Some(at(NOW + 3600));
        assert!(matches!(asked(&user), Err(GrantError::RoleDenied(_))));
    }
}
