//! What of a user's claims a worker needs to judge the tools that they call.
//!
//! It travels in the grant and holds no secret. It only ever takes away: a user whose credential says nothing has none,
//! and is bounded by what the grant's credentials may do. This module must not know tools or tokens.

use crate::{
    enhanced::{ALL_BUCKETS, Level},
    entitlement::Entitlement,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// All of it in JSON, bytes: a bind carries it, and the worker keeps it.
pub const MAX_BYTES: usize = 64 * 1024;

/// What the claims of an enhanced token allow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allowed {
    /// How much the user's role may do.
    pub level: Level,
    /// The actions, in the words of IAM (`s3:GetObject`).
    pub permissions: BTreeSet<String>,
    /// The buckets that they may be done in; `*` is all of them.
    pub buckets: BTreeSet<String>,
}

/// The claims say more than [`MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token's permissions and buckets are more than {MAX_BYTES} bytes together")]
pub struct TooLong;

impl Allowed {
    /// What these claims allow; none where they narrow nothing.
    pub fn of(entitlement: &Entitlement) -> Result<Option<Self>, TooLong> {
        let Some(claims) = &entitlement.enhanced else { return Ok(None) };
        let allowed = Self {
            level: claims.level,
            permissions: claims.permissions.clone(),
            buckets: claims.buckets.clone(),
        };
        // plain texts always have a form
        let text = serde_json::to_vec(&allowed).map_err(|_| TooLong)?;
        if text.len() > MAX_BYTES { Err(TooLong) } else { Ok(Some(allowed)) }
    }

    /// Whether a bucket is one of the user's.
    pub fn reaches(&self, bucket: &str) -> bool {
        self.reaches_all() || self.buckets.contains(bucket)
    }

    /// Whether every bucket is one of the user's.
    pub fn reaches_all(&self) -> bool {
        self.buckets.contains(ALL_BUCKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enhanced::{Codes, EnhancedClaims};
    use serde_json::{Value, json};

    fn of(payload: &Value) -> Result<Option<Allowed>, TooLong> {
        let claims = EnhancedClaims::expand(payload.as_object().unwrap(), &Codes::new());
        Allowed::of(&Entitlement { enhanced: Some(claims), ..Entitlement::default() })
    }

    #[test]
    fn a_credential_that_says_nothing_narrows_nothing_and_one_that_allows_nothing_allows_nothing() {
        assert_eq!(Allowed::of(&Entitlement::default()), Ok(None));
        let nothing = of(&json!({})).unwrap().unwrap();
        assert_eq!(nothing, Allowed::default());
        assert!(!nothing.reaches("b") && !nothing.reaches_all());
    }

    #[test]
    fn a_bucket_is_reached_by_its_own_name_or_by_the_name_of_all() {
        let one = of(&json!({"p": ["g"], "b": ["b-alice"], "l": "write"})).unwrap().unwrap();
        assert!(one.reaches("b-alice") && !one.reaches("b-ali") && !one.reaches("*"));
        assert_eq!(one.level, Level::Write);
        assert!(of(&json!({"b": ["*"]})).unwrap().unwrap().reaches("any"));
    }

    #[test]
    fn more_than_a_worker_takes_is_refused_and_never_cut() {
        let names = |count: usize| (0..count).map(|n| format!("{n:0>61}")).collect::<Vec<_>>();
        assert!(of(&json!({"b": names(MAX_BYTES / 64 - 1)})).is_ok());
        assert_eq!(of(&json!({"b": names(MAX_BYTES / 64 + 1)})), Err(TooLong));
        assert_eq!(of(&json!({"p": ["\u{1}".repeat(MAX_BYTES / 6)]})), Err(TooLong));
    }
}
