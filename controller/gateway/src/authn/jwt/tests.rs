//! What claims prove, and what a signature proves of them.

use super::*;
use patchbay_core::{
    enhanced::{Bounds, Level},
    fixtures,
    provider::{EnhancedFormat, Method},
    tenant::Authority,
};
use serde_json::json;

fn rules() -> Jwt {
    let Method::Jwt(jwt) = fixtures::jwt("p", &["c"], "https://i").method else { panic!() };
    jwt
}

fn enhanced(named_by: NamedBy) -> Jwt {
    let codes = [("gt".to_owned(), "s3:GetObjectTagging".to_owned())].into();
    let aliases = [("ReadQuiltV2".to_owned(), "ReadOnlyQuilt".to_owned())].into();
    let bounds = Bounds::default();
    let format =
        TokenFormat::QuiltEnhanced(Box::new(EnhancedFormat { named_by, codes, aliases, bounds }));
    Jwt { format, ..rules() }
}

fn asked() -> Jwt {
    let Method::Introspection(catalog) = fixtures::introspection("p", &["c"]).method else {
        panic!()
    };
    enhanced(NamedBy::Catalog(catalog))
}

fn prove(rules: &Jwt, claims: Value) -> Result<Proven, AuthnError> {
    let Value::Object(claims) = claims else { panic!() };
    said(rules, &claims)
}

fn authority(rules: &Jwt, claims: Value) -> Authority {
    prove(rules, claims).unwrap().entitlement.authority()
}

#[test]
fn the_subject_claim_names_the_user_and_must_be_there() {
    let claims = json!({"sub": "alice", "email": "a@x", "exp": 100});
    assert_eq!(prove(&rules(), claims.clone()).unwrap().subject.as_deref(), Some("alice"));
    let by_email = Jwt { subject_claim: "email".into(), ..rules() };
    assert_eq!(prove(&by_email, claims).unwrap().subject.as_deref(), Some("a@x"));
    for bad in [json!({"exp": 1}), json!({"sub": "", "exp": 1}), json!({"sub": 7, "exp": 1})] {
        let missing = Err(AuthnError::MissingClaim("sub".into()));
        assert_eq!(prove(&rules(), bad.clone()), missing);
        assert_eq!(prove(&enhanced(NamedBy::Token), bad), missing);
    }
}

#[test]
fn required_claims_must_be_there_with_their_value() {
    for format in [rules(), enhanced(NamedBy::Token), asked()] {
        let required = [("org".to_owned(), "acme".to_owned())].into();
        let rules = Jwt { required_claims: required, ..format };
        let with = |org: Value| prove(&rules, json!({"sub": "a", "exp": 1, "org": org}));
        assert!(with(json!("acme")).is_ok());
        assert!(with(json!(["x", "acme"])).is_ok());
        for bad in [json!("other"), json!(["x"]), json!(null), json!({"acme": 1})] {
            assert_eq!(with(bad), Err(AuthnError::MissingClaim("org".into())));
        }
    }
}

#[test]
fn other_authority_is_another_tenant_and_a_refreshed_token_is_not() {
    let rules = Jwt { authority_claims: vec!["role".into()], ..rules() };
    let authority = |claims| authority(&rules, claims);
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
    let end = prove(&rules(), json!({"sub": "a", "exp": 1000.9})).unwrap().expires_at;
    assert!(!has_ended(end, Timestamp::from_second(1029).unwrap()));
    assert!(has_ended(end, Timestamp::from_second(1030).unwrap()));
}

#[test]
fn a_token_whose_key_browsers_hold_names_nobody() {
    let proven = prove(&asked(), json!({"sub": "bob", "id": "bob", "exp": 1})).unwrap();
    assert_eq!(proven.subject, None);
    assert_eq!(proven.entitlement.said_by, SaidBy::Holder);
    // the same claims where only servers can have made them
    let proven = prove(&enhanced(NamedBy::Token), json!({"sub": "bob", "exp": 1})).unwrap();
    assert_eq!(proven.subject.as_deref(), Some("bob"));
    assert_eq!(proven.entitlement.said_by, SaidBy::Issuer);
}

