//! `admin`: accounts, the SSO configuration, tabulator's settings. The caller is an administrator.

use super::{
    Call, FieldError, Resolved, directory::Account, each, shapes, syntax::Field, tabulator,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserInput {
    name: String,
    email: String,
    role: String,
    extra_roles: Option<Vec<String>>,
}

/// A field of `admin`.
pub(super) fn resolve(call: &mut Call<'_>, field: &Field) -> Resolved {
    match field.name.as_str() {
        "user" => each(field, |field| user(call, field)),
        "ssoConfig" => Ok(shapes::sso_config(call.directory)),
        "setSsoConfig" => {
            let config: Option<String> = call.variable("config")?;
            let caller = call.caller.name.clone();
            call.directory.sso_config = config.map(|text| (text, caller));
            Ok(shapes::sso_config(call.directory))
        }
        "tabulatorOpenQuery" => Ok(call.directory.open_query.into()),
        "setTabulatorOpenQuery" => {
            call.directory.open_query = call.variable("enabled")?;
            Ok(json!({ "tabulatorOpenQuery": call.directory.open_query }))
        }
        "bucketSetTabulatorTable" => tabulator::set_table(call),
        "bucketRenameTabulatorTable" => tabulator::rename_table(call),
        other => Err(FieldError::Unknown(format!("admin.{other}"))),
    }
}

fn user(call: &mut Call<'_>, field: &Field) -> Resolved {
    match field.name.as_str() {
        "list" => {
            let accounts = call.directory.accounts.iter();
            Ok(accounts.map(|account| shapes::user(call.directory, account)).collect())
        }
        "get" => {
            let name: String = call.variable("name")?;
            Ok(user_or_null(call, &name))
        }
        "create" => create(call),
        "mutate" => {
            let name: String = call.variable("name")?;
            if call.directory.account(&name).is_none() {
                return Ok(Value::Null);
            }
            each(field, |field| mutate(call, &name, field))
        }
        other => Err(FieldError::Unknown(format!("admin.user.{other}"))),
    }
}

fn user_or_null(call: &Call<'_>, name: &str) -> Value {
    let account = call.directory.account(name);
    account.map_or(Value::Null, |account| shapes::user(call.directory, account))
}

fn create(call: &mut Call<'_>) -> Resolved {
    let input: UserInput = call.variable("input")?;
    if call.directory.account(&input.name).is_some() {
        return Ok(shapes::invalid_input("name", "Conflict", "the name is taken"));
    }
    let extra_roles = input.extra_roles.unwrap_or_default();
    let mut roles = std::iter::once(&input.role).chain(&extra_roles);
    if let Some(refusal) = refuse_unknown_role(call, &mut roles) {
        return Ok(refusal);
    }
    call.directory.accounts.push(Account {
        name: input.name.clone(),
        email: input.email,
        is_active: true,
        is_admin: false,
        role: input.role,
        extra_roles,
    });
    Ok(user_or_null(call, &input.name))
}

fn refuse_unknown_role<'a>(
    call: &Call<'_>,
    roles: &mut impl Iterator<Item = &'a String>,
) -> Option<Value> {
    let unknown = roles.find(|role| !call.directory.roles.contains_key(*role))?;
    Some(shapes::invalid_input("role", "RoleNotFound", &format!("no such role: {unknown}")))
}

fn mutate(call: &mut Call<'_>, name: &str, field: &Field) -> Resolved {
    match field.name.as_str() {
        "delete" => {
            call.directory.accounts.retain(|account| account.name != name);
            return Ok(shapes::ok());
        }
        "resetPassword" => return Ok(shapes::ok()),
        "setEmail" => {
            let email = call.variable("email")?;
            change(call, name, |account| account.email = email);
        }
        "setAdmin" => {
            let admin = call.variable("admin")?;
            change(call, name, |account| account.is_admin = admin);
        }
        "setActive" => {
            let active = call.variable("active")?;
            change(call, name, |account| account.is_active = active);
        }
        "setRole" => {
            let role: String = call.variable("role")?;
            let extra: Option<Vec<String>> = call.variable("extraRoles")?;
            let append: bool = call.variable("append")?;
            let extra = extra.unwrap_or_default();
            let mut named = std::iter::once(&role).chain(&extra);
            if let Some(refusal) = refuse_unknown_role(call, &mut named) {
                return Ok(refusal);
            }
            change(call, name, |account| {
                if append {
                    let former = std::mem::take(&mut account.role);
                    account.extra_roles.push(former);
                } else {
                    account.extra_roles.clear();
                }
                account.extra_roles.extend(extra);
                account.extra_roles.retain(|extra| *extra != role);
                account.role = role;
            });
        }
        "addRoles" => {
            let roles: Vec<String> = call.variable("roles")?;
            if let Some(refusal) = refuse_unknown_role(call, &mut roles.iter()) {
                return Ok(refusal);
            }
            change(call, name, |account| {
                for role in roles {
                    if account.role != role && !account.extra_roles.contains(&role) {
                        account.extra_roles.push(role);
                    }
                }
            });
        }
        "removeRoles" => {
            let roles: Vec<String> = call.variable("roles")?;
            let fallback: Option<String> = call.variable("fallback")?;
            if let Some(refusal) = refuse_unknown_role(call, &mut fallback.iter()) {
                return Ok(refusal);
            }
            change(call, name, |account| {
                account.extra_roles.retain(|role| !roles.contains(role));
                if roles.contains(&account.role) {
                    let next = account.extra_roles.first().cloned();
                    account.role = fallback.or(next).unwrap_or_default();
                }
            });
        }
        other => return Err(FieldError::Unknown(format!("admin.user.mutate.{other}"))),
    }
    Ok(user_or_null(call, name))
}

