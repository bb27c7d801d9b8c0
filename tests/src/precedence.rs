//! Every way to prove who one is, alone and beside every other: an API key decides before a bearer, and whatever decides
//! decides alone. A failure never moves on to the other credential, and that one is shown to nobody (KEY-2).
//!
//! Three ways in to one class, what each credential for them comes to, and the calls that show it, wherever gateway and
//! workers run. It must not know either.

use crate::{
    catalog::{Catalog, Config, record::Bearers, world::World},
    controller::api_key,
    issuer::{self, hs256},
    mcp::McpClient,
};
use anyhow::ensure;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

/// The key of the staff's tokens: the entry [`ENTRY`] of the Secret [`SECRET`].
pub const KEY: &[u8] = b"only servers hold these 32 bytes";
/// The Secret.
pub const SECRET: &str = "staff";
/// Its entry.
pub const ENTRY: &str = "hmac";
/// Who has one of Patchbay's own keys, [`api_key`], for the class; alice is the catalog's, and carol one of the staff.
pub const WITH_KEY: &str = "bob";

const STAFF: &str = "https://staff.example";

/// One credential, and what it is alone.
struct Credential {
    what: &'static str,
    value: String,
    outcome: Outcome,
    /// Whether the catalog is asked about it.
    is_asked: bool,
}

/// Whom a credential makes somebody, or why nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Is(&'static str),
    Refused(&'static str),
}

use Outcome::{Is, Refused};

/// A token of carol's that ends so many seconds from now.
pub fn token(expires_in: i64) -> anyhow::Result<String> {
    let mut claims = issuer::claims(STAFF, "carol");
    claims["exp"] = json!(jiff::Timestamp::now().as_second() + expires_in);
    hs256(&claims, KEY)
}

/// The provider of the staff's tokens, as `spec.jwt`.
pub fn staff() -> Value {
    json!({
        "issuer": STAFF, "audiences": [issuer::AUDIENCE], "algorithms": ["HS256"],
        "jwks": { "secretRef": { "name": SECRET, "key": ENTRY } },
    })
}

/// alice's catalog, which remembers what it was shown.
pub async fn catalog() -> anyhow::Result<Catalog> {
    let config = Config { bearers: Bearers::Verbatim, ..Config::default() };
    Catalog::start(config, World::without_aws(&["alice"])).await
}

/// The two ways in beside [`WITH_KEY`]'s: names and specifications of providers of a class.
pub fn ways(catalog: &Catalog, class: &str) -> [(&'static str, Value); 2] {
    let origins = catalog.origins();
    [
        ("catalog", json!({ "classes": [class], "introspection": { "catalog": origins } })),
        ("staff", json!({ "classes": [class], "jwt": staff() })),
    ]
}

/// What a client is told: why it is nobody, or what its worker remembers under `me`.
pub async fn outcome(client: &McpClient) -> anyhow::Result<String> {
    let answer = client.modern_call("recall", json!({ "key": "me" })).await?;
    match answer.reason() {
        Some(reason) => Ok(reason),
        None => Ok(client.call("recall", json!({ "key": "me" })).await?["memory"].to_string()),
    }
}

fn expected(outcome: Outcome) -> String {
    match outcome {
        Is(user) => Value::from(user).to_string(),
        Refused(reason) => reason.to_owned(),
    }
}

/// What is presented as an API key.
fn keys(alices: &str) -> anyhow::Result<[Credential; 5]> {
    let credential =
        |what, value: String, outcome, is_asked| Credential { what, value, outcome, is_asked };
    Ok([
        credential("a pb_ key", api_key(WITH_KEY), Is(WITH_KEY), false),
        credential("a qk_ key", alices.to_owned(), Is("alice"), true),
        credential("a bad pb_ key", api_key(WITH_KEY) + "x", Refused("invalid_api_key"), false),
        credential(
            "a bad qk_ key",
            "qk_nobody-s-key-at-all".into(),
            Refused("invalid_api_key"),
            true,
        ),
        credential("a token for a key", token(3600)?, Refused("credential_not_accepted"), false),
    ])
}

/// What is presented as a bearer.
fn bearers(alices: &str, catalog: &Catalog) -> anyhow::Result<[Credential; 6]> {
    let credential =
        |what, value: String, outcome, is_asked| Credential { what, value, outcome, is_asked };
    let hers = catalog.credentials().token("alice")?.expose_secret().to_owned();
    Ok([
        credential("a pb_ key", api_key(WITH_KEY), Is(WITH_KEY), false),
        credential("a qk_ key", alices.to_owned(), Is("alice"), true),
        credential("a token", token(3600)?, Is("carol"), false),
        credential("a token that ended", token(-3600)?, Refused("expired_credential"), false),
        credential("a catalog's token", hers, Is("alice"), true),
        credential(
            "an unknown bearer",
            "nobody-s-opaque-bearer".into(),
            Refused("invalid_credential"),
            true,
        ),
    ])
}

/// Presents each credential alone and every pair at once at the class's URL. Three users have a worker afterwards.
pub async fn is_followed_at(url: &str, catalog: &Catalog) -> anyhow::Result<()> {
    let alices = catalog.credentials().api_key("alice").expose_secret().to_owned();
    let (in_key_header, as_bearer) = (keys(&alices)?, bearers(&alices, catalog)?);
    let by_key = |it: &Credential| McpClient::with_headers(url, &[("x-api-key", &it.value)]);

    // each user says once who they are
    for it in in_key_header.iter().filter(|it| matches!(it.outcome, Is(_))) {
        let Is(user) = it.outcome else { continue };
        by_key(it).call("remember", json!({ "key": "me", "value": user })).await?;
    }
    let carol = McpClient::bearer(url, &token(3600)?);
    carol.call("remember", json!({ "key": "me", "value": "carol" })).await?;

    for it in &in_key_header {
        let told = outcome(&by_key(it)).await?;
        ensure!(told == expected(it.outcome), "{} as an API key: {told}", it.what);
    }
    for it in &as_bearer {
        let told = outcome(&McpClient::bearer(url, &it.value)).await?;
        ensure!(told == expected(it.outcome), "{} as a bearer: {told}", it.what);
    }
    for key in &in_key_header {
        for bearer in &as_bearer {
            catalog.record().clear();
            let authorization = format!("Bearer {}", bearer.value);
            let headers = [("x-api-key", key.value.as_str()), ("authorization", &authorization)];
            let told = outcome(&McpClient::with_headers(url, &headers)).await?;
            let pair = format!("{} beside {}", key.what, bearer.what);
            ensure!(told == expected(key.outcome), "{pair}: {told}");
            let asked: Vec<_> =
                catalog.record().all().into_iter().filter_map(|seen| seen.bearer).collect();
            let is_its_own = |it: &String| key.is_asked && *it == key.value;
            ensure!(asked.iter().all(is_its_own), "{pair}: the catalog saw {}", asked.len());
        }
    }
    Ok(())
}
