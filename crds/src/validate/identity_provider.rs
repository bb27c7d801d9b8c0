//! From an `IdentityProvider` as written to a validated one.
//!
//! This module must not know how a credential is verified.

use super::{FieldError, Findings, Problem, address, certificates, digest, name, not_empty};
use crate::{
    IdentityProvider,
    identity_provider::{
        ApiKey, ApiKeys, CatalogOrigins, IdentityProviderSpec, Introspection, Provisioning,
    },
};
use jwt::jwt;
use patchbay_core::{
    id::{ClassName, ProviderName},
    provider::{self, API_KEY_PREFIX, Method, api_key_id},
};

mod enhanced;
mod jwt;

/// The provider in the words of the core, or everything that is wrong with it.
pub fn validate(
    provider: &IdentityProvider,
) -> Result<provider::IdentityProvider, Vec<FieldError>> {
    let mut findings = Findings::default();
    let IdentityProviderSpec { classes, provisioning, jwt, introspection, api_keys } =
        &provider.spec;
    let name = findings
        .check("metadata.name", name(provider.metadata.name.as_deref(), ProviderName::parse));
    let classes = self::classes(&mut findings, classes);
    if [jwt.is_some(), introspection.is_some(), api_keys.is_some()]
        .iter()
        .filter(|is_set| **is_set)
        .count()
        != 1
    {
        findings.add(
            "spec",
            Problem::new(
                "does not say exactly one way to prove who a user is",
                "set exactly one of `jwt`, `introspection` and `apiKeys`",
            ),
        );
    }
    let default_issuer =
        format!("urn:patchbay:api-keys:{}", name.as_ref().map_or("", ProviderName::as_str));
    let api_keys =
        api_keys.as_ref().and_then(|keys| self::api_keys(&mut findings, keys, default_issuer));
    let jwt = jwt.as_ref().and_then(|jwt| self::jwt(&mut findings, jwt));
    let introspection =
        introspection.as_ref().map(|asked| self::introspection(&mut findings, asked));
    let method = api_keys
        .map(Method::ApiKeys)
        .or(jwt.map(Method::Jwt))
        .or(introspection.map(Method::Introspection));
    let validated = name.zip(method).map(|(name, method)| provider::IdentityProvider {
        name,
        classes,
        provisioning: match provisioning {
            Provisioning::OnFirstContact => provider::Provisioning::OnFirstContact,
            Provisioning::Preprovisioned => provider::Provisioning::Preprovisioned,
        },
        method,
    });
    findings.finish(validated)
}

fn classes(findings: &mut Findings, classes: &[String]) -> Vec<ClassName> {
    if classes.is_empty() {
        findings.add(
            "spec.classes",
            Problem::new("is empty", "list the WorkerClasses that its users may reach"),
        );
    }
    let field = |index| format!("spec.classes[{index}]");
    findings.unique(classes.iter().map(String::as_str), field);
    classes
        .iter()
        .enumerate()
        .filter_map(|(index, class)| {
            findings.check(field(index), name(Some(class), ClassName::parse))
        })
        .collect()
}

fn introspection(findings: &mut Findings, asked: &Introspection) -> provider::Introspection {
    let Introspection { catalog } = asked;
    self::catalog(findings, "spec.introspection.catalog", catalog)
}

/// The catalog at `field` that is asked.
fn catalog(
    findings: &mut Findings,
    field: &str,
    asked: &CatalogOrigins,
) -> provider::Introspection {
    let CatalogOrigins { origin, registry, ca_bundle } = asked;
    findings.check(format!("{field}.origin"), address::origin(origin));
    findings.check(format!("{field}.registry"), address::origin(registry));
    if let Some(bundle) = ca_bundle {
        findings.check(format!("{field}.caBundle"), certificates(bundle));
    }
    provider::Introspection {
        origin: origin.clone(),
        registry: registry.clone(),
        ca_bundle: ca_bundle.clone(),
    }
}

fn api_keys(
    findings: &mut Findings,
    keys: &ApiKeys,
    default_issuer: String,
) -> Option<provider::ApiKeys> {
    let ApiKeys { issuer, keys } = keys;
    if let Some(issuer) = issuer {
        let fix = "name who vouches for the users, or leave the field out";
        findings.check("spec.apiKeys.issuer", not_empty(issuer, fix));
    }
    findings.unique(keys.iter().map(|key| key.id.as_str()), |index| {
        format!("spec.apiKeys.keys[{index}].id")
    });
    let validated: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| api_key(findings, &format!("spec.apiKeys.keys[{index}]"), key))
        .collect();
    Some(provider::ApiKeys {
        issuer: issuer.clone().unwrap_or(default_issuer),
        keys: validated.into_iter().collect::<Option<_>>()?,
    })
}

