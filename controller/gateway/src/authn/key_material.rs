//! From what an issuer's keys are kept as (a key set, PEM, the bytes of a shared key) to keys that verify.
//!
//! Which of these it may be is the provider's to say, never the material's: a public key that is taken for a shared one
//! lets everybody sign. This module must not know where material comes from, nor tokens.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use patchbay_core::provider::{Jwt, KeySource, SignatureAlgorithm};
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, SubjectPublicKeyInfoDer, alg_id,
    pem::{PemObject as _, SectionKind},
};

/// A shared key is at least this long, bytes: as long as what it signs with (RFC 7518, 3.2).
const MIN_SHARED_BYTES: usize = 32;

/// What material may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A key set (RFC 7517).
    KeySet,
    /// A key set, or one public key or certificate in PEM.
    KeySetOrPem,
    /// A shared key: every byte of it.
    Shared,
}

impl Form {
    /// The form in which a provider's keys are kept.
    pub(super) fn of(rules: &Jwt) -> Self {
        let is_shared = rules.algorithms.contains(&SignatureAlgorithm::HS256);
        match rules.jwks {
            KeySource::Secret(_) if is_shared => Self::Shared,
            KeySource::Secret(_) => Self::KeySetOrPem,
            KeySource::Url(_) | KeySource::Discovery { .. } | KeySource::Cluster => Self::KeySet,
        }
    }
}

/// One usable key.
pub(super) struct VerificationKey {
    id: KeyId,
    /// The algorithm that the set reserves the key for.
    reserved: Option<String>,
    family: Family,
    pub(super) key: DecodingKey,
}

/// Which key ids of tokens mean a key.
enum KeyId {
    /// This one.
    Named(String),
    /// None: its set gives it no name.
    Unnamed,
    /// Any: there is no other key, and what it is kept as has no place for a name.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    P384,
    Ed25519,
    Shared,
}

/// The usable keys of material, or why there is none.
pub(super) fn parse(form: Form, material: &[u8]) -> Result<Vec<VerificationKey>, String> {
    match form {
        Form::KeySetOrPem if is_pem(material) => pem_key(material).map(|key| vec![key]),
        Form::KeySet | Form::KeySetOrPem => key_set(material),
        Form::Shared => shared(material).map(|key| vec![key]),
    }
}

fn is_pem(material: &[u8]) -> bool {
    material.windows(b"-----BEGIN ".len()).any(|part| part == b"-----BEGIN ")
}

/// The usable keys of a set. Keys for encryption, of unknown types or with errors are passed over: an
/// issuer may publish keys that are meant for others. Shared keys are among them: a set is public.
fn key_set(body: &[u8]) -> Result<Vec<VerificationKey>, String> {
    let set: JwkSet =
        serde_json::from_slice(body).map_err(|error| format!("it is no key set: {error}"))?;
    let keys: Vec<_> = set.keys.iter().filter_map(usable).collect();
    if keys.is_empty() { Err("it holds no key that verifies signatures".into()) } else { Ok(keys) }
}

fn usable(jwk: &Jwk) -> Option<VerificationKey> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Family::Rsa,
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => Family::P256,
            EllipticCurve::P384 => Family::P384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => Family::Ed25519,
        _ => return None,
    };
    Some(VerificationKey {
        id: jwk.common.key_id.clone().map_or(KeyId::Unnamed, KeyId::Named),
        reserved: jwk.common.key_algorithm.map(|algorithm| algorithm.to_string()),
        family,
        key: DecodingKey::from_jwk(jwk).ok()?,
    })
}

/// The one public key of a PEM text: by itself, or in a certificate, of which nothing else is read.
fn pem_key(text: &[u8]) -> Result<VerificationKey, String> {
    let mut info = None;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|_| "it is not PEM")?;
        let found = match kind {
            SectionKind::PublicKey => SubjectPublicKeyInfoDer::from(der),
            SectionKind::Certificate => key_of(&CertificateDer::from(der))?,
            _ => {
                let said = "it holds something else than a public key or a certificate; write the \
                            public key alone";
                return Err(said.into());
            }
        };
        if info.replace(found).is_some() {
            let said = "it holds several keys; write the one that signs, or a key set, where each \
                        has a name";
            return Err(said.into());
        }
    }
    let info = info.ok_or("it holds no public key and no certificate")?;
    public_key(&info).ok_or_else(|| {
        "its key is of no kind that is known here: RSA, P-256, P-384 or Ed25519".into()
    })
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, String> {
    let certificate = webpki::EndEntityCert::try_from(certificate);
    let certificate = certificate.map_err(|error| format!("its certificate: {error}"))?;
    Ok(certificate.subject_public_key_info())
}

