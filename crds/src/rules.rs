//! What a schema alone cannot say, as rules in CEL that an API server evaluates at every write
//! (`x-kubernetes-validations`).
//!
//! They say no more than `crate::validate`, but earlier: whoever applies a manifest reads what is
//! wrong with it at once, in the same words. Three things are theirs alone, because only an API
//! server knows the object as it was: what cannot be changed, what only grows, and what a
//! suspended tenant does not get.
//!
//! - Forms of texts are rules too and no `pattern`: an API server answers a pattern with a regular
//!   expression, a rule with a sentence.
//! - A rule about one text is answered with that text. Where it may be a secret that was pasted
//!   into the wrong field, the rule belongs to the object around it: objects are not repeated.
//! - Kubernetes 1.30 is the least that knows all of this (`optionalOldSelf`). Functions that are
//!   younger than 1.29 are not used: an API server admits those of its predecessor only.
//!
//! This module must not know how a rule gets into a schema.

pub(crate) mod assume_role;
pub(crate) mod form;
pub(crate) mod identity_provider;
pub(crate) mod templates;
pub(crate) mod tenant;
pub(crate) mod worker_class;

use kube::core::Rule;

/// A rule, and what is said where it does not hold: the problem, a semicolon, the fix.
fn rule(expression: impl Into<String>, message: &str) -> Rule {
    Rule::new(expression).message(message)
}
