//! From what was written to the words of `patchbay-core`, or to everything that is wrong with it.
//!
//! A field that this release cannot honour is refused by name and never ignored: a bound that is
//! not enforced is worse than an error. These modules must not know YAML, files or an API server.

pub mod address;
pub mod credentials;
pub mod duration;
pub mod identity_provider;
pub mod quantity;
mod scheduling;
mod secret;
pub mod templates;
pub mod tenant;
mod tools;
pub mod worker_class;

use patchbay_core::cidr::Cidr;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use std::fmt;

/// One thing that is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; {fix}")]
pub struct FieldError {
    /// Where it is, for example `spec.egress.hosts[0].host`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub fix: String,
}

/// What is wrong with a value, wherever the value is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {fix}")]
pub struct Problem {
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub fix: String,
}

impl Problem {
    /// A problem and its fix.
    pub fn new(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { problem: problem.into(), fix: fix.into() }
    }

    /// A problem with `value`, which is quoted, cut to 80 characters.
    pub fn with(value: &str, problem: impl fmt::Display, fix: impl Into<String>) -> Self {
        Self::new(format!("{} {problem}", quoted(value)), fix)
    }
}

/// A value of a document in an error message: in quotes, on one line, cut to 80 characters.
pub(crate) fn quoted(value: &str) -> String {
    let cut: String = value.chars().take(80).flat_map(char::escape_debug).collect();
    let ellipsis = if value.chars().nth(80).is_some() { "…" } else { "" };
    format!("`{cut}{ellipsis}`")
}

/// Where a class is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a cluster, which is many users'.
    Cluster,
    /// On one machine without a cluster.
    OneMachine,
}

/// The field `key` of the object at `field`; a key that is no plain word is quoted.
pub(crate) fn member(field: &str, key: &str) -> String {
    let is_word = !key.is_empty()
        && key.len() <= 80
        && key.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'));
    match (field, is_word) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{field}.{key}"),
        (_, false) => format!("{field}[{}]", quoted(key)),
    }
}

/// A name: visible ASCII, at most `most` characters.
fn word(name: &str, most: u32) -> Result<(), Problem> {
    let is_word = (1..=most as usize).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_word {
        return Ok(());
    }
    let fix = format!("use 1 to {most} visible ASCII characters, without spaces");
    Err(Problem::with(name, "is not a name", fix))
}

/// The element at `index` of the list at `field`.
pub(crate) fn element(field: &str, index: usize) -> String {
    format!("{field}[{index}]")
}

/// Collects everything that is wrong with one object.
#[derive(Debug, Default)]
struct Findings(Vec<FieldError>);

impl Findings {
    fn add(&mut self, field: impl Into<String>, problem: Problem) {
        let Problem { problem, fix } = problem;
        self.0.push(FieldError { field: field.into(), problem, fix });
    }

    /// The value, or none once its problem is noted.
    fn check<T>(&mut self, field: impl Into<String>, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.add(field, problem)).ok()
    }

    /// Notes every value that an earlier one equals.
    fn unique<'a>(
        &mut self,
        values: impl Iterator<Item = &'a str>,
        field: impl Fn(usize) -> String,
    ) {
        let mut seen = std::collections::BTreeMap::new();
        for (index, value) in values.enumerate() {
            if let Some(first) = seen.get(value) {
                let problem = format!("is the same as {}", field(*first));
                self.add(field(index), Problem::new(problem, "remove one of them"));
            } else {
                seen.insert(value, index);
            }
        }
    }

    /// The object, if it is whole and nothing was noted.
    fn finish<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

/// A name of the rules in `patchbay_core::id`.
fn name<T>(
    name: Option<&str>,
    parse: fn(String) -> Result<T, patchbay_core::id::InvalidName>,
) -> Result<T, Problem> {
    let Some(name) = name else {
        return Err(Problem::new("is missing", "give the object a name"));
    };
    parse(name.to_owned())
        .map_err(|error| Problem::with(name, format!("is not a {}", error.kind), error.rule))
}

/// The SHA-256 value in `sha256:<64 hexadecimal characters>`. A wrong text is not quoted: it may be
/// the very secret that was to be digested.
fn digest(text: &str) -> Result<patchbay_core::digest::Digest, Problem> {
    text.strip_prefix("sha256:")
        .and_then(|hex| patchbay_core::digest::Digest::parse(hex).ok())
        .ok_or_else(|| {
            Problem::new(
                "is not a SHA-256 digest",
                "write `sha256:` and 64 lower-case hexadecimal characters",
            )
        })
}

fn not_empty(text: &str, fix: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new("is empty", fix));
    }
    Ok(())
}

/// An address range such as `10.0.0.0/8`.
fn cidr(text: &str) -> Result<Cidr, Problem> {
    Cidr::parse(text).map_err(|_| {
        Problem::with(
            text,
            "is not an address range",
            "write an IP address, `/` and a prefix length, such as `10.0.0.0/8`",
        )
    })
}

/// A bundle is PEM and holds at least one certificate.
pub(crate) fn certificates(bundle: &str) -> Result<(), Problem> {
    let fix = "paste PEM certificates, from `-----BEGIN CERTIFICATE-----` to their end lines";
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        if certificate.is_err() {
            return Err(Problem::new("is not PEM", fix));
        }
        count += 1;
    }
    if count == 0 { Err(Problem::new("holds no certificate", fix)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_field_problem_and_fix() {
        let error = FieldError {
            field: "spec.path".into(),
            problem: "`x` does not start with `/`".into(),
            fix: "write `/x`".into(),
        };
        assert_eq!(error.to_string(), "spec.path: `x` does not start with `/`; write `/x`");
    }

    #[test]
    fn quoted_values_are_bounded_and_on_one_line() {
        assert_eq!(quoted("a\nb"), "`a\\nb`");
        assert_eq!(quoted(&"x".repeat(81)), format!("`{}…`", "x".repeat(80)));
        assert_eq!(quoted(&"x".repeat(80)), format!("`{}`", "x".repeat(80)));
    }

    #[test]
    fn a_key_that_is_no_word_is_quoted_in_a_path() {
        assert_eq!(member("", "spec"), "spec");
        assert_eq!(member("spec.env", "LOG_LEVEL"), "spec.env.LOG_LEVEL");
        assert_eq!(member("spec.env", "a.b\n"), "spec.env[`a.b\\n`]");
        assert_eq!(element("spec.command", 2), "spec.command[2]");
    }

    #[test]
    fn address_ranges_of_both_families_are_known() {
        for good in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "10.1.2.3/32"] {
            assert!(cidr(good).is_ok(), "{good}");
        }
        for bad in
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8", "::/", "::/+8", "::/08"]
        {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_name_their_algorithm() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(digest(&format!("sha256:{hex}")).is_ok());
        for bad in [hex.to_owned(), format!("sha256:{}", hex.to_uppercase()), "sha256:00".into()] {
            assert!(digest(&bad).is_err(), "{bad}");
        }
    }
}
