//! Users of `quilt-mcp` whose tokens are for Patchbay alone, and are exchanged for ones that the catalog takes (RFC 8693): what
//! a class and a provider say for it, and what must come of it, wherever workers run and however many gateways there are.

use super::{QuiltWorld, call};
use crate::authorization_server::{self as login, AuthorizationServer};
use anyhow::ensure;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The Secret with what the gateway has of the authorization server: its client's secret, and the key of its tokens.
pub const SECRET: &str = "login";

/// What is in that Secret, by its entries' names.
pub fn secret() -> [(&'static str, Vec<u8>); 2] {
    // as an editor leaves it
    [("client", format!("{}\n", login::SECRET).into_bytes()), ("hmac", login::KEY.to_vec())]
}

/// What a class says of its catalog beside where that is.
pub fn source(world: &QuiltWorld, login: &AuthorizationServer) -> Value {
    json!({
        "caBundle": format!("{}\n{}", world.catalog.ca_pem(), login.ca_pem()),
        "exchange": {
            "tokenEndpoint": login.url(),
            "audience": login::CATALOG,
            "scope": "packages search",
            "client": { "id": login::CLIENT, "secretRef": { "name": SECRET, "key": "client" } },
        },
    })
}

/// The provider of the authorization server's tokens.
pub fn provider(class: &str) -> Value {
    json!({ "classes": [class], "jwt": {
        "issuer": login::ISSUER, "audiences": [login::PATCHBAY], "algorithms": ["HS256"],
        "jwks": { "secretRef": { "name": SECRET, "key": "hmac" } },
    } })
}

/// What a user does with the catalog, with its keys of AWS, and with both.
pub fn calls(user: &str) -> [Value; 3] {
    [
        call("search_catalog", json!({ "query": "note", "scope": "global" })),
        call("bucket_object_text", json!({ "s3_uri": format!("s3://b-{user}/notes/{user}.txt") })),
        call("bucket_list", json!({})),
    ]
}

/// What must be so of what the calls of [`calls`] said.
pub fn check(user: &str, said: &[String]) -> anyhow::Result<()> {
    ensure!(said.len() == 3 && said.iter().take(2).all(|it| it.contains(user)), "{user}: {said:?}");
    Ok(())
}

/// The catalog was shown bearers, and none of those that users presented: its own. They are returned.
pub fn never_shown(world: &QuiltWorld, presented: &[String]) -> anyhow::Result<BTreeSet<String>> {
    let seen = world.catalog.record().all();
    let bearers: BTreeSet<_> = seen.into_iter().filter_map(|seen| seen.bearer).collect();
    ensure!(bearers.len() >= presented.len(), "{} bearers", bearers.len());
    let is_shown = |token: &String| bearers.contains(token);
    ensure!(!presented.iter().any(is_shown), "the catalog saw a user's token");
    Ok(bearers)
}

/// How many exchanges the gateways tell of, each with all that it must say.
pub fn told(login: &AuthorizationServer, provider: &str, logs: &str) -> anyhow::Result<usize> {
    let told = logs.lines().filter(|line| line.contains("\"a token was exchanged\""));
    let told: Vec<Value> = told.map(serde_json::from_str).collect::<Result<_, _>>()?;
    for line in &told {
        let span = &line["span"];
        ensure!(span["provider"] == provider && span["mode"] == "jwt", "{line}");
        ensure!(line["audience"] == login::CATALOG && line["token_endpoint"] == login.url());
        let is_said = |name: &str| span[name].as_str().is_some_and(|it| !it.is_empty());
        ensure!(is_said("request_id") && is_said("tenant"), "{line}");
    }
    Ok(told.len())
}
