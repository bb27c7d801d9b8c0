//! `patchbay tenant`: the manifest of a user's Tenant object.

use crate::args::TenantArgs;
use anyhow::ensure;
use patchbay_core::{
    id::ClassName,
    tenant::{Authority, TenantKey},
};
use patchbay_crds::Tenant;
use serde_json::{Map, Value};

/// Prints the manifest as YAML.
pub(crate) fn run(args: TenantArgs) -> anyhow::Result<()> {
    let manifest = serde_saphyr::to_string(&Tenant::for_key(&key(args)?))?;
    print!("{manifest}");
    Ok(())
}

/// Claims as a token has them: a JSON object.
pub(crate) fn claims(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object of claims: {error}"))
}

fn key(args: TenantArgs) -> anyhow::Result<TenantKey> {
    let TenantArgs { issuer, subject, class, authority_claims } = args;
    ensure!(!issuer.is_empty(), "--issuer must not be empty");
    ensure!(!subject.is_empty(), "--subject must not be empty");
    Ok(TenantKey {
        issuer,
        subject,
        class: ClassName::parse(class)?,
        authority: Authority::from_claims(&authority_claims.unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_with(given: Option<&str>) -> String {
        let args = TenantArgs {
            issuer: "https://issuer.example".into(),
            subject: "alice".into(),
            class: "quilt".into(),
            authority_claims: given.map(|text| claims(text).unwrap()),
        };
        key(args).unwrap().name().to_string()
    }

    #[test]
    fn a_users_tenant_is_the_one_that_a_token_with_these_claims_has() {
        let of_token = |claims: Value| {
            let authority = Authority::from_claims(claims.as_object().unwrap());
            let class = ClassName::parse("quilt").unwrap();
            let (issuer, subject) = ("https://issuer.example".into(), "alice".into());
            TenantKey { issuer, subject, class, authority }.name().to_string()
        };
        let reader = serde_json::json!({ "role": "reader", "buckets": ["b", "a"] });
        assert_eq!(name_with(Some(r#"{"buckets":["b","a"],"role":"reader"}"#)), of_token(reader));
        assert_eq!(name_with(None), of_token(serde_json::json!({})));
        assert_eq!(name_with(Some("{}")), name_with(None));
        assert_ne!(name_with(Some(r#"{"role":"reader"}"#)), name_with(None));
    }

    #[test]
    fn a_tenant_of_an_enhanced_token_is_made_of_what_the_token_means() {
        use patchbay_core::{
            enhanced::{Codes, EnhancedClaims},
            entitlement::Entitlement,
        };
        let payload = serde_json::json!({ "p": ["g"], "b": ["b-alice"], "sub": "alice" });
        let enhanced = EnhancedClaims::expand(payload.as_object().unwrap(), &Codes::new());
        let said = Entitlement { enhanced: Some(enhanced), ..Entitlement::default() };
        let class = ClassName::parse("quilt").unwrap();
        let (issuer, subject) = ("https://issuer.example".into(), "alice".into());
        let of_token = TenantKey { issuer, subject, class, authority: said.authority() };
        let given = r#"{"quiltEnhanced": {"level": "read", "permissions": ["s3:GetObject"],
            "roles": [], "buckets": ["b-alice"]}}"#;
        assert_eq!(name_with(Some(given)), of_token.name().to_string());
    }

    #[test]
    fn claims_that_are_no_object_are_refused() {
        for bad in ["", "reader", "[]", r#""role""#, r#"{"role":"reader"} and more"#] {
            assert!(claims(bad).unwrap_err().starts_with("not a JSON object of claims"), "{bad}");
        }
    }
}
