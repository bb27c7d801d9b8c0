//! From `spec.jwt` as written to the rules of a verifier.
//!
//! This module must not know how a token is verified.

use super::{Findings, Problem, address, certificates, enhanced, not_empty};
use crate::{
    identity_provider::{Jwks, Jwt, SignatureAlgorithm},
    validate::secret,
};
use patchbay_core::{
    entitlement::CLAIMS_OF_KEYS,
    provider::{self, JwksUrl, KeySource},
};

pub(super) fn jwt(findings: &mut Findings, jwt: &Jwt) -> Option<provider::Jwt> {
    let Jwt {
        issuer,
        audiences,
        jwks,
        algorithms,
        subject_claim,
        required_claims,
        authority_claims,
        authorization_server,
        format: _,
        catalog: _,
        key_held_by_servers_only: _,
        permission_codes: _,
        role_aliases: _,
        roles: _,
        levels: _,
    } = jwt;
    if authority_claims.iter().any(|claim| CLAIMS_OF_KEYS.contains(&claim.as_str())) {
        let fix = "remove it: keys change with every token, and are no part of whose worker it is";
        findings.add(
            "spec.jwt.authorityClaims",
            Problem::new("lists a claim that holds AWS keys", fix),
        );
    }
    let fix = "write what the tokens say as `iss`";
    findings.check("spec.jwt.issuer", not_empty(issuer, fix));
    if audiences.is_empty() {
        let fix = "name this gateway as the tokens do: a token for somebody else must not be taken";
        findings.add("spec.jwt.audiences", Problem::new("is empty", fix));
    }
    for (index, audience) in audiences.iter().enumerate() {
        let fix = "write what the tokens say as `aud`";
        findings.check(format!("spec.jwt.audiences[{index}]"), not_empty(audience, fix));
    }
    let fix = "name the claim, such as `sub`";
    findings.check("spec.jwt.subjectClaim", not_empty(subject_claim, fix));
    if let Some(url) = authorization_server {
        findings.check("spec.jwt.authorizationServer", address::authorization_server(url));
    }
    let format = enhanced::format(findings, jwt);
    let algorithms = self::algorithms(findings, algorithms, jwks);
    let jwks = keys(findings, jwks, issuer)?;
    Some(provider::Jwt {
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        jwks,
        algorithms,
        subject_claim: subject_claim.clone(),
        required_claims: required_claims.clone(),
        authority_claims: authority_claims.clone(),
        authorization_server: authorization_server.clone(),
        format: format?,
    })
}

fn keys(findings: &mut Findings, jwks: &Jwks, issuer: &str) -> Option<KeySource> {
    let Jwks { discovery, cluster, url, ca_bundle, secret_ref } = jwks;
    if let Some(bundle) = ca_bundle {
        findings.check("spec.jwt.jwks.caBundle", certificates(bundle));
    }
    let ca_bundle = ca_bundle.clone();
    match (discovery, cluster, url, secret_ref) {
        (true, false, None, None) => {
            findings.check("spec.jwt.issuer", discoverable(issuer))?;
            Some(KeySource::Discovery { ca_bundle })
        }
        (false, true, None, None) => Some(KeySource::Cluster),
        (false, false, Some(url), None) => {
            findings.check("spec.jwt.jwks.url", address::https_url(url))?;
            Some(KeySource::Url(JwksUrl { url: url.clone(), ca_bundle }))
        }
        (false, false, None, Some(entry)) => {
            secret::entry(findings, "spec.jwt.jwks.secretRef", entry).map(KeySource::Secret)
        }
        _ => {
            let problem = Problem::new(
                "does not name exactly one place of the issuer's keys",
                "set exactly one of `discovery: true`, `cluster: true`, `url` and `secretRef`",
            );
            findings.add("spec.jwt.jwks", problem);
            None
        }
    }
}

/// An issuer below which its discovery document is (`OpenID` Connect Discovery 1.0, 4).
fn discoverable(issuer: &str) -> Result<(), Problem> {
    let rest = issuer.strip_prefix("https://").unwrap_or_default();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_good = !authority.is_empty()
        && !authority.contains('@')
        && [authority, path]
            .iter()
            .all(|part| part.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'?' | b'#')));
    if is_good {
        return Ok(());
    }
    Err(Problem::with(
        issuer,
        "is not an https URL, below which `jwks.discovery` would look",
        "write the issuer's https URL, or say where its keys are",
    ))
}

