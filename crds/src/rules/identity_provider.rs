//! What an `IdentityProvider` may say, beyond the form of each text.
//!
//! This module must not know how a credential is verified.

use super::{form, rule};
use kube::core::Rule;
use patchbay_core::entitlement::CLAIMS_OF_KEYS;

/// The rules about the spec.
pub(crate) fn spec() -> [Rule; 1] {
    [rule(
        "[has(self.jwt), has(self.introspection), has(self.apiKeys)].exists_one(is_set, is_set)",
        "does not say exactly one way to prove who a user is; set exactly one of `jwt`, \
         `introspection` and `apiKeys`",
    )]
}

/// The rules about the claims that narrow what users may do.
pub(crate) fn authority_claims() -> [Rule; 1] {
    let [one, other] = CLAIMS_OF_KEYS;
    [rule(
        format!("!('{one}' in self) && !('{other}' in self)"),
        "lists a claim that holds AWS keys; remove it: keys change with every token, and are no \
         part of whose worker it is",
    )]
}

/// The rules about signed tokens.
pub(crate) fn jwt() -> Vec<Rule> {
    let common = COMMON_CODES.map(|code| format!("'{code}'")).join(", ");
    let changed = format!(
        "!has(self.permissionCodes) || self.permissionCodes.all(code, !(code in [{common}]))"
    );
    vec![
        rule("self.issuer.trim() != ''", "is empty; write what the tokens say as `iss`")
            .field_path(".issuer"),
        rule(
            format!("!self.jwks.discovery || {}", form::is_discoverable("self.issuer")),
            "is not an https URL, below which `jwks.discovery` would look; write the issuer's https \
             URL, or say where its keys are",
        )
        .field_path(".issuer"),
        rule(
            "!('HS256' in self.algorithms) || has(self.jwks.secretRef)",
            "`HS256` needs `jwks.secretRef`: whoever can read its key can sign; name the Secret \
             that holds it, or use an asymmetric algorithm, such as RS256 or ES256",
        )
        .field_path(".algorithms"),
        rule(
            "!('HS256' in self.algorithms) || self.algorithms.all(name, name == 'HS256')",
            "`HS256` is beside an algorithm with a public key, which could be taken for the shared \
             one; make a provider of each",
        )
        .field_path(".algorithms"),
        rule(
            "self.format != 'quiltEnhanced' || has(self.catalog) || self.keyHeldByServersOnly",
            "`quiltEnhanced` does not prove who a user is where browsers hold its key; set \
             `catalog`, which is asked, or `keyHeldByServersOnly: true` if only servers hold it",
        )
        .field_path(".format"),
        rule(
            "self.format != 'quiltEnhanced' || !has(self.catalog) || !self.keyHeldByServersOnly",
            "`catalog` and `keyHeldByServersOnly` are two ways to know a user; leave one out",
        )
        .field_path(".format"),
        rule(
            "self.format == 'quiltEnhanced' || (!has(self.catalog) && !self.keyHeldByServersOnly)",
            "`catalog` and `keyHeldByServersOnly` belong to `format: quiltEnhanced`; set it, or \
             leave them out",
        )
        .field_path(".format"),
        rule(
            "self.format == 'quiltEnhanced' || ((!has(self.permissionCodes) || \
             size(self.permissionCodes) == 0) && (!has(self.roleAliases) || \
             size(self.roleAliases) == 0) && (!has(self.roles) || size(self.roles) == 0) && \
             !has(self.levels))",
            "`permissionCodes`, `roleAliases`, `roles` and `levels` belong to `format: \
             quiltEnhanced`; set it, or leave them out",
        )
        .field_path(".format"),
        rule(
            "self.format != 'quiltEnhanced' || !has(self.catalog) || !has(self.requiredClaims) || \
             size(self.requiredClaims) == 0",
            "keeps nobody out where browsers hold the key, and whoever holds a token can have made \
             its claims; leave it out",
        )
        .field_path(".requiredClaims"),
        rule(changed, "changes a code that means the same everywhere; leave it out")
            .field_path(".permissionCodes"),
        rule(
            "!has(self.permissionCodes) || self.permissionCodes.all(code, size(code) <= 256)",
            "has a code that is longer than 256 characters; shorten it",
        )
        .field_path(".permissionCodes"),
        rule(
            "!has(self.roleAliases) || self.roleAliases.all(alias, size(alias) <= 256)",
            "has a name that is longer than 256 characters; shorten it",
        )
        .field_path(".roleAliases"),
    ]
}

/// The codes of every catalog, which the core knows (`patchbay_core::enhanced`).
const COMMON_CODES: [&str; 8] = ["g", "p", "d", "l", "la", "gv", "pa", "amu"];

/// The rules about a set of keys.
pub(crate) fn jwks() -> [Rule; 1] {
    [rule(
        "[self.discovery, self.cluster, has(self.url), has(self.secretRef)].exists_one(is_set, \
         is_set)",
        "does not name exactly one place of the issuer's keys; set exactly one of `discovery: \
         true`, `cluster: true`, `url` and `secretRef`",
    )]
}

/// The rules about an API key. What it says wrongly is not repeated: it may be the whole key.
pub(crate) fn api_key() -> [Rule; 3] {
    [
        rule(
            form::is_key_id("self.id"),
            "is not the id of an API key; write `<id>` of `pb_<id>_<secret>`: 1 to 32 lower-case \
             letters and digits",
        )
        .field_path(".id"),
        rule("self.subject.trim() != ''", "is empty; name the user whose key it is")
            .field_path(".subject"),
        rule(
            form::is_digest("self.digest"),
            "is not a SHA-256 digest; write `sha256:` and 64 lower-case hexadecimal characters",
        )
        .field_path(".digest"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::enhanced::is_common_code;

    #[test]
    fn the_codes_of_every_catalog_are_those_of_the_core() {
        assert!(COMMON_CODES.into_iter().all(is_common_code));
        assert!(!is_common_code("gt"));
    }
}
