//! What administrators can change while the double runs: accounts, roles, tables, settings. It
//! starts as the world says; who may see which bucket stays as the world says.

use crate::catalog::world::World;
use std::collections::BTreeMap;

/// The changeable half of the catalog.
#[derive(Debug, Clone)]
pub struct Directory {
    /// In the order in which they were made.
    pub(super) accounts: Vec<Account>,
    /// By name, which is also the id.
    pub(super) roles: BTreeMap<String, Role>,
    /// Tabulator tables.
    pub(super) tables: Vec<Table>,
    /// Text, and who set it.
    pub(super) sso_config: Option<(String, String)>,
    /// Whether tabulator's open query is on.
    pub(super) open_query: bool,
}

/// A user account.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) email: String,
    pub(super) is_active: bool,
    pub(super) is_admin: bool,
    pub(super) role: String,
    pub(super) extra_roles: Vec<String>,
}

/// A role and the buckets that it opens.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) buckets: Vec<String>,
}

/// A tabulator table of a bucket.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) config: String,
}

impl Directory {
    /// As it is before anybody changes it.
    pub fn of(world: &World) -> Self {
        let role_name = |arn: &str| arn.rsplit('/').next().unwrap_or(arn).to_owned();
        let mut roles = BTreeMap::new();
        let mut accounts = Vec::new();
        for member in &world.users {
            let role = member.role_arn.as_deref().map(role_name).unwrap_or_default();
            if let Some(arn) = member.role_arn.clone() {
                let buckets = member.buckets.iter().map(|bucket| bucket.name.clone()).collect();
                roles.insert(role.clone(), Role { arn, buckets });
            }
            accounts.push(Account {
                name: member.name.clone(),
                email: member.email.clone(),
                is_active: true,
                is_admin: member.is_admin,
                role,
                extra_roles: Vec::new(),
            });
        }
        Self { accounts, roles, tables: Vec::new(), sso_config: None, open_query: false }
    }

    /// Whether this user may use the registry at all.
    pub fn is_active(&self, name: &str) -> bool {
        self.account(name).is_some_and(|account| account.is_active)
    }

    pub(super) fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == name)
    }

    pub(super) fn account_mut(&mut self, name: &str) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.name == name)
    }
}
