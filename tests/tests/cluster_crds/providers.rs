//! What an `IdentityProvider` may say. The forms of its texts are in `agreement`.

use crate::{
    objects::{DIGEST, asking_provider, jwt_provider, key_provider, with},
    server::Server,
};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

fn enhanced() -> Value {
    with(jwt_provider("p"), "jwt/format", json!("quiltEnhanced"))
}

fn catalog() -> Value {
    json!({ "origin": "https://c.example", "registry": "https://r.example" })
}

fn secret() -> Value {
    json!({ "secretRef": { "name": "s", "key": "k" } })
}

fn hs256(jwks: Value) -> Value {
    with(with(jwt_provider("p"), "jwt/jwks", jwks), "jwt/algorithms", json!(["HS256"]))
}

fn keys(keys: Value) -> Value {
    with(key_provider("p"), "apiKeys/keys", keys)
}

#[tokio::test]
async fn what_makes_sense_is_taken() -> anyhow::Result<()> {
    let server = Server::with("provider-good").await?;
    let key = |n: usize| json!({ "id": format!("k{n}"), "subject": "alice", "digest": DIGEST });
    for object in [
        jwt_provider("p"),
        asking_provider("p"),
        key_provider("p"),
        with(jwt_provider("p"), "jwt/jwks", json!({ "discovery": true })),
        with(jwt_provider("p"), "jwt/jwks", json!({ "cluster": true })),
        with(jwt_provider("p"), "jwt/jwks", secret()),
        hs256(secret()),
        with(enhanced(), "jwt/catalog", catalog()),
        with(enhanced(), "jwt/keyHeldByServersOnly", json!(true)),
        with(
            with(
                with(enhanced(), "jwt/catalog", catalog()),
                "jwt/permissionCodes",
                json!({ "gt": "s3:GetObjectTagging" }),
            ),
            "jwt/roleAliases",
            json!({ "ReadQuiltV2": "ReadOnlyQuilt" }),
        ),
        with(
            with(
                with(enhanced(), "jwt/catalog", catalog()),
                "jwt/roles",
                json!([{ "name": "AdminQuilt", "level": "admin", "buckets": ["*"] }, { "name": "None" }]),
            ),
            "jwt/levels",
            json!({ "read": ["s3:GetObject"], "admin": ["iam:PassRole"] }),
        ),
        keys(json!([])),
        keys((0..1000).map(key).collect()),
    ] {
        let answer = server.try_create("identityproviders", &object).await?;
        ensure!(answer.warnings.is_empty(), "{:?}", answer.warnings);
        answer.object()?;
    }
    Ok(())
}

#[tokio::test]
async fn the_largest_provider_of_keys_can_be_kept() -> anyhow::Result<()> {
    let server = Server::with("provider-large").await?;
    let key = |n: usize| {
        let subject = format!("{n:01024}");
        json!({
            "id": format!("{n:032}"), "subject": subject, "digest": DIGEST,
            "expiresAt": "2030-01-31T00:00:00Z",
        })
    };
    let object = keys((0..1000).map(key).collect());
    let path = server.path("identityproviders/p");
    server.apply(&path, &object.to_string()).await?.object().map(drop)
}

/// What is wrong with the tables of enhanced tokens, and where.
fn wrong_tables() -> Vec<(Value, &'static str, &'static str)> {
    let jwt = |pointer: &str, value| with(jwt_provider("p"), &format!("jwt/{pointer}"), value);
    let stated = with(enhanced(), "jwt/keyHeldByServersOnly", json!(true));
    let roles = |roles: Value| with(stated.clone(), "jwt/roles", roles);
    let belongs = "belong to `format: quiltEnhanced`";
    vec![
        (
            with(
                with(enhanced(), "jwt/catalog", catalog()),
                "jwt/requiredClaims",
                json!({ "a": "b" }),
            ),
            "spec.jwt.requiredClaims",
            "keeps nobody out",
        ),
        (jwt("roles", json!([{ "name": "r" }])), "spec.jwt.format", belongs),
        (jwt("levels", json!({})), "spec.jwt.format", belongs),
        (roles(json!([{ "name": "r" }, { "name": "r" }])), "spec.jwt.roles[1]", "Duplicate value"),
        (
            roles(json!([{ "name": "r", "level": "boss" }])),
            "spec.jwt.roles[0].level",
            "supported values",
        ),
        (roles(json!([{ "name": "" }])), "spec.jwt.roles[0].name", "at least 1"),
    ]
}

