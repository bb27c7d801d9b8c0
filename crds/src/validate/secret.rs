//! From a reference to an entry of a Secret as written to a validated one. It must not know what is in it.

use super::{Findings, Problem};
use crate::{bounds, identity_provider::SecretKeyRef};
use patchbay_core::provider::SecretEntry;

/// The entry, or none once its problems are noted.
pub(super) fn entry(
    findings: &mut Findings,
    field: &str,
    entry: &SecretKeyRef,
) -> Option<SecretEntry> {
    let SecretKeyRef { name, key } = entry;
    let name = findings.check(format!("{field}.name"), object_name(name));
    let key = findings.check(format!("{field}.key"), entry_key(key));
    Some(SecretEntry { name: name?, key: key? })
}

/// The name of a Secret (RFC 1123, subdomain).
fn object_name(name: &str) -> Result<String, Problem> {
    let is_label = |label: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if is_within(name, bounds::NAME) && name.split('.').all(is_label) {
        return Ok(name.to_owned());
    }
    let fix = "write lower-case letters, digits, `-` and `.`";
    Err(Problem::with(name, "is not the name of a Secret", fix))
}

/// The key of an entry of a Secret. It is a file's name too, so it leads nowhere else.
fn entry_key(key: &str) -> Result<String, Problem> {
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let is_only_dots = key.bytes().all(|c| c == b'.');
    if is_within(key, bounds::NAME) && key.bytes().all(inner) && !is_only_dots {
        return Ok(key.to_owned());
    }
    let fix = "write letters, digits, `-`, `_` and `.`, not only dots";
    Err(Problem::with(key, "is not the key of an entry of a Secret", fix))
}

fn is_within(text: &str, bound: u32) -> bool {
    !text.is_empty() && text.len() <= bound as usize
}
