//! The claims of enhanced tokens: whatever a payload says is expanded without a panic, to a bounded size, to the same
//! whatever the order of its lists, and an unreadable part allows nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patchbay_core::enhanced::{Codes, EnhancedClaims};
use serde_json::{Map, Value};

/// What a byte of a payload may come to at most: a long prefix before many short names.
const GROWTH: usize = 255;

fuzz_target!(|data: &[u8]| {
    let Ok(Value::Object(payload)) = serde_json::from_slice(data) else { return };
    let claims = EnhancedClaims::expand(&payload, &Codes::new());
    let lists = [&claims.permissions, &claims.roles, &claims.buckets];
    let size: usize = lists.into_iter().flatten().map(String::len).sum();
    assert!(size <= GROWTH * data.len(), "{size} of {}", data.len());
    assert_eq!(EnhancedClaims::expand(&reversed(&payload), &Codes::new()), claims);
    // what is said in the long form is what it says again
    let Value::Object(said) = claims.canonical() else { panic!("no object") };
    let again = EnhancedClaims::expand(&said, &Codes::new());
    assert_eq!(again.canonical(), claims.canonical());
    for bucket in &claims.buckets {
        assert!(claims.reaches(bucket));
    }
});

/// The same payload, with its lists the other way round.
fn reversed(payload: &Map<String, Value>) -> Map<String, Value> {
    let turn = |value: &Value| match value {
        Value::Array(items) => Value::Array(items.iter().rev().cloned().collect()),
        other => other.clone(),
    };
    payload.iter().map(|(name, value)| (name.clone(), turn(value))).collect()
}
