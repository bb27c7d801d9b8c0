//! What a credential would get in each class, in words. Who asks for it is an operator who has the credential, so identity
//! and claims are told; the credential itself is not. It must not know how it was judged.

use jiff::Timestamp;
use patchbay_broker::Way;
use patchbay_core::{
    entitlement::{Entitlement, SaidBy},
    grant::GrantError,
    id::{ClassName, ProviderName},
    identity::Identity,
    tenant::TenantName,
};
use patchbay_gateway::authn::{AuthnError, NotAdmitted};
use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

/// Of a list, so much is shown.
const MOST_SHOWN: usize = 12;

/// What a credential would get in one class.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) class: ClassName,
    pub(super) path: String,
    pub(super) outcome: Outcome,
}

/// What it comes to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is refused.
    Refused(NotAdmitted),
    /// A catalog would be asked whose it is.
    WouldAsk { provider: ProviderName, catalog: String, entitlement: Arc<Entitlement> },
    /// It is somebody's.
    Proven {
        identity: Identity,
        tenant: TenantName,
        /// What the class's catalog would be shown, where it has one.
        catalog: Box<Option<Result<String, GrantError>>>,
        /// How the user comes to AWS keys, where the class gives any.
        way: Box<Result<Option<Way>, GrantError>>,
    },
}

impl Verdict {
    /// Whether somebody would be let in, as far as that is known.
    pub(super) fn is_good(&self) -> bool {
        match &self.outcome {
            Outcome::Refused(_) => false,
            Outcome::WouldAsk { .. } => true,
            Outcome::Proven { catalog, way, .. } => {
                way.is_ok() && !matches!(**catalog, Some(Err(_)))
            }
        }
    }
}

/// The verdicts, in lines.
pub(super) fn tell(verdicts: &[Verdict], now: Timestamp) -> String {
    let mut text = String::new();
    for Verdict { class, path, outcome } in verdicts {
        let lines = match outcome {
            Outcome::Refused(refused) => refusal(refused),
            Outcome::WouldAsk { provider, catalog, entitlement } => {
                let asked = format!("not asked: {catalog} would say whose it is");
                let mut lines = vec![("provider", provider.to_string()), ("user", asked)];
                lines.extend(claims(entitlement));
                lines
            }
            Outcome::Proven { identity, tenant, catalog, way } => {
                let mut lines = vec![
                    ("provider", identity.provider.to_string()),
                    ("user", format!("{}, as {} says", identity.subject, identity.issuer)),
                    ("until", until(identity.expires_at, now)),
                    ("tenant", tenant.to_string()),
                ];
                lines.extend(claims(&identity.entitlement));
                lines.extend(of_catalog(catalog.as_ref().as_ref()));
                lines.extend(aws(way, now));
                lines
            }
        };
        let _ = writeln!(text, "class {class}, at {path}");
        for (what, told) in lines {
            let _ = writeln!(text, "  {what:<12} {}", one_line(&told));
        }
    }
    text
}

/// Claims are whatever somebody wrote.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn refusal(NotAdmitted { error, provider }: &NotAdmitted) -> Vec<(&'static str, String)> {
    let by = provider.as_ref().map_or("none for it", ProviderName::as_str);
    let mut lines =
        vec![("provider", by.to_owned()), ("refused", format!("{}: {error}", error.reason()))];
    if let AuthnError::MissingClaim(claim) = error {
        lines.push(("missing", format!("the claim `{claim}`, or the value that it has to have")));
    }
    lines
}

fn until(end: Option<Timestamp>, now: Timestamp) -> String {
    end.map_or_else(
        || "it does not end by itself".to_owned(),
        |end| {
            let left = jiff::SignedDuration::from_secs(end.duration_since(now).as_secs());
            format!("{end:.0}, in {left:#}")
        },
    )
}

fn claims(entitlement: &Entitlement) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for (name, value) in &entitlement.claims {
        lines.push(("narrowed by", format!("{name}: {value}")));
    }
    if let Some(enhanced) = &entitlement.enhanced {
        lines.push(("level", enhanced.level.as_str().to_owned()));
        lines.push(("permissions", list(&enhanced.permissions)));
        lines.push(("buckets", list(&enhanced.buckets)));
        lines.push(("roles", list(&enhanced.roles)));
    }
    if entitlement.said_by == SaidBy::Holder {
        lines.push(("claims", "whoever holds it can have made them: they only take away".into()));
    }
    lines
}

