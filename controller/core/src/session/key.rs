//! A tenant's keys for its session ids: derived, named, and never printed. It must not know what is sealed.

use crate::{
    digest::{NoRandomness, random_bytes},
    grant::expose,
};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::fmt;
use zeroize::Zeroizing;

/// How long a key is, bytes (AES-256).
pub(super) const KEY_BYTES: usize = 32;
pub(super) const KEY_ID_BYTES: usize = 4;

/// Names a root key, and every key that was derived from it. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(super) [u8; KEY_ID_BYTES]);

impl KeyId {
    pub(super) fn generate() -> Result<Self, NoRandomness> {
        random_bytes().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let id = HEXLOWER.decode(text.as_bytes()).ok().and_then(|id| id.try_into().ok());
        id.map(Self).ok_or_else(|| D::Error::custom("expected 8 lower-case hexadecimal characters"))
    }
}

/// One of a tenant's keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionKey {
    /// Its name, which every id that it seals says.
    pub id: KeyId,
    /// 32 bytes, as base64url.
    #[serde(serialize_with = "expose")]
    pub key: SecretString,
}

/// What a worker may seal and open its tenant's session ids with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionKeys {
    /// The one that new ids are sealed with.
    pub sealing: SessionKey,
    /// Others that ids may be sealed with: former ones, and the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opening: Vec<SessionKey>,
}

impl SessionKey {
    pub(super) fn new(id: KeyId, key: &[u8; KEY_BYTES]) -> Self {
        Self { id, key: encoded(key) }
    }

    /// None where its text is no key.
    pub(super) fn bytes(&self) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        decoded(&self.key)
    }
}

impl SessionKeys {
    pub(super) fn named(&self, id: KeyId) -> Option<&SessionKey> {
        std::iter::once(&self.sealing).chain(&self.opening).find(|key| key.id == id)
    }
}

pub(super) fn encoded(key: &[u8; KEY_BYTES]) -> SecretString {
    BASE64URL_NOPAD.encode(key).into()
}

pub(super) fn decoded(text: &SecretString) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.expose_secret().as_bytes()).ok()?);
    let key: &[u8; KEY_BYTES] = bytes.as_slice().try_into().ok()?;
    Some(Zeroizing::new(*key))
}
