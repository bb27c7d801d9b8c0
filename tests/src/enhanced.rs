//! Which tenant enhanced claims make of somebody, for suites that compare. It must not know who verified them.

use anyhow::Context;
use patchbay_core::{
    enhanced::{Codes, EnhancedClaims},
    entitlement::{Entitlement, SaidBy},
    id::ClassName,
    tenant::TenantKey,
};
use serde_json::Value;

/// The name of the tenant of somebody with such claims, without codes of the catalog's own.
///
/// # Errors
///
/// If the claims are no object.
pub fn tenant(
    class: &str,
    issuer: &str,
    subject: &str,
    claims: &Value,
    by: SaidBy,
) -> anyhow::Result<String> {
    let claims = claims.as_object().context("claims")?;
    let enhanced = EnhancedClaims::expand(claims, &Codes::new());
    let entitlement =
        Entitlement { enhanced: Some(enhanced), said_by: by, ..Entitlement::default() };
    let key = TenantKey {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        class: ClassName::parse(class)?,
        authority: entitlement.authority(),
    };
    Ok(key.name().to_string())
}
