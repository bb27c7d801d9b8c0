//! Users of `quilt-mcp` whose AWS keys are not the catalog's: of roles that the gateway assumes for them, of roles that their
//! tokens are exchanged for, and out of their tokens. What a class says for it, and what must come of it in front of a strict
//! AWS, wherever workers run and however many gateways there are.

use super::{AUDIENCE, QuiltWorld, call};
use crate::{
    load::Load,
    mcp::McpClient,
    secrets::Secrets,
    served::Served,
    strict_aws::{Session, StrictAws},
};
use anyhow::{Context, ensure};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// What alice's token grants her of her bucket, whose role allows everything there.
pub const READING: [&str; 4] =
    ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:GetBucketLocation"];

/// The claims that narrow a role, which the provider has to say.
pub const AUTHORITY: [&str; 2] = ["buckets", "permissions"];

/// What the tokens of the world's catalog name AWS.
const AWS: &str = "sts.amazonaws.com";

/// The credentials of a class whose users' keys are of the roles that AWS has for them, as far as their tokens' claims go.
/// STS is where the gateway's own environment says, or at this endpoint.
pub fn of_roles(world: &QuiltWorld, endpoint: Option<&str>, tags: &Value) -> Value {
    let roles: Value =
        world.aws.users.iter().map(|user| (user.name.clone(), json!(user.role_arn))).collect();
    let mut assume = json!({
        "roleMap": { "roles": roles },
        "tags": tags,
        "claims": { "buckets": "buckets", "permissions": "permissions" },
    });
    if let Some(endpoint) = endpoint {
        assume["endpoint"] = json!(endpoint);
    }
    json!({ "source": "assumeRole", "assumeRole": assume })
}

/// The credentials of a class whose users' own tokens are exchanged at AWS. bob's role trusts nobody, and carol has none.
pub fn of_own_tokens(world: &QuiltWorld, endpoint: &str) -> anyhow::Result<Value> {
    let roles = json!({
        "alice": role_of(world, "alice")?, "bob": "arn:aws:iam::123456789012:role/nobody-s",
    });
    Ok(json!({
        "source": "webIdentity",
        "webIdentity": { "audience": AWS },
        "assumeRole": {
            "roleMap": { "roles": roles }, "endpoint": endpoint,
            "claims": { "buckets": "buckets", "permissions": "permissions" },
        },
    }))
}

/// A token that says what alice may do with her bucket.
pub fn granting(world: &QuiltWorld, permissions: &[&str]) -> anyhow::Result<String> {
    let said = json!({ "buckets": ["b-alice"], "permissions": permissions });
    world.token_saying("alice", &said)
}

/// Whether a tool was denied something by AWS.
fn is_denied(said: &str) -> bool {
    let said = said.to_lowercase();
    said.contains("accessdenied") || said.contains("access denied") || said.contains("403")
}

/// Why a client gets no worker.
pub async fn refusal(client: &McpClient) -> anyhow::Result<(StatusCode, String)> {
    let answer = client.modern_call("bucket_list", json!({})).await?;
    let reason = answer.reason().with_context(|| format!("{} is no refusal", answer.status))?;
    Ok((answer.status, reason))
}

/// Whether each of these is refused so, by whichever gateway.
async fn are_refused(
    served: &Served,
    credentials: impl IntoIterator<Item = (String, &str)>,
) -> anyhow::Result<()> {
    for (credential, reason) in credentials {
        for client in served.clients(&credential) {
            let told = refusal(&client).await?;
            ensure!(told == (StatusCode::FORBIDDEN, reason.into()), "{told:?} and not {reason}");
        }
    }
    Ok(())
}

fn role_of(world: &QuiltWorld, user: &str) -> anyhow::Result<String> {
    let user = world.aws.users.iter().find(|it| it.name == user);
    user.and_then(|user| user.role_arn.clone()).context("no role")
}

fn put() -> Value {
    let item = json!({ "key": "new.txt", "text": "new" });
    call("bucket_objects_put", json!({ "bucket": "b-alice", "items": [item] }))
}

/// alice reads what is hers, by keys that are hers.
pub async fn she_reads(client: &McpClient) -> anyhow::Result<()> {
    let asked = json!({ "s3_uri": "s3://b-alice/notes/alice.txt" });
    let said = client.call("bucket_object_text", asked).await?.to_string();
    ensure!(said.contains("only alice may read"), "{said}");
    Ok(())
}