fn algorithms(
    findings: &mut Findings,
    algorithms: &[SignatureAlgorithm],
    jwks: &Jwks,
) -> Vec<provider::SignatureAlgorithm> {
    const FIELD: &str = "spec.jwt.algorithms";
    use provider::SignatureAlgorithm as Core;
    if algorithms.is_empty() {
        let problem = Problem::new("is empty", "name the algorithms that the issuer signs with");
        findings.add(FIELD, problem);
    }
    let is_shared = |algorithm: &SignatureAlgorithm| *algorithm == SignatureAlgorithm::HS256;
    if algorithms.iter().any(is_shared) {
        if jwks.secret_ref.is_none() {
            let problem = Problem::new(
                "`HS256` needs `jwks.secretRef`: whoever can read its key can sign",
                "name the Secret that holds it, or use an asymmetric algorithm, such as RS256 or \
                 ES256",
            );
            findings.add(FIELD, problem);
        }
        if !algorithms.iter().all(is_shared) {
            let problem = Problem::new(
                "`HS256` is beside an algorithm with a public key, which could be taken for the \
                 shared one",
                "make a provider of each",
            );
            findings.add(FIELD, problem);
        }
    }
    let known = |algorithm: &SignatureAlgorithm| match algorithm {
        SignatureAlgorithm::RS256 => Core::RS256,
        SignatureAlgorithm::RS384 => Core::RS384,
        SignatureAlgorithm::RS512 => Core::RS512,
        SignatureAlgorithm::PS256 => Core::PS256,
        SignatureAlgorithm::PS384 => Core::PS384,
        SignatureAlgorithm::PS512 => Core::PS512,
        SignatureAlgorithm::ES256 => Core::ES256,
        SignatureAlgorithm::ES384 => Core::ES384,
        SignatureAlgorithm::EdDSA => Core::EdDSA,
        SignatureAlgorithm::HS256 => Core::HS256,
    };
    algorithms.iter().map(known).collect()
}

#[cfg(test)]
mod tests {
    use crate::{IdentityProvider, validate::identity_provider::validate};
    use patchbay_core::provider::{self, KeySource, Method, NamedBy, TokenFormat};
    use serde_json::{Value, json};

    fn spec(change: Value) -> Value {
        let mut jwt = json!({
            "issuer": "https://i.example", "audiences": ["a"],
            "jwks": {"url": "https://i.example/jwks.json"}
        });
        let Value::Object(change) = change else { panic!() };
        jwt.as_object_mut().unwrap().extend(change);
        json!({"classes": ["c"], "jwt": jwt})
    }

    fn provider(change: Value) -> IdentityProvider {
        IdentityProvider::new("p", serde_json::from_value(spec(change)).unwrap())
    }

    fn converted(change: Value) -> provider::Jwt {
        let Method::Jwt(jwt) = validate(&provider(change)).unwrap().method else { panic!() };
        jwt
    }

    fn fields(change: Value) -> Vec<String> {
        let errors = validate(&provider(change)).unwrap_err();
        errors.into_iter().map(|error| error.field).collect()
    }

    fn catalog() -> Value {
        json!({"origin": "https://c.example", "registry": "https://r.example"})
    }

    fn secret() -> Value {
        json!({"secretRef": {"name": "keys", "key": "jwks.json"}})
    }

    #[test]
    fn a_jwt_provider_converts_with_its_defaults() {
        let converted = converted(json!({}));
        assert_eq!(converted.issuer, "https://i.example");
        assert_eq!(converted.subject_claim, "sub");
        let defaults = [provider::SignatureAlgorithm::RS256, provider::SignatureAlgorithm::ES256];
        assert_eq!(converted.algorithms, defaults);
        assert_eq!(converted.format, TokenFormat::Standard);
    }

    #[test]
    fn every_place_of_keys_converts() {
        let keys = |jwks| converted(json!({ "jwks": jwks })).jwks;
        assert_eq!(keys(json!({"discovery": true})), KeySource::Discovery { ca_bundle: None });
        assert_eq!(keys(json!({"cluster": true})), KeySource::Cluster);
        let KeySource::Secret(entry) = keys(secret()) else { panic!() };
        assert_eq!(entry.to_string(), "keys/jwks.json");
        let shared = converted(json!({"jwks": secret(), "algorithms": ["HS256"]}));
        assert_eq!(shared.algorithms, [provider::SignatureAlgorithm::HS256]);
    }

