//! A session id that says, to who has the key, what its session began with.
//!
//! Its form: `pbs1.`, then base64url of key id (4 bytes), nonce (12), and what AES-256-GCM makes of the opening, which is
//! authenticated together with the form and the key id. All of it is visible ASCII (MCP 2025-11-25, basic/transports,
//! Session Management). It must not know MCP.

use super::key::{KEY_BYTES, KEY_ID_BYTES, KeyId, SessionKey, SessionKeys};
use crate::{digest::random_bytes, id::Epoch};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use data_encoding::BASE64URL_NOPAD;
use jiff::{SignedDuration, Timestamp};

/// An id is at most this long: servers and proxies bound what headers may hold together.
pub const MAX_ID_BYTES: usize = 2048;
/// For how long a later worker takes a session up.
pub const GOOD_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

const FORM: &str = "pbs1.";
/// Bytes of what the server said of itself, as a digest.
pub(super) const FACTS_BYTES: usize = 16;
/// Epoch, end, facts, and the length of the version.
const FIXED_BYTES: usize = 8 + 8 + FACTS_BYTES + 1;

/// What a session began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The `params` of `initialize`, as the client wrote them.
    pub params: String,
    /// The revision that the server chose.
    pub version: String,
    /// Stands for what the server said of itself: a part of a digest.
    pub facts: [u8; FACTS_BYTES],
    /// The assignment of the worker that it began in.
    pub epoch: Epoch,
    /// When no later worker takes it up any more.
    pub ends_at: Timestamp,
}

/// Why a session's id does not outlive its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSealed {
    /// What it began with does not fit.
    #[error("what `initialize` said makes an id of more than {MAX_ID_BYTES} bytes")]
    TooLong,
    /// No key, or no random numbers.
    #[error("it cannot be sealed")]
    Failed,
}

/// Why an id is nobody's session here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// It is of no known form.
    #[error("it is not of the form of a sealed id")]
    Form,
    /// Its key is none of this tenant's.
    #[error("it is sealed with a key that is not known here")]
    UnknownKey,
    /// It was changed, or is another tenant's.
    #[error("it is another tenant's, or was changed")]
    Forged,
    /// It is too old.
    #[error("it is too old")]
    Ended,
}

/// Whether an id has the form of a sealed one.
pub fn is_sealed(id: &str) -> bool {
    id.starts_with(FORM)
}

/// The id of a session that began with `opening`.
pub fn seal(keys: &SessionKeys, opening: &Opening) -> Result<String, NotSealed> {
    let key = &keys.sealing;
    let mut sealed = opening.to_bytes().ok_or(NotSealed::TooLong)?;
    let nonce = random_bytes::<NONCE_LEN>().map_err(|_| NotSealed::Failed)?;
    let cipher = cipher(key).ok_or(NotSealed::Failed)?;
    cipher
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            bound_to(key.id),
            &mut sealed,
        )
        .map_err(|_| NotSealed::Failed)?;
    let bytes = [&key.id.0[..], &nonce, &sealed].concat();
    let id = format!("{FORM}{}", BASE64URL_NOPAD.encode(&bytes));
    if id.len() <= MAX_ID_BYTES { Ok(id) } else { Err(NotSealed::TooLong) }
}

/// What the session of an id began with, if it is this tenant's and not too old at `now`.
pub fn open(keys: &SessionKeys, id: &str, now: Timestamp) -> Result<Opening, NotOpened> {
    let text = id.strip_prefix(FORM).filter(|_| id.len() <= MAX_ID_BYTES).ok_or(NotOpened::Form)?;
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| NotOpened::Form)?;
    let (key_id, rest) = bytes.split_first_chunk::<KEY_ID_BYTES>().ok_or(NotOpened::Form)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened::Form)?;
    let key = keys.named(KeyId(*key_id)).ok_or(NotOpened::UnknownKey)?;
    let cipher = cipher(key).ok_or(NotOpened::UnknownKey)?;
    let mut sealed = sealed.to_vec();
    let opened = cipher
        .open_in_place(Nonce::assume_unique_for_key(*nonce), bound_to(key.id), &mut sealed)
        .map_err(|_| NotOpened::Forged)?;
    let opening = Opening::of_bytes(opened).ok_or(NotOpened::Form)?;
    if now < opening.ends_at { Ok(opening) } else { Err(NotOpened::Ended) }
}

fn cipher(key: &SessionKey) -> Option<LessSafeKey> {
    let key: [u8; KEY_BYTES] = *key.bytes()?;
    UnboundKey::new(&AES_256_GCM, &key).ok().map(LessSafeKey::new)
}

/// What is authenticated with the rest, though everybody can read it.
fn bound_to(key: KeyId) -> Aad<Vec<u8>> {
    Aad::from([FORM.as_bytes(), &key.0].concat())
}