/// Nobody but the one whom the class names gave keys.
fn the_registry_gave_none(world: &QuiltWorld) -> anyhow::Result<()> {
    let asked = world.catalog.record().all();
    let was_asked = asked.iter().any(|seen| seen.path == "/api/auth/get_credentials");
    ensure!(!was_asked, "the registry was asked for keys");
    Ok(())
}

/// A session of alice's by her role, narrowed to her bucket, for as long as the class says.
fn is_alices(world: &QuiltWorld, session: &Session) -> anyhow::Result<()> {
    ensure!(session.name.starts_with("mcp-alice-"), "{session:?}");
    ensure!(session.role == role_of(world, "alice")? && session.duration == 900, "{session:?}");
    ensure!(session.policy.as_ref().is_some_and(|it| it.contains("b-alice")), "{session:?}");
    Ok(())
}

/// alice's claims deny her what her role would allow, as AWS sees it; a token that grants it is another worker. The class has
/// [`of_roles`] with the tag `team` of `biology`; `ask` makes calls with a token, and says what they said. What she presented.
pub async fn claims_deny_what_the_role_allows(
    world: &QuiltWorld,
    aws: &StrictAws,
    gateways: usize,
    ask: impl AsyncFn(&str, &[Value]) -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<[String; 2]> {
    let reader = granting(world, &READING)?;
    let calls = [
        call("bucket_object_text", json!({ "s3_uri": "s3://b-alice/notes/alice.txt" })),
        put(),
        call("bucket_object_text", json!({ "s3_uri": "s3://b-bob/notes/bob.txt" })),
        call("search_catalog", json!({ "query": "note", "scope": "global" })),
    ];
    let said = ask(&reader, &calls).await?;
    ensure!(said[0].contains("only alice may read"), "{said:?}");
    ensure!(is_denied(&said[1]), "she wrote: {said:?}");
    ensure!(is_denied(&said[2]), "she read bob's: {said:?}");
    ensure!(said[3].contains("alice"), "no search: {said:?}");
    let refused = aws.refused();
    let is_it = |it: &String| it.starts_with("s3:PutObject arn:aws:s3:::b-alice/");
    ensure!(refused.iter().any(is_it), "{refused:?}");

    // her role does allow it: a token that grants it is another worker, with other keys
    let writer = granting(world, &[&READING[..], &["s3:PutObject"]].concat())?;
    let said = ask(&writer, &[put()]).await?;
    ensure!(!is_denied(&said[0]) && said[0].contains("new.txt"), "{said:?}");

    let sessions = aws.sessions();
    ensure!((2..=2 * gateways).contains(&sessions.len()), "{sessions:?}");
    for session in &sessions {
        is_alices(world, session)?;
        ensure!(session.source_identity.as_deref() == Some("alice"), "{session:?}");
        let tags = &session.tags;
        ensure!(tags["patchbay:subject"] == "alice" && tags["team"] == "biology", "{session:?}");
        ensure!(tags["patchbay:issuer"] == world.catalog.url(), "{session:?}");
        ensure!(session.transitive.iter().eq(tags.keys()), "{session:?}");
    }
    let (role, calls) = (role_of(world, "alice")?, aws.calls());
    ensure!(calls.iter().any(|it| it.action == "s3:PutObject" && it.passed), "{calls:?}");
    ensure!(calls.iter().all(|it| it.role == role), "with other keys: {calls:?}");
    the_registry_gave_none(world)?;
    Ok([reader, writer])
}

/// Keys of a role that end soon are renewed while alice reads, and no call fails. How many were answered.
pub async fn are_renewed_under_load(
    world: &QuiltWorld,
    aws: &StrictAws,
    served: &Served,
) -> anyhow::Result<usize> {
    /// Short, so that several generations are seen, and long enough for renewals to begin before calls would wait for them.
    const LIFETIME: SignedDuration = SignedDuration::from_secs(90);
    const CAP: Duration = Duration::from_mins(4);
    aws.keys_live_for(LIFETIME);
    let token = granting(world, &READING)?;
    let begun = Instant::now();
    let each = served.clone();
    let mut load = Load::begin(&token, move |token| {
        let clients = each.clients(&token);
        async move {
            for client in clients {
                she_reads(&client).await?;
            }
            Ok(())
        }
    });
    // of each gateway the first keys, and two that took their place
    while aws.sessions().len() < 3 * served.gateways() {
        ensure!(begun.elapsed() < CAP, "{:?}", aws.sessions());
        load.goes_on(1).await?;
    }
    load.goes_on(2).await?;
    // each was good for half of its life before others were asked for; an end is told in whole seconds, so a life may be one less
    let two_halves = (LIFETIME - SignedDuration::from_secs(1)).unsigned_abs();
    ensure!(begun.elapsed() >= two_halves, "after {:?}", begun.elapsed());
    // that it refuses those that have ended is shown by its own tests
    ensure!(!aws.refused().iter().any(|it| it == "expired"), "{:?}", aws.refused());
    Ok(load.answered() * served.gateways())
}

/// alice's own token is exchanged at AWS for keys that her claims narrow, nobody signs, and who shows none that is for AWS
/// has no keys. The class has [`of_own_tokens`]. Her token.
pub async fn own_tokens_are_exchanged(
    world: &QuiltWorld,
    aws: &StrictAws,
    served: &Served,
) -> anyhow::Result<String> {
    let issuer = world.catalog.url().to_owned();
    aws.trust(&world.aws, &issuer, AWS, world.catalog.credentials().key());
    let said = json!({ "buckets": ["b-alice"], "permissions": READING });
    let for_aws = |user: &str| {
        let mut said = said.clone();
        said["aud"] = json!([AUDIENCE, issuer, AWS]);
        world.token_saying(user, &said)
    };
    let token = for_aws("alice")?;
    for client in served.clients(&token) {
        she_reads(&client).await?;
    }
    let put = served.said(&token, &[put()]).await?;
    let refused = aws.refused();
    let is_denied = refused.iter().any(|it| it.starts_with("s3:PutObject arn:aws:s3:::b-alice/"));
    ensure!(is_denied, "she wrote: {put:?} {refused:?}");

    let sessions = aws.sessions();
    ensure!((1..=served.gateways()).contains(&sessions.len()), "{sessions:?}");
    for session in &sessions {
        ensure!(session.by_token, "somebody signed: {session:?}");
        is_alices(world, session)?;
    }
    let refused = [
        (world.token_saying("alice", &said)?, "aws_token_audience"),
        (world.api_key("alice"), "aws_token_required"),
        // a role that trusts nobody
        (for_aws("bob")?, "role_denied"),
        (for_aws("carol")?, "role_denied"),
    ];
    are_refused(served, refused).await?;
    // AWS was asked for bob, and said so
    let refused = aws.refused();
    ensure!(refused.iter().any(|it| it == "AccessDenied"), "{refused:?}");
    the_registry_gave_none(world)?;
    Ok(token)
}

/// alice's keys are those in her token, of two that differ too, and who brings none that can be used has none. The class has
/// the source `inlineClaims`. Everything that is secret about them.
pub async fn carried_keys_are_the_only_ones(
    world: &QuiltWorld,
    aws: &StrictAws,
    served: &Served,
) -> anyhow::Result<Secrets> {
    let carrying = |keys: &Value| world.token_saying("alice", &json!({ "aws_credentials": keys }));
    let one = aws.keys_of(&world.aws, "alice").await?;
    let other = aws.keys_of(&world.aws, "alice").await?;
    let tokens = [carrying(&one)?, carrying(&other)?];
    for token in [&tokens[0], &tokens[1], &tokens[0]] {
        for client in served.clients(token) {
            she_reads(&client).await?;
        }
    }
    let with = |name: &str, value: Value| {
        let mut keys = one.clone();
        keys[name] = value;
        carrying(&keys)
    };
    let long_term = &world.aws.registry_key;
    let long_term = json!({
        "access_key_id": long_term.access_key_id,
        "secret_access_key": long_term.secret_access_key.expose_secret(),
    });
    let ended = Timestamp::now() - SignedDuration::from_mins(1);
    let refused = [
        (world.token("alice")?, "aws_keys_missing"),
        (world.token("bob")?, "aws_keys_missing"),
        (carrying(&long_term)?, "aws_keys_long_term"),
        (with("expiration", json!(ended))?, "aws_keys_expired"),
        (with("region", json!("eu-west-1"))?, "aws_keys_unusable"),
        (world.api_key("alice"), "aws_token_required"),
    ];
    are_refused(served, refused).await?;
    ensure!(aws.sessions().len() == 2, "the gateway asked STS: {:?}", aws.sessions());
    the_registry_gave_none(world)?;
    let mut secrets = Secrets::default();
    for secret in texts(&one).iter().chain(&texts(&other)).chain(&tokens) {
        secrets.add("a key, or a token that carries one", secret)?;
    }
    Ok(secrets)
}

fn texts(keys: &Value) -> Vec<String> {
    ["secret_access_key", "session_token"].map(|it| keys[it].as_str().unwrap_or("").into()).into()
}