#[tokio::test]
async fn each_rule_holds() -> anyhow::Result<()> {
    let server = Server::with("provider-bad").await?;
    let key = || json!({ "id": "k", "subject": "s", "digest": DIGEST });
    let key_with = |field: &str, value: Value| {
        let mut key = key();
        key[field] = value;
        keys(json!([key]))
    };
    let jwt = |pointer: &str, value| with(jwt_provider("p"), &format!("jwt/{pointer}"), value);
    let no_way = with(jwt_provider("p"), "jwt", Value::Null);
    let two_ways = with(jwt_provider("p"), "apiKeys", json!({ "keys": [] }));
    let mut both = secret();
    both["url"] = json!("https://i.example/jwks");
    let discovered = json!({ "discovery": true, "url": "https://i.example/jwks" });
    let clusters = json!({ "discovery": true, "cluster": true });
    let way = "does not say exactly one way";
    let place = "does not name exactly one place of the issuer's keys";
    let shared = "`HS256` needs `jwks.secretRef`";
    let belongs = "belong to `format: quiltEnhanced`";
    let both_ways =
        with(with(enhanced(), "jwt/catalog", catalog()), "jwt/keyHeldByServersOnly", json!(true));
    let stated = with(enhanced(), "jwt/keyHeldByServersOnly", json!(true));
    let codes = |codes: Value| with(stated.clone(), "jwt/permissionCodes", codes);
    let in_secret =
        |name: &str, key: &str| jwt("jwks", json!({ "secretRef": { "name": name, "key": key } }));
    let below =
        |issuer: &str| with(jwt("jwks", json!({ "discovery": true })), "jwt/issuer", json!(issuer));
    let with_others = with(hs256(secret()), "jwt/algorithms", json!(["HS256", "RS256"]));
    let many_codes = Value::Object((0..65).map(|n| (format!("c{n}"), json!("s3:x"))).collect());
    let long_code = json!({ "c".repeat(257): "s3:GetObject" });
    let many =
        (0..1001).map(|n| json!({ "id": format!("k{n}"), "subject": "s", "digest": DIGEST }));
    for (object, field, said) in [
        (no_way, "spec", way),
        (two_ways, "spec", way),
        (
            jwt("authorityClaims", json!(["role", "awsCredentials"])),
            "spec.jwt.authorityClaims",
            "lists a claim that holds AWS keys",
        ),
        (jwt("jwks", json!({})), "spec.jwt.jwks", place),
        (jwt("jwks", json!({ "discovery": false })), "spec.jwt.jwks", place),
        (jwt("jwks", both), "spec.jwt.jwks", place),
        (jwt("jwks", discovered), "spec.jwt.jwks", place),
        (jwt("jwks", clusters), "spec.jwt.jwks", place),
        (hs256(json!({ "url": "https://i.example/jwks" })), "spec.jwt.algorithms", shared),
        (jwt("algorithms", json!(["ES256", "HS256"])), "spec.jwt.algorithms", shared),
        (jwt("algorithms", json!(["none"])), "spec.jwt.algorithms[0]", "supported values"),
        (jwt("algorithms", json!([])), "spec.jwt.algorithms", "at least 1"),
        (enhanced(), "spec.jwt.format", "does not prove who a user is"),
        (both_ways, "spec.jwt.format", "two ways to know a user"),
        (with_others, "spec.jwt.algorithms", "beside an algorithm with a public key"),
        (below("http://i.example"), "spec.jwt.issuer", "is not an https URL"),
        (below("https://i.example?a"), "spec.jwt.issuer", "is not an https URL"),
        (below("https://u@i.example"), "spec.jwt.issuer", "is not an https URL"),
        (in_secret("Keys", "k"), "spec.jwt.jwks.secretRef.name", "is not the name of a Secret"),
        (in_secret("../k", "k"), "spec.jwt.jwks.secretRef.name", "is not the name of a Secret"),
        (in_secret("keys", ".."), "spec.jwt.jwks.secretRef.key", "is not the key of an entry"),
        (in_secret("keys", "a/b"), "spec.jwt.jwks.secretRef.key", "is not the key of an entry"),
        (codes(json!({ "g": "s3:*" })), "spec.jwt.permissionCodes", "means the same everywhere"),
        (codes(long_code), "spec.jwt.permissionCodes", "longer than 256 characters"),
        (codes(many_codes), "spec.jwt.permissionCodes", "Too many"),
        (jwt("permissionCodes", json!({ "gt": "s3:x" })), "spec.jwt.format", belongs),
        (jwt("roleAliases", json!({ "a": "b" })), "spec.jwt.format", belongs),
        (jwt("catalog", catalog()), "spec.jwt.format", belongs),
        (jwt("keyHeldByServersOnly", json!(true)), "spec.jwt.format", belongs),
        (jwt("issuer", json!(" ")), "spec.jwt.issuer", "is empty; write what the tokens say"),
        (jwt("audiences", json!([])), "spec.jwt.audiences", "at least 1"),
        (jwt("audiences", json!([" "])), "spec.jwt.audiences[0]", "is empty; write what"),
        (jwt("subjectClaim", json!("")), "spec.jwt.subjectClaim", "is empty; name the claim"),
        (with(jwt_provider("p"), "classes", json!([])), "spec.classes", "at least 1"),
        (with(jwt_provider("p"), "classes", json!(["a", "a"])), "spec.classes[1]", "Duplicate"),
        (with(jwt_provider("p"), "classes", json!(["A"])), "spec.classes[0]", "is not a class"),
        (keys(json!([key(), key()])), "spec.apiKeys.keys[1]", "Duplicate value"),
        (keys(many.collect()), "spec.apiKeys.keys", "Too many"),
        (key_with("id", json!("K")), "spec.apiKeys.keys[0].id", "is not the id of an API key"),
        (key_with("id", json!("")), "spec.apiKeys.keys[0].id", "is not the id of an API key"),
        (key_with("subject", json!(" ")), "spec.apiKeys.keys[0].subject", "is empty; name the"),
        (key_with("digest", json!("x")), "spec.apiKeys.keys[0].digest", "is not a SHA-256 digest"),
        (key_with("expiresAt", json!("soon")), "spec.apiKeys.keys[0].expiresAt", "date-time"),
        (
            with(key_provider("p"), "apiKeys/issuer", json!("")),
            "spec.apiKeys.issuer",
            "is empty; name who vouches",
        ),
    ]
    .into_iter()
    .chain(wrong_tables())
    {
        let answer = server.try_create("identityproviders", &object).await?;
        let told = object.to_string().chars().take(400).collect::<String>();
        answer.ensure_refused(field, said).context(told)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_change_is_held_to_the_same_rules() -> anyhow::Result<()> {
    let server = Server::with("provider-change").await?;
    server.create("identityproviders", &key_provider("p")).await?.object()?;
    let second = json!({ "spec": { "introspection": { "catalog": catalog() } } });
    let answer = server.try_patch("identityproviders/p", &second).await?;
    answer.ensure_refused("spec", "does not say exactly one way")?;
    // one way in for another
    let other = json!({ "spec": { "apiKeys": null, "introspection": { "catalog": catalog() } } });
    server.try_patch("identityproviders/p", &other).await?.object().map(drop)
}

#[tokio::test]
async fn a_key_that_is_pasted_where_its_id_or_digest_belongs_is_not_repeated() -> anyhow::Result<()>
{
    let server = Server::with("provider-secret").await?;
    for secret in ["pb_a_hunter2".to_owned(), format!("pb_a_{}", "hunter2".repeat(40))] {
        for field in ["id", "digest"] {
            let mut key = json!({ "id": "k", "subject": "s", "digest": DIGEST });
            key[field] = json!(secret);
            let answer = server.try_create("identityproviders", &keys(json!([key]))).await?;
            let field = format!("spec.apiKeys.keys[0].{field}");
            answer.ensure_refused(&field, "")?;
            let told = answer.body.to_string();
            ensure!(!told.contains("hunter2"), "{told}");
        }
        // beside them, it is dropped before anybody can read it
        let key = json!({ "id": "k", "subject": "s", "digest": DIGEST, "key": secret });
        let answer = server.try_create("identityproviders", &keys(json!([key]))).await?;
        ensure!(!answer.warnings.concat().contains("hunter2"), "{:?}", answer.warnings);
        let told = answer.object()?.to_string();
        ensure!(!told.contains("hunter2"), "{told}");
    }
    Ok(())
}