#[test]
fn the_claims_of_an_enhanced_token_are_expanded_by_the_providers_tables() {
    let claims = json!({
        "sub": "a", "exp": 1, "p": ["g", "gt"], "r": ["ReadQuiltV2"],
        "b": {"_type": "groups", "_data": {"quilt": ["raw"]}},
    });
    let proven = prove(&asked(), claims).unwrap();
    let enhanced = proven.entitlement.enhanced.as_ref().unwrap();
    assert_eq!(enhanced.level, Level::Read);
    assert!(enhanced.allows("s3:GetObjectTagging", "quilt-raw"));
    assert!(enhanced.roles.contains("ReadOnlyQuilt") && enhanced.roles.len() == 1);
}

#[test]
fn an_enhanced_token_that_says_nothing_or_nothing_that_is_known_is_not_unrestricted() {
    for claims in [
        json!({"sub": "a", "exp": 1}),
        json!({"sub": "a", "exp": 1, "l": "root", "b": {"_type": "zip", "_data": {}}}),
    ] {
        let proven = prove(&asked(), claims).unwrap();
        let enhanced = proven.entitlement.enhanced.as_ref().unwrap();
        assert_eq!(enhanced.level, Level::Read);
        assert!(enhanced.buckets.is_empty() && enhanced.permissions.is_empty());
        assert_ne!(proven.entitlement.authority(), Authority::unrestricted());
    }
}

#[test]
fn the_short_and_the_long_form_are_one_tenant_and_other_buckets_are_another() {
    let (rules, end) = (asked(), 1);
    let short = json!({"exp": end, "p": ["g"], "b": ["x", "y"], "r": ["ReadQuiltV2"]});
    let long = json!({
        "exp": end, "permissions": ["s3:GetObject"], "buckets": ["y", "x"], "level": "read",
        "roles": ["ReadOnlyQuilt"],
    });
    let fewer = json!({"exp": end, "p": ["g"], "b": ["x"], "r": ["ReadQuiltV2"]});
    assert_eq!(authority(&rules, short.clone()), authority(&rules, long));
    assert_ne!(authority(&rules, short), authority(&rules, fewer));
}

mod signed {
    //! With a shared key, of which a public one must never take the place.

    use super::*;
    use crate::authn::{key_material::Form, key_source::KeySetSource};
    use async_trait::async_trait;
    use jsonwebtoken::{EncodingKey, encode};
    use patchbay_core::{
        digest::DigestKey,
        provider::{KeySource, SecretEntry},
    };
    use secrecy::SecretSlice;

    struct Fixed(Vec<u8>);

    #[async_trait]
    impl KeySetSource for Fixed {
        async fn key_set(&self) -> Result<SecretSlice<u8>, String> {
            Ok(self.0.clone().into())
        }
    }

    fn verifier(rules: Jwt, material: &[u8]) -> JwtVerifier {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let form = Form::of(&rules);
        let jwks = Jwks::new(rules.issuer.clone(), Arc::new(Fixed(material.to_vec())), form);
        JwtVerifier::new(ProviderName::parse("p").unwrap(), rules, jwks, None)
    }

    fn in_secret(algorithms: &[SignatureAlgorithm]) -> Jwt {
        let entry = SecretEntry { name: "keys".into(), key: "k".into() };
        Jwt { jwks: KeySource::Secret(entry), algorithms: algorithms.to_vec(), ..rules() }
    }

    async fn judge(verifier: &JwtVerifier, token: &str) -> Result<String, AuthnError> {
        let digest = DigestKey::generate().unwrap().digest("t", token.as_bytes());
        let judged = verifier.verify(token, digest, Timestamp::now()).await;
        judged.map(|identity| identity.subject)
    }

