//! Which one provider may judge a credential: by the credential's form and the route, never by trying.
//!
//! `pb_` goes to the route's API keys, `qk_` to its introspection; a JWT whose `iss` is a provider's to
//! that one; anything else to the route's one introspection provider; else nobody (DESIGN,
//! `IdentityProvider`). A login code is nobody's: it is good at its catalog alone. This module must not verify
//! anything.

use super::{AuthnError, login_code::is_login_code, presented::Presented};
use patchbay_core::provider::{
    API_KEY_PREFIX, ApiKeys, CATALOG_KEY_PREFIX, IdentityProvider, Method, api_key_id,
};
use std::sync::Arc;

/// Chooses the provider.
pub fn choose<'a>(
    presented: &Presented,
    providers: &'a [Arc<IdentityProvider>],
) -> Result<&'a IdentityProvider, AuthnError> {
    let secret = presented.secret();
    if is_login_code(secret) {
        // before anybody is asked: a catalog may take it for used
        return Err(AuthnError::LoginCode);
    }
    if secret.starts_with(API_KEY_PREFIX) {
        return with_api_keys(secret, providers);
    }
    if secret.starts_with(CATALOG_KEY_PREFIX) {
        return asked(providers);
    }
    if matches!(presented, Presented::ApiKey(_)) {
        // what is in X-API-Key is an API key or nothing: a token there is not judged as a token
        return Err(AuthnError::NotAccepted);
    }
    let issuer = unverified_issuer(secret);
    providers
        .iter()
        .find(|provider| match &provider.method {
            Method::Jwt(jwt) => Some(jwt.issuer.as_str()) == issuer.as_deref(),
            _ => false,
        })
        .map_or_else(
            || asked(providers).map_err(|error| unknown(issuer.as_deref(), providers, error)),
            |provider| Ok(provider.as_ref()),
        )
}

/// Why nobody judges a bearer. That its issuer is the reason says nothing of who is known here.
fn unknown(
    issuer: Option<&str>,
    providers: &[Arc<IdentityProvider>],
    otherwise: AuthnError,
) -> AuthnError {
    let takes_tokens = providers.iter().any(|it| matches!(it.method, Method::Jwt(_)));
    if issuer.is_some() && takes_tokens { AuthnError::UnknownIssuer } else { otherwise }
}

/// The route's one introspection provider.
fn asked(providers: &[Arc<IdentityProvider>]) -> Result<&IdentityProvider, AuthnError> {
    providers
        .iter()
        .map(AsRef::as_ref)
        .find(|provider| matches!(provider.method, Method::Introspection(_)))
        .ok_or(AuthnError::NotAccepted)
}

/// Several providers of keys may serve one route; ids are unique across them (`RouteTable::build`), so the
/// id names the one provider. An unknown id is judged by the first: it answers as for any bad key.
fn with_api_keys<'a>(
    key: &str,
    providers: &'a [Arc<IdentityProvider>],
) -> Result<&'a IdentityProvider, AuthnError> {
    let id = api_key_id(key);
    let has_id = |keys: &ApiKeys| keys.keys.iter().any(|key| Some(key.id.as_str()) == id);
    let mut with_keys = providers.iter().filter_map(|provider| match &provider.method {
        Method::ApiKeys(keys) => Some((provider.as_ref(), keys)),
        _ => None,
    });
    with_keys
        .clone()
        .find(|(_, keys)| has_id(keys))
        .or_else(|| with_keys.next())
        .map(|(provider, _)| provider)
        .ok_or(AuthnError::NotAccepted)
}

/// The `iss` that something in the form of a JWT claims. It chooses the provider, which then verifies it
/// with everything else; nothing else is read from an unverified token.
fn unverified_issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    Some(claims.get("iss")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::fixtures::{api_keys, introspection, jwt};

    fn chosen(
        presented: &Presented,
        providers: &[Arc<IdentityProvider>],
    ) -> Result<String, AuthnError> {
        choose(presented, providers).map(|chosen| chosen.name.to_string())
    }

    fn bearer(key: &str, providers: &[Arc<IdentityProvider>]) -> Result<String, AuthnError> {
        chosen(&Presented::Bearer(key.into()), providers)
    }

    fn token(issuer: &str) -> String {
        let part = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
        format!(
            "{}.{}.c2ln",
            part("{\"alg\":\"RS256\"}"),
            part(&format!("{{\"iss\":\"{issuer}\"}}"))
        )
    }

    fn all() -> [Arc<IdentityProvider>; 4] {
        [
            api_keys("keys", &["c"], &["k1"]),
            jwt("one", &["c"], "https://one"),
            jwt("two", &["c"], "https://two"),
            introspection("asked", &["c"]),
        ]
        .map(Arc::new)
    }

    #[test]
    fn each_form_has_its_one_judge() {
        for (credential, judge) in [
            ("pb_k1_x".to_owned(), "keys"),
            ("qk_x".to_owned(), "asked"),
            (token("https://one"), "one"),
            (token("https://two"), "two"),
            (token("https://unknown"), "asked"),
            ("opaque".to_owned(), "asked"),
            ("not.a.jwt".to_owned(), "asked"),
        ] {
            assert_eq!(bearer(&credential, &all()).as_deref(), Ok(judge), "{credential}");
        }
    }

    #[test]
    fn a_token_in_the_api_key_header_is_nobodys() {
        for credential in [token("https://one"), "opaque".to_owned()] {
            let presented = Presented::ApiKey(credential.into());
            assert_eq!(chosen(&presented, &all()), Err(AuthnError::NotAccepted));
        }
        for (credential, judge) in [("pb_k1_x", "keys"), ("qk_x", "asked")] {
            let presented = Presented::ApiKey(credential.into());
            assert_eq!(chosen(&presented, &all()).as_deref(), Ok(judge));
        }
    }

    #[test]
    fn a_patchbay_key_goes_to_the_provider_that_has_its_id() {
        let providers =
            [api_keys("a", &["c"], &["k1"]), api_keys("b", &["c"], &["k2"])].map(Arc::new);
        assert_eq!(bearer("pb_k2_x", &providers).as_deref(), Ok("b"));
        assert_eq!(bearer("pb_nope_x", &providers).as_deref(), Ok("a"));
    }

    #[test]
    fn a_credential_of_a_form_that_no_provider_judges_is_not_accepted() {
        let keys_only = [Arc::new(api_keys("a", &["c"], &["k1"]))];
        let jwt_only = [Arc::new(jwt("one", &["c"], "https://one"))];
        for other in ["qk_abc".to_owned(), token("https://one"), "opaque".to_owned()] {
            assert_eq!(bearer(&other, &keys_only), Err(AuthnError::NotAccepted), "{other}");
        }
        for other in ["pb_k1_x", "qk_abc", "opaque", "not.a.jwt"] {
            assert_eq!(bearer(other, &jwt_only), Err(AuthnError::NotAccepted), "{other}");
        }
        let elsewhere = bearer(&token("https://other"), &jwt_only);
        assert_eq!(elsewhere, Err(AuthnError::UnknownIssuer));
    }

    #[test]
    fn a_login_code_is_nobodys_wherever_it_is_presented() {
        let code = data_encoding::BASE64.encode(br#"{"id": "u", "code": "c"}"#);
        for presented in [Presented::Bearer(code.as_str().into()), Presented::ApiKey(code.into())] {
            assert_eq!(chosen(&presented, &all()), Err(AuthnError::LoginCode));
        }
    }
}
