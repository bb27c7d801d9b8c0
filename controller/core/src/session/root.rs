//! Root keys: which are there, which one seals now, and what each tenant has of them. It must not know where they are kept.

use super::key::{KEY_BYTES, KeyId, SessionKey, SessionKeys, decoded, encoded};
use crate::{
    digest::{NoRandomness, random_bytes},
    grant::expose,
    id::TenantUid,
};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// For how long a root key seals; the next one follows.
pub const SEALS_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A root key is there for this long before it seals: whatever holds root keys has it by then, however late.
pub const PUBLISHED_BEFORE: SignedDuration = SignedDuration::from_hours(24);
/// So many are kept: the one that seals, one before it, and the next one. What the one before it sealed has ended
/// long before it goes (`GOOD_FOR`).
pub const ROOTS_KEPT: usize = 3;

/// The purpose of what is derived; nothing else that is derived from the same bytes could be the same.
const SALT: &[u8] = b"patchbay.dev/session-key/v1";

/// The root keys, from the oldest to the newest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionRoots {
    roots: Vec<SessionRoot>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SessionRoot {
    id: KeyId,
    #[serde(serialize_with = "expose")]
    key: SecretString,
    /// From when on it seals.
    seals_from: Timestamp,
}

/// A text that holds no root keys. It says nothing of what is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it holds no root keys of sessions; where they were lost, empty it, and others are made")]
pub struct MalformedRoots;

/// 32 bytes of key.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

impl SessionRoots {
    /// One that seals from `now` on.
    pub fn generate(now: Timestamp) -> Result<Self, NoRandomness> {
        Ok(Self { roots: vec![SessionRoot::generate(now)?] })
    }

    /// Reads what [`Self::to_text`] writes.
    pub fn parse(text: &[u8]) -> Result<Self, MalformedRoots> {
        let read: Self = serde_json::from_slice(text).map_err(|_| MalformedRoots)?;
        let is_ordered = read.roots.is_sorted_by_key(|root| root.seals_from);
        // what follows from a date must be one
        let is_good = |root: &SessionRoot| {
            decoded(&root.key).is_some() && root.seals_from.checked_add(SEALS_FOR).is_ok()
        };
        let is_some = (1..=ROOTS_KEPT).contains(&read.roots.len());
        if is_some && is_ordered && read.roots.iter().all(is_good) {
            Ok(read)
        } else {
            Err(MalformedRoots)
        }
    }

    /// As text, with every key in the open: for the one place that keeps them.
    pub fn to_text(&self) -> Zeroizing<Vec<u8>> {
        // plain structures always serialise
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The keys of a tenant. What seals is the newest whose time has come, or the oldest where none's has.
    pub fn keys(&self, tenant: &TenantUid, now: Timestamp) -> Option<SessionKeys> {
        let sealing = self.sealing(now);
        let mut keys =
            self.roots.iter().map(|root| root.key_of(tenant)).collect::<Option<Vec<_>>>()?;
        (sealing < keys.len()).then(|| SessionKeys { sealing: keys.remove(sealing), opening: keys })
    }

    /// The next root keys, where it is time for them: with one more, and without those that are too many.
    pub fn next(&self, now: Timestamp) -> Result<Option<Self>, NoRandomness> {
        let due = self.roots.last().map(|newest| newest.seals_from + SEALS_FOR);
        if due.is_some_and(|due| now < due - PUBLISHED_BEFORE) {
            return Ok(None);
        }
        let soonest = now + PUBLISHED_BEFORE;
        let seals_from = due.map_or(now, |due| due.max(soonest));
        let mut roots = self.roots.clone();
        roots.push(SessionRoot::generate(seals_from)?);
        let too_many = roots.len().saturating_sub(ROOTS_KEPT);
        roots.drain(..too_many);
        Ok(Some(Self { roots }))
    }

    /// When [`Self::next`] has something to do.
    pub fn due(&self) -> Timestamp {
        let newest = self.roots.last().map(|newest| newest.seals_from);
        newest.map_or(Timestamp::UNIX_EPOCH, |from| from + SEALS_FOR - PUBLISHED_BEFORE)
    }

    fn sealing(&self, now: Timestamp) -> usize {
        self.roots.iter().rposition(|root| root.seals_from <= now).unwrap_or_default()
    }
}

impl SessionRoot {
    fn generate(seals_from: Timestamp) -> Result<Self, NoRandomness> {
        let key = Zeroizing::new(random_bytes::<KEY_BYTES>()?);
        Ok(Self { id: KeyId::generate()?, key: encoded(&key), seals_from })
    }