fn api_key(findings: &mut Findings, field: &str, key: &ApiKey) -> Option<provider::ApiKey> {
    let ApiKey { id, subject, digest: digest_text, expires_at } = key;
    // the gateway finds a key by what this function makes of it, so this function is the rule
    if api_key_id(&format!("{API_KEY_PREFIX}{id}_secret")) != Some(id.as_str()) {
        findings.add(
            format!("{field}.id"),
            // not quoted: it may be the whole key
            Problem::new(
                "is not the id of an API key",
                "write `<id>` of `pb_<id>_<secret>`: 1 to 32 lower-case letters and digits",
            ),
        );
    }
    let fix = "name the user whose key it is";
    findings.check(format!("{field}.subject"), not_empty(subject, fix));
    let digest = findings.check(format!("{field}.digest"), digest(digest_text))?;
    Some(provider::ApiKey {
        id: id.clone(),
        subject: subject.clone(),
        digest,
        expires_at: *expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchbay_core::digest::Digest;
    use serde_json::{Value, json};

    fn provider(name: &str, spec: Value) -> IdentityProvider {
        IdentityProvider::new(name, serde_json::from_value(spec).unwrap())
    }

    fn key(id: &str) -> Value {
        let digest = format!("sha256:{}", Digest::of(format!("pb_{id}_secret").as_bytes()));
        json!({"id": id, "subject": "alice", "digest": digest})
    }

    fn fields(name: &str, spec: Value) -> Vec<String> {
        validate(&provider(name, spec)).unwrap_err().into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn api_keys_convert_fully() {
        let mut expiring = key("k2");
        expiring["expiresAt"] = json!("2030-01-31T00:00:00Z");
        let validated = validate(&provider(
            "keys",
            json!({
                "classes": ["quilt", "other"],
                "provisioning": "Preprovisioned",
                "apiKeys": {"keys": [key("k1"), expiring]},
            }),
        ))
        .unwrap();
        assert_eq!(validated.name.as_str(), "keys");
        assert_eq!(validated.provisioning, provider::Provisioning::Preprovisioned);
        assert_eq!(validated.classes.len(), 2);
        let Method::ApiKeys(keys) = validated.method else { panic!() };
        assert_eq!(keys.issuer, "urn:patchbay:api-keys:keys");
        assert_eq!(keys.keys[0].digest, Digest::of(b"pb_k1_secret"));
        assert_eq!(keys.keys[0].expires_at, None);
        let expires_at = keys.keys[1].expires_at.unwrap();
        assert_eq!(expires_at.to_string(), "2030-01-31T00:00:00Z");
    }

    #[test]
    fn the_issuer_of_api_keys_can_be_chosen_but_not_empty() {
        let spec = |issuer| json!({"classes": ["c"], "apiKeys": {"issuer": issuer, "keys": []}});
        let method = validate(&provider("p", spec("urn:x"))).unwrap().method;
        let Method::ApiKeys(keys) = method else { panic!() };
        assert_eq!(keys.issuer, "urn:x");
        assert_eq!(fields("p", spec("")), ["spec.apiKeys.issuer"]);
    }

    #[test]
    fn every_bad_field_is_named() {
        let mut no_subject = key("k1");
        no_subject["subject"] = json!("");
        let mut bad_digest = key("k3");
        bad_digest["digest"] = json!("sha256:short");
        let spec = json!({
            "classes": ["ok", "Bad", "ok"],
            "apiKeys": {"keys": [key("k1"), no_subject, key("UPPER"), bad_digest]},
        });
        assert_eq!(
            fields("Not_A_Name", spec),
            [
                "metadata.name",
                "spec.classes[2]",
                "spec.classes[1]",
                "spec.apiKeys.keys[1].id",
                "spec.apiKeys.keys[1].subject",
                "spec.apiKeys.keys[2].id",
                "spec.apiKeys.keys[3].digest",
            ]
        );
        assert_eq!(fields("p", json!({"classes": [], "apiKeys": {"keys": []}})), ["spec.classes"]);
    }

    #[test]
    fn a_key_that_was_written_where_its_id_or_digest_belongs_is_not_repeated() {
        let secret = "pb_alice1_c2VjcmV0";
        let pasted = json!({"id": secret, "subject": "alice", "digest": secret});
        let spec = json!({"classes": ["c"], "apiKeys": {"keys": [pasted, pasted]}});
        let errors = validate(&provider("p", spec)).unwrap_err();
        assert_eq!(errors.len(), 5);
        for error in errors {
            assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
        }
    }

    #[test]
    fn exactly_one_way_is_wanted() {
        assert_eq!(fields("p", json!({"classes": ["c"]})), ["spec"]);
        let two = json!({
            "classes": ["c"],
            "apiKeys": {"keys": []},
            "introspection": {"catalog": {
                "origin": "https://c.example", "registry": "https://r.example"
            }},
        });
        assert_eq!(fields("p", two), ["spec"]);
    }

    #[test]
    fn an_introspection_provider_names_two_origins() {
        let asked = |registry| {
            json!({"classes": ["c"], "introspection": {"catalog": {
                "origin": "https://c.example", "registry": registry
            }}})
        };
        let validated = validate(&provider("p", asked("https://r.example"))).unwrap();
        assert!(matches!(validated.method, Method::Introspection(_)));
        assert_eq!(fields("p", asked("http://r.example")), ["spec.introspection.catalog.registry"]);
    }
}
