//! Session ids: whatever a client holds, it is opened without a fault and only if it was sealed; what a client begins with is
//! opened as it was, and not by another tenant.
#![no_main]

use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use patchbay_core::{
    id::{Epoch, TenantUid},
    session::{MAX_ID_BYTES, Opening, SessionKeys, SessionRoots, is_sealed, open, seal},
};

const ROOTS: &[u8] = br#"{"roots":[{"id":"00000001","key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","sealsFrom":"1970-01-01T00:00:00Z"}]}"#;

fn keys(tenant: &str) -> SessionKeys {
    let roots = SessionRoots::parse(ROOTS).expect("they are root keys");
    let tenant = TenantUid::parse(tenant).expect("it is a UID");
    roots.keys(&tenant, Timestamp::UNIX_EPOCH).expect("they have keys")
}

fuzz_target!(|data: &[u8]| {
    let (own, others) = (keys("t1"), keys("t2"));
    let now = Timestamp::UNIX_EPOCH;
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(open(&own, text, now).is_err(), "{text:?} was never sealed");
    let formed = format!("pbs1.{text}");
    assert!(open(&own, &formed, now).is_err(), "{formed:?} was never sealed");

    let (version, params) = text.split_at(text.char_indices().nth(10).map_or(0, |(at, _)| at));
    let opening = Opening {
        params: params.to_owned(),
        version: version.to_owned(),
        facts: [7; 16],
        epoch: Epoch(data.len() as u64),
        ends_at: now + SignedDuration::from_secs(1),
    };
    let Ok(id) = seal(&own, &opening) else { return };
    assert!(is_sealed(&id) && id.len() <= MAX_ID_BYTES);
    assert_eq!(open(&own, &id, now).as_ref(), Ok(&opening));
    assert!(open(&others, &id, now).is_err());
    assert!(open(&own, &id, opening.ends_at).is_err());
});
