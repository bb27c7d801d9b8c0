//! What a token endpoint's answer means (RFC 8693, 2.2; RFC 6749, 5). It must not know who asked.

use http::StatusCode;
use jiff::SignedDuration;
use secrecy::SecretString;
use serde::Deserialize;

pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The longest life that is believed.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// A token, and how long it is good; none = nobody says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bearer: SecretString,
    pub(super) life: Option<SignedDuration>,
}

/// Why there is none, in words for logs that hold nothing of the answer but a registered word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The server does not take this user's token, or does not give them this audience or scope.
    User(&'static str),
    /// It is about Patchbay or about the server, whoever the user is.
    Other(&'static str),
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    issued_token_type: String,
    token_type: String,
    expires_in: Option<u32>,
}

#[derive(Deserialize)]
struct Error {
    error: String,
}

/// Reads an answer.
pub(super) fn read(status: StatusCode, body: &[u8]) -> Result<Answer, Refused> {
    if status != StatusCode::OK {
        return Err(refusal(status, body));
    }
    let other = |why| Err(Refused::Other(why));
    let Ok(granted) = serde_json::from_slice::<Granted>(body) else {
        return other("its answer is no token (RFC 8693, 2.2.1)");
    };
    if ![ACCESS_TOKEN, JWT].contains(&granted.issued_token_type.as_str()) {
        return other("it gave a token of a type that was not asked for");
    }
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        return other("it gave a token that is no bearer");
    }
    if !is_header_value(&granted.access_token) {
        return other("it gave a token that no header can hold");
    }
    let life = granted.expires_in.map(|seconds| SignedDuration::from_secs(seconds.into()));
    if life.is_some_and(|life| life.is_zero()) {
        return other("it gave a token that has ended");
    }
    let life = life.map(|life| life.min(LONGEST_LIFE));
    Ok(Answer { bearer: granted.access_token, life })
}

/// What a bearer may consist of: visible ASCII.
fn is_header_value(token: &SecretString) -> bool {
    let token = secrecy::ExposeSecret::expose_secret(token);
    !token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic())
}

/// Who is refused by an error (RFC 6749, 5.2; RFC 8693, 2.2.2).
fn refusal(status: StatusCode, body: &[u8]) -> Refused {
    const USERS: [&str; 4] =
        ["invalid_request", "invalid_grant", "invalid_target", "invalid_scope"];
    const OURS: [&str; 3] = ["invalid_client", "unauthorized_client", "unsupported_grant_type"];
    let error = serde_json::from_slice::<Error>(body).map(|it| it.error).unwrap_or_default();
    let among = |words: &'static [&'static str]| words.iter().find(|word| **word == error);
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            match (among(&USERS), among(&OURS)) {
                (Some(word), _) => Refused::User(word),
                (_, Some(word)) => Refused::Other(word),
                (None, None) => Refused::Other("it refused without a known error"),
            }
        }
        StatusCode::TOO_MANY_REQUESTS => Refused::Other("it is asked too often"),
        _ => Refused::Other("it failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;
    use serde_json::{Value, json};

    fn granted(change: impl FnOnce(&mut Value)) -> Result<Answer, Refused> {
        let mut body = json!({
            "access_token": "t", "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer",
            "expires_in": 60,
        });
        change(&mut body);
        read(StatusCode::OK, body.to_string().as_bytes())
    }

    #[test]
    fn a_token_is_a_bearer_of_a_type_that_was_asked_for() {
        let answer = granted(|_| ()).unwrap();
        assert_eq!(
            (answer.bearer.expose_secret(), answer.life),
            ("t", Some(SignedDuration::from_mins(1)))
        );
        assert!(granted(|it| it["token_type"] = "bearer".into()).is_ok());
        assert!(granted(|it| it["issued_token_type"] = JWT.into()).is_ok());
        let unsaid = granted(|it| drop(it.as_object_mut().unwrap().remove("expires_in")));
        assert_eq!(unsaid.unwrap().life, None);
        let long = granted(|it| it["expires_in"] = u32::MAX.into()).unwrap();
        assert_eq!(long.life, Some(LONGEST_LIFE));
        let saml = "urn:ietf:params:oauth:token-type:saml2";
        for (field, value) in [
            ("access_token", ""),
            ("access_token", "a b"),
            ("access_token", "a\nb"),
            ("token_type", "N_A"),
            ("token_type", "DPoP"),
            ("issued_token_type", saml),
        ] {
            let refused = granted(|it| it[field] = value.into());
            assert!(matches!(refused, Err(Refused::Other(_))), "{field} {value:?}");
        }
        for field in ["access_token", "issued_token_type", "token_type"] {
            let refused = granted(|it| drop(it.as_object_mut().unwrap().remove(field)));
            assert!(matches!(refused, Err(Refused::Other(_))), "{field}");
        }
        assert!(granted(|it| it["expires_in"] = (-1).into()).is_err());
        assert!(granted(|it| it["expires_in"] = 0.into()).is_err());
        assert!(read(StatusCode::OK, b"<html>").is_err());
    }

    #[test]
    fn an_error_is_the_users_or_everybodys() {
        let said = |status: u16, error: &str| {
            let body = json!({ "error": error, "error_description": "hunter2" }).to_string();
            read(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap_err()
        };
        for error in ["invalid_request", "invalid_grant", "invalid_target", "invalid_scope"] {
            assert_eq!(said(400, error), Refused::User(error));
        }
        assert_eq!(said(401, "invalid_client"), Refused::Other("invalid_client"));
        assert_eq!(said(400, "unauthorized_client"), Refused::Other("unauthorized_client"));
        for (status, error) in
            [(400, "hunter2"), (429, "invalid_grant"), (500, "invalid_grant"), (302, "")]
        {
            let refused = said(status, error);
            assert!(matches!(refused, Refused::Other(_)), "{status}");
            assert!(!format!("{refused:?}").contains("hunter2"));
        }
    }
}
