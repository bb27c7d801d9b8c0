//! quilt-mcp, unmodified, in real containers: its image, the operator's pods, and two users whose workers reach a
//! catalog and an AWS that the test is. `make test-cluster`.

#[path = "cluster_quilt/secrets.rs"]
mod secrets;
#[path = "cluster_quilt/stateless.rs"]
mod stateless;
#[path = "cluster_quilt/system_calls.rs"]
mod system_calls;
#[path = "cluster_quilt/tools.rs"]
mod tools;

use anyhow::{Context, ensure};
use patchbay_core::{grant::CatalogGrant, id::Epoch};
use patchbay_gateway::forward::link::Link;
use patchbay_tests::{
    pods::{Class, PodWorker, Stage, Tenant, roots},
    quilt::{
        QuiltWorld,
        isolation::{calls_of, check, check_bearers, listing},
    },
    secrets::Secrets,
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// A namespace, alice's and bob's world, and a class of quilt workers.
async fn made(name: &str) -> anyhow::Result<(Stage, QuiltWorld, Class)> {
    let stage = Stage::make(name).await?;
    let host = stage.place.cluster.addresses()?.host();
    let names = [
        stage.place.name_outside("catalog", host).await?,
        stage.place.name_outside("registry", host).await?,
    ];
    let world = QuiltWorld::start_at(host, names, &["alice", "bob"]).await?;
    let begun = Instant::now();
    let image = roots::quilt(&stage.place.cluster).await?;
    println!("the image, made or found, and imported: {:?}", begun.elapsed());
    let class = stage.class("quilt", fields(&image, &world)?).await?;
    Ok((stage, world, class))
}

/// A class of quilt workers that may reach this world and nothing else.
fn fields(image: &str, world: &QuiltWorld) -> anyhow::Result<Value> {
    let endpoint = world.aws.aws_endpoint.trim_end_matches('/');
    let aws: http::Uri = endpoint.parse()?;
    let host = aws.host().context("AWS has a host")?;
    Ok(json!({
        "image": image,
        "command": [roots::QUILT_PYTHON],
        "profile": "quilt",
        "env": { "AWS_ENDPOINT_URL": endpoint },
        "resources": { "memory": "512Mi" },
        "tmpfs": { "home": "64Mi", "tmp": "64Mi", "run": "1Mi" },
        "credentials": { "source": "catalog", "catalog": {
            "origin": world.catalog.url(),
            "registry": world.catalog.registry_url(),
            "caBundle": world.catalog.ca_pem(),
        }},
        "egress": {
            "hosts": [{ "host": host, "port": aws.port_u16(), "plainHttp": true }],
            "cidrs": [format!("{host}/32")],
        },
    }))
}

/// A user at a worker that nobody has, for the first time or another.
async fn bound<'a>(
    link: &'a Link,
    world: &QuiltWorld,
    token: &str,
    epoch: u64,
) -> anyhow::Result<Tenant<'a>> {
    let mut tenant = Tenant::new(link);
    tenant.claim.epoch = Epoch(epoch);
    tenant.grant.catalog = Some(CatalogGrant {
        origin: world.catalog.url().to_owned(),
        registry: world.catalog.registry_url().to_owned(),
        bearer: token.into(),
        lease: None,
    });
    tenant.bind().await?;
    Ok(tenant)
}

/// A user finds what is theirs.
async fn own_objects(tenant: &Tenant<'_>, user: &str) -> anyhow::Result<()> {
    let said = tenant.said("bucket_objects_list", listing(&format!("b-{user}"))).await?;
    ensure!(said.contains(&format!("notes/{user}.txt")), "{said}");
    Ok(())
}

/// What the calls of a user said, in order, through a worker that is theirs.
async fn use_it(
    stage: &Stage,
    worker: &PodWorker,
    world: &QuiltWorld,
    token: &str,
    (own, other): (&str, &str),
) -> anyhow::Result<Vec<String>> {
    let link = stage.gateway(worker).await?;
    let tenant = bound(&link, world, token, 1).await?;
    let tools = tenant.tools().await?;
    ensure!(tools.contains("package_browse") && tools.len() > 50, "{tools:?}");
    let mut said = Vec::new();
    for call in calls_of(own, other) {
        let tool = call["tool"].as_str().context("a tool's name")?;
        said.push(tenant.said(tool, call["arguments"].clone()).await?);
    }
    Ok(said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alice_and_bob_at_once_each_reach_their_own_data_alone() -> anyhow::Result<()> {
    let (stage, world, class) = made("quilt").await?;
    let alone = stage.worker(&class).await?;
    println!("quilt-mcp, pod create -> Ready: {:?}", alone.took);
    let second = stage.worker(&class).await?;
    println!("again: {:?}", second.took);

    let tokens = [world.token("alice")?, world.token("bob")?];
    let (alice, bob) = tokio::join!(
        use_it(&stage, &alone, &world, &tokens[0], ("alice", "bob")),
        use_it(&stage, &second, &world, &tokens[1], ("bob", "alice")),
    );
    check("alice", "bob", &alice?)?;
    check("bob", "alice", &bob?)?;
    let bearers = tokens.each_ref().map(String::as_str);
    check_bearers(&world.catalog.record().all(), &bearers)?;
    let secrets = Secrets::new(&[("alice's token", bearers[0]), ("bob's token", bearers[1])])?;
    for worker in [&alone, &second] {
        let logs = stage.logs(&worker.name).await?;
        secrets.not_in("a worker's log", &logs)?;
    }
    stage.place.end().await
}
