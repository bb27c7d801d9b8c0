//! What roles and levels include at most, by an operator's tables: from claims to no more than that.
//!
//! The reference resolves roles where a token is made (`mcpAuthorization.js`), so that a token says more than its roles: lists of
//! buckets and permissions. A table here takes away what those lists have beyond it, and never adds. This module must not
//! know how claims are written.

use super::{ALL_BUCKETS, EnhancedClaims, Level};
use std::collections::{BTreeMap, BTreeSet};

/// The tables of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bounds {
    /// What a role includes, by the name by which it counts. Empty = roles bound nothing.
    pub roles: BTreeMap<String, RoleBounds>,
    /// What a level includes. None = levels bound nothing.
    pub levels: Option<LevelPermissions>,
}

/// What one role includes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleBounds {
    /// The highest level.
    pub level: Level,
    /// The buckets; [`ALL_BUCKETS`] is all of them.
    pub buckets: BTreeSet<String>,
}

/// The permissions that each level adds to those before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LevelPermissions {
    /// Those of every level.
    pub read: BTreeSet<String>,
    /// Those of `write` and `admin`.
    pub write: BTreeSet<String>,
    /// Those of `admin` alone.
    pub admin: BTreeSet<String>,
}

impl EnhancedClaims {
    /// No more than the tables say. Of several roles each counts; one that is not in the table includes nothing.
    #[must_use]
    pub fn within(self, bounds: &Bounds) -> Self {
        let claims = if bounds.roles.is_empty() { self } else { self.within_roles(&bounds.roles) };
        match &bounds.levels {
            Some(levels) => claims.within_level(levels),
            None => claims,
        }
    }

    fn within_roles(mut self, roles: &BTreeMap<String, RoleBounds>) -> Self {
        let theirs = || self.roles.iter().filter_map(|role| roles.get(role));
        let level = theirs().map(|role| role.level).max().unwrap_or_default();
        let buckets: BTreeSet<&String> = theirs().flat_map(|role| &role.buckets).collect();
        let is_all = buckets.iter().any(|bucket| *bucket == ALL_BUCKETS);
        let bounded = if is_all {
            self.buckets
        } else if self.buckets.contains(ALL_BUCKETS) {
            buckets.into_iter().cloned().collect()
        } else {
            self.buckets.iter().filter(|bucket| buckets.contains(bucket)).cloned().collect()
        };
        self.level = self.level.min(level);
        self.buckets = bounded;
        self
    }

    fn within_level(mut self, levels: &LevelPermissions) -> Self {
        let LevelPermissions { read, write, admin } = levels;
        let included = [(Level::Read, read), (Level::Write, write), (Level::Admin, admin)];
        let level = self.level;
        self.permissions.retain(|permission| {
            let mut up_to = included.iter().filter(|(each, _)| *each <= level);
            up_to.any(|(_, permissions)| permissions.contains(permission))
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::btree_set, prelude::*};

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// The reference's own tables, in short.
    fn tables() -> Bounds {
        let role = |level, buckets: &[&str]| RoleBounds { level, buckets: set(buckets) };
        let roles = [
            ("ReadOnlyQuilt", role(Level::Read, &["quilt-sandbox-bucket"])),
            ("ReadWriteQuiltV2-sales-prod", role(Level::Write, &["quilt-sales-raw"])),
            ("AdminQuilt", role(Level::Admin, &["*"])),
        ];
        Bounds {
            roles: roles.map(|(name, role)| (name.to_owned(), role)).into(),
            levels: Some(LevelPermissions {
                read: set(&["s3:GetObject", "s3:ListBucket"]),
                write: set(&["s3:PutObject"]),
                admin: set(&["iam:PassRole"]),
            }),
        }
    }

    fn claims(
        roles: &[&str],
        level: Level,
        permissions: &[&str],
        buckets: &[&str],
    ) -> EnhancedClaims {
        EnhancedClaims {
            scope: "w".into(),
            level,
            permissions: set(permissions),
            roles: set(roles),
            buckets: set(buckets),
            flaws: BTreeSet::new(),
        }
    }

    #[test]
    fn a_claim_beyond_its_role_does_not_count() {
        let all = ["s3:GetObject", "s3:PutObject", "iam:PassRole", "s3:DeleteBucket"];
        let forged = claims(&["ReadOnlyQuilt"], Level::Admin, &all, &["quilt-sandbox-bucket", "b"]);
        let bounded = forged.within(&tables());
        assert_eq!(bounded.level, Level::Read);
        assert_eq!(bounded.permissions, set(&["s3:GetObject"]));
        assert_eq!(bounded.buckets, set(&["quilt-sandbox-bucket"]));
        assert_eq!(bounded.roles, set(&["ReadOnlyQuilt"]));
    }

    #[test]
    fn of_several_roles_each_counts_and_one_of_all_buckets_bounds_none() {
        let both = ["ReadOnlyQuilt", "ReadWriteQuiltV2-sales-prod"];
        let all = claims(&both, Level::Write, &["s3:PutObject"], &["*"]).within(&tables());
        assert_eq!(all.buckets, set(&["quilt-sales-raw", "quilt-sandbox-bucket"]));
        assert_eq!((all.level, all.permissions), (Level::Write, set(&["s3:PutObject"])));
        let admin = claims(&["AdminQuilt"], Level::Admin, &["iam:PassRole"], &["b"]);
        assert_eq!(admin.clone().within(&tables()), admin);
    }

    #[test]
    fn without_a_role_of_the_table_there_is_no_bucket_and_without_tables_nothing_is_taken() {
        let stranger = claims(&["Other"], Level::Admin, &["s3:GetObject"], &["*", "b"]);
        let bounded = stranger.clone().within(&tables());
        assert_eq!((bounded.level, bounded.buckets), (Level::Read, set(&[])));
        assert_eq!(stranger.clone().within(&Bounds::default()), stranger);
    }

    proptest! {
        #[test]
        fn a_table_never_adds(
            roles in btree_set("ReadOnlyQuilt|ReadWriteQuiltV2-sales-prod|AdminQuilt|x", 0..4),
            level in 0..3_usize,
            permissions in btree_set("s3:(Get|Put)Object|iam:PassRole", 0..4),
            buckets in btree_set("quilt-sales-raw|quilt-sandbox-bucket|b|[*]", 0..4),
        ) {
            let level = [Level::Read, Level::Write, Level::Admin][level];
            let claims = EnhancedClaims { scope: String::new(), level, permissions, roles, buckets, flaws: BTreeSet::new() };
            let bounded = claims.clone().within(&tables());
            prop_assert!(bounded.level <= claims.level);
            prop_assert!(bounded.permissions.is_subset(&claims.permissions));
            prop_assert!(bounded.buckets.iter().all(|bucket| claims.reaches(bucket)));
            prop_assert_eq!(bounded.clone().within(&tables()), bounded);
        }
    }
}
