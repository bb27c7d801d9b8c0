//! From the AWS keys that a token carries to those that its user gets, or why not. Nobody is asked, and no other keys ever
//! take their place.
//!
//! This module must not know STS, or how a token is read.

use crate::token::{CarriedKeys, Said};
use jiff::Timestamp;
use patchbay_core::{
    class::InlineClaims,
    entitlement::SaidBy,
    grant::{AwsGrant, NoKeys},
    identity::Authenticated,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Number, Value};

/// The keys in the user's token, as far as a worker of the class may have them. They end with the token, if they do not
/// say that they end sooner: the tokens of the first issuers of such say nothing of it.
pub(super) fn keys(
    source: &InlineClaims,
    user: &Authenticated,
    now: Timestamp,
) -> Result<AwsGrant, NoKeys> {
    if user.identity.entitlement.said_by == SaidBy::Holder {
        return Err(NoKeys::SaidByHolder);
    }
    let CarriedKeys { access_key_id, secret_access_key, session_token, region, expiration } =
        Said::by(user)?.keys()?;
    if secret_access_key.expose_secret().is_empty() {
        return Err(NoKeys::Unusable("the token's AWS keys are not complete"));
    }
    if region.is_some_and(|region| region != source.region) {
        return Err(NoKeys::Unusable(
            "the token's AWS keys are of another region than the class's",
        ));
    }
    let own_end = expiration.as_ref().map(end).transpose()?;
    let ends = [own_end, user.identity.expires_at];
    let end = ends.into_iter().flatten().min();
    let end = end.ok_or(NoKeys::Unusable("nothing says when the token's AWS keys end"))?;
    if end <= now {
        return Err(NoKeys::Ended);
    }
    let token = session_token.unwrap_or_else(|| SecretString::from(""));
    AwsGrant::temporary(access_key_id, secret_access_key, token, end, source.region.clone())
        .ok_or(NoKeys::LongTerm)
}

/// When keys end, in either form that issuers write.
fn end(said: &Value) -> Result<Timestamp, NoKeys> {
    let end = match said {
        Value::String(text) => text.parse().ok(),
        Value::Number(seconds) => whole(seconds).and_then(|it| Timestamp::from_second(it).ok()),
        _ => None,
    };
    end.ok_or(NoKeys::Unusable("the end of the token's AWS keys cannot be read"))
}

/// Seconds may be a fraction, as a token's may (RFC 7519, `NumericDate`); the second that it falls in is the end.
fn whole(seconds: &Number) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "a saturated end is no time")]
    seconds.as_i64().or_else(|| Some(seconds.as_f64()?.floor() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::tests::{identity, signed};
    use patchbay_core::{entitlement::Entitlement, identity::Mode};
    use serde_json::json;

    const NOW: i64 = 1_767_225_600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// alice with a token of an hour that says this.
    fn saying(claims: &Value) -> Authenticated {
        let mut user = signed(identity(Entitlement::default()), claims);
        user.identity.expires_at = Some(at(NOW + 3600));
        user
    }

    fn got(user: &Authenticated) -> Result<AwsGrant, NoKeys> {
        let source = InlineClaims { region: "us-east-1".into(), catalog: None };
        keys(&source, user, at(NOW))
    }

    fn good() -> Value {
        json!({ "access_key_id": "ASIAX", "secret_access_key": "s", "session_token": "t" })
    }

    fn with(name: &str, value: Value) -> Authenticated {
        let mut keys = good();
        keys[name] = value;
        saying(&json!({ "aws_credentials": keys }))
    }

    #[test]
    fn the_keys_of_a_token_are_its_users_under_either_name_and_end_with_it() {
        for name in ["aws_credentials", "awsCredentials"] {
            let keys = got(&saying(&json!({ name: good() }))).unwrap();
            assert_eq!(keys.access_key_id, "ASIAX");
            assert_eq!(keys.secret_access_key.expose_secret(), "s");
            assert_eq!(keys.expires_at, at(NOW + 3600));
            assert!(keys.renew_at.is_none(), "there are no newer ones");
        }
        let both = json!({ "awsCredentials": { "access_key_id": "ASIAY", "secret_access_key": "y" },
            "aws_credentials": good() });
        assert_eq!(got(&saying(&both)).unwrap().access_key_id, "ASIAX");
    }

    #[test]
    fn keys_end_when_they_say_and_never_after_their_token() {
        for (said, end) in [
            (json!("2026-01-01T00:10:00Z"), NOW + 600),
            (json!(NOW + 600), NOW + 600),
            (json!(1_767_226_200.9), NOW + 600),
            (json!(NOW + 7200), NOW + 3600),
        ] {
            assert_eq!(got(&with("expiration", said)).unwrap().expires_at, at(end));
        }
        for ended in [json!(NOW), json!("2025-12-31T23:59:59Z")] {
            assert_eq!(got(&with("expiration", ended)).err(), Some(NoKeys::Ended));
        }
        let mut late = saying(&json!({ "aws_credentials": good() }));
        late.identity.expires_at = Some(at(NOW - 10));
        assert_eq!(got(&late).err(), Some(NoKeys::Ended));
        late.identity.expires_at = None;
        assert!(matches!(got(&late), Err(NoKeys::Unusable(_))));
    }

    #[test]
    fn what_does_not_end_is_refused_by_name() {
        for (name, value) in [
            ("access_key_id", json!("AKIAX")),
            ("session_token", json!("")),
            ("session_token", Value::Null),
        ] {
            assert_eq!(got(&with(name, value)).err(), Some(NoKeys::LongTerm), "{name}");
        }
    }

    #[test]
    fn what_is_half_written_or_of_elsewhere_gives_nothing() {
        for (name, value) in [
            ("secret_access_key", json!("")),
            ("secret_access_key", json!(7)),
            ("access_key_id", Value::Null),
            ("region", json!("eu-west-1")),
            ("expiration", json!("soon")),
            ("expiration", json!([NOW + 600])),
            ("expiration", json!(1e300)),
        ] {
            let refused = got(&with(name, value.clone()));
            assert!(matches!(refused, Err(NoKeys::Unusable(_))), "{name} {value}: {refused:?}");
        }
        assert!(got(&with("region", json!("us-east-1"))).is_ok());
        assert_eq!(got(&saying(&json!({}))).err(), Some(NoKeys::Missing));
        assert_eq!(got(&saying(&json!({ "aws_credentials": null }))).err(), Some(NoKeys::Missing));
    }

    #[test]
    fn keys_that_a_holder_or_nobody_signed_are_none() {
        let holder = Entitlement { said_by: SaidBy::Holder, ..Entitlement::default() };
        let mut user = signed(identity(holder), &json!({ "aws_credentials": good() }));
        user.identity.expires_at = Some(at(NOW + 3600));
        assert_eq!(got(&user).err(), Some(NoKeys::SaidByHolder));
        for mode in [Mode::ApiKey, Mode::Opaque] {
            let mut user = saying(&json!({ "aws_credentials": good() }));
            user.identity.mode = mode;
            assert_eq!(got(&user).err(), Some(NoKeys::NotAToken));
        }
    }

    #[test]
    fn nothing_shows_a_secret() {
        let keys = json!({ "access_key_id": "ASIAX", "secret_access_key": "hunter2",
            "session_token": "hunter3", "expiration": true });
        let user = saying(&json!({ "aws_credentials": keys }));
        let said = Said::by(&user).unwrap();
        assert!(!format!("{said:?}").contains("hunter"), "{said:?}");
        let refused = got(&user).unwrap_err();
        assert!(!format!("{refused:?} {refused}").contains("hunter"), "{refused}");
    }
}
