//! The catalog's signing key: RS256 tokens, their JWKS, and the forgeries that a verifier must
//! refuse.

use anyhow::Context;
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

/// A key pair that signs tokens.
pub struct SigningKey {
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    public_pem: String,
    jwk: Value,
}

impl SigningKey {
    /// Makes a fresh RSA key of 2048 bits.
    pub fn generate() -> anyhow::Result<Self> {
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
        let kid = uuid::Uuid::new_v4().to_string();
        let encoding = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())?;
        let mut jwk = Jwk::from_encoding_key(&encoding, Algorithm::RS256)?;
        jwk.common.key_id = Some(kid.clone());
        let mut jwk = serde_json::to_value(jwk)?;
        jwk["use"] = "sig".into();
        let public_pem = pair.public_key_pem();
        Ok(Self {
            kid,
            encoding,
            decoding: DecodingKey::from_rsa_pem(public_pem.as_bytes())?,
            public_pem,
            jwk,
        })
    }

    /// The public key set.
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk] })
    }

    /// The public key, PEM.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// The public half, for verification.
    pub const fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// Signs claims, whatever they say.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding).context("cannot sign a token")
    }

    /// A token with `alg: none` and no signature.
    pub fn forge_unsigned(&self, claims: &Value) -> String {
        let header = json!({ "alg": "none", "typ": "JWT", "kid": self.kid });
        format!("{}.{}.", encode(&header), encode(claims))
    }

    /// A token whose HMAC key is the public key's PEM: accepted by a verifier that lets the token
    /// choose the algorithm.
    pub fn forge_with_public_key(&self, claims: &Value) -> anyhow::Result<String> {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(self.kid.clone());
        let key = EncodingKey::from_secret(self.public_pem.as_bytes());
        jsonwebtoken::encode(&header, claims, &key).context("cannot forge a token")
    }
}

fn encode(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Validation, jwk::JwkSet};

    #[test]
    fn a_token_verifies_with_the_published_key_set() {
        let key = SigningKey::generate().unwrap();
        let claims = json!({ "sub": "alice", "exp": 4_102_444_800_u64 });
        let token = key.sign(&claims).unwrap();
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        let published: JwkSet = serde_json::from_value(key.jwks()).unwrap();
        let jwk = published.find(&kid).unwrap();
        let verified = jsonwebtoken::decode::<Value>(
            &token,
            &DecodingKey::from_jwk(jwk).unwrap(),
            &Validation::new(Algorithm::RS256),
        )
        .unwrap();
        assert_eq!(verified.claims, claims);
    }

    #[test]
    fn the_key_set_holds_nothing_private() {
        let key = SigningKey::generate().unwrap().jwks()["keys"][0].clone();
        let mut members: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
    }

    #[test]
    fn forgeries_carry_the_claims_and_the_weak_algorithm() {
        let key = SigningKey::generate().unwrap();
        let claims = json!({ "sub": "alice" });
        let unsigned = key.forge_unsigned(&claims);
        assert!(unsigned.ends_with('.'));
        let header = unsigned.split('.').next().unwrap();
        let header = BASE64URL_NOPAD.decode(header.as_bytes()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["alg"], "none");
        let confused = key.forge_with_public_key(&claims).unwrap();
        let header = jsonwebtoken::decode_header(&confused).unwrap();
        assert_eq!(header.alg, Algorithm::HS256);
    }
}
