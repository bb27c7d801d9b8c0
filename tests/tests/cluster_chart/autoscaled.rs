//! An upgrade of a release whose pools an autoscaler sizes.

use anyhow::{Context, ensure};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use patchbay_crds::{API_VERSION, WorkerClass};
use patchbay_tests::{
    chart::{RELEASE, Release},
    cluster::from,
    pods::watched,
};
use serde_json::{Value, json};

const CLASSES: [&str; 2] = ["notes", "quilt"];
const WAYS: [&str; 2] = ["--server-side=true", "--server-side=false"];

/// Values of both classes, with this `warm` and this environment.
fn values(warm: &Value, colour: &str) -> Value {
    let env = json!({ "COLOUR": colour });
    json!({
        "classes": { "notes": { "image": "i", "command": ["/notes"], "path": "/notes", "warm": warm, "env": env } },
        "quilt": {
            "enabled": true, "image": "i", "catalog": "catalog.example.com", "warm": warm,
            "registry": "registry.example.com", "extraSpec": { "env": env },
        },
    })
}

fn classes(release: &Release) -> Api<WorkerClass> {
    Api::namespaced(release.place.client.clone(), &release.place.name)
}

/// Lets an autoscaler of each class ask for this many workers, and goes on without it: what is left undoes nothing
/// that an upgrade does.
async fn scale(release: &Release, warm: i32) -> anyhow::Result<()> {
    let place = &release.place;
    let autoscalers = Api::<HorizontalPodAutoscaler>::namespaced(place.client.clone(), &place.name);
    for class in CLASSES {
        let target = json!({ "apiVersion": API_VERSION, "kind": "WorkerClass", "name": class });
        let autoscaler = from(json!({
            "metadata": { "name": class },
            "spec": { "scaleTargetRef": target, "minReplicas": warm, "maxReplicas": warm },
        }))?;
        autoscalers.create(&PostParams::default(), &autoscaler).await?;
        let scaled = watched::one(classes(release), class, "it is the autoscaler's", |it| {
            it.is_some_and(|it| it.spec.warm == warm)
        });
        scaled.await?;
        autoscalers.delete(class, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// How many workers each class asks for, all of which have this environment.
async fn warm(release: &Release, colour: &str) -> anyhow::Result<[i32; 2]> {
    let mut found = [0; 2];
    for (class, found) in CLASSES.into_iter().zip(&mut found) {
        let spec = classes(release).get(class).await?.spec;
        ensure!(spec.env["COLOUR"] == colour, "{class} was not upgraded: {:?}", spec.env);
        *found = spec.warm;
    }
    Ok(found)
}

#[tokio::test]
async fn an_upgrade_keeps_what_an_autoscaler_said_where_the_values_say_nothing()
-> anyhow::Result<()> {
    for (name, way) in ["scaled-server", "scaled-client"].into_iter().zip(WAYS) {
        let release = Release::install(name, values(&Value::Null, "red")).await?;
        scale(&release, 7).await?;
        let upgrade = ["upgrade", RELEASE, way, "--force-conflicts=false"];
        for colour in ["blue", "green"] {
            release.helm(&upgrade, values(&Value::Null, colour)).await?;
            ensure!(warm(&release, colour).await? == [7, 7], "{way}, {colour}");
        }
        release.place.helm(&["rollback", RELEASE, "1", way]).await?;
        ensure!(warm(&release, "red").await? == [7, 7], "{way}, back");
        release.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_upgrade_that_says_how_many_stops_at_what_an_autoscaler_said_or_undoes_it()
-> anyhow::Result<()> {
    let release = Release::install("said", values(&json!(2), "red")).await?;
    scale(&release, 7).await?;
    let upgrade = |way| ["upgrade", RELEASE, way, "--force-conflicts=false"];
    let refused = release.helm(&upgrade(WAYS[0]), values(&json!(2), "blue")).await;
    let refused = refused.err().context("taken")?.to_string();
    ensure!(refused.contains("conflict") && refused.contains(".spec.warm"), "{refused}");
    // once the values say nothing, it is the autoscaler's
    release.helm(&upgrade(WAYS[0]), values(&Value::Null, "green")).await?;
    ensure!(warm(&release, "green").await? == [7, 7]);
    release.end().await?;

    // a Helm that knows no owners takes away what it had said itself; the next upgrade does not
    let release = Release::install("unsaid", values(&json!(2), "red")).await?;
    scale(&release, 7).await?;
    release.helm(&upgrade(WAYS[1]), values(&Value::Null, "blue")).await?;
    ensure!(warm(&release, "blue").await? == [1, 1]);
    scale(&release, 7).await?;
    release.helm(&upgrade(WAYS[1]), values(&Value::Null, "green")).await?;
    ensure!(warm(&release, "green").await? == [7, 7]);
    release.end().await
}
