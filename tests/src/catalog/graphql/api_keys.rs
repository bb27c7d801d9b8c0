//! `apiKeyCreate`: a key of the caller's own, within the bounds of the real registry.

use super::{Call, Resolved, shapes};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

/// All that the schema has; anything else is no such input.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Input {
    name: String,
    expires_in_days: Option<u32>,
}

/// `apiKeyCreate(input)`.
pub(super) fn create(call: &mut Call<'_>) -> Resolved {
    let input: Input = call.variable("input")?;
    let days = input.expires_in_days.unwrap_or(90);
    if input.name.trim().is_empty() {
        return Ok(shapes::invalid_input("input.name", "ValidationError", "must not be empty"));
    }
    if !(1..=365).contains(&days) {
        let path = "input.expiresInDays";
        return Ok(shapes::invalid_input(path, "ValidationError", "must be from 1 to 365"));
    }
    let secret = (call.new_key)();
    let secret = secret.expose_secret();
    Ok(json!({
        "__typename": "APIKeyCreated",
        "apiKey": {
            "id": "key",
            "name": input.name,
            "fingerprint": format!("{}...", &secret[..6]),
            "createdAt": "2026-01-01T00:00:00+00:00",
            "expiresAt": format!("in {days} days"),
            "lastUsedAt": null,
            "status": "ACTIVE",
            "userEmail": call.caller.email,
        },
        "secret": secret,
    }))
}

#[cfg(test)]
mod tests {
    use crate::catalog::graphql::tests::ask;
    use serde_json::{Value, json};

    fn created(input: &Value) -> Value {
        let query = "mutation apiKeyCreate($input: APIKeyCreateInput!) { \
                     apiKeyCreate(input: $input) { __typename } }";
        ask("bob", &[(query, json!({ "input": input }))])
    }

    #[test]
    fn a_key_is_made_within_the_registrys_bounds_alone() {
        let made = created(&json!({ "name": "laptop", "expiresInDays": 7 }));
        assert_eq!(made["data"]["apiKeyCreate"]["secret"], "qk_new");
        for bad in [
            json!({ "name": "", "expiresInDays": 7 }),
            json!({ "name": "laptop", "expiresInDays": 366 }),
        ] {
            assert_eq!(created(&bad)["data"]["apiKeyCreate"]["__typename"], "InvalidInput");
        }
        assert!(created(&json!({ "name": "x", "scope": "all" }))["errors"].is_array());
    }
}
