//! Whom tokens make somebody, by providers that are objects and keys that are published, found or in Secrets.

use crate::world::{CLASS, World, shared};
use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use kube::api::{ListParams, Patch, PatchParams};
use patchbay_core::entitlement::SaidBy;
use patchbay_tests::{
    catalog::{Catalog, Config, keys::SigningKey, world::World as CatalogWorld},
    enhanced::tenant,
    evidence::Evidence as _,
    issuer::{AUDIENCE, Issuer, claims, hs256},
    moto::Moto,
    pods::Gateway,
    strict_aws::StrictAws,
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A key that only servers hold, and one that every browser of a catalog with enhanced tokens has.
const SHARED_KEY: &[u8] = b"only servers hold these 32 bytes";
const BROWSERS_KEY: &[u8] = b"every browser has these 32 bytes";

/// What came of a call with a token: the status, and why it was refused.
pub(crate) async fn told(gateway: &Gateway, token: &str) -> anyhow::Result<(u16, String)> {
    let answer = gateway.client(token).modern_call("echo", json!({ "text": "x" })).await?;
    Ok((answer.status.as_u16(), answer.reason().unwrap_or_default()))
}

/// Who has a tenant: issuer and subject.
pub(crate) async fn identities(world: &World) -> anyhow::Result<BTreeSet<(String, String)>> {
    let tenants = world.tenants.list(&ListParams::default()).await?;
    let identities = tenants.into_iter().map(|it| it.spec.identity);
    Ok(identities.map(|it| (it.issuer, it.subject)).collect())
}

/// A way in by tokens of this issuer, with these keys and further fields.
pub(crate) fn jwt(issuer: &str, jwks: &Value, further: &Value) -> anyhow::Result<Value> {
    let mut jwt = json!({ "issuer": issuer, "audiences": [AUDIENCE], "jwks": jwks });
    let further = further.as_object().context("fields are an object")?.clone();
    jwt.as_object_mut().context("an object")?.extend(further);
    Ok(json!({ "jwt": jwt }))
}

#[tokio::test]
async fn keys_are_found_by_discovery_at_a_url_and_in_a_secret_that_the_gateway_may_get()
-> anyhow::Result<()> {
    let _cluster = shared().await;
    let (key, other) = (SigningKey::generate()?, SigningKey::generate()?);
    let issuer = Issuer::start(&key).await?;
    let world = World::make("keys", json!({}), &[]).await?;
    let (pem, hmac) = (key.public_pem().as_bytes(), SHARED_KEY);
    world.secret("staff", &[("pem", pem), ("hmac", hmac)]).await?;
    let at = |key: &str| json!({ "secretRef": { "name": "staff", "key": key } });
    let published = json!({ "url": issuer.keys_url(), "caBundle": issuer.ca_pem() });
    let discovered = json!({ "discovery": true, "caBundle": issuer.ca_pem() });
    let shared_key = json!({ "algorithms": ["HS256"] });
    let ways = [
        ("discovered", issuer.url(), discovered, json!({})),
        ("published", "https://published.example", published, json!({})),
        ("public", "https://public.example", at("pem"), json!({})),
        ("shared", "https://shared.example", at("hmac"), shared_key),
    ];
    for (name, issuer, jwks, further) in &ways {
        world.provide(name, jwt(issuer, jwks, further)?).await?;
    }
    try_join_all(ways.iter().map(|_| world.warm())).await?;
    let gateway = world.config.start().await?;
    let signed = |name: &str, claims: &Value, by: &SigningKey, shared: &[u8]| match name {
        "shared" => hs256(claims, shared),
        _ => by.sign(claims),
    };

    // until it may read them, keys of a Secret are none, and the log says which right is missing
    let token = signed("shared", &claims("https://shared.example", "alice"), &key, SHARED_KEY)?;
    ensure!(told(&gateway, &token).await? == (503, "provider_unavailable".into()));
    let lacks = "this gateway may not get the Secret `staff`: list it in the chart's `gateway.providerSecrets`";
    ensure!(gateway.logs().contains(lacks), "{}", gateway.logs());
    world.config.allow_secrets(&world.stage, &["staff"]).await?;

    let mut expected = BTreeSet::new();
    for (name, issuer, ..) in &ways {
        let own = claims(issuer, "alice");
        let token = signed(name, &own, &key, SHARED_KEY)?;
        gateway
            .until(&format!("alice of {name} is served"), async || {
                Ok(told(&gateway, &token).await?.0 == 200)
            })
            .await?;
        expected.insert(((*issuer).to_owned(), "alice".to_owned()));
        ensure!(identities(&world).await? == expected, "{name}: {:?}", identities(&world).await?);

        // another key, another audience, and a token that has ended make nobody anybody
        let mut late = own.clone();
        late["exp"] = json!(jiff::Timestamp::now().as_second() - 3600);
        let mut elsewhere = own.clone();
        elsewhere["aud"] = json!("somebody else");
        for (claims, by, shared, reason) in [
            (&own, &other, BROWSERS_KEY, "invalid_credential"),
            (&late, &key, SHARED_KEY, "expired_credential"),
            (&elsewhere, &key, SHARED_KEY, "wrong_audience"),
        ] {
            let token = signed(name, claims, by, shared)?;
            let told = told(&gateway, &token).await?;
            ensure!(told == (401, reason.into()), "{name}: {told:?}");
        }
    }
    let stranger = key.sign(&claims("https://nobody.example", "alice"))?;
    ensure!(told(&gateway, &stranger).await? == (401, "unknown_issuer".into()));
    ensure!(identities(&world).await? == expected);

    // what the Secret holds next counts from then on
    let next = json!({ "stringData": { "hmac": "the next key of this issuer's staff" } });
    world.secrets().patch("staff", &PatchParams::default(), &Patch::Merge(next)).await?;
    let own = claims("https://shared.example", "alice");
    let new = hs256(&own, b"the next key of this issuer's staff")?;
    gateway.until("the next key counts", async || Ok(told(&gateway, &new).await?.0 == 200)).await?;
    let old = told(&gateway, &hs256(&own, SHARED_KEY)?).await?;
    ensure!(old == (401, "invalid_credential".into()), "{old:?}");
    ensure!(identities(&world).await? == expected, "another key is another tenant");
    ensure!(!gateway.logs().contains("only servers hold"), "a key is in the log");
    world.end().await
}

#[tokio::test]
async fn claims_of_enhanced_tokens_narrow_and_name_nobody() -> anyhow::Result<()> {
    let _cluster = shared().await;
    let of_users = CatalogWorld::without_aws(&["alice", "bob"]);
    let catalog = Catalog::start(Config::default(), of_users).await?;
    let moto = Moto::start().await?;
    let accounts = moto.set_up(&["alice", "bob"]).await?;
    let aws = StrictAws::start(moto.endpoint()).await?;
    let role = |index: usize| accounts.users[index].role_arn.as_deref().context("no role");
    let source = json!({ "source": "assumeRole", "assumeRole": {
        "roleMap": { "roles": { "alice": role(0)?, "bob": role(1)? } },
        "endpoint": aws.endpoint(), "tags": { "team": "biology" },
    } });
    let world = World::make("enhanced", json!({ "credentials": source }), &[]).await?;
    world.secret("quilt", &[("hmac", BROWSERS_KEY)]).await?;
    world.config.allow_secrets(&world.stage, &["quilt"]).await?;
    let origins = json!({
        "origin": catalog.url(), "registry": catalog.registry_url(), "caBundle": catalog.ca_pem(),
    });
    let way = json!({ "jwt": {
        "issuer": "quilt-frontend", "audiences": ["quilt-mcp-server"], "format": "quiltEnhanced",
        "algorithms": ["HS256"], "jwks": { "secretRef": { "name": "quilt", "key": "hmac" } },
        "catalog": origins,
    } });
    world.provide("enhanced", way).await?;
    tokio::try_join!(world.warm(), world.warm())?;
    let own = &accounts.registry_key;
    let config = world
        .config
        .env("AWS_ACCESS_KEY_ID", &own.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", own.secret_access_key.expose_secret());
    let gateway = config.start().await?;
    let session = catalog.credentials().enhanced_claims("alice");
    let with = |further: &Value| -> anyhow::Result<Value> {
        let mut claims = session.clone();
        let further = further.as_object().context("claims")?.clone();
        claims.as_object_mut().context("claims")?.extend(further);
        Ok(claims)
    };
    let names = async || -> anyhow::Result<BTreeSet<String>> {
        let tenants = world.tenants.list(&ListParams::default()).await?;
        Ok(tenants.into_iter().filter_map(|it| it.metadata.name).collect())
    };

    // codes and words are the same claims, and one tenant: the catalog's alice
    let codes = json!({ "l": "read", "p": ["g", "l"], "b": ["b-alice"], "r": ["R"] });
    let words = json!({
        "level": "read", "permissions": ["s3:ListBucket", "s3:GetObject"], "buckets": ["b-alice"], "roles": ["R"],
    });
    for claims in [&codes, &words] {
        let answered = told(&gateway, &hs256(&with(claims)?, BROWSERS_KEY)?).await;
        ensure!(answered.with_logs(|| gateway.logs())?.0 == 200, "{}", gateway.logs());
    }
    let alice = tenant(CLASS, catalog.url(), "alice", &codes, SaidBy::Holder)?;
    ensure!(names().await? == [alice.clone()].into(), "{:?}", names().await?);
    ensure!(identities(&world).await? == [(catalog.url().to_owned(), "alice".to_owned())].into());

    // whatever she signs of who she is, she is alice; and more than she had is another worker of hers
    let mut forged = with(&codes)?;
    for (claim, value) in [("sub", "bob"), ("id", "bob"), ("email", "bob@example.com")] {
        forged[claim] = value.into();
    }
    for claim in ["role_arn", "aws_role", "role"] {
        forged[claim] = role(1)?.into();
    }
    for claim in ["session_tags", "https://aws.amazon.com/tags"] {
        forged[claim] = json!({ "team": "forgery", "principal_tags": { "team": ["forgery"] } });
    }
    ensure!(told(&gateway, &hs256(&forged, BROWSERS_KEY)?).await?.0 == 200);
    ensure!(names().await? == [alice.clone()].into(), "{:?}", names().await?);
    let more = json!({ "l": "admin", "p": ["g", "p"], "b": ["*"], "r": ["AdminQuilt"] });
    ensure!(told(&gateway, &hs256(&with(&more)?, BROWSERS_KEY)?).await?.0 == 200);
    let admin = tenant(CLASS, catalog.url(), "alice", &more, SaidBy::Holder)?;
    let mine = BTreeSet::from([alice, admin]);
    ensure!(names().await? == mine, "{:?}", names().await?);

    // and of nothing that she made up is a word at STS: each of her workers acts as hers, with the tags of the class
    let sessions = aws.sessions();
    ensure!(sessions.len() >= 2, "{sessions:?}");
    let expected = BTreeMap::from([
        ("patchbay:class".to_owned(), CLASS.to_owned()),
        ("patchbay:issuer".to_owned(), catalog.url().to_owned()),
        ("patchbay:subject".to_owned(), "alice".to_owned()),
        ("team".to_owned(), "biology".to_owned()),
    ]);
    for session in &sessions {
        let mut tags = session.tags.clone();
        let tenant = tags.remove("patchbay:tenant").context("no tenant")?;
        ensure!(mine.contains(&tenant) && tags == expected, "{session:?}");
        ensure!(session.role == role(0)?, "{session:?}");
        ensure!(session.source_identity.as_deref() == Some("alice"), "{session:?}");
    }
    let all = format!("{sessions:?}");
    ensure!(!all.contains("forgery") && !all.contains("bob"), "{all}");

    // claims that cannot be read, and a session that the catalog does not know, gain nothing
    let stranger = json!({ "uuid": "00000000-0000-4000-8000-000000000000" });
    let refused = told(&gateway, &hs256(&with(&stranger)?, BROWSERS_KEY)?).await?;
    ensure!(refused == (401, "invalid_credential".into()), "{refused:?}");
    let unsigned = told(&gateway, &hs256(&with(&codes)?, SHARED_KEY)?).await?;
    ensure!(unsigned == (401, "invalid_credential".into()), "{unsigned:?}");
    ensure!(names().await?.len() == 2);
    world.end().await
}