fn list(all: &BTreeSet<String>) -> String {
    if all.is_empty() {
        return "none".into();
    }
    let shown: Vec<&str> = all.iter().take(MOST_SHOWN).map(String::as_str).collect();
    match all.len().checked_sub(MOST_SHOWN) {
        Some(more) if more > 0 => format!("{}, and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn of_catalog(catalog: Option<&Result<String, GrantError>>) -> Option<(&'static str, String)> {
    let told = match catalog? {
        Ok(told) => told.clone(),
        Err(error) => format!("none: {error}"),
    };
    Some(("catalog", told))
}

fn aws(way: &Result<Option<Way>, GrantError>, now: Timestamp) -> Vec<(&'static str, String)> {
    match way {
        Ok(None) => Vec::new(),
        Ok(Some(Way::Assume(assume))) => {
            let policy = assume.policy.as_deref().unwrap_or("none: all that the role may do");
            vec![("AWS role", assume.role.to_string()), ("policy", policy.to_owned())]
        }
        Ok(Some(Way::Exchange(exchange))) => {
            let policy = exchange.policy.as_deref().unwrap_or("none: all that the role may do");
            let by = "the token itself, which AWS would be shown";
            vec![
                ("AWS role", exchange.role.to_string()),
                ("by", by.to_owned()),
                ("policy", policy.to_owned()),
            ]
        }
        Ok(Some(Way::Carried(keys))) => {
            vec![(
                "AWS keys",
                format!("the token's own, until {}", until(Some(keys.expires_at), now)),
            )]
        }
        Ok(Some(Way::Own(_))) => {
            vec![("AWS keys", "of the gateway's own identity, on one machine alone".to_owned())]
        }
        Err(error) => vec![("AWS keys", format!("none: {error}"))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::{
        enhanced::{Codes, EnhancedClaims},
        identity::Mode,
    };
    use serde_json::json;

    fn identity() -> Identity {
        let payload = json!({"p": ["g", "l"], "b": ["b-alice"], "l": "write"});
        let enhanced = EnhancedClaims::expand(payload.as_object().unwrap(), &Codes::new());
        let entitlement = Entitlement { enhanced: Some(enhanced), ..Entitlement::default() };
        Identity {
            provider: ProviderName::parse("staff").unwrap(),
            issuer: "https://i.example".into(),
            subject: "alice".into(),
            authority: entitlement.authority(),
            entitlement: Arc::new(entitlement),
            mode: Mode::Jwt,
            expires_at: Some("2030-01-01T01:00:00Z".parse().unwrap()),
        }
    }

    fn now() -> Timestamp {
        "2030-01-01T00:00:00Z".parse().unwrap()
    }

    fn verdict(outcome: Outcome) -> Verdict {
        Verdict { class: ClassName::parse("quilt").unwrap(), path: "/mcp".into(), outcome }
    }

    #[test]
    fn whose_it_is_and_what_it_would_get_is_told() {
        let class = ClassName::parse("quilt").unwrap();
        let tenant = identity().tenant(&class).name();
        let name = tenant.to_string();
        let shown = "https://c.example is shown the credential as it is".to_owned();
        let good = verdict(Outcome::Proven {
            identity: identity(),
            tenant,
            catalog: Box::new(Some(Ok(shown))),
            way: Box::new(Ok(None)),
        });
        assert!(good.is_good());
        assert_eq!(
            tell(&[good], now()),
            format!(
                "\
class quilt, at /mcp
  provider     staff
  user         alice, as https://i.example says
  until        2030-01-01T01:00:00Z, in 1h
  tenant       {name}
  level        write
  permissions  s3:GetObject, s3:ListBucket
  buckets      b-alice
  roles        none
  catalog      https://c.example is shown the credential as it is
"
            )
        );
    }

    #[test]
    fn why_it_is_refused_is_told_with_the_claim_that_lacks() {
        let error = AuthnError::MissingClaim("org".into());
        let provider = Some(ProviderName::parse("staff").unwrap());
        let bad = verdict(Outcome::Refused(NotAdmitted { error, provider }));
        assert!(!bad.is_good());
        let told = tell(&[bad], now());
        assert!(told.contains("  refused      missing_claim: "), "{told}");
        assert!(told.contains("the claim `org`"), "{told}");
        let bad = verdict(Outcome::Refused(AuthnError::UnknownIssuer.into()));
        assert!(tell(&[bad], now()).contains("  provider     none for it\n"));
    }

    #[test]
    fn who_gets_no_role_is_told_why_and_that_is_not_good() {
        let class = ClassName::parse("quilt").unwrap();
        let tenant = identity().tenant(&class).name();
        let denied = GrantError::RoleDenied("the class lists none for this subject".into());
        let way = Box::new(Err(denied));
        let of = |catalog, way| {
            let (tenant, catalog) = (tenant.clone(), Box::new(catalog));
            verdict(Outcome::Proven { identity: identity(), tenant, catalog, way })
        };
        let bad = of(None, way);
        assert!(!bad.is_good());
        assert!(tell(&[bad], now()).contains("the class lists none for this subject"));

        let refused = GrantError::Refused("https://c.example".into());
        let bad = of(Some(Err(refused)), Box::new(Ok(None)));
        assert!(!bad.is_good());
        assert!(tell(&[bad], now()).contains("catalog      none: https://c.example refused"));
    }

    #[test]
    fn long_lists_are_cut_and_say_by_how_much() {
        let many: BTreeSet<String> = (0..20).map(|n| format!("b{n:02}")).collect();
        assert!(list(&many).ends_with("b11, and 8 more"));
        assert_eq!(list(&BTreeSet::new()), "none");
    }
}
