//! What a Tenant may say, and how it may change.
//!
//! These rules hold whoever writes: a gateway with an old view of a tenant, two gateways at once,
//! an operator with an editor. This module must not know who that is.

use super::{form, rule};
use kube::core::{Reason, Rule};

/// The rule about the whole object. That the name is the one which the identity makes takes a
/// digest, which no rule can compute; whoever reads the object checks that.
pub(crate) fn name() -> Rule {
    rule(
        "self.metadata.name.matches('^t-[a-z2-7]{20}$')",
        "metadata.name is not a tenant's name; it follows from the identity: let `patchbay \
         tenant` print the manifest",
    )
}

/// The rules about the spec.
pub(crate) fn spec() -> [Rule; 3] {
    let gained = |expression: &str| {
        rule(
            format!("!self.suspended || !has(self.assignment) || {expression}"),
            "a suspended tenant gains no assignment; leave it as it was, or empty `worker` and \
             `uid`, or set `suspended: false` first",
        )
        .field_path(".assignment")
        .reason(Reason::FieldValueForbidden)
    };
    [
        rule(
            "!has(oldSelf.assignment) || has(self.assignment)",
            "an assignment is never removed, or its epoch would be forgotten; empty `worker` and \
             `uid` instead",
        )
        .field_path(".assignment"),
        // Two rules, for a new tenant and for a known one: behind an optional `oldSelf` a point in
        // time is a text, which equals no point in time (seen with Kubernetes 1.36).
        gained("oldSelf.hasValue()").optional_old_self(true),
        // as it was, or emptied: the same wait may go on, but no other one may begin
        gained(
            "(has(oldSelf.assignment) && self.assignment.epoch == oldSelf.assignment.epoch && \
             (!has(self.assignment.requestedAt) || \
             (has(oldSelf.assignment.requestedAt) && \
             self.assignment.requestedAt == oldSelf.assignment.requestedAt)) && \
             (self.assignment.worker == '' || \
             (self.assignment.worker == oldSelf.assignment.worker && \
             self.assignment.uid == oldSelf.assignment.uid)))",
        ),
    ]
}

/// The rules about a class's name.
pub(crate) fn class_name() -> Vec<Rule> {
    let mut rules = form::label().to_vec();
    rules.push(rule(
        "self == oldSelf",
        "a tenant's class cannot be changed; delete this Tenant, and let `patchbay tenant` print \
         one for the other class",
    ));
    rules
}

/// The rules about an identity.
pub(crate) fn identity() -> [Rule; 4] {
    [
        rule(
            "self == oldSelf",
            "a tenant's identity cannot be changed; delete this Tenant, and let `patchbay tenant` \
             print one for the other identity",
        ),
        rule("self.issuer.trim() != ''", "is empty; name who vouches for the user")
            .field_path(".issuer"),
        rule("self.subject.trim() != ''", "is empty; name the user in the issuer's words")
            .field_path(".subject"),
        rule(
            format!("!has(self.authority) || {}", form::is_digest("self.authority")),
            "is not a SHA-256 digest; write `sha256:` and 64 lower-case hexadecimal characters",
        )
        .field_path(".authority"),
    ]
}

/// The rules about an assignment.
pub(crate) fn assignment() -> [Rule; 3] {
    [
        rule(
            "(self.worker == '') == (self.uid == '')",
            "names a worker by half; set both `worker` and `uid`, or empty both",
        ),
        rule(
            "self.epoch >= oldSelf.epoch",
            "an epoch never decreases; read the Tenant again, and use a greater one",
        )
        .field_path(".epoch"),
        rule(
            "self.epoch != oldSelf.epoch || self.worker == '' || oldSelf.worker == '' || \
             (self.worker == oldSelf.worker && self.uid == oldSelf.uid)",
            "under one epoch a worker is not exchanged for another; use a greater epoch for \
             another worker",
        ),
    ]
}
