//! From what `spec.jwt` says of enhanced tokens to what they mean.
//!
//! This module must not know how a token is verified.

use super::{Findings, Problem, catalog};
use crate::{
    bounds,
    identity_provider::{Jwt, JwtFormat, LevelPermissions, Role, RoleLevel},
};
use patchbay_core::{
    enhanced::{self, Bounds, Level, RoleBounds, is_common_code},
    provider::{EnhancedFormat, NamedBy, TokenFormat},
};
use std::collections::{BTreeMap, BTreeSet};

/// What the claims mean, and who says whose they are.
pub(super) fn format(findings: &mut Findings, jwt: &Jwt) -> Option<TokenFormat> {
    const FIELD: &str = "spec.jwt.format";
    let Jwt { format, catalog, key_held_by_servers_only: held_by_servers, .. } = jwt;
    let asked = catalog.as_ref().map(|asked| self::catalog(findings, "spec.jwt.catalog", asked));
    let codes = table(findings, "spec.jwt.permissionCodes", &jwt.permission_codes);
    let aliases = table(findings, "spec.jwt.roleAliases", &jwt.role_aliases);
    let tables = self::tables(findings, jwt);
    if codes.keys().any(|code| is_common_code(code)) {
        let problem = Problem::new("changes a code that means the same everywhere", "leave it out");
        findings.add("spec.jwt.permissionCodes", problem);
    }
    if *format == JwtFormat::Standard {
        let belongs = "set it, or leave them out";
        if asked.is_some() || *held_by_servers {
            let what = "`catalog` and `keyHeldByServersOnly` belong to `format: quiltEnhanced`";
            findings.add(FIELD, Problem::new(what, belongs));
        }
        if !codes.is_empty() || !aliases.is_empty() || tables != Bounds::default() {
            let what = "`permissionCodes`, `roleAliases`, `roles` and `levels` belong to `format: \
                        quiltEnhanced`";
            findings.add(FIELD, Problem::new(what, belongs));
        }
        return Some(TokenFormat::Standard);
    }
    if asked.is_some() && !jwt.required_claims.is_empty() {
        let what = "keeps nobody out where browsers hold the key, and whoever holds a token can have \
                    made its claims";
        findings.add("spec.jwt.requiredClaims", Problem::new(what, "leave it out"));
    }
    let named_by = match (asked, held_by_servers) {
        (Some(catalog), false) => NamedBy::Catalog(catalog),
        (None, true) => NamedBy::Token,
        (None, false) => {
            let problem = Problem::new(
                "`quiltEnhanced` does not prove who a user is where browsers hold its key",
                "set `catalog`, which is asked, or `keyHeldByServersOnly: true` if only servers \
                 hold it",
            );
            findings.add(FIELD, problem);
            return None;
        }
        (Some(_), true) => {
            let problem = Problem::new(
                "`catalog` and `keyHeldByServersOnly` are two ways to know a user",
                "leave one out",
            );
            findings.add(FIELD, problem);
            return None;
        }
    };
    Some(TokenFormat::QuiltEnhanced(Box::new(EnhancedFormat {
        named_by,
        codes,
        aliases,
        bounds: tables,
    })))
}

/// What roles and levels include at most.
fn tables(findings: &mut Findings, jwt: &Jwt) -> Bounds {
    let mut roles = BTreeMap::new();
    if jwt.roles.len() > bounds::CODES as usize {
        let problem = format!("has more than {} roles", bounds::CODES);
        findings.add("spec.jwt.roles", Problem::new(problem, "leave out what no token says"));
    }
    for (index, Role { name, level, buckets }) in jwt.roles.iter().enumerate() {
        let field = |name: &str| format!("spec.jwt.roles[{index}].{name}");
        findings.check(field("name"), listed([name]));
        findings.check(field("buckets"), listed(buckets));
        let level = match level {
            RoleLevel::Read => Level::Read,
            RoleLevel::Write => Level::Write,
            RoleLevel::Admin => Level::Admin,
        };
        let role = RoleBounds { level, buckets: buckets.iter().cloned().collect() };
        if roles.insert(name.clone(), role).is_some() {
            let problem = Problem::with(name, "is there twice", "leave one out");
            findings.add(field("name"), problem);
        }
    }
    let levels = jwt.levels.as_ref().map(|LevelPermissions { read, write, admin }| {
        let mut of = |name: &str, permissions: &[String]| -> BTreeSet<String> {
            findings.check(format!("spec.jwt.levels.{name}"), listed(permissions));
            permissions.iter().cloned().collect()
        };
        enhanced::LevelPermissions {
            read: of("read", read),
            write: of("write", write),
            admin: of("admin", admin),
        }
    });
    Bounds { roles, levels }
}

/// Whether these are words, bounded as the API bounds them.
fn listed<'a>(words: impl IntoIterator<Item = &'a String>) -> Result<(), Problem> {
    let is_good = |word: &&String| (1..=bounds::WORD as usize).contains(&word.chars().count());
    let words: Vec<_> = words.into_iter().collect();
    if words.len() > bounds::ROLE_ENTRIES as usize {
        let problem = format!("has more than {} entries", bounds::ROLE_ENTRIES);
        return Err(Problem::new(problem, "leave out what no token says"));
    }
    if words.iter().all(is_good) {
        return Ok(());
    }
    Err(Problem::new("has an entry that is empty, or longer than 256 characters", "correct it"))
}

/// Words for words, bounded as the API bounds them.
fn table(
    findings: &mut Findings,
    field: &str,
    table: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let is_long = |text: &String| text.chars().count() > bounds::WORD as usize;
    if table.len() > bounds::CODES as usize {
        let fix = "leave out what no token says";
        findings.add(field, Problem::new(format!("has more than {} entries", bounds::CODES), fix));
    }
    if table.iter().any(|(word, meant)| is_long(word) || is_long(meant) || meant.is_empty()) {
        let problem = "has an entry without a meaning, or longer than 256 characters";
        findings.add(field, Problem::new(problem, "correct it"));
    }
    table.clone()
}
