//! From a Tenant as written to the key that makes its name.
//!
//! This module must not know how a tenant is served.

use super::{FieldError, Findings, Problem, digest, name, not_empty};
use crate::Tenant;
use patchbay_core::{
    id::ClassName,
    tenant::{Authority, TenantKey},
};

/// What makes the tenant, whatever its name is.
pub fn key(tenant: &Tenant) -> Result<TenantKey, Vec<FieldError>> {
    let mut findings = Findings::default();
    let identity = &tenant.spec.identity;
    let issuer_fix = "name who vouches for the user";
    findings.check("spec.identity.issuer", not_empty(&identity.issuer, issuer_fix));
    let subject_fix = "name the user in the issuer's words";
    findings.check("spec.identity.subject", not_empty(&identity.subject, subject_fix));
    let class =
        findings.check("spec.className", name(Some(&tenant.spec.class_name), ClassName::parse));
    let authority = match &identity.authority {
        None => Some(Authority::unrestricted()),
        Some(text) => {
            findings.check("spec.identity.authority", digest(text)).map(Authority::from_digest)
        }
    };
    let key = class.zip(authority).map(|(class, authority)| TenantKey {
        issuer: identity.issuer.clone(),
        subject: identity.subject.clone(),
        class,
        authority,
    });
    findings.finish(key)
}

/// What makes the tenant, if its name is the one that follows from it.
pub fn validate(tenant: &Tenant) -> Result<TenantKey, Vec<FieldError>> {
    let key = key(tenant)?;
    let expected = key.name();
    let mut findings = Findings::default();
    let found = tenant.metadata.name.as_deref().unwrap_or_default();
    if found != expected.as_str() {
        findings.add(
            "metadata.name",
            Problem::with(
                found,
                "is not the name of this identity",
                format!("write `{expected}`, or let `patchbay tenant` print the manifest"),
            ),
        );
    }
    findings.finish(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> Tenant {
        Tenant::for_key(&TenantKey {
            issuer: "i".into(),
            subject: "s".into(),
            class: ClassName::parse("c").unwrap(),
            authority: Authority::unrestricted(),
        })
    }

    #[test]
    fn every_bad_field_is_named() {
        let mut bad = tenant();
        bad.spec.identity.issuer = String::new();
        bad.spec.identity.subject = " ".into();
        bad.spec.identity.authority = Some("x".into());
        bad.spec.class_name = "Not A Name".into();
        let fields: Vec<_> =
            validate(&bad).unwrap_err().into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.identity.issuer",
                "spec.identity.subject",
                "spec.className",
                "spec.identity.authority"
            ]
        );
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_one() {
        let good = tenant();
        let mut renamed = good.clone();
        renamed.metadata.name = Some("t-aaaaaaaaaaaaaaaaaaaa".into());
        let errors = validate(&renamed).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, "metadata.name");
        assert!(errors[0].fix.contains(good.metadata.name.as_deref().unwrap()));
        assert!(validate(&good).is_ok());
    }
}