    async fn examined(verifier: &JwtVerifier, token: &str) -> Result<Examined, AuthnError> {
        let digest = DigestKey::generate().unwrap().digest("t", token.as_bytes());
        verifier.examine(token, digest, Timestamp::now()).await
    }

    fn claims() -> Value {
        let end = Timestamp::now().as_second() + 60;
        json!({"iss": "https://i", "aud": "patchbay", "sub": "alice", "exp": end})
    }

    fn hmac(key: &[u8]) -> String {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("frontend-enhanced".into());
        encode(&header, &claims(), &EncodingKey::from_secret(key)).unwrap()
    }

    #[tokio::test]
    async fn a_shared_key_verifies_what_it_signed_and_nothing_else() {
        let key = [7; 32];
        let verifier = verifier(in_secret(&[SignatureAlgorithm::HS256]), &key);
        assert_eq!(judge(&verifier, &hmac(&key)).await.as_deref(), Ok("alice"));
        for other in [&[8; 32][..], &key[..31], b""] {
            assert_eq!(judge(&verifier, &hmac(other)).await, Err(AuthnError::Invalid));
        }
    }

    #[tokio::test]
    async fn a_token_without_an_end_an_audience_or_an_issuer_is_told_which_it_lacks() {
        let key = [7; 32];
        let verifier = verifier(in_secret(&[SignatureAlgorithm::HS256]), &key);
        for name in ["exp", "aud", "iss"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            let signed = |key: &[u8]| {
                encode(&Header::default(), &claims, &EncodingKey::from_secret(key)).unwrap()
            };
            let missing = Err(AuthnError::MissingClaim(name.into()));
            assert_eq!(judge(&verifier, &signed(&key)).await, missing);
            // nothing is told of what nobody signed
            assert_eq!(judge(&verifier, &signed(&[8; 32])).await, Err(AuthnError::Invalid));
        }
    }

    #[tokio::test]
    async fn a_payload_that_is_no_object_is_nobodys_however_well_it_is_signed() {
        let key = [7; 32];
        let vectors = include_str!("../../../../core/src/enhanced/vectors.json");
        let vectors: Value = serde_json::from_str(vectors).unwrap();
        let payloads = vectors["decode"].as_array().unwrap().iter().map(|it| &it["payload"]);
        let others: Vec<_> = payloads.filter(|payload| !payload.is_object()).collect();
        // the reference lets each of them read
        assert_eq!(others, [&json!(null), &json!("x"), &json!(5), &json!([])]);
        for Jwt { format, .. } in [enhanced(NamedBy::Token), asked(), rules()] {
            let rules = Jwt { format, ..in_secret(&[SignatureAlgorithm::HS256]) };
            let verifier = verifier(rules, &key);
            assert!(examined(&verifier, &hmac(&key)).await != Err(AuthnError::Invalid));
            for payload in &others {
                let token = encode(&Header::default(), payload, &EncodingKey::from_secret(&key));
                let judged = examined(&verifier, &token.unwrap()).await;
                assert_eq!(judged, Err(AuthnError::Invalid), "{payload}");
            }
        }
    }

    #[tokio::test]
    async fn a_public_key_in_pem_verifies_and_signs_nothing() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let pem = pair.public_key_pem();
        let verifier = verifier(in_secret(&[SignatureAlgorithm::ES256]), pem.as_bytes());
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let token = encode(&Header::new(Algorithm::ES256), &claims(), &key).unwrap();
        assert_eq!(judge(&verifier, &token).await.as_deref(), Ok("alice"));
        // the algorithm is the provider's to choose
        assert_eq!(judge(&verifier, &hmac(pem.as_bytes())).await, Err(AuthnError::Invalid));
        // and where it chose the shared one, a public key is no key
        let confused =
            super::signed::verifier(in_secret(&[SignatureAlgorithm::HS256]), pem.as_bytes());
        let refused = judge(&confused, &hmac(pem.as_bytes())).await;
        assert!(matches!(refused, Err(AuthnError::ProviderUnavailable { .. })), "{refused:?}");
    }
}
