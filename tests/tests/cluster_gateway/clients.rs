//! The official clients, between two of whose calls another gateway takes the place of theirs, or their class changes and
//! their worker leaves.

use crate::world::{CLASS, World, shared};
use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use patchbay_crds::WorkerClass;
use patchbay_tests::{
    clients::{ALL, Asked, McpProgram, waiting_room},
    cluster::until,
    controller::api_key,
    evidence::Evidence as _,
    replicas::Replicas,
};
use serde_json::{Value, json};

/// As the fixture is spoken to: over HTTP, and on its standard streams.
fn ways() -> [(&'static str, Value); 2] {
    let of_stdio = json!({
        "command": ["/fixture-server", "--stdio"], "transport": "stdio", "server": null,
    });
    [("http", json!({})), ("stdio", of_stdio)]
}

/// A user for each client that stays between two calls.
fn users() -> Vec<(McpProgram, String)> {
    let stays = ALL.into_iter().filter(|program| program.stays());
    stays.enumerate().map(|(number, program)| (program, format!("user{number}"))).collect()
}

async fn operated(name: &str, fields: &Value, further: Value) -> anyhow::Result<World> {
    let mut fields = fields.as_object().context("fields")?.clone();
    fields.extend(further.as_object().context("fields")?.clone());
    let users = users();
    let names: Vec<_> = users.iter().map(|(_, user)| user.as_str()).collect();
    World::operated(name, Value::Object(fields), &names).await
}

/// What each client is told of its worker, twice: `meanwhile` is between.
async fn asked_twice(
    url: &str,
    meanwhile: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Vec<(McpProgram, [Value; 2])>> {
    let users = users();
    let (between, mut who) = waiting_room().await?;
    let running = users.iter().map(async |(program, user)| {
        let bearer = format!("Bearer {}", api_key(user));
        let call = Asked::call(url, ("Authorization", &bearer), "whoami", json!({}));
        let asked = Asked { between: Some(&between), ..call };
        let seen = program.run(&asked).await.with_context(|| program.name())?;
        let [first, second] = seen.all_said()[..] else { bail!("{}: {seen:?}", program.name()) };
        let read = |said: &str| {
            serde_json::from_str(said).with_context(|| format!("{}: {said}", program.name()))
        };
        anyhow::Ok((*program, [read(first)?, read(second)?]))
    });
    let changing = async {
        let mut waiting = Vec::new();
        while waiting.len() < users.len() {
            waiting.push(who.recv().await.context("the room is closed")?);
        }
        meanwhile.await?;
        for go in waiting {
            // it may have gone away
            let _ = go.send(());
        }
        anyhow::Ok(())
    };
    let (seen, ()) = tokio::try_join!(try_join_all(running), changing)?;
    Ok(seen)
}

#[tokio::test]
async fn no_official_client_notices_that_another_gateway_serves_it() -> anyhow::Result<()> {
    let _cluster = shared().await;
    for (way, fields) in ways() {
        let further = json!({ "warm": 0, "idleTimeout": "10m" });
        let world = operated(&format!("clients-{way}"), &fields, further).await?;
        let (mut one, two) = tokio::try_join!(world.config.start(), world.config.start())?;
        let front = Replicas::to(&one.url).await?;
        let switching = async {
            front.lead_to(&two.url)?;
            one.terminate()?;
            one.ended().await
        };
        let seen = asked_twice(&format!("{}/mcp", front.url()), switching).await;
        let seen =
            seen.with_logs(|| format!("{way}\n{}\n{}", two.logs(), world.operators_log()))?;
        for (program, [first, second]) in seen {
            ensure!(first["started"].is_u64(), "{way}, {}: {first}", program.name());
            let is_same = first["started"] == second["started"];
            ensure!(is_same, "{way}, {}: {first} {second}", program.name());
        }
        world.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn no_official_client_notices_that_its_class_was_upgraded() -> anyhow::Result<()> {
    let _cluster = shared().await;
    for (way, fields) in ways() {
        let further = json!({ "warm": 0, "idleTimeout": "5s" });
        let world = operated(&format!("upgraded-{way}"), &fields, further).await?;
        let gateway = world.config.start().await?;
        let upgrading = async {
            let place = &world.stage.place;
            let classes = Api::<WorkerClass>::namespaced(place.client.clone(), &place.name);
            let change = Patch::Merge(json!({ "spec": { "env": { "NEW": "yes" } } }));
            classes.patch(CLASS, &PatchParams::default(), &change).await?;
            for (_, user) in users() {
                until("its worker has left", async || {
                    Ok(world.assignment(&user).await?.worker.is_empty())
                })
                .await?;
            }
            Ok(())
        };
        let seen = asked_twice(&format!("{}/mcp", gateway.url), upgrading).await;
        let logs = || format!("{way}\n{}\n{}", gateway.logs(), world.operators_log());
        for (program, [first, second]) in seen.with_logs(logs)? {
            let is_new = [&first, &second].map(|it| it["env"]["NEW"] == "yes");
            ensure!(is_new == [false, true], "{way}, {}: {first} {second}", program.name());
            ensure!(first["started"] != second["started"], "{way}, {}", program.name());
        }
        world.end().await?;
    }
    Ok(())
}