    /// HKDF (RFC 5869) over the key's name and the tenant's UID.
    fn key_of(&self, tenant: &TenantUid) -> Option<SessionKey> {
        let root = decoded(&self.key)?;
        let info = [&self.id.0[..], tenant.as_str().as_bytes()];
        let derived = Salt::new(HKDF_SHA256, SALT).extract(root.as_ref());
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        derived.expand(&info, Length).ok()?.fill(key.as_mut()).ok()?;
        Some(SessionKey::new(self.id, &key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn tenant(uid: &str) -> TenantUid {
        TenantUid::parse(uid).unwrap()
    }

    fn sealing(roots: &SessionRoots, now: Timestamp) -> KeyId {
        roots.keys(&tenant("t1"), now).unwrap().sealing.id
    }

    #[test]
    fn each_tenant_and_each_root_has_a_key_of_its_own_and_always_the_same() {
        let roots = SessionRoots::generate(at(0)).unwrap();
        let roots = roots.next(SessionRoots::due(&roots)).unwrap().unwrap();
        let of = |uid: &str| {
            let keys = roots.keys(&tenant(uid), at(1)).unwrap();
            let all = std::iter::once(keys.sealing).chain(keys.opening);
            all.map(|key| key.key.expose_secret().to_owned()).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = of("t1").into_iter().chain(of("t2")).collect();
        assert_eq!(of("t1"), of("t1"));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn what_is_written_is_read_and_what_is_spoilt_is_not_taken_for_keys() {
        let roots = SessionRoots::generate(at(0)).unwrap();
        let read = SessionRoots::parse(&roots.to_text()).unwrap();
        assert_eq!(sealing(&read, at(1)), sealing(&roots, at(1)));
        let text = String::from_utf8(roots.to_text().to_vec()).unwrap();
        for spoilt in ["", "{}", r#"{"roots":[]}"#, &text.replace("\"key\":\"", "\"key\":\"x")] {
            assert_eq!(SessionRoots::parse(spoilt.as_bytes()).unwrap_err(), MalformedRoots);
        }
    }

    #[test]
    fn a_new_key_is_known_a_day_before_it_seals_and_the_old_one_until_the_fourth() {
        let first = SessionRoots::generate(at(0)).unwrap();
        let oldest = sealing(&first, at(0));
        assert!(first.next(at(29 * 24 - 1)).unwrap().is_none());
        let due = first.due();
        assert_eq!(due, at(29 * 24));
        let second = first.next(due).unwrap().unwrap();
        assert_eq!(sealing(&second, at(30 * 24 - 1)), oldest);
        assert_ne!(sealing(&second, at(30 * 24)), oldest);
        let third = second.next(second.due()).unwrap().unwrap();
        assert!(third.keys(&tenant("t1"), at(0)).unwrap().named(oldest).is_some());
        let fourth = third.next(third.due()).unwrap().unwrap();
        assert!(fourth.keys(&tenant("t1"), at(0)).unwrap().named(oldest).is_none());
    }

    #[test]
    fn who_was_away_for_long_publishes_a_key_for_a_day_all_the_same() {
        let first = SessionRoots::generate(at(0)).unwrap();
        let late = at(100 * 24);
        let second = first.next(late).unwrap().unwrap();
        assert_eq!(sealing(&second, late), sealing(&first, late));
        assert_ne!(sealing(&second, late + PUBLISHED_BEFORE), sealing(&first, late));
    }

    #[test]
    fn no_key_is_printed() {
        let roots = SessionRoots::generate(at(0)).unwrap();
        let keys = roots.keys(&tenant("t1"), at(0)).unwrap();
        let printed = format!("{roots:?} {keys:?}");
        assert!(!printed.contains(keys.sealing.key.expose_secret()));
        assert!(!printed.contains(roots.roots[0].key.expose_secret()));
    }
}