/// The key of a `SubjectPublicKeyInfo` (RFC 5280, 4.1): an algorithm, and bits.
fn public_key(info: &SubjectPublicKeyInfoDer<'_>) -> Option<VerificationKey> {
    let (content, _) = element(info.as_ref())?;
    let (algorithm, rest) = element(content)?;
    let (bits, _) = element(rest)?;
    // how many bits of the last byte do not count: none, in a key
    let bits = bits.strip_prefix(&[0])?;
    let is = |id: AlgorithmIdentifier| algorithm == id.as_ref();
    let (family, key) = if is(alg_id::RSA_ENCRYPTION) {
        (Family::Rsa, DecodingKey::from_rsa_der(bits))
    } else if is(alg_id::ECDSA_P256) {
        (Family::P256, DecodingKey::from_ec_der(bits))
    } else if is(alg_id::ECDSA_P384) {
        (Family::P384, DecodingKey::from_ec_der(bits))
    } else if is(alg_id::ED25519) {
        (Family::Ed25519, DecodingKey::from_ed_der(bits))
    } else {
        return None;
    };
    Some(VerificationKey { id: KeyId::Any, reserved: None, family, key })
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // no key is longer than two bytes can say
        0x81 | 0x82 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn shared(bytes: &[u8]) -> Result<VerificationKey, String> {
    if bytes.len() < MIN_SHARED_BYTES {
        return Err(format!(
            "it is {} bytes long; a key for `HS256` has at least {MIN_SHARED_BYTES} random bytes",
            bytes.len()
        ));
    }
    if is_pem(bytes) || serde_json::from_slice::<JwkSet>(bytes).is_ok() {
        let said = "it is a public key, with which everybody could sign as `HS256` does; list the \
                    algorithm that it is for";
        return Err(said.into());
    }
    let key = DecodingKey::from_secret(bytes);
    Ok(VerificationKey { id: KeyId::Any, reserved: None, family: Family::Shared, key })
}

/// The key with this very id, or the only one where a token names none; of the algorithm's family,
/// and not reserved for another algorithm.
pub(super) fn find<'a>(
    keys: &'a [VerificationKey],
    id: Option<&str>,
    algorithm: Algorithm,
) -> Option<&'a VerificationKey> {
    let family = family_of(algorithm)?;
    let mut fitting = keys.iter().filter(|key| {
        let is_named = id.is_none_or(|id| match &key.id {
            KeyId::Named(name) => name == id,
            KeyId::Unnamed => false,
            KeyId::Any => true,
        });
        let is_free = key.reserved.as_deref().is_none_or(|name| name == name_of(algorithm));
        is_named && is_free && key.family == family
    });
    let found = fitting.next()?;
    // several keys and none named: guessing would be trying
    if id.is_none() && fitting.next().is_some() { None } else { Some(found) }
}

fn family_of(algorithm: Algorithm) -> Option<Family> {
    use Algorithm as A;
    match algorithm {
        A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Some(Family::Rsa),
        A::ES256 => Some(Family::P256),
        A::ES384 => Some(Family::P384),
        A::EdDSA => Some(Family::Ed25519),
        A::HS256 => Some(Family::Shared),
        _ => None,
    }
}

fn name_of(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    };
    use serde_json::json;

    fn keys(form: Form, material: &[u8]) -> Vec<VerificationKey> {
        parse(form, material).unwrap_or_else(|why| panic!("{why}"))
    }

    fn why_not(form: Form, material: impl AsRef<[u8]>) -> String {
        parse(form, material.as_ref()).err().expect("it was taken")
    }

    #[test]
    fn a_public_key_and_a_certificate_of_each_kind_are_read_from_pem() {
        for (kind, algorithm) in [
            (&PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
            (&PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
            (&PKCS_ED25519, Algorithm::EdDSA),
        ] {
            let pair = KeyPair::generate_for(kind).unwrap();
            let certificate = CertificateParams::default().self_signed(&pair).unwrap().pem();
            for pem in [pair.public_key_pem(), certificate] {
                let keys = keys(Form::KeySetOrPem, pem.as_bytes());
                // whatever a token calls it
                assert!(find(&keys, Some("frontend-enhanced"), algorithm).is_some(), "{pem}");
                assert!(find(&keys, None, algorithm).is_some());
                for other in [Algorithm::HS256, Algorithm::RS256] {
                    assert!(find(&keys, None, other).is_none(), "{algorithm:?} as {other:?}");
                }
            }
        }
    }

    #[test]
    fn material_that_is_not_one_public_key_is_refused_with_the_reason() {
        let (one, two) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let both = one.public_key_pem() + &two.public_key_pem();
        let p521 =
            "-----BEGIN PUBLIC KEY-----\nMBAwCgYIKoZIzj0CAQUAAwIA/w==\n-----END PUBLIC KEY-----\n";
        for (material, why) in [
            (both.as_str(), "several keys"),
            (&one.serialize_pem(), "something else"),
            ("-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----\n", "not PEM"),
            ("-----BEGIN ", "not PEM"),
            (p521, "no kind that is known"),
            ("{\"keys\":[]}", "no key that verifies"),
            ("", "no key set"),
        ] {
            let told = why_not(Form::KeySetOrPem, material);
            assert!(told.contains(why), "{material}: {told}");
        }
    }

    #[test]
    fn a_published_set_is_never_pem_and_never_a_shared_key() {
        let pem = KeyPair::generate().unwrap().public_key_pem();
        assert!(why_not(Form::KeySet, pem).contains("no key set"));
        let octets = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"}]});
        assert!(why_not(Form::KeySet, octets.to_string()).contains("no key that verifies"));
    }

    #[test]
    fn a_shared_key_is_long_and_no_public_key() {
        assert!(why_not(Form::Shared, [7; 31]).contains("31 bytes"));
        let keys = keys(Form::Shared, &[7; 32]);
        assert!(find(&keys, Some("any"), Algorithm::HS256).is_some());
        assert!(find(&keys, None, Algorithm::RS256).is_none());
        let pair = KeyPair::generate().unwrap();
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "a".repeat(43)}]});
        for public in [pair.public_key_pem(), set.to_string()] {
            assert!(why_not(Form::Shared, &public).contains("everybody could sign"), "{public}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_bytes_are_in_a_secret_they_are_read_or_refused(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            for form in [Form::KeySet, Form::KeySetOrPem, Form::Shared] {
                let _ = parse(form, &bytes);
            }
            let _ = public_key(&SubjectPublicKeyInfoDer::from(bytes));
        }
    }
}