fn change(call: &mut Call<'_>, name: &str, change: impl FnOnce(&mut Account)) {
    if let Some(account) = call.directory.account_mut(name) {
        change(account);
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::graphql::tests::ask;
    use serde_json::{Value, json};

    const CREATE: &str = "mutation usersCreate($input: UserInput!) { admin { user { \
        create(input: $input) { __typename ...UserMutationSelection } } } }";
    const LIST: &str = "query usersList { admin { user { list { ...UserSelection } } } }";

    fn mutation(call: &str) -> String {
        format!("mutation M {{ admin {{ user {{ mutate(name: $name) {{ {call} }} }} }} }}")
    }

    fn names(answer: &Value) -> Vec<&str> {
        let list = answer["data"]["admin"]["user"]["list"].as_array().unwrap();
        list.iter().map(|user| user["name"].as_str().unwrap()).collect()
    }

    fn carol(role: &str) -> Value {
        json!({ "input": { "name": "carol", "email": "c@example.com", "role": role } })
    }

    #[test]
    fn a_user_is_created_and_deleted() {
        let created = (CREATE, carol("role-bob"));
        assert_eq!(
            names(&ask("alice", &[created.clone(), (LIST, json!({}))])),
            ["alice", "bob", "carol"]
        );
        let delete = mutation("delete { __typename }");
        let deleted = (delete.as_str(), json!({ "name": "carol" }));
        assert_eq!(names(&ask("alice", &[created, deleted, (LIST, json!({}))])), ["alice", "bob"]);
    }

    #[test]
    fn an_unknown_role_is_invalid_input() {
        let answer = ask("alice", &[(CREATE, carol("role-of-nobody"))]);
        let refused = &answer["data"]["admin"]["user"]["create"];
        assert_eq!(refused["__typename"], "InvalidInput");
        assert_eq!(refused["errors"][0]["name"], "RoleNotFound");
    }

    #[test]
    fn roles_are_added_appended_and_removed() {
        let add = mutation("addRoles(roles: $roles) { __typename }");
        let set = mutation("setRole(role: $role) { __typename }");
        let remove = mutation("removeRoles(roles: $roles) { __typename }");
        let result = |answer: &Value, field: &str| {
            let user = answer["data"]["admin"]["user"]["mutate"][field].clone();
            (user["role"]["name"].clone(), user["extraRoles"].as_array().unwrap().len())
        };
        let added = (add.as_str(), json!({ "name": "bob", "roles": ["role-alice"] }));
        let answer = ask("alice", std::slice::from_ref(&added));
        assert_eq!(result(&answer, "addRoles"), (json!("role-bob"), 1));
        let appended =
            (set.as_str(), json!({ "name": "bob", "role": "role-alice", "append": true }));
        let answer = ask("alice", &[appended]);
        assert_eq!(result(&answer, "setRole"), (json!("role-alice"), 1));
        let removed = (remove.as_str(), json!({ "name": "bob", "roles": ["role-bob"] }));
        let answer = ask("alice", &[added, removed]);
        assert_eq!(result(&answer, "removeRoles").0, json!("role-alice"));
    }

    #[test]
    fn a_mutation_of_nobody_is_null() {
        let set = mutation("setAdmin(admin: $admin) { __typename }");
        let answer = ask("alice", &[(&set, json!({ "name": "nobody", "admin": true }))]);
        assert_eq!(answer["data"]["admin"]["user"]["mutate"], Value::Null);
    }

    #[test]
    fn settings_are_kept() {
        let set = "mutation S($config: String) { admin { setSsoConfig(config: $config) { x } } }";
        let answer = ask("alice", &[(set, json!({ "config": "version: 1" }))]);
        assert_eq!(answer["data"]["admin"]["setSsoConfig"]["text"], "version: 1");
        assert_eq!(answer["data"]["admin"]["setSsoConfig"]["uploader"]["name"], "alice");
        let set = "mutation S($enabled: Boolean!) { admin { \
            setTabulatorOpenQuery(enabled: $enabled) { tabulatorOpenQuery } } }";
        let get = "query G { admin { tabulatorOpenQuery } }";
        let answer = ask("alice", &[(set, json!({ "enabled": true })), (get, json!({}))]);
        assert_eq!(answer["data"]["admin"]["tabulatorOpenQuery"], true);
    }
}
