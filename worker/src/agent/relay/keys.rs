//! The relay's answers to those who ask for the grant's AWS keys: SDKs by the container provider, and quilt3 by the
//! registry's own path. It must not know who may ask.

use super::refusal::{Reason, refuse};
use crate::agent::{
    answer::{Body, secret_json},
    held_grant::Session,
};
use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use jiff::Timestamp;
use patchbay_core::{
    aws_keys::{self, ContainerKeys, RegistryKeys},
    grant::is_temporary,
    launch::PROXY_PORT,
};
use serde::Deserialize;
use std::borrow::Cow;

/// Where quilt3 asks its registry for keys.
const REGISTRY_PATH: &str = "/api/auth/get_credentials";

/// Who asks, and so in which words the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An AWS SDK.
    Sdk,
    /// quilt3.
    Quilt3,
}

/// Whether this is where SDKs are told to ask. They ask directly; one that asks through its proxy ends up here too.
pub(crate) fn is_own_address(target: &Uri) -> bool {
    let is_here = target.authority().is_none_or(|authority| {
        authority.host() == "127.0.0.1" && authority.port_u16() == Some(PROXY_PORT)
    });
    is_here && target.path() == aws_keys::PATH
}

/// Whether this is what quilt3 asks its registry for keys with.
pub(crate) fn is_asked_of_registry(method: &Method, path: &str) -> bool {
    *method == Method::GET && path == REGISTRY_PATH
}

/// Whether a registry might take this path for the one of its keys: by another way to write it, or so written that only the
/// registry can tell. The keys that it would give may do more than the class leaves of a user's role.
pub(crate) fn may_mean_the_registrys(path: &str) -> bool {
    let is_plain = !path.contains(['%', ';', '\\']) && !path.contains("//") && !path.contains("/.");
    !is_plain || are_the_registrys(path)
}

/// Whether the registry's answer to this holds keys of its own, where a class leaves them to it.
pub(crate) fn are_the_registrys(path: &str) -> bool {
    path.trim_end_matches('/').eq_ignore_ascii_case(REGISTRY_PATH)
}

/// Whether an answer of the registry's holds keys that are not temporary: those have no end, and no server gets them
/// (issue 4).
pub(crate) fn are_long_term(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Keys<'a> {
        #[serde(borrow)]
        access_key_id: Cow<'a, str>,
        #[serde(borrow)]
        session_token: Option<Cow<'a, str>>,
    }
    // whatever has no key's id is no keys
    serde_json::from_slice::<Keys<'_>>(text).is_ok_and(|keys| {
        !is_temporary(&keys.access_key_id, keys.session_token.as_deref().unwrap_or_default())
    })
}

/// The answer: keys that live, or that there are none.
pub(super) fn answer(asker: Asker, session: Option<&Session>, now: Timestamp) -> Response<Body> {
    let Some(keys) = session.and_then(|session| session.live_keys(now)) else {
        return refuse(Reason::NoKeys, "127.0.0.1");
    };
    let mut answer = match asker {
        Asker::Sdk => secret_json(StatusCode::OK, &ContainerKeys::from(keys)),
        Asker::Quilt3 => secret_json(StatusCode::OK, &RegistryKeys::from(keys)),
    };
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::held_grant::StandIn;
    use http_body_util::BodyExt as _;
    use patchbay_core::grant::AwsGrant;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn session() -> Session {
        let keys = AwsGrant::temporary(
            "ASIAX".into(),
            "secret".into(),
            "token".into(),
            at(1000),
            "us-east-1".into(),
        );
        Session::new(StandIn::new("pod-x"), None, keys).unwrap()
    }

    #[test]
    fn the_registrys_own_keys_are_out_of_reach_however_their_path_is_written() {
        for path in [
            "/api/auth/get_credentials",
            "/api/auth/get_credentials/",
            "/API/auth/get_credentials",
            "/api/auth/get%5Fcredentials",
            "/api/auth/get%255Fcredentials",
            "//api/auth/get_credentials",
            "/api/./auth/get_credentials",
            "/x/../api/auth/get_credentials",
            "/api/auth;a=b/get_credentials",
            "/api\\auth/get_credentials",
        ] {
            assert!(may_mean_the_registrys(path), "{path}");
        }
        for path in ["/graphql", "/api/login", "/api/auth", "/", "/api/auth/get_credentials_of"] {
            assert!(!may_mean_the_registrys(path), "{path}");
        }
    }

    #[tokio::test]
    async fn each_asker_is_answered_in_its_own_words() {
        for (asker, token) in [(Asker::Sdk, "Token"), (Asker::Quilt3, "SessionToken")] {
            let response = answer(asker, Some(&session()), at(999));
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&body["AccessKeyId"], &body[token]), (&"ASIAX".into(), &"token".into()));
            assert_eq!(body["Expiration"], "1970-01-01T00:16:40Z");
        }
    }

    #[test]
    fn keys_that_have_ended_are_not_told() {
        let response = answer(Asker::Sdk, Some(&session()), at(1000));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer(Asker::Quilt3, None, at(0)).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn only_keys_with_an_end_are_passed_on() {
        for (text, is_long_term) in [
            (r#"{"AccessKeyId":"ASIAX","SecretAccessKey":"s","SessionToken":"t"}"#, false),
            (r#"{"AccessKeyId":"AKIAX","SecretAccessKey":"s","SessionToken":"t"}"#, true),
            (r#"{"AccessKeyId":"ASIAX","SecretAccessKey":"s","SessionToken":""}"#, true),
            (r#"{"AccessKeyId":"AKIAX","SecretAccessKey":"s"}"#, true),
            (r#"{"AccessKeyId":"AKIAX","SessionToken":null}"#, true),
            (r#"{"message":"no role"}"#, false),
            ("<html>", false),
        ] {
            assert_eq!(are_long_term(text.as_bytes()), is_long_term, "{text}");
        }
    }
}
