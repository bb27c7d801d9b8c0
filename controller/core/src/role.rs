//! The names of IAM roles, and the patterns that say which of them a class takes.
//!
//! A name that cannot be taken apart is none, so that no pattern matches across its parts. This module must not know
//! who assumes a role or why.

use std::fmt;

/// The longest name of a role: partition, account, path and name at their longest are shorter.
pub const MAX_ARN: usize = 640;

/// The ARN of an IAM role: `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleArn(String);

/// A role's ARN with `*` (any characters, also none) and `?` (any one) in its account, path and name. It
/// matches whole ARNs only, as in IAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePattern(String);

/// A text that is no ARN of a role, or no pattern of such.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the ARN of an IAM role")]
pub struct InvalidRole;

impl RoleArn {
    /// Checks the form.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidRole> {
        let text = text.into();
        let Some((_, account, name)) = parts(&text) else { return Err(InvalidRole) };
        let is_valid = account.len() == 12
            && account.bytes().all(|c| c.is_ascii_digit())
            && name.bytes().all(is_of_name)
            && !name.ends_with('/');
        if is_valid { Ok(Self(text)) } else { Err(InvalidRole) }
    }

    /// The ARN as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part of AWS that it is in: `aws`, `aws-cn`, `aws-us-gov`.
    pub fn partition(&self) -> &str {
        parts(&self.0).map_or("aws", |(partition, ..)| partition)
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RolePattern {
    /// Checks the form.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidRole> {
        let text = text.into();
        let Some((_, account, name)) = parts(&text) else { return Err(InvalidRole) };
        let is_wild = |c| matches!(c, b'*' | b'?');
        let is_valid = (1..=12).contains(&account.len())
            && account.bytes().all(|c| c.is_ascii_digit() || is_wild(c))
            && name.bytes().all(|c| is_of_name(c) || is_wild(c))
            && !name.ends_with('/');
        if is_valid { Ok(Self(text)) } else { Err(InvalidRole) }
    }

    /// Whether all of `role` is what the pattern says.
    pub fn matches(&self, role: &RoleArn) -> bool {
        is_like(self.0.as_bytes(), role.0.as_bytes())
    }
}

impl fmt::Display for RolePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Partition, account, and path and name of an ARN of a role; the name is not empty.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (partition, rest) = text.strip_prefix("arn:")?.split_once(":iam::")?;
    let (account, name) = rest.split_once(":role/")?;
    let is_partition = partition.strip_prefix("aws").is_some_and(|rest| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_lowercase() || c == b'-')
            })
    });
    (is_partition && !name.is_empty() && text.len() <= MAX_ARN)
        .then_some((partition, account, name))
}

/// What a role's path and name are made of. IAM takes more in paths, which nobody writes.
const fn is_of_name(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'+' | b'=' | b',' | b'.' | b'@' | b'_' | b'-' | b'/')
}

/// Whether all of `text` is what `pattern` says, in time at most the product of their lengths.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // the last star, and how much of the text it stands for so far
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(same) if same == c => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_role_is_an_arn_with_all_of_its_parts() {
        for good in [
            "arn:aws:iam::123456789012:role/r",
            "arn:aws-cn:iam::123456789012:role/team/r-1_x",
            "arn:aws-us-gov:iam::123456789012:role/a+=,.@b",
        ] {
            assert_eq!(RoleArn::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "role/r",
            "arn:aws:iam::12345678901:role/r",
            "arn:aws:iam::1234567890123:role/r",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/r/",
            "arn:aws:iam::123456789012:user/r",
            "arn:aws:sts::123456789012:assumed-role/r/s",
            "arn:aws:iam:us-east-1:123456789012:role/r",
            "arn:aws-:iam::123456789012:role/r",
            "arn:awsx:iam::123456789012:role/r",
            "arn:aws:iam::123456789012:role/*",
            "arn:aws:iam::*:role/r",
            "arn:aws:iam::123456789012:role/a:role/b",
            "arn:aws:iam::123456789012:role/a b",
            "arn:aws:iam::123456789012:role/r\n",
        ] {
            assert_eq!(RoleArn::parse(bad), Err(InvalidRole), "{bad:?}");
        }
        let long = format!("arn:aws:iam::123456789012:role/{}", "r".repeat(MAX_ARN));
        assert!(RoleArn::parse(long).is_err());
        let role = RoleArn::parse("arn:aws-us-gov:iam::123456789012:role/r").unwrap();
        assert_eq!(role.partition(), "aws-us-gov");
    }

    #[test]
    fn a_pattern_matches_whole_arns_within_its_fixed_parts() {
        let role = RoleArn::parse("arn:aws:iam::123456789012:role/team/quilt-a").unwrap();
        for matching in [
            "arn:aws:iam::123456789012:role/team/quilt-a",
            "arn:aws:iam::123456789012:role/team/quilt-?",
            "arn:aws:iam::123456789012:role/team/*",
            "arn:aws:iam::123456789012:role/*",
            "arn:aws:iam::*:role/team/quilt-a",
            "arn:aws:iam::1234567890??:role/*/quilt-*",
        ] {
            assert!(RolePattern::parse(matching).unwrap().matches(&role), "{matching}");
        }
        for other in [
            "arn:aws:iam::123456789012:role/team/quilt-",
            "arn:aws:iam::123456789012:role/team/quilt-??",
            "arn:aws:iam::123456789012:role/quilt-*",
            "arn:aws:iam::210987654321:role/*",
            "arn:aws-cn:iam::123456789012:role/*",
            "arn:aws:iam::123456789012:role/TEAM/*",
        ] {
            assert!(!RolePattern::parse(other).unwrap().matches(&role), "{other}");
        }
        for bad in [
            "*",
            "arn:*",
            "arn:aws:iam::*",
            "arn:*:iam::1:role/r",
            "arn:aws:*::1:role/r",
            "arn:aws:iam::1:*",
        ] {
            assert!(RolePattern::parse(bad).is_err(), "{bad}");
        }
    }

    /// The same, as plainly as it can be said.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=text.len()).any(|taken| plainly(rest, &text[taken..])),
            (Some((b'?', pattern)), Some((_, text))) => plainly(pattern, text),
            (Some((p, pattern)), Some((t, text))) => p == t && plainly(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_and_question_marks_mean_what_they_mean(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(is_like(pattern, text), plainly(pattern, text));
        }
    }
}
