//! Judges a signed token by its issuer's keys and the provider's rules.
//!
//! The provider decides which algorithms count; the token only says which of them it used. Verdicts are
//! remembered until the token ends or the issuer's keys change. Where browsers hold the key, a verified token
//! proves only what it takes away: whose it is, is its catalog's to say. This module must not know other methods.

use super::{AuthnError, Examined, introspection::Introspector, jwks::Jwks};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header, Validation, errors::ErrorKind};
use moka::future::Cache;
use patchbay_core::{
    digest::Digest,
    enhanced::EnhancedClaims,
    entitlement::{Entitlement, SaidBy},
    id::ProviderName,
    identity::{Identity, Mode},
    provider::{Jwt, NamedBy, SignatureAlgorithm, TokenFormat},
};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// How far an issuer's clock may be from this one, seconds.
const LEEWAY_SECONDS: u64 = 30;
/// How many verdicts are remembered per provider.
const MAX_VERDICTS: u64 = 20_000;

/// Judges the tokens of one provider.
pub(super) struct JwtVerifier {
    name: ProviderName,
    rules: Jwt,
    jwks: Arc<Jwks>,
    _looked_at: Option<AbortOnDropHandle<()>>,
    /// Who says whose a token is, where the token does not.
    catalog: Option<Introspector>,
    verdicts: Cache<Digest, Verdict>,
}

#[derive(Clone)]
struct Verdict {
    proven: Proven,
    /// The key set that it was made with.
    generation: u64,
}

/// What a verified token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proven {
    /// The user; none where the catalog is asked.
    subject: Option<String>,
    entitlement: Arc<Entitlement>,
    expires_at: Timestamp,
}

impl JwtVerifier {
    /// `catalog` is there if and only if the rules say that it is asked.
    pub(super) fn new(
        name: ProviderName,
        rules: Jwt,
        jwks: Jwks,
        catalog: Option<Introspector>,
    ) -> Self {
        let jwks = Arc::new(jwks);
        let looked_at = jwks.looked_at();
        let verdicts = Cache::new(MAX_VERDICTS);
        Self { name, rules, jwks, _looked_at: looked_at, catalog, verdicts }
    }

    /// Judges one token. `digest` is the token's keyed digest.
    pub(super) async fn verify(
        &self,
        token: &str,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Identity, AuthnError> {
        let proven = self.proven(token, digest, now).await?;
        let Some(catalog) = &self.catalog else { return self.by_itself(proven) };
        // asked every time, and remembered there: a user may be shut out before the token ends
        let subject = catalog.owner(token, digest).await?.ok_or(AuthnError::Invalid)?;
        Ok(self.identity(catalog.origin().to_owned(), subject, proven))
    }

    /// What one token proves by itself, without asking its catalog. `digest` is the token's keyed digest.
    pub(super) async fn examine(
        &self,
        token: &str,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Examined, AuthnError> {
        let proven = self.proven(token, digest, now).await?;
        let Some(catalog) = &self.catalog else {
            return self.by_itself(proven).map(Examined::Proven);
        };
        Ok(Examined::WouldAsk {
            provider: self.name.clone(),
            catalog: catalog.origin().to_owned(),
            entitlement: proven.entitlement,
        })
    }

    /// Whose a token is that names its user.
    fn by_itself(&self, proven: Proven) -> Result<Identity, AuthnError> {
        let subject = proven.subject.clone();
        let subject =
            subject.ok_or_else(|| AuthnError::MissingClaim(self.rules.subject_claim.clone()))?;
        Ok(self.identity(self.rules.issuer.clone(), subject, proven))
    }

    fn identity(&self, issuer: String, subject: String, proven: Proven) -> Identity {
        let Proven { subject: _, entitlement, expires_at } = proven;
        Identity {
            provider: self.name.clone(),
            issuer,
            subject,
            authority: entitlement.authority(),
            entitlement,
            mode: Mode::Jwt,
            expires_at: Some(expires_at),
        }
    }

    /// What a token proves by itself.
    async fn proven(
        &self,
        token: &str,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Proven, AuthnError> {
        if let Some(verdict) = self.verdicts.get(&digest).await {
            let is_current = self.jwks.generation() == Some(verdict.generation);
            if is_current && !has_ended(verdict.proven.expires_at, now) {
                return Ok(verdict.proven);
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
        let proven = said(&self.rules, &claims)?;
        // the library reads its own clock; the end is checked again by the one that callers see
        if has_ended(proven.expires_at, now) {
            return Err(AuthnError::Expired);
        }
        let verdict = Verdict { proven: proven.clone(), generation: set.generation };
        self.verdicts.insert(digest, verdict).await;
        Ok(proven)
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

fn has_ended(expires_at: Timestamp, now: Timestamp) -> bool {
    let leeway = jiff::SignedDuration::from_secs(LEEWAY_SECONDS.cast_signed());
    expires_at.checked_add(leeway).is_ok_and(|end| end <= now)
}

/// A client is told what it can mend; that its signature is wrong is the same to it as any other flaw.
fn reason(kind: &ErrorKind) -> AuthnError {
    match kind {
        ErrorKind::ExpiredSignature => AuthnError::Expired,
        ErrorKind::InvalidAudience => AuthnError::WrongAudience,
        ErrorKind::ImmatureSignature => AuthnError::NotYetValid,
        // it was signed by who may, so that to look at keys would be in vain
        ErrorKind::MissingRequiredClaim(name) => AuthnError::MissingClaim(name.clone()),
        _ => AuthnError::Invalid,
    }
}

/// What verified claims say, by the provider's rules.
fn said(rules: &Jwt, claims: &Map<String, Value>) -> Result<Proven, AuthnError> {
    let named_by = match &rules.format {
        TokenFormat::QuiltEnhanced(format) => Some(&format.named_by),
        TokenFormat::Standard => None,
    };
    let is_asked = matches!(named_by, Some(NamedBy::Catalog(_)));
    let subject = claims
        .get(&rules.subject_claim)
        .and_then(Value::as_str)
        .filter(|subject| !is_asked && !subject.is_empty());
    if subject.is_none() && !is_asked {
        return Err(AuthnError::MissingClaim(rules.subject_claim.clone()));
    }
    for (name, wanted) in &rules.required_claims {
        let is_there = match claims.get(name) {
            Some(Value::String(value)) => value == wanted,
            Some(Value::Array(values)) => values.iter().any(|value| value == wanted.as_str()),
            Some(Value::Bool(value)) => value.to_string() == *wanted,
            Some(Value::Number(value)) => value.to_string() == *wanted,
            _ => false,
        };
        if !is_there {
            return Err(AuthnError::MissingClaim(name.clone()));
        }
    }
    let narrowing = rules.authority_claims.iter();
    let narrowing = narrowing.filter_map(|name| Some((name.clone(), claims.get(name)?.clone())));
    let enhanced = match &rules.format {
        TokenFormat::QuiltEnhanced(format) => {
            let said = EnhancedClaims::expand(claims, &format.codes);
            Some(said.with_roles_by(&format.aliases).within(&format.bounds))
        }
        TokenFormat::Standard => None,
    };
    Ok(Proven {
        subject: subject.map(str::to_owned),
        entitlement: Arc::new(Entitlement {
            claims: narrowing.collect(),
            enhanced,
            said_by: if is_asked { SaidBy::Holder } else { SaidBy::Issuer },
        }),
        expires_at: end_of(claims).ok_or(AuthnError::Invalid)?,
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
        SignatureAlgorithm::HS256 => Algorithm::HS256,
    }
}

#[cfg(test)]
mod tests;
