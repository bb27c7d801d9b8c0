//! The chart's values for one class of fixture servers, and users with API keys.

use crate::installation::{CLASS, WARM};
use patchbay_tests::{
    controller::api_key,
    installation::{class, with},
    pods::{images::Images, users::keys},
};
use serde_json::{Value, json};

/// For these users, with these further fields of the class.
pub(crate) fn values(images: &Images, users: &[&str], fields: Value) -> anyhow::Result<Value> {
    let class = class(images, &format!("/{CLASS}"), json!({ "warm": WARM }))?;
    let keys = keys(users.iter().map(|user| (*user, api_key(user))));
    Ok(json!({
        "classes": { CLASS: with(class, fields)? },
        "providers": { format!("{CLASS}-keys"): {
            "classes": [CLASS], "apiKeys": { "keys": keys },
        }},
    }))
}