impl Opening {
    /// None where a part is longer than its length can say, or all of it than any id.
    fn to_bytes(&self) -> Option<Vec<u8>> {
        let length = FIXED_BYTES + self.version.len() + self.params.len();
        if length > MAX_ID_BYTES {
            return None;
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&self.epoch.0.to_be_bytes());
        bytes.extend_from_slice(&self.ends_at.as_second().to_be_bytes());
        bytes.extend_from_slice(&self.facts);
        bytes.push(u8::try_from(self.version.len()).ok()?);
        bytes.extend_from_slice(self.version.as_bytes());
        bytes.extend_from_slice(self.params.as_bytes());
        Some(bytes)
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (ends_at, rest) = rest.split_first_chunk()?;
        let (facts, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (version, params) = rest.split_at_checked(usize::from(*length))?;
        Some(Self {
            params: String::from_utf8(params.to_vec()).ok()?,
            version: String::from_utf8(version.to_vec()).ok()?,
            facts: *facts,
            epoch: Epoch(u64::from_be_bytes(*epoch)),
            ends_at: Timestamp::from_second(i64::from_be_bytes(*ends_at)).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::TenantUid, session::SessionRoots};
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn opening(params: &str) -> Opening {
        Opening {
            params: params.to_owned(),
            version: "2025-11-25".to_owned(),
            facts: [7; FACTS_BYTES],
            epoch: Epoch(3),
            ends_at: at(1000),
        }
    }

    fn keys(roots: &SessionRoots, tenant: &str) -> SessionKeys {
        roots.keys(&TenantUid::parse(tenant).unwrap(), at(0)).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_tenant_until_it_ends_and_by_nobody_else() {
        let roots = SessionRoots::generate(at(0)).unwrap();
        let (own, others) = (keys(&roots, "t1"), keys(&roots, "t2"));
        let id = seal(&own, &opening("{}")).unwrap();
        assert!(is_sealed(&id) && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
        assert_eq!(open(&own, &id, at(999)), Ok(opening("{}")));
        assert_eq!(open(&own, &id, at(1000)), Err(NotOpened::Ended));
        assert_eq!(open(&others, &id, at(0)), Err(NotOpened::Forged));
        let strange = keys(&SessionRoots::generate(at(0)).unwrap(), "t1");
        assert_eq!(open(&strange, &id, at(0)), Err(NotOpened::UnknownKey));
    }

    #[test]
    fn two_sessions_that_began_alike_have_two_ids() {
        let keys = keys(&SessionRoots::generate(at(0)).unwrap(), "t1");
        assert_ne!(seal(&keys, &opening("{}")), seal(&keys, &opening("{}")));
    }

    #[test]
    fn what_does_not_fit_is_not_sealed_and_what_fits_is_no_longer_than_it_may_be() {
        let keys = keys(&SessionRoots::generate(at(0)).unwrap(), "t1");
        let of_length = |length: usize| seal(&keys, &opening(&"x".repeat(length)));
        let longest = (0..MAX_ID_BYTES).rev().find(|length| of_length(*length).is_ok()).unwrap();
        assert!(longest > 1400, "{longest}");
        assert!(of_length(longest).unwrap().len() <= MAX_ID_BYTES);
        for length in [longest + 1, MAX_ID_BYTES, 100_000] {
            assert_eq!(of_length(length), Err(NotSealed::TooLong));
        }
        let version = "v".repeat(256);
        assert_eq!(seal(&keys, &Opening { version, ..opening("{}") }), Err(NotSealed::TooLong));
    }

    #[test]
    fn an_old_key_opens_what_it_sealed() {
        let first = SessionRoots::generate(at(0)).unwrap();
        let id = seal(&keys(&first, "t1"), &opening("{}")).unwrap();
        let second = first.next(first.due()).unwrap().unwrap();
        let later = second.keys(&TenantUid::parse("t1").unwrap(), Timestamp::MAX).unwrap();
        assert_eq!(open(&later, &id, at(0)), Ok(opening("{}")));
    }

    proptest! {
        #[test]
        fn an_id_that_was_changed_anywhere_is_nobodys(place in 0_usize..200, byte in 0x21_u8..0x7f) {
            let keys = keys(&SessionRoots::generate(at(0)).unwrap(), "t1");
            let mut id = seal(&keys, &opening(r#"{"capabilities":{}}"#)).unwrap().into_bytes();
            let place = place % id.len();
            prop_assume!(id[place] != byte);
            id[place] = byte;
            prop_assert!(open(&keys, &String::from_utf8(id).unwrap(), at(0)).is_err());
        }

        #[test]
        fn no_text_is_taken_for_an_id(text in "\\PC{0,300}", tail in "[A-Za-z0-9_-]{0,300}") {
            let keys = keys(&SessionRoots::generate(at(0)).unwrap(), "t1");
            prop_assert!(open(&keys, &text, at(0)).is_err());
            let formed = [FORM, &tail].concat();
            prop_assert!(open(&keys, &formed, at(0)).is_err());
        }
    }
}
