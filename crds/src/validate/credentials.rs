//! From a class's `credentials` as written to validated ones.
//!
//! This module must not know how credentials are obtained.

use super::{
    Findings, Place, Problem, address, certificates, duration, element, member, secret, word,
};
use crate::{
    bounds,
    worker_class::{
        Ambient, AssumeRole, CatalogCredentials, CredentialSource, Credentials, ExchangeClient,
        PolicyClaims, RoleClaim, RoleMap, SessionPolicy, TokenExchange, WebIdentity,
        default_region,
    },
};
use patchbay_core::{
    class::{self, RoleChoice},
    quilt,
    role::{RoleArn, RolePattern},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

/// The shortest life of AWS keys.
pub const LEAST_KEYS: (&str, Duration) = ("15m", Duration::from_mins(15));
/// The longest life of AWS keys.
pub const MOST_KEYS: (&str, Duration) = ("12h", Duration::from_hours(12));

const CATALOG: &str = "spec.credentials.catalog";
const ASSUME_ROLE: &str = "spec.credentials.assumeRole";
const WEB_IDENTITY: &str = "spec.credentials.webIdentity";
const AMBIENT: &str = "spec.credentials.ambient";
const INLINE_CLAIMS: &str = "spec.credentials.inlineClaims";

/// The source, or none once its problems are noted.
pub(super) fn credentials(
    findings: &mut Findings,
    credentials: &Credentials,
    place: Place,
) -> Option<class::CredentialSource> {
    // what is made of files and variables is `templates`'
    let Credentials {
        source,
        catalog,
        assume_role,
        web_identity,
        inline_claims,
        ambient,
        files: _,
        env: _,
    } = credentials;
    let is_of_role = [CredentialSource::AssumeRole, CredentialSource::WebIdentity].contains(source);
    if assume_role.is_some() && !is_of_role {
        let fix = "set `source: assumeRole` or `source: webIdentity`, or remove it";
        findings.add(ASSUME_ROLE, Problem::new("would not be used", fix));
    }
    if web_identity.is_some() && *source != CredentialSource::WebIdentity {
        let fix = "set `source: webIdentity`, or remove it";
        findings.add(WEB_IDENTITY, Problem::new("would not be used", fix));
    }
    if inline_claims.is_some() && *source != CredentialSource::InlineClaims {
        let fix = "set `source: inlineClaims`, or remove it";
        findings.add(INLINE_CLAIMS, Problem::new("would not be used", fix));
    }
    if ambient.is_some() && *source != CredentialSource::Ambient {
        let fix = "set `source: ambient`, or remove it";
        findings.add(AMBIENT, Problem::new("would not be used", fix));
    }
    if catalog.is_some() && *source == CredentialSource::None {
        let fix = "set `source: catalog` or another source beside it, or remove it";
        findings.add(CATALOG, Problem::new("would not be used", fix));
    }
    let beside = |findings: &mut Findings| catalog.as_ref().map(|it| self::catalog(findings, it));
    match source {
        CredentialSource::None => Some(class::CredentialSource::None),
        CredentialSource::Catalog => {
            let Some(catalog) = catalog else {
                let fix = "say `catalog.origin` and `catalog.registry`";
                let problem = Problem::new("is missing, though `source` is `catalog`", fix);
                findings.add(CATALOG, problem);
                return None;
            };
            Some(class::CredentialSource::Catalog(self::catalog(findings, catalog)))
        }
        CredentialSource::AssumeRole => {
            let catalog = beside(findings);
            let source = self::role_of(findings, "assumeRole", assume_role.as_ref(), catalog)?;
            Some(class::CredentialSource::AssumeRole(Box::new(source)))
        }
        CredentialSource::WebIdentity => {
            let catalog = beside(findings);
            let role = self::role_of(findings, "webIdentity", assume_role.as_ref(), catalog);
            let source = self::web_identity(findings, web_identity.as_ref(), role)?;
            Some(class::CredentialSource::WebIdentity(Box::new(source)))
        }
        CredentialSource::InlineClaims => {
            let region = inline_claims.as_ref().map_or_else(default_region, |it| it.region.clone());
            findings.check(format!("{INLINE_CLAIMS}.region"), self::region(&region));
            let source = class::InlineClaims { region, catalog: beside(findings) };
            Some(class::CredentialSource::InlineClaims(Box::new(source)))
        }
        CredentialSource::Ambient => {
            let catalog = beside(findings);
            let source = self::ambient(findings, place, ambient.as_ref(), catalog)?;
            Some(class::CredentialSource::Ambient(Box::new(source)))
        }
    }
}

fn ambient(
    findings: &mut Findings,
    place: Place,
    written: Option<&Ambient>,
    catalog: Option<class::CatalogSource>,
) -> Option<class::Ambient> {
    if place == Place::Cluster {
        let problem = "`ambient` would give every user the cluster's own identity, and works on one machine without a \
                       cluster only";
        findings.add("spec.credentials.source", Problem::new(problem, "use another source"));
        return None;
    }
    let Some(Ambient { issuer, subject, region }) = written else {
        let fix =
            "say `ambient.issuer` and `ambient.subject`: whose this machine's own AWS identity is";
        let problem = Problem::new("is missing, though `source` is `ambient`", fix);
        findings.add(AMBIENT, problem);
        return None;
    };
    let fix = "name the one user, as `patchbay why` tells who somebody is";
    findings.check(format!("{AMBIENT}.issuer"), super::not_empty(issuer, fix));
    findings.check(format!("{AMBIENT}.subject"), super::not_empty(subject, fix));
    findings.check(format!("{AMBIENT}.region"), self::region(region));
    let (issuer, subject, region) = (issuer.clone(), subject.clone(), region.clone());
    Some(class::Ambient { issuer, subject, region, catalog })
}

/// Which role is a user's, where a source needs it.
fn role_of(
    findings: &mut Findings,
    source: &str,
    written: Option<&AssumeRole>,
    catalog: Option<class::CatalogSource>,
) -> Option<class::AssumeRole> {
    let Some(written) = written else {
        let fix = "say `assumeRole.role`, or another way to a user's role";
        let problem = Problem::new(format!("is missing, though `source` is `{source}`"), fix);
        findings.add(ASSUME_ROLE, problem);
        return None;
    };
    assume_role(findings, written, catalog)
}

fn web_identity(
    findings: &mut Findings,
    written: Option<&WebIdentity>,
    role: Option<class::AssumeRole>,
) -> Option<class::WebIdentity> {
    if role.as_ref().is_some_and(|role| role.external_id.is_some()) {
        let fix = "remove it: the role's trust policy decides by what the token says";
        let problem = Problem::new("is not taken where the user's own token is exchanged", fix);
        findings.add(format!("{ASSUME_ROLE}.externalId"), problem);
    }
    if role.as_ref().is_some_and(|role| !role.tags.is_empty()) {
        let fix = "remove them: tags are what the token says to AWS";
        let problem = Problem::new("are not taken where the user's own token is exchanged", fix);
        findings.add(format!("{ASSUME_ROLE}.tags"), problem);
    }
    let Some(WebIdentity { audience }) = written else {
        let fix = "say `webIdentity.audience`";
        let problem = Problem::new("is missing, though `source` is `webIdentity`", fix);
        findings.add(WEB_IDENTITY, problem);
        return None;
    };
    let fix = "name AWS as the tokens do, such as `sts.amazonaws.com`";
    findings.check(format!("{WEB_IDENTITY}.audience"), super::not_empty(audience, fix));
    Some(class::WebIdentity { audience: audience.clone(), role: role? })
}

fn catalog(findings: &mut Findings, catalog: &CatalogCredentials) -> class::CatalogSource {
    let CatalogCredentials { origin, registry, region, ca_bundle, audience, exchange } = catalog;
    findings.check(format!("{CATALOG}.origin"), address::origin(origin));
    findings.check(format!("{CATALOG}.registry"), address::origin(registry));
    if origin != registry && quilt::origin_host(origin) == quilt::origin_host(registry) {
        // quilt3 knows both by host name alone, so the relay could not tell them apart
        let fix = "give the registry a host name of its own, or let one origin serve both";
        let problem = Problem::with(registry, "differs from the catalog by its port alone", fix);
        findings.add(format!("{CATALOG}.registry"), problem);
    }
    if let Some(bundle) = ca_bundle {
        findings.check(format!("{CATALOG}.caBundle"), certificates(bundle));
    }
    findings.check(format!("{CATALOG}.region"), self::region(region));
    if let Some(audience) = audience {
        findings.check(format!("{CATALOG}.audience"), word(audience, bounds::IDENTITY));
    }
    let exchange = exchange.as_ref().map(|it| Box::new(self::exchange(findings, it)));
    class::CatalogSource {
        origin: origin.clone(),
        registry: registry.clone(),
        region: region.clone(),
        ca_bundle: ca_bundle.clone(),
        audience: audience.clone(),
        exchange,
    }
}

fn exchange(findings: &mut Findings, exchange: &TokenExchange) -> class::TokenExchange {
    let TokenExchange { token_endpoint, audience, scope, client } = exchange;
    let field = |name: &str| format!("{CATALOG}.exchange.{name}");
    findings.check(field("tokenEndpoint"), address::https_url(token_endpoint));
    findings.check(field("audience"), word(audience, bounds::IDENTITY));
    if let Some(scope) = scope {
        let scopes = scope.split(' ').try_for_each(|it| word(it, bounds::IDENTITY));
        findings.check(field("scope"), scopes);
    }
    let client = client.as_ref().map(|ExchangeClient { id, secret_ref }| {
        findings.check(field("client.id"), word(id, bounds::NAME));
        let at = field("client.secretRef");
        let secret = secret_ref.as_ref().and_then(|entry| secret::entry(findings, &at, entry));
        class::ExchangeClient { id: id.clone(), secret }
    });
    class::TokenExchange {
        token_endpoint: token_endpoint.clone(),
        audience: audience.clone(),
        scope: scope.clone(),
        client,
    }
}

fn region(region: &str) -> Result<(), Problem> {
    let is_region = !region.is_empty()
        && region.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if is_region {
        return Ok(());
    }
    Err(Problem::with(region, "is not an AWS region", "write a region such as `us-east-1`"))
}

fn assume_role(
    findings: &mut Findings,
    source: &AssumeRole,
    catalog: Option<class::CatalogSource>,
) -> Option<class::AssumeRole> {
    let AssumeRole {
        role,
        role_map,
        role_claim,
        external_id,
        region,
        endpoint,
        duration,
        tags,
        session_policy,
        claims,
    } = source;
    let field = |name: &str| format!("{ASSUME_ROLE}.{name}");
    let ways = [role.is_some(), role_map.is_some(), role_claim.is_some()];
    if ways.into_iter().filter(|is_set| *is_set).count() != 1 {
        let fix = "set exactly one of `role`, `roleMap` and `roleClaim`";
        findings
            .add(ASSUME_ROLE, Problem::new("does not say exactly one way to a user's role", fix));
    }
    let fixed = role.as_ref().map(|arn| findings.check(field("role"), role_arn(arn)));
    let mapped = role_map.as_ref().map(|map| self::role_map(findings, map));
    let claimed = role_claim.as_ref().map(|claim| self::role_claim(findings, claim));
    let role = fixed.map(|role| role.map(RoleChoice::Fixed)).or(mapped).or(claimed).flatten();
    if let Some(id) = external_id {
        findings.check(field("externalId"), self::external_id(id));
    }
    findings.check(field("region"), self::region(region));
    if let Some(endpoint) = endpoint {
        findings.check(field("endpoint"), self::endpoint(endpoint));
    }
    let duration = duration::between(duration, LEAST_KEYS, MOST_KEYS);
    let duration = findings.check(field("duration"), duration);
    self::tags(findings, tags);
    let claims = claims.as_ref().map(|PolicyClaims { buckets, permissions }| {
        findings.check(field("claims.buckets"), claim_name(buckets));
        findings.check(field("claims.permissions"), claim_name(permissions));
        class::PolicyClaims { buckets: buckets.clone(), permissions: permissions.clone() }
    });
    Some(class::AssumeRole {
        role: role?,
        external_id: external_id.clone(),
        region: region.clone(),
        endpoint: endpoint.clone(),
        duration: duration?,
        tags: tags.clone(),
        session_policy: match session_policy {
            SessionPolicy::Required => class::SessionPolicy::Required,
            SessionPolicy::WhenClaimed => class::SessionPolicy::WhenClaimed,
        },
        claims,
        catalog,
    })
}

fn role_arn(text: &str) -> Result<RoleArn, Problem> {
    let fix = "write `arn:aws:iam::`, the account, `:role/` and the role's path and name";
    RoleArn::parse(text).map_err(|_| Problem::with(text, "is not the ARN of an IAM role", fix))
}

fn role_map(findings: &mut Findings, map: &RoleMap) -> Option<RoleChoice> {
    let RoleMap { claim, roles } = map;
    if let Some(claim) = claim {
        findings.check(format!("{ASSUME_ROLE}.roleMap.claim"), claim_name(claim));
    }
    let field = format!("{ASSUME_ROLE}.roleMap.roles");
    if roles.is_empty() {
        let fix = "say which value leads to which role";
        findings.add(field.clone(), Problem::new("is empty", fix));
    }
    let arns: Vec<_> = roles
        .iter()
        .map(|(key, arn)| {
            let arn = findings.check(member(&field, key), role_arn(arn));
            arn.map(|arn| (key.clone(), arn))
        })
        .collect();
    let roles = arns.into_iter().collect::<Option<BTreeMap<_, _>>>()?;
    Some(RoleChoice::Map { claim: claim.clone(), roles })
}

fn role_claim(findings: &mut Findings, claim: &RoleClaim) -> Option<RoleChoice> {
    let RoleClaim { claim, roles } = claim;
    findings.check(format!("{ASSUME_ROLE}.roleClaim.claim"), claim_name(claim));
    let field = format!("{ASSUME_ROLE}.roleClaim.roles");
    if roles.is_empty() {
        findings.add(field.clone(), Problem::new("is empty", "say which roles are taken"));
    }
    let fix = "write a pattern such as `arn:aws:iam::123456789012:role/quilt-*`";
    let patterns: Vec<_> = roles
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let pattern = RolePattern::parse(text).map_err(|_| {
                Problem::with(text, "is not the ARN of an IAM role with `*` and `?`", fix)
            });
            findings.check(element(&field, index), pattern)
        })
        .collect();
    let patterns = patterns.into_iter().collect::<Option<Vec<_>>>()?;
    Some(RoleChoice::Claim { claim: claim.clone(), patterns })
}

