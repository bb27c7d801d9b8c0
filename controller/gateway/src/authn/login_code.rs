//! Tells a catalog's login code from a credential.
//!
//! A code (`QUILT_API_TOKEN` of older set-ups) is base 64 of `{"id", "code"}` (the registry's `encode_code`). It is good
//! once, and at the catalog alone, so it is refused here with a word of what to do. This module must not ask anybody.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
use serde::Deserialize;

#[derive(Deserialize)]
#[allow(dead_code, reason = "what is asked is whether they are there")]
struct Code<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    code: std::borrow::Cow<'a, str>,
}

/// Whether what was presented is a login code.
pub(super) fn is_login_code(presented: &str) -> bool {
    let text = presented.trim_end_matches('=').as_bytes();
    [BASE64_NOPAD, BASE64URL_NOPAD]
        .iter()
        .filter_map(|encoding| encoding.decode(text).ok())
        .any(|json| serde_json::from_slice::<Code<'_>>(&json).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::{BASE64, BASE64URL};

    #[test]
    fn a_code_is_known_in_every_spelling_of_base_64() {
        let json = br#"{"id": "8c0e?>", "code": "0a1b-2c3d"}"#;
        for encoding in [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD] {
            assert!(is_login_code(&encoding.encode(json)));
        }
    }

    #[test]
    fn what_is_something_else_is_no_code() {
        let of = |json: &str| BASE64.encode(json.as_bytes());
        for other in [
            String::new(),
            "qk_abc".into(),
            "pb_a_b".into(),
            "e30.e30.c2ln".into(),
            of("{}"),
            of(r#"{"id": "x"}"#),
            of(r#"{"id": 1, "code": "x"}"#),
            of("no json"),
        ] {
            assert!(!is_login_code(&other), "{other}");
        }
    }
}
