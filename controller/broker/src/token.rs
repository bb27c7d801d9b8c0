//! What a token says of whom it is for and of AWS, read from the token itself each time: what an authenticator remembers
//! of verified tokens holds no keys.
//!
//! Only a token whose signature was checked is read. This module must not know what is made of what it says.

use data_encoding::BASE64URL_NOPAD;
use patchbay_core::{
    grant::NoKeys,
    identity::{Authenticated, Mode},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

/// Claims of a verified token that are not in its user's identity. The keys are under either of two names, as
/// quilt-mcp read them.
#[derive(Debug, Deserialize)]
pub(crate) struct Said {
    /// For whom it is.
    #[serde(default)]
    aud: Option<Value>,
    #[serde(default)]
    aws_credentials: Option<CarriedKeys>,
    #[serde(default, rename = "awsCredentials")]
    aws_credentials_too: Option<CarriedKeys>,
}

/// AWS keys in a token.
#[derive(Debug, Deserialize)]
pub(crate) struct CarriedKeys {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: SecretString,
    #[serde(default)]
    pub(crate) session_token: Option<SecretString>,
    #[serde(default)]
    pub(crate) region: Option<String>,
    /// When they end: RFC 3339, or Unix seconds.
    #[serde(default)]
    pub(crate) expiration: Option<Value>,
}

impl Said {
    /// What the user's token says.
    pub(crate) fn by(user: &Authenticated) -> Result<Self, NoKeys> {
        // an opaque bearer may have a token's form, and nobody here checked who signed it
        if user.identity.mode != Mode::Jwt {
            return Err(NoKeys::NotAToken);
        }
        let token = user.credential.expose_secret();
        let payload = token.split('.').nth(1).ok_or(NoKeys::NotAToken)?;
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).map(Zeroizing::new);
        let payload = payload.map_err(|_| NoKeys::NotAToken)?;
        // what is wrong in it is not told: the text of the error may hold a part of a key
        serde_json::from_slice(&payload)
            .map_err(|_| NoKeys::Unusable("the token's AWS keys are not in a form that is known"))
    }

    /// Whether it is meant for this audience (RFC 7519, 4.1.3: one text, or several).
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|it| it == audience),
            _ => false,
        }
    }

    /// The keys that it carries.
    pub(crate) fn keys(self) -> Result<CarriedKeys, NoKeys> {
        self.aws_credentials.or(self.aws_credentials_too).ok_or(NoKeys::Missing)
    }
}
