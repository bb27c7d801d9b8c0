//! From a verified identity to the names that AWS writes into its logs: session name, source identity and tags.
//!
//! They are made from what was verified alone, never from a claim. Each has an alphabet and a length of AWS's
//! (`AssumeRole`, API reference); what does not fit is told by a digest. This module must not know which role is assumed.

use patchbay_core::{digest::Digest, identity::Identity, tenant::TenantKey};
use std::collections::BTreeMap;

/// The longest session name and source identity.
const MAX_NAME: usize = 64;
/// The longest value of a tag.
const MAX_TAG_VALUE: usize = 256;
/// Base32 characters of a digest that stands for a subject: 80 bits.
const DIGEST_CHARS: usize = 16;

/// The tags that every session has.
const TENANT_TAG: &str = "patchbay:tenant";
const CLASS_TAG: &str = "patchbay:class";
const ISSUER_TAG: &str = "patchbay:issuer";
const SUBJECT_TAG: &str = "patchbay:subject";

/// `mcp-{subject}-{epoch}`, as quilt-mcp named its sessions when it assumed roles itself; `epoch` is in Unix seconds.
/// A long subject is cut so that the epoch survives.
pub(super) fn session_name(subject: &str, epoch: i64) -> String {
    let end = format!("-{epoch}");
    let is_kept = |c: char| c.is_ascii_alphanumeric() || "+=,.@-".contains(c);
    let room = MAX_NAME.saturating_sub("mcp-".len() + end.len());
    let subject: String =
        subject.chars().take(room).map(|c| if is_kept(c) { c } else { '-' }).collect();
    format!("mcp-{subject}{end}")
}

/// The subject, where it is a source identity as it is; else what is left of it, and a digest. No two subjects of an
/// issuer share one: a subject that looks like the second form is told in it too.
pub(super) fn source_identity(issuer: &str, subject: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
    let fits = (2..=MAX_NAME).contains(&subject.len()) && subject.chars().all(is_kept);
    if fits && !looks_digested(subject) {
        return subject.to_owned();
    }
    let room = MAX_NAME - 1 - DIGEST_CHARS;
    let readable: String =
        subject.chars().take(room).map(|c| if is_kept(c) { c } else { '-' }).collect();
    let digest = Digest::of_fields(
        "patchbay.dev/source-identity/v1",
        &[issuer.as_bytes(), subject.as_bytes()],
    );
    let digest = data_encoding::BASE32_NOPAD.encode(digest.as_bytes()).to_ascii_lowercase();
    format!("{readable}.{}", digest.get(..DIGEST_CHARS).unwrap_or(&digest))
}

fn looks_digested(subject: &str) -> bool {
    subject.rsplit_once('.').is_some_and(|(_, end)| {
        end.len() == DIGEST_CHARS
            && end.bytes().all(|c| c.is_ascii_lowercase() || matches!(c, b'2'..=b'7'))
    })
}

/// Patchbay's tags, and the class's; nobody else's. All are transitive, so that whoever assumes a further role with the
/// keys is still told apart.
pub(super) fn tags(
    identity: &Identity,
    tenant: &TenantKey,
    of_class: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut tags = of_class.clone();
    for (key, value) in [
        (TENANT_TAG, tenant.name().as_str()),
        (CLASS_TAG, tenant.class.as_str()),
        (ISSUER_TAG, &identity.issuer),
        (SUBJECT_TAG, &identity.subject),
    ] {
        tags.insert(key.to_owned(), tag_value(value));
    }
    tags
}

/// A text, where a tag can have it; else its digest.
fn tag_value(text: &str) -> String {
    // AWS takes letters of every script too; those of one are enough to read a log by
    let is_kept = |c: char| c.is_ascii_alphanumeric() || " _.:/=+-@".contains(c);
    let fits = (1..=MAX_TAG_VALUE).contains(&text.len()) && text.chars().all(is_kept);
    if fits && !text.starts_with("sha256:") {
        return text.to_owned();
    }
    format!("sha256:{}", Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_session_is_named_after_its_user_and_time() {
        assert_eq!(session_name("alice", 1_767_225_600), "mcp-alice-1767225600");
        assert_eq!(session_name("a|b_c/d@x.y", 7), "mcp-a-b-c-d@x.y-7");
        let long = session_name(&"x".repeat(1000), 1_767_225_600);
        assert_eq!(long.len(), 64);
        assert!(long.ends_with("x-1767225600"), "{long}");
        assert_eq!(session_name("", 7), "mcp--7");
    }

    #[test]
    fn a_subject_that_fits_is_the_source_identity_and_another_has_a_digest() {
        assert_eq!(source_identity("i", "alice_b@x.example"), "alice_b@x.example");
        let odd = source_identity("i", "auth0|alice");
        assert!(odd.starts_with("auth0-alice.") && odd.len() == 12 + DIGEST_CHARS, "{odd}");
        assert_ne!(odd, source_identity("j", "auth0|alice"));
        // somebody whose subject is another's source identity does not get it
        assert_ne!(source_identity("i", &odd), odd);
    }

    #[test]
    fn tags_name_the_tenant_and_what_does_not_fit_is_told_by_its_digest() {
        assert_eq!(tag_value("https://login.example/tenant"), "https://login.example/tenant");
        for odd in ["", "a|b", "sha256:x", "https://login.example/?a&b", "ü"] {
            let value = tag_value(odd);
            assert!(value.starts_with("sha256:") && value.len() == 71, "{odd} {value}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_aws_takes(subject in ".{0,90}", epoch in 0..4_102_444_800_i64) {
            let is_of = |text: &str, more: &str| {
                (2..=64).contains(&text.len())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            };
            let session = session_name(&subject, epoch);
            let end = format!("-{epoch}");
            prop_assert!(is_of(&session, "+=,.@-") && session.ends_with(&end), "{}", session);
            let source = source_identity("i", &subject);
            prop_assert!(is_of(&source, "+=,.@-_"), "{}", source);
            prop_assert!((1..=256).contains(&tag_value(&subject).len()));
        }

        #[test]
        fn two_users_never_share_a_source_identity(
            one in "[a-b|._-]{0,3}([a-b2.|]{16})?[a-b]{0,70}",
            other in "[a-b|._-]{0,3}([a-b2.|]{16})?[a-b]{0,70}",
        ) {
            let same = source_identity("i", &one) == source_identity("i", &other);
            prop_assert_eq!(same, one == other, "{} {}", one, other);
        }
    }
}