fn claim_name(name: &str) -> Result<(), Problem> {
    super::not_empty(name, "write the name of a claim")
}

fn external_id(id: &str) -> Result<(), Problem> {
    let is_kept = |c: u8| c.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&c);
    if (2..=1224).contains(&id.len()) && id.bytes().all(is_kept) {
        return Ok(());
    }
    // it may be a secret that was pasted here
    let fix = "use 2 to 1224 letters, digits and `_+=,.@:/-`";
    Err(Problem::new("is not an external id", fix))
}

/// An https origin, or an http one on a loopback address: what is asked of STS is signed, but its answer is keys.
fn endpoint(text: &str) -> Result<(), Problem> {
    let Some(authority) = text.strip_prefix("http://") else { return address::origin(text) };
    let host = authority.split_once(':').map_or(authority, |(host, _)| host);
    let is_loopback = host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    if is_loopback && address::origin(&format!("https://{authority}")).is_ok() {
        return Ok(());
    }
    let fix =
        "write an https origin, or http on a loopback address, such as `http://127.0.0.1:5000`";
    Err(Problem::with(text, "is not an origin of STS", fix))
}

fn tags(findings: &mut Findings, tags: &BTreeMap<String, String>) {
    let field = format!("{ASSUME_ROLE}.tags");
    let is_kept =
        |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || b" _.:/=+-@".contains(&c));
    let mut seen = BTreeSet::new();
    for (key, value) in tags {
        let lower = key.to_ascii_lowercase();
        let is_reserved = lower.starts_with("aws:") || lower.starts_with("patchbay:");
        let problem = if !(1..=128).contains(&key.len()) || !is_kept(key) || is_reserved {
            let fix = "use 1 to 128 letters, digits, spaces and `_.:/=+-@`, not starting with `aws:` or `patchbay:`";
            Some(Problem::new("has a key that is none of a tag, or is reserved", fix))
        } else if value.len() > 256 || !is_kept(value) {
            let fix = "use at most 256 letters, digits, spaces and `_.:/=+-@`";
            Some(Problem::new("has a value that is none of a tag", fix))
        } else if !seen.insert(lower) {
            let fix = "let them differ by more than case";
            Some(Problem::new("is one key to AWS with an earlier one", fix))
        } else {
            None
        };
        if let Some(problem) = problem {
            findings.add(member(&field, key), problem);
        }
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
