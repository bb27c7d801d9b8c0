//! Reads the one credential that a request presents, from its headers and query.
//!
//! An `X-API-Key` decides alone, whatever else is there; then `Authorization: Bearer`. Two headers of one
//! name, another scheme, or a credential in the query are refused rather than guessed at: a proxy in
//! front may have read the other one. This module must not judge whether a credential is valid.

use super::AuthnError;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

/// `X-API-Key`.
pub static API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// A credential is at most this long, bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 16 * 1024;

/// Query parameters that carry credentials in some products; MCP forbids the first (authorization, access
/// token usage), and the others would end up in access logs just the same.
const QUERY_CREDENTIALS: [&str; 6] =
    ["access_token", "token", "api_key", "apikey", "x-api-key", "authorization"];

/// The one credential of a request.
#[derive(Debug, Clone)]
pub enum Presented {
    /// In `X-API-Key`.
    ApiKey(SecretString),
    /// In `Authorization: Bearer`.
    Bearer(SecretString),
}

impl Presented {
    /// The credential.
    pub fn secret(&self) -> &str {
        match self {
            Self::ApiKey(secret) | Self::Bearer(secret) => secret.expose_secret(),
        }
    }

    /// The credential, owned.
    pub fn into_secret(self) -> SecretString {
        match self {
            Self::ApiKey(secret) | Self::Bearer(secret) => secret,
        }
    }
}

/// Reads the credential.
pub fn read(headers: &HeaderMap, query: Option<&str>) -> Result<Presented, AuthnError> {
    if query.is_some_and(has_credential) {
        return Err(AuthnError::Malformed(
            "it must not be in the URL; send it in the Authorization or X-API-Key header",
        ));
    }
    let api_key = single(headers, &API_KEY_HEADER)?;
    let authorization = single(headers, &header::AUTHORIZATION)?;
    if let Some(value) = api_key {
        return Ok(Presented::ApiKey(token(value.as_bytes())?));
    }
    let value = authorization.ok_or(AuthnError::Missing)?;
    let (scheme, rest) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(AuthnError::Malformed("the Authorization header must be `Bearer TOKEN`"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthnError::Malformed("the Authorization scheme must be Bearer"));
    }
    Ok(Presented::Bearer(token(rest.trim_start_matches(' ').as_bytes())?))
}

fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, AuthnError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(AuthnError::Malformed("a credential header was sent twice")),
    }
}

/// RFC 6750 `b64token`, and a length.
fn token(bytes: &[u8]) -> Result<SecretString, AuthnError> {
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || b"-._~+/=".contains(c);
    if bytes.is_empty() {
        return Err(AuthnError::Malformed("it is empty"));
    }
    if bytes.len() > MAX_CREDENTIAL_BYTES {
        return Err(AuthnError::Malformed("it is longer than 16 KiB"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(allowed) => Ok(SecretString::from(text)),
        _ => Err(AuthnError::Malformed("it has characters that no token has")),
    }
}

fn has_credential(query: &str) -> bool {
    query.split('&').any(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        QUERY_CREDENTIALS.iter().any(|credential| name.eq_ignore_ascii_case(credential))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(
        headers: &[(&'static str, &str)],
        query: Option<&str>,
    ) -> Result<Presented, AuthnError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        read(&map, query)
    }

    #[test]
    fn an_api_key_decides_alone() {
        let both = [("authorization", "Bearer aaa"), ("x-api-key", "pb_k_bbb")];
        let Ok(Presented::ApiKey(key)) = read_from(&both, None) else { panic!() };
        assert_eq!(key.expose_secret(), "pb_k_bbb");
    }

    #[test]
    fn an_invalid_api_key_header_is_not_made_good_by_a_bearer() {
        let both = [("authorization", "Bearer aaa"), ("x-api-key", "not a key")];
        assert!(matches!(read_from(&both, None), Err(AuthnError::Malformed(_))));
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c"] {
            let Ok(Presented::Bearer(token)) = read_from(&[("authorization", value)], None) else {
                panic!("{value}")
            };
            assert_eq!(token.expose_secret(), "a.b.c");
        }
        for value in ["Basic YTpi", "Bearer", "Bearer ", "Bearera.b.c", "Bearer a b", "Bearer a,b"]
        {
            let refused = read_from(&[("authorization", value)], None);
            assert!(matches!(refused, Err(AuthnError::Malformed(_))), "{value}");
        }
    }

    #[test]
    fn two_headers_of_one_name_are_refused_even_if_equal() {
        for name in ["authorization", "x-api-key"] {
            let twice = [(name, "Bearer a"), (name, "Bearer a")];
            assert!(matches!(read_from(&twice, None), Err(AuthnError::Malformed(_))), "{name}");
        }
    }

    #[test]
    fn a_credential_in_the_query_is_refused_even_beside_a_good_header() {
        for query in ["access_token=x", "a=b&API_KEY=x", "token"] {
            let refused = read_from(&[("authorization", "Bearer a")], Some(query));
            assert!(matches!(refused, Err(AuthnError::Malformed(_))), "{query}");
        }
        assert!(read_from(&[("authorization", "Bearer a")], Some("session_id=x")).is_ok());
    }

    #[test]
    fn nothing_presented_is_missing_not_malformed() {
        assert_eq!(read_from(&[], None).unwrap_err(), AuthnError::Missing);
    }

    #[test]
    fn an_endless_credential_is_refused() {
        let long = format!("Bearer {}", "a".repeat(MAX_CREDENTIAL_BYTES + 1));
        assert!(matches!(
            read_from(&[("authorization", &long)], None),
            Err(AuthnError::Malformed(_))
        ));
    }
}
