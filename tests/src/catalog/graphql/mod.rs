//! The registry's GraphQL: one function from (directory, caller, request) to an answer. It resolves
//! the operations of quilt3 8.0 and quilt-mcp 0.22 and refuses every other by name, so that a
//! client that starts to need more is noticed.

mod admin;
mod api_keys;
mod directory;
mod shapes;
pub mod syntax;
mod tabulator;

pub use directory::Directory;

use crate::catalog::world::{Member, World};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use syntax::Field;

/// The body of `POST /graphql`.
#[derive(Debug, Deserialize)]
pub struct Request {
    /// The document.
    pub query: String,
    /// Its variables.
    #[serde(default)]
    pub variables: Option<Map<String, Value>>,
}

/// Why a field has no value.
#[derive(Debug, thiserror::Error)]
enum FieldError {
    #[error("cannot query field {0:?}: the catalog double does not serve it")]
    Unknown(String),
    #[error("Unauthorized")]
    Unauthorized,
    #[error("variable ${name} is missing or of another type: {error}")]
    Variables { name: &'static str, error: serde_json::Error },
}

type Resolved = Result<Value, FieldError>;

/// Everything that a resolver may look at.
struct Call<'a> {
    directory: &'a mut Directory,
    caller: &'a Member,
    variables: &'a Map<String, Value>,
    /// Makes an API key of the caller.
    new_key: &'a dyn Fn() -> SecretString,
}

impl Call<'_> {
    /// A variable, as the type that the resolver wants; absent is null.
    fn variable<T: serde::de::DeserializeOwned>(
        &self,
        name: &'static str,
    ) -> Result<T, FieldError> {
        let value = self.variables.get(name).cloned().unwrap_or_default();
        serde_json::from_value(value).map_err(|error| FieldError::Variables { name, error })
    }

    /// Admin fields are for administrators, as the directory now has them.
    fn require_admin(&self) -> Result<(), FieldError> {
        let account = self.directory.account(&self.caller.name);
        if account.is_some_and(|account| account.is_admin) {
            Ok(())
        } else {
            Err(FieldError::Unauthorized)
        }
    }
}

/// Answers a request of `caller`: `{"data"}`, with `"errors"` where a field failed. `new_key` makes an API key of theirs.
pub fn answer(
    world: &World,
    directory: &mut Directory,
    caller: &str,
    new_key: &dyn Fn() -> SecretString,
    request: &Request,
) -> Value {
    let fields = match syntax::parse(&request.query) {
        Ok(fields) => fields,
        Err(error) => return json!({ "errors": [{ "message": error.to_string() }] }),
    };
    let Some(caller) = world.users.iter().find(|member| member.name == caller) else {
        // An account that an administrator made later: it exists, but the world gave it nothing.
        return json!({ "errors": [{ "message": "Unauthorized" }] });
    };
    let no_variables = Map::new();
    let variables = request.variables.as_ref().unwrap_or(&no_variables);
    let mut call = Call { directory, caller, variables, new_key };
    let mut data = Map::new();
    let mut errors = Vec::new();
    for field in &fields {
        let value = resolve(&mut call, field).unwrap_or_else(|error| {
            errors.push(json!({ "message": error.to_string(), "path": [field.key] }));
            Value::Null
        });
        data.insert(field.key.clone(), value);
    }
    if errors.is_empty() {
        json!({ "data": data })
    } else {
        json!({ "data": data, "errors": errors })
    }
}

fn resolve(call: &mut Call<'_>, field: &Field) -> Resolved {
    match field.name.as_str() {
        "__typename" => Ok("Query".into()),
        "me" => {
            let account = call.directory.account(&call.caller.name);
            Ok(account.map_or(Value::Null, |account| shapes::me(call.directory, account)))
        }
        "bucketConfigs" => {
            let buckets = call.caller.buckets.iter();
            Ok(buckets.map(|bucket| shapes::bucket(call.directory, bucket)).collect())
        }
        "bucketConfig" => {
            let name: String = call.variable("name")?;
            let bucket = call.caller.buckets.iter().find(|bucket| bucket.name == name);
            Ok(bucket.map_or(Value::Null, |bucket| shapes::bucket(call.directory, bucket)))
        }
        "apiKeyCreate" => api_keys::create(call),
        "bucketSetTabulatorTable" => tabulator::set_table(call),
        "bucketRenameTabulatorTable" => tabulator::rename_table(call),
        "roles" => {
            call.require_admin()?;
            let names = call.directory.roles.keys();
            Ok(names.filter_map(|name| shapes::role(call.directory, name)).collect())
        }
        "role" => {
            call.require_admin()?;
            let id: String = call.variable("id")?;
            Ok(shapes::role(call.directory, &id).unwrap_or_default())
        }
        "policies" => {
            call.require_admin()?;
            Ok(json!([]))
        }
        "admin" => {
            call.require_admin()?;
            each(field, |field| admin::resolve(call, field))
        }
        other => Err(FieldError::Unknown(other.to_owned())),
    }
}

/// An object with one member per selected field.
fn each(field: &Field, mut resolve: impl FnMut(&Field) -> Resolved) -> Resolved {
    let mut object = Map::new();
    for inner in &field.fields {
        object.insert(inner.key.clone(), resolve(inner)?);
    }
    Ok(object.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::world::samples;

    /// Asks `queries` in turn of one directory and returns the last answer.
    pub(super) fn ask(caller: &str, queries: &[(&str, Value)]) -> Value {
        let world = samples::world();
        let mut directory = Directory::of(&world);
        let mut last = Value::Null;
        for (query, variables) in queries {
            let request =
                Request { query: (*query).into(), variables: variables.as_object().cloned() };
            let new_key = || SecretString::from("qk_new");
            last = answer(&world, &mut directory, caller, &new_key, &request);
        }
        last
    }

    #[test]
    fn everybody_sees_their_own_buckets_alone() {
        let buckets = ask("bob", &[("{ bucketConfigs { name } }", json!({}))]);
        let buckets = buckets["data"]["bucketConfigs"].as_array().unwrap();
        assert_eq!(buckets.len(), 1);
        assert_eq!(buckets[0]["name"], "b-bob");
        let query = "query B($name: String!) { bucketConfig(name: $name) { name } }";
        let foreign = ask("bob", &[(query, json!({ "name": "b-alice" }))]);
        assert_eq!(foreign, json!({ "data": { "bucketConfig": null } }));
    }

    #[test]
    fn me_is_the_caller() {
        let me = ask("alice", &[("{ me { name email isAdmin } }", json!({}))]);
        assert_eq!(me["data"]["me"]["name"], "alice");
        assert_eq!(me["data"]["me"]["isAdmin"], true);
    }

    #[test]
    fn admin_is_for_administrators() {
        let query = "query usersList { admin { user { list { ...UserSelection } } } }";
        let refused = ask("bob", &[(query, json!({}))]);
        assert_eq!(refused["data"]["admin"], Value::Null);
        assert_eq!(refused["errors"][0]["message"], "Unauthorized");
        let users = ask("alice", &[(query, json!({}))]);
        assert_eq!(users["data"]["admin"]["user"]["list"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn an_operation_that_is_not_served_says_so_by_name() {
        let answer = ask("alice", &[("{ packages { name } }", json!({}))]);
        let message = answer["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("packages"), "{message}");
    }
}
