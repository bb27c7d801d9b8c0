//! Judges a signed token by its issuer's keys and the provider's rules.
//!
//! The provider decides which algorithms count; the token only says which of them it used. Verdicts are
//! remembered until the token ends or the issuer's keys change. This module must not know other methods.

use super::{AuthnError, jwks::Jwks};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header, Validation, errors::ErrorKind};
use moka::future::Cache;
use patchbay_core::{
    digest::Digest,
    entitlement::Entitlement,
    id::ProviderName,
    identity::{Identity, Mode},
    provider::{Jwt, SignatureAlgorithm},
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// How far an issuer's clock may be from this one, seconds.
const LEEWAY_SECONDS: u64 = 30;
/// How many verdicts are remembered per provider.
const MAX_VERDICTS: u64 = 20_000;

/// Judges the tokens of one provider.
pub(super) struct JwtVerifier {
    name: ProviderName,
    rules: Jwt,
    jwks: Jwks,
    verdicts: Cache<Digest, Verdict>,
}

#[derive(Clone)]
struct Verdict {
    identity: Identity,
    /// The key set that it was made with.
    generation: u64,
}

impl JwtVerifier {
    pub(super) fn new(name: ProviderName, rules: Jwt, jwks: Jwks) -> Self {
        Self { name, rules, jwks, verdicts: Cache::new(MAX_VERDICTS) }
    }

    /// Judges one token. `digest` is the token's keyed digest.
    pub(super) async fn verify(
        &self,
        token: &str,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Identity, AuthnError> {
        if let Some(verdict) = self.verdicts.get(&digest).await {
            let is_current = self.jwks.generation() == Some(verdict.generation);
            if is_current && !has_ended(&verdict.identity, now) {
                return Ok(verdict.identity);
            }
            self.verdicts.invalidate(&digest).await;
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| AuthnError::Invalid)?;
        let algorithm = self.accepted(&header)?;
        let set = self.jwks.set_for(header.kid.as_deref(), algorithm).await?;
        let key = set.find(header.kid.as_deref(), algorithm).ok_or(AuthnError::Invalid)?;
        let claims = jsonwebtoken::decode::<Map<String, Value>>(
            token,
            &key.key,
            &self.validation(algorithm),
        )
        .map_err(|error| reason(error.kind()))?
        .claims;
        let identity = identity(&self.name, &self.rules, &claims)?;
        // the library reads its own clock; the end is checked again by the one that callers see
        if has_ended(&identity, now) {
            return Err(AuthnError::Expired);
        }
        let verdict = Verdict { identity: identity.clone(), generation: set.generation };
        self.verdicts.insert(digest, verdict).await;
        Ok(identity)
    }

    /// The token's algorithm, if it is one of the provider's.
    fn accepted(&self, header: &Header) -> Result<Algorithm, AuthnError> {
        self.rules
            .algorithms
            .iter()
            .map(|algorithm| library_name(*algorithm))
            .find(|algorithm| *algorithm == header.alg)
            .ok_or(AuthnError::Invalid)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_exp = true;
        validation.validate_nbf = true;
        validation.validate_aud = true;
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&self.rules.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }
}

fn has_ended(identity: &Identity, now: Timestamp) -> bool {
    let leeway = jiff::SignedDuration::from_secs(LEEWAY_SECONDS.cast_signed());
    identity.expires_at.is_some_and(|end| end.checked_add(leeway).is_ok_and(|end| end <= now))
}

/// A client is told what it can mend; that its signature is wrong is the same to it as any other flaw.
fn reason(kind: &ErrorKind) -> AuthnError {
    match kind {
        ErrorKind::ExpiredSignature => AuthnError::Expired,
        ErrorKind::InvalidAudience => AuthnError::WrongAudience,
        ErrorKind::ImmatureSignature => AuthnError::NotYetValid,
        _ => AuthnError::Invalid,
    }
}

/// What verified claims say, by the provider's rules.
fn identity(
    provider: &ProviderName,
    rules: &Jwt,
    claims: &Map<String, Value>,
) -> Result<Identity, AuthnError> {
    let subject = claims
        .get(&rules.subject_claim)
        .and_then(Value::as_str)
        .filter(|subject| !subject.is_empty())
        .ok_or(AuthnError::MissingClaim)?;
    for (name, wanted) in &rules.required_claims {
        let is_there = match claims.get(name) {
            Some(Value::String(value)) => value == wanted,
            Some(Value::Array(values)) => values.iter().any(|value| value == wanted.as_str()),
            Some(Value::Bool(value)) => value.to_string() == *wanted,
            Some(Value::Number(value)) => value.to_string() == *wanted,
            _ => false,
        };
        if !is_there {
            return Err(AuthnError::MissingClaim);
        }
    }
    let narrowing = rules.authority_claims.iter();
    let narrowing = narrowing.filter_map(|name| Some((name.clone(), claims.get(name)?.clone())));
    let entitlement = Entitlement { claims: narrowing.collect(), ..Entitlement::default() };
    Ok(Identity {
        provider: provider.clone(),
        issuer: rules.issuer.clone(),
        subject: subject.to_owned(),
        authority: entitlement.authority(),
        entitlement: Arc::new(entitlement),
        mode: Mode::Jwt,
        expires_at: Some(end_of(claims).ok_or(AuthnError::Invalid)?),
    })
}

/// `exp` may be a fraction (RFC 7519, `NumericDate`); the second that it falls in is its end.
fn end_of(claims: &Map<String, Value>) -> Option<Timestamp> {
    let end = claims.get("exp")?;
    let seconds = match end.as_i64() {
        Some(seconds) => seconds,
        #[allow(clippy::cast_possible_truncation, reason = "a saturated end is refused below")]
        None => end.as_f64()?.floor() as i64,
    };
    Timestamp::from_second(seconds).ok()
}

fn library_name(algorithm: SignatureAlgorithm) -> Algorithm {
    match algorithm {
        SignatureAlgorithm::RS256 => Algorithm::RS256,
        SignatureAlgorithm::RS384 => Algorithm::RS384,
        SignatureAlgorithm::RS512 => Algorithm::RS512,
        SignatureAlgorithm::PS256 => Algorithm::PS256,
        SignatureAlgorithm::PS384 => Algorithm::PS384,
        SignatureAlgorithm::PS512 => Algorithm::PS512,
        SignatureAlgorithm::ES256 => Algorithm::ES256,
        SignatureAlgorithm::ES384 => Algorithm::ES384,
        SignatureAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{fixtures, provider::Method, tenant::Authority};
    use serde_json::json;

    fn rules() -> Jwt {
        let Method::Jwt(jwt) = fixtures::jwt("p", &["c"], "https://i").method else { panic!() };
        jwt
    }

    fn identify(rules: &Jwt, claims: Value) -> Result<Identity, AuthnError> {
        let Value::Object(claims) = claims else { panic!() };
        identity(&ProviderName::parse("p").unwrap(), rules, &claims)
    }

    #[test]
    fn the_subject_claim_names_the_user_and_must_be_there() {
        let claims = json!({"sub": "alice", "email": "a@x", "exp": 100});
        assert_eq!(identify(&rules(), claims.clone()).unwrap().subject, "alice");
        let by_email = Jwt { subject_claim: "email".into(), ..rules() };
        assert_eq!(identify(&by_email, claims).unwrap().subject, "a@x");
        for bad in [json!({"exp": 1}), json!({"sub": "", "exp": 1}), json!({"sub": 7, "exp": 1})] {
            assert_eq!(identify(&rules(), bad), Err(AuthnError::MissingClaim));
        }
    }

    #[test]
    fn required_claims_must_be_there_with_their_value() {
        let required = [("org".to_owned(), "acme".to_owned())].into();
        let rules = Jwt { required_claims: required, ..rules() };
        let with = |org: Value| identify(&rules, json!({"sub": "a", "exp": 1, "org": org}));
        assert!(with(json!("acme")).is_ok());
        assert!(with(json!(["x", "acme"])).is_ok());
        for bad in [json!("other"), json!(["x"]), json!(null), json!({"acme": 1})] {
            assert_eq!(with(bad), Err(AuthnError::MissingClaim));
        }
    }

    #[test]
    fn other_authority_is_another_tenant_and_a_refreshed_token_is_not() {
        let rules = Jwt { authority_claims: vec!["role".into()], ..rules() };
        let authority = |claims| identify(&rules, claims).unwrap().authority;
        let reader = authority(json!({"sub": "a", "exp": 1, "jti": "1", "role": "reader"}));
        let refreshed = authority(json!({"sub": "a", "exp": 2, "jti": "2", "role": "reader"}));
        let writer = authority(json!({"sub": "a", "exp": 1, "role": "writer"}));
        let none = authority(json!({"sub": "a", "exp": 1}));
        assert_eq!(reader, refreshed);
        assert_ne!(reader, writer);
        assert_eq!(none, Authority::unrestricted());
    }

    #[test]
    fn a_verdict_ends_with_its_token_and_the_leeway() {
        let identity = identify(&rules(), json!({"sub": "a", "exp": 1000.9})).unwrap();
        assert!(!has_ended(&identity, Timestamp::from_second(1029).unwrap()));
        assert!(has_ended(&identity, Timestamp::from_second(1030).unwrap()));
    }
}
