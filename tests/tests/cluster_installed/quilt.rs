//! Two users of a catalog and their `quilt-mcp`, from nothing but a credential, by either replica of the gateway.

use super::{hunt::Hunt, world::Installation};
use anyhow::{Context, ensure};
use patchbay_tests::{
    cluster::Strict,
    installation::Replica,
    mcp::{self, McpClient},
    pods::roots,
    quilt::{
        QuiltWorld,
        isolation::{calls_of, check, check_bearers},
        stateless::{FILES, check_tools},
    },
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::time::Instant;

/// The chart's class.
pub(crate) const CLASS: &str = "quilt";
/// Tells what a worker's server has written.
const STATE: &str = include_str!("../../python/worker_state.py");

/// What an operator of a self-hosted catalog with a CA of its own and a plain AWS endpoint writes.
pub(crate) fn values(image: &str, world: &QuiltWorld) -> anyhow::Result<Value> {
    let endpoint = world.aws.aws_endpoint.trim_end_matches('/');
    let aws: http::Uri = endpoint.parse()?;
    let host = aws.host().context("AWS has a host")?;
    let plain = |url: &str| url.trim_start_matches("https://").to_owned();
    let ports = [world.catalog.url(), world.catalog.registry_url()]
        .map(|url| url.parse::<http::Uri>().map(|url| url.port_u16()));
    let [catalog, registry] = ports;
    Ok(json!({
        // all that the programs can say
        "log": "trace",
        "quilt": {
            "enabled": true,
            "image": image,
            "catalog": plain(world.catalog.url()),
            "registry": plain(world.catalog.registry_url()),
            "caBundle": world.catalog.ca_pem(),
            "memory": "512Mi",
            "egress": { "cidrs": [format!("{host}/32")] },
            "extraSpec": {
                "env": { "AWS_ENDPOINT_URL": endpoint },
                "egress": { "hosts": [{
                    "host": host, "port": aws.port_u16(), "plainHttp": true,
                }]},
            },
        },
        "networkPolicy": { "providers": {
            "cidrs": [format!("{host}/32")], "ports": [catalog?, registry?],
        }},
    }))
}

/// What the calls of a user said, in order.
async fn use_it(client: &McpClient, own: &str, other: &str) -> anyhow::Result<Vec<String>> {
    let mut said = Vec::new();
    for call in calls_of(own, other) {
        let tool = call["tool"].as_str().context("a tool's name")?;
        let answer = client.modern_call(tool, call["arguments"].clone()).await?;
        said.push(mcp::said(&answer).context(tool.to_owned())?);
    }
    Ok(said)
}

/// The credentials that a worker's own server holds: the stand-in for the user's, and keys of AWS. Nothing else is
/// written, and nowhere else.
async fn held(place: &Strict, worker: &str) -> anyhow::Result<Vec<(String, String)>> {
    let command = ["exec", worker, "--container=server", "--", roots::QUILT_PYTHON, "-c", STATE];
    let state: Value = serde_json::from_str(&place.kubectl(&command).await?)?;
    ensure!(state["home"] == json!(FILES), "{}", state["home"]);
    let refusals = state["refusals"].as_object().context("no refusals")?;
    ensure!(refusals.len() == 4 && refusals.values().all(|why| why == "EROFS"), "{refusals:?}");
    let sessions = state["session"].as_object().context("no session")?;
    let mut held = Vec::new();
    for session in sessions.values() {
        let bearer = session["access_token"].as_str().context("no stand-in")?;
        ensure!(bearer.starts_with("pod-"), "that is no stand-in");
        held.push((format!("the stand-in in {worker}"), bearer.to_owned()));
    }
    for name in ["secret_key", "token"] {
        let value = state["aws"][name].as_str().with_context(|| format!("no {name}"))?;
        held.push((format!("{name} of AWS in {worker}"), value.to_owned()));
    }
    ensure!(held.len() == 3, "one registry's session, and keys");
    Ok(held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_each_have_their_own_data_by_either_gateway_and_no_credential_is_left_behind()
-> anyhow::Result<()> {
    let place = Strict::make("users").await?;
    let host = place.cluster.addresses()?.host();
    let names =
        [place.name_outside("catalog", host).await?, place.name_outside("registry", host).await?];
    let world = QuiltWorld::start_at(host, names, &["alice", "bob"]).await?;
    let image = roots::quilt(&place.cluster).await?;
    let begun = Instant::now();
    let at = Installation::make(place, values(&image, &world)?).await?;
    at.warm(CLASS, 2).await?;
    println!("helm install -> two warm workers of quilt-mcp: {:?}", begun.elapsed());

    // a key for one, a token for the other, each by another gateway, neither of which has met anybody
    let (key, token) = (world.api_key("alice"), world.token("bob")?);
    let bearer = format!("Bearer {token}");
    let alice = [0, 1].map(|replica| at.client(replica, "/mcp", ("x-api-key", &key)));
    let bob = [1, 0].map(|replica| at.client(replica, "/mcp", ("authorization", &bearer)));
    let mut assigned: Option<[_; 2]> = None;
    for (round, (alice, bob)) in alice.into_iter().zip(bob).enumerate() {
        let (alices, bobs) = (alice?, bob?);
        let begun = Instant::now();
        let said = tokio::try_join!(use_it(&alices, "alice", "bob"), use_it(&bobs, "bob", "alice"));
        let (alice, bob) = at.installed.or_told(said).await?;
        check("alice", "bob", &alice)?;
        check("bob", "alice", &bob)?;
        check_tools(&alices).await?;
        println!(
            "alice by {}, bob by {}: all calls of both in {:?}",
            at.replicas[round].pod,
            at.replicas[1 - round].pod,
            begun.elapsed()
        );
        let now = [at.tenant("alice").await?.assignment, at.tenant("bob").await?.assignment];
        ensure!(now[0].uid != now[1].uid, "one worker for both: {now:?}");
        ensure!(now.iter().all(|assignment| assignment.epoch == 1), "{now:?}");
        // by whichever gateway they come
        ensure!(assigned.as_ref().is_none_or(|before| *before == now), "{assigned:?} {now:?}");
        assigned = Some(now);
    }
    check_bearers(&world.catalog.record().all(), &[&key, &token])?;

    let mut hunt = Hunt::new()?;
    hunt.add("alice's key", &key)?;
    hunt.add("bob's token", &token)?;
    let workers: BTreeSet<_> =
        assigned.context("nobody came")?.into_iter().map(|it| it.worker).collect();
    for worker in &workers {
        for (what, secret) in held(&at.installed.release.place, worker).await? {
            hunt.add(&what, &secret)?;
        }
    }
    let logs = hunt.keep(&at).await?;
    ensure!(logs.is_superset(&workers), "{logs:?}");
    for Replica { pod, .. } in &at.replicas {
        ensure!(hunt.has_kept(pod, r#""level":"DEBUG""#)?, "{pod} does not say all that it can");
    }
    hunt.end(&at).await?;
    at.installed.end().await
}
