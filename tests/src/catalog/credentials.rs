//! What the registry accepts: its own tokens, with its own audience, unexpired and unrevoked, and
//! its `qk_` API keys. It turns a bearer into the name of a user, or nothing.

use super::keys::SigningKey;
use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, Validation};
use parking_lot::Mutex;
use patchbay_core::digest::Digest;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// How long a token lives unless a test says otherwise.
pub const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// Mints and checks the catalog's credentials.
pub struct Credentials {
    key: SigningKey,
    /// `iss` of its tokens and its own audience: the catalog's origin.
    issuer: String,
    gateway_audience: String,
    issued: Mutex<Issued>,
}

#[derive(Default)]
struct Issued {
    api_keys: HashMap<Digest, String>,
    refresh_tokens: HashMap<Digest, String>,
    /// Users by the `uuid` of sessions, which enhanced tokens carry on from the token that they were made of.
    sessions: HashMap<Digest, String>,
    revoked: HashSet<Digest>,
}

/// What `POST /api/token` answers.
#[derive(Serialize)]
pub struct TokenPair {
    /// The next refresh token; the one that was presented is spent.
    pub refresh_token: String,
    /// A fresh token.
    pub access_token: String,
    /// When it ends, in unix seconds.
    pub expires_at: i64,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Credentials {
    /// A catalog at `issuer` whose tokens are meant for `gateway_audience` too.
    pub fn new(issuer: String, gateway_audience: String) -> anyhow::Result<Self> {
        Ok(Self {
            key: SigningKey::generate()?,
            issuer,
            gateway_audience,
            issued: Mutex::default(),
        })
    }

    /// `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key that signs, for forgeries and key sets.
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The claims of a proper token of `user`, for a test to spoil before it signs them. Every call
    /// gives another `jti`, so that two tokens of one moment differ.
    pub fn claims(&self, user: &str, now: Timestamp, lifetime: SignedDuration) -> Value {
        json!({
            "iss": self.issuer,
            "sub": user,
            "aud": [self.gateway_audience, self.issuer],
            "iat": now.as_second(),
            "nbf": now.as_second(),
            "exp": (now + lifetime).as_second(),
            "jti": uuid::Uuid::new_v4(),
        })
    }

    /// A proper token.
    pub fn token(&self, user: &str) -> anyhow::Result<SecretString> {
        let claims = self.claims(user, Timestamp::now(), TOKEN_LIFETIME);
        Ok(self.key.sign(&claims)?.into())
    }

    /// A new API key of `user`; several may be valid at once.
    pub fn api_key(&self, user: &str) -> SecretString {
        let key = format!("qk_{}", random());
        let digest = Digest::of(key.as_bytes());
        self.issued.lock().api_keys.insert(digest, user.to_owned());
        key.into()
    }

    /// A new refresh token of `user`, good for one use.
    pub fn refresh_token(&self, user: &str) -> SecretString {
        let token = random();
        let digest = Digest::of(token.as_bytes());
        self.issued.lock().refresh_tokens.insert(digest, user.to_owned());
        token.into()
    }

    /// A login code of `user`, as the catalog's page shows it: good for one use, where a refresh token is.
    pub fn login_code(&self, user: &str) -> SecretString {
        let code = json!({ "id": user, "code": uuid::Uuid::new_v4() }).to_string();
        let code = BASE64.encode(code.as_bytes());
        self.issued.lock().refresh_tokens.insert(Digest::of(code.as_bytes()), user.to_owned());
        code.into()
    }

    /// The claims of an enhanced token of a new session of `user`, as the front end fills them in before it adds what
    /// the user may do. The registry knows whose it is by `uuid` alone.
    pub fn enhanced_claims(&self, user: &str) -> Value {
        let uuid = uuid::Uuid::new_v4();
        let digest = Digest::of(uuid.to_string().as_bytes());
        self.issued.lock().sessions.insert(digest, user.to_owned());
        let now = Timestamp::now();
        json!({
            "iss": "quilt-frontend",
            "aud": "quilt-mcp-server",
            "sub": user,
            "id": user,
            "uuid": uuid,
            "iat": now.as_second(),
            "exp": (now + TOKEN_LIFETIME).as_second(),
            "jti": uuid::Uuid::new_v4(),
        })
    }

    /// From now on the registry refuses this token or key.
    pub fn revoke(&self, credential: &SecretString) {
        let digest = Digest::of(credential.expose_secret().as_bytes());
        self.issued.lock().revoked.insert(digest);
    }

    /// The user whose credential this is.
    pub fn verify(&self, bearer: &str) -> Option<String> {
        let digest = Digest::of(bearer.as_bytes());
        let issued = self.issued.lock();
        if issued.revoked.contains(&digest) {
            return None;
        }
        if bearer.starts_with("qk_") {
            return issued.api_keys.get(&digest).cloned();
        }
        if let Some(uuid) = session_of(bearer) {
            return issued.sessions.get(&Digest::of(uuid.as_bytes())).cloned();
        }
        drop(issued);
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.issuer]);
        jsonwebtoken::decode::<Claims>(bearer, self.key.decoding(), &validation)
            .ok()
            .map(|token| token.claims.sub)
    }

    /// Spends a refresh token for a new pair.
    pub fn refresh(&self, refresh_token: &str) -> anyhow::Result<Option<TokenPair>> {
        let digest = Digest::of(refresh_token.as_bytes());
        let Some(user) = self.issued.lock().refresh_tokens.remove(&digest) else {
            return Ok(None);
        };
        let now = Timestamp::now();
        let claims = self.claims(&user, now, TOKEN_LIFETIME);
        Ok(Some(TokenPair {
            refresh_token: self.refresh_token(&user).expose_secret().to_owned(),
            access_token: self.key.sign(&claims)?,
            expires_at: (now + TOKEN_LIFETIME).as_second(),
        }))
    }
}