    #[test]
    fn an_enhanced_provider_says_who_names_its_users() {
        let enhanced = |change: Value| {
            let mut all = json!({"format": "quiltEnhanced"});
            all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let TokenFormat::QuiltEnhanced(format) = converted(all).format else { panic!() };
            format
        };
        let asked = enhanced(json!({"catalog": catalog()}));
        assert!(matches!(asked.named_by, NamedBy::Catalog(_)));
        let tables = json!({
            "keyHeldByServersOnly": true,
            "permissionCodes": {"gt": "s3:GetObjectTagging"},
            "roleAliases": {"ReadQuiltV2": "ReadOnlyQuilt"},
        });
        let stated = enhanced(tables);
        assert_eq!(stated.named_by, NamedBy::Token);
        assert_eq!(stated.codes["gt"], "s3:GetObjectTagging");
        assert_eq!(stated.aliases["ReadQuiltV2"], "ReadOnlyQuilt");
    }

    #[test]
    fn a_jwt_provider_that_would_take_any_token_is_refused() {
        let hs256 = |jwks: Value| json!({"algorithms": ["HS256"], "jwks": jwks});
        let in_secret =
            |name: &str, key: &str| json!({"jwks": {"secretRef": {"name": name, "key": key}}});
        let many: serde_json::Map<_, _> =
            (0..65).map(|n| (format!("c{n}"), json!("s3:GetObject"))).collect();
        for (change, field) in [
            (json!({"issuer": ""}), "spec.jwt.issuer"),
            (json!({"audiences": []}), "spec.jwt.audiences"),
            (json!({"audiences": [""]}), "spec.jwt.audiences[0]"),
            (json!({"algorithms": []}), "spec.jwt.algorithms"),
            (hs256(json!({"url": "https://i.example/jwks"})), "spec.jwt.algorithms"),
            (hs256(json!({"discovery": true})), "spec.jwt.algorithms"),
            (hs256(json!({"cluster": true})), "spec.jwt.algorithms"),
            (json!({"algorithms": ["HS256", "RS256"], "jwks": secret()}), "spec.jwt.algorithms"),
            (json!({"subjectClaim": ""}), "spec.jwt.subjectClaim"),
            (json!({"jwks": {}}), "spec.jwt.jwks"),
            (json!({"jwks": {"url": "https://i.example/jwks", "cluster": true}}), "spec.jwt.jwks"),
            (json!({"jwks": {"discovery": true, "cluster": true}}), "spec.jwt.jwks"),
            (json!({"jwks": {"url": "http://i.example/jwks"}}), "spec.jwt.jwks.url"),
            (json!({"issuer": "http://i", "jwks": {"discovery": true}}), "spec.jwt.issuer"),
            (json!({"issuer": "https://i?a", "jwks": {"discovery": true}}), "spec.jwt.issuer"),
            (json!({"issuer": "https://u@i", "jwks": {"discovery": true}}), "spec.jwt.issuer"),
            (json!({"issuer": "https://", "jwks": {"discovery": true}}), "spec.jwt.issuer"),
            (in_secret("Keys", "k"), "spec.jwt.jwks.secretRef.name"),
            (in_secret("../keys", "k"), "spec.jwt.jwks.secretRef.name"),
            (in_secret("keys", ".."), "spec.jwt.jwks.secretRef.key"),
            (in_secret("keys", "a/b"), "spec.jwt.jwks.secretRef.key"),
            (json!({"format": "quiltEnhanced"}), "spec.jwt.format"),
            (
                json!({
                    "format": "quiltEnhanced", "catalog": catalog(), "keyHeldByServersOnly": true
                }),
                "spec.jwt.format",
            ),
            (json!({"catalog": catalog()}), "spec.jwt.format"),
            (json!({"keyHeldByServersOnly": true}), "spec.jwt.format"),
            (json!({"roleAliases": {"a": "b"}}), "spec.jwt.format"),
            (
                json!({
                    "format": "quiltEnhanced", "keyHeldByServersOnly": true,
                    "permissionCodes": {"g": "s3:*"}
                }),
                "spec.jwt.permissionCodes",
            ),
            (
                json!({
                    "format": "quiltEnhanced", "keyHeldByServersOnly": true,
                    "permissionCodes": many
                }),
                "spec.jwt.permissionCodes",
            ),
            (json!({"authorizationServer": "http://x"}), "spec.jwt.authorizationServer"),
        ] {
            assert_eq!(fields(change.clone()), [field], "{change}");
        }
    }

    #[test]
    fn an_issuer_with_a_path_or_its_default_port_can_be_looked_below() {
        for issuer in ["https://i.example/realms/a", "https://i.example:443", "https://i.example/"]
        {
            let change = json!({"issuer": issuer, "jwks": {"discovery": true}});
            assert_eq!(converted(change).issuer, issuer);
        }
    }
}
