//! SHA-256 and HMAC-SHA-256 over named, length-prefixed fields.
//!
//! Length prefixes make every digest injective over its fields: `("ab", "c")` and `("a", "bc")` never
//! collide. This module must not know what is digested.

use aws_lc_rs::{constant_time, digest, hmac, rand};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// A SHA-256 value. It prints as lower-case hex; it is not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// The text is not 64 lower-case hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lower-case hexadecimal characters (a SHA-256 value)")]
pub struct InvalidDigest;

impl Digest {
    /// SHA-256 of one byte string.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_slice(digest::digest(&digest::SHA256, bytes).as_ref())
    }

    /// SHA-256 over `domain` and then each field, all length-prefixed.
    pub fn of_fields(domain: &str, fields: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for field in std::iter::once(domain.as_bytes()).chain(fields.iter().copied()) {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field);
        }
        Self::from_slice(context.finish().as_ref())
    }

    /// Reads the form that [`fmt::Display`] prints.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidDigest)?;
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|_| InvalidDigest)
    }

    /// The raw 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Equality whose duration does not depend on where the values differ.
    pub fn constant_time_eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    fn from_slice(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(bytes);
        Self(out)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// A random key, made at start and never stored, under which credentials are remembered.
///
/// A keyed digest can be compared and used as a map key, but reveals nothing about a credential to
/// someone who reads memory dumps of another process or a log: without the key it cannot be searched.
pub struct DigestKey(hmac::Key);

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system's random source failed")]
pub struct NoRandomness;

impl DigestKey {
    /// A fresh key from the operating system's random source.
    pub fn generate() -> Result<Self, NoRandomness> {
        hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map(Self)
            .map_err(|_| NoRandomness)
    }

    /// The keyed digest of `domain` and `secret`.
    pub fn digest(&self, domain: &str, secret: &[u8]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&(domain.len() as u64).to_be_bytes());
        context.update(domain.as_bytes());
        context.update(secret);
        Digest::from_slice(context.sign().as_ref())
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

/// Fills a fresh array from the operating system's random source.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut out = [0; N];
    rand::fill(&mut out).map_err(|_| NoRandomness)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_matches_the_published_vector() {
        // FIPS 180-2, appendix B.1
        assert_eq!(
            Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_digest() {
        assert_ne!(Digest::of_fields("d", &[b"ab", b"c"]), Digest::of_fields("d", &[b"a", b"bc"]));
        assert_ne!(Digest::of_fields("d", &[b""]), Digest::of_fields("d", &[]));
        assert_ne!(Digest::of_fields("d", &[b"x"]), Digest::of_fields("e", &[b"x"]));
    }

    #[test]
    fn parse_reads_what_display_prints_and_nothing_else() {
        let digest = Digest::of(b"x");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        assert_eq!(Digest::parse(&digest.to_string().to_uppercase()), Err(InvalidDigest));
        assert_eq!(Digest::parse("00"), Err(InvalidDigest));
    }

    #[test]
    fn keyed_digests_differ_between_keys_and_domains() {
        let (a, b) = (DigestKey::generate().unwrap(), DigestKey::generate().unwrap());
        assert_eq!(a.digest("d", b"s"), a.digest("d", b"s"));
        assert_ne!(a.digest("d", b"s"), b.digest("d", b"s"));
        assert_ne!(a.digest("d", b"s"), a.digest("e", b"s"));
        assert_eq!(format!("{a:?}"), "DigestKey(..)");
    }
}