/// The `uuid` of an enhanced token. Its signature proves nothing to a registry, since every browser has the key; the
/// `uuid` is what nobody else knows.
fn session_of(bearer: &str) -> Option<String> {
    let payload = BASE64URL_NOPAD.decode(bearer.split('.').nth(1)?.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let is_enhanced = claims["iss"] == "quilt-frontend";
    claims["uuid"].as_str().filter(|_| is_enhanced).map(str::to_owned)
}

/// 244 random bits in lower-case base32.
fn random() -> String {
    let bytes = [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat();
    BASE32_NOPAD.encode(&bytes).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Credentials {
        Credentials::new("https://catalog.example".into(), "https://gateway.example".into())
            .unwrap()
    }

    fn signed(catalog: &Credentials, spoil: impl FnOnce(&mut Value)) -> Option<String> {
        let mut claims = catalog.claims("alice", Timestamp::now(), TOKEN_LIFETIME);
        spoil(&mut claims);
        catalog.verify(&catalog.key().sign(&claims).unwrap())
    }

    #[test]
    fn a_proper_token_names_its_user() {
        assert_eq!(signed(&catalog(), |_| {}).as_deref(), Some("alice"));
    }

    #[test]
    fn a_token_for_the_gateway_alone_is_refused() {
        let catalog = catalog();
        let refused = signed(&catalog, |claims| {
            claims["aud"] = json!(["https://gateway.example"]);
        });
        assert_eq!(refused, None);
    }

    #[test]
    fn expired_early_and_foreign_tokens_are_refused() {
        let catalog = catalog();
        let now = Timestamp::now().as_second();
        assert_eq!(signed(&catalog, |claims| claims["exp"] = json!(now - 1)), None);
        assert_eq!(signed(&catalog, |claims| claims["nbf"] = json!(now + 60)), None);
        assert_eq!(signed(&catalog, |claims| claims["iss"] = json!("https://x.example")), None);
        let other = SigningKey::generate().unwrap();
        let claims = catalog.claims("alice", Timestamp::now(), TOKEN_LIFETIME);
        assert_eq!(catalog.verify(&other.sign(&claims).unwrap()), None);
        assert_eq!(catalog.verify(&catalog.key().forge_unsigned(&claims)), None);
        let confused = catalog.key().forge_with_public_key(&claims).unwrap();
        assert_eq!(catalog.verify(&confused), None);
    }

    #[test]
    fn a_revoked_credential_is_refused_and_its_sibling_is_not() {
        let catalog = catalog();
        let (first, second) = (catalog.api_key("bob"), catalog.api_key("bob"));
        catalog.revoke(&first);
        assert_eq!(catalog.verify(first.expose_secret()), None);
        assert_eq!(catalog.verify(second.expose_secret()).as_deref(), Some("bob"));
        let token = catalog.token("bob").unwrap();
        catalog.revoke(&token);
        assert_eq!(catalog.verify(token.expose_secret()), None);
    }

    #[test]
    fn an_unknown_api_key_is_refused() {
        assert_eq!(catalog().verify("qk_made-up"), None);
    }

    #[test]
    fn a_refresh_token_is_good_once() {
        let catalog = catalog();
        let token = catalog.refresh_token("alice");
        let pair = catalog.refresh(token.expose_secret()).unwrap().unwrap();
        assert_eq!(catalog.verify(&pair.access_token).as_deref(), Some("alice"));
        assert!(catalog.refresh(token.expose_secret()).unwrap().is_none());
        assert!(catalog.refresh(&pair.refresh_token).unwrap().is_some());
    }
}
