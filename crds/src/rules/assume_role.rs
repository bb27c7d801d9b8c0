//! What a class may say of the AWS roles that are assumed for its users.
//!
//! This module must not know how roles are assumed.

use super::{form, rule};
use kube::core::Rule;

const PARTITION: &str = "aws(-[a-z-]+)?";

fn is_role_arn(text: &str) -> String {
    let arn =
        format!("arn:{PARTITION}:iam::[0-9]{{12}}:role/[A-Za-z0-9+=,.@_/-]*[A-Za-z0-9+=,.@_-]");
    form::is(text, &arn)
}

/// The rules about how roles are assumed.
pub(crate) fn assume_role() -> [Rule; 1] {
    [rule(
        "[has(self.role), has(self.roleMap), has(self.roleClaim)].exists_one(is_set, is_set)",
        "does not say exactly one way to a user's role; set exactly one of `role`, `roleMap` and \
         `roleClaim`",
    )]
}

/// The rules about the ARN of a role.
pub(crate) fn role_arn() -> [Rule; 1] {
    [rule(
        is_role_arn("self"),
        "is not the ARN of an IAM role; write `arn:aws:iam::`, the account, `:role/` and the \
         role's path and name",
    )]
}

/// The rules about ARNs by the value that chooses them.
pub(crate) fn role_arns() -> [Rule; 1] {
    [rule(
        format!("self.all(key, {})", is_role_arn("self[key]")),
        "leads to what is not the ARN of an IAM role; write `arn:aws:iam::`, the account, `:role/` \
         and the role's path and name",
    )]
}

/// The rules about patterns of ARNs.
pub(crate) fn role_patterns() -> [Rule; 1] {
    let pattern = format!(
        "arn:{PARTITION}:iam::[0-9*?]{{1,12}}:role/[A-Za-z0-9+=,.@_/*?-]*[A-Za-z0-9+=,.@_*?-]"
    );
    [rule(
        format!("self.all(pattern, {})", form::is("pattern", &pattern)),
        "has one that is not the ARN of an IAM role with `*` and `?`; write a pattern such as \
         `arn:aws:iam::123456789012:role/quilt-*`",
    )]
}

/// The rules about an external id.
pub(crate) fn external_id() -> [Rule; 1] {
    [rule(
        form::is("self", "[A-Za-z0-9_+=,.@:/-]{2,}"),
        "is not an external id; use 2 to 1224 letters, digits and `_+=,.@:/-`",
    )]
}

/// The rules about an STS endpoint.
pub(crate) fn endpoint() -> [Rule; 1] {
    form::origin_or_loopback()
}

/// The rules about session tags. That two keys differ by more than case is said by `crate::validate`: to compare all of
/// them with all of them costs more than an API server allows.
pub(crate) fn tags() -> [Rule; 3] {
    let kept = "[A-Za-z0-9 _.:/=+@-]";
    [
        rule(
            format!("self.all(key, {})", form::is("key", &format!("{kept}{{1,128}}"))),
            "has a key that is none of a tag; use 1 to 128 letters, digits, spaces and \
             `_.:/=+-@`",
        ),
        rule(
            "self.all(key, !key.matches('^(?i)(aws|patchbay):'))",
            "has a key that is reserved; let none start with `aws:` or `patchbay:`",
        ),
        rule(
            format!("self.all(key, {})", form::is("self[key]", &format!("{kept}*"))),
            "has a value that is none of a tag; use letters, digits, spaces and `_.:/=+-@`",
        ),
    ]
}
