//! The pool: warm workers come, are replaced, and follow what the class says.

use super::world::{World, is, is_warm, of};
use anyhow::{Context, ensure};
use k8s_openapi::api::{
    autoscaling::{v1::Scale, v2::HorizontalPodAutoscaler},
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use patchbay_crds::{API_VERSION, condition::ConditionStatus};
use patchbay_tests::{
    cluster::from,
    evidence::Evidence as _,
    pods::{Tenant, watched},
};
use serde_json::json;
use std::collections::BTreeSet;

const REVISION: &str = "patchbay.dev/revision";

#[tokio::test]
async fn warm_workers_come_are_enrolled_and_are_replaced() -> anyhow::Result<()> {
    let world = World::make("op-warm").await?;
    let begun = tokio::time::Instant::now();
    world.stage.declare("tools", json!({ "warm": 2 })).await?;
    let first = world.warm("tools", 2).await?;
    println!("2 warm workers after {:?}", begun.elapsed());
    let lost = first[0].name_any();
    world.pods().delete(&lost, &DeleteParams::default()).await?;
    world.gone(&lost).await?;
    let second = world.warm("tools", 2).await?;
    ensure!(second.iter().any(|pod| pod.name_any() == first[1].name_any()), "the other one stays");

    let page = world.operator.page("/metrics").await?.text();
    for name in
        ["reconciles_total{class=\"tools\"}", "enrolments_total", "leads 1", "api_writes_total"]
    {
        ensure!(page.contains(&format!("patchbay_operator_{name}")), "no {name}: {page}");
    }
    ensure!(world.operator.page("/readyz").await?.status.is_success());
    world.end().await
}

#[tokio::test]
async fn kubectl_scale_sets_how_many_are_kept_and_says_how_many_there_are() -> anyhow::Result<()> {
    let world = World::make("op-scale").await?;
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    world.warm("tools", 1).await?;
    let place = &world.stage.place;
    place.kubectl(&["scale", "workerclass", "tools", "--replicas=3"]).await?;
    world.warm("tools", 3).await?;
    let counted = watched::one(world.classes(), "tools", "its status counts them", |class| {
        class.and_then(|class| class.status.as_ref()).is_some_and(|status| status.warm == 3)
    });
    counted.await?;
    let shown = place.kubectl(&["get", "workerclass", "tools"]).await?;
    ensure!(shown.contains("Available"), "{shown}");
    // whoever is too many lingers for a client that may come back, and is asked through its latch
    place.kubectl(&["scale", "workerclass", "tools", "--replicas=0"]).await?;
    world.warm("tools", 0).await?;
    world.condition("tools", |it| is(it, "Ready", ConditionStatus::True, "OnDemand")).await?;
    world.end().await
}

#[tokio::test]
async fn an_autoscaler_sets_how_many_are_kept_and_takes_no_users_worker() -> anyhow::Result<()> {
    let world = World::make("op-hpa").await?;
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    let pod = world.warm("tools", 1).await?[0].clone();
    let object = world.contact("tools", "alice", Some(&*pod)).await?;
    let link = world.link(&pod)?;
    let alice = Tenant::assigned(&link, &object.uid().context("no UID")?, 1)?;
    alice.bind().await?;
    world.warm("tools", 1).await?;

    let place = &world.stage.place;
    let autoscalers = Api::<HorizontalPodAutoscaler>::namespaced(place.client.clone(), &place.name);
    // within its bounds it would ask for metrics, which this cluster has none of
    let autoscaler = from(json!({
        "metadata": { "name": "pool" },
        "spec": {
            "scaleTargetRef": { "apiVersion": API_VERSION, "kind": "WorkerClass", "name": "tools" },
            "minReplicas": 3, "maxReplicas": 4,
        },
    }))?;
    autoscalers.create(&PostParams::default(), &autoscaler).await?;
    let asks = async |warm: i32| {
        let asked = watched::one(world.classes(), "tools", "its warm is the autoscaler's", |it| {
            it.is_some_and(|class| class.spec.warm == warm)
        });
        asked.await.with_logs(|| world.operator.text()).map(drop)
    };
    asks(3).await?;
    let free = world.warm("tools", 3).await?;
    ensure!(free.iter().all(|it| it.uid() != pod.uid()), "a user's worker counts as free");
    // whom it counts, where it counts: those that nobody has
    let scale: Scale = world.classes().get_scale("tools").await?;
    let selector = scale.status.and_then(|status| status.selector).context("no selector")?;
    let selected = world.pods().list(&ListParams::default().labels(&selector)).await?;
    let uids = |pods: &[&Pod]| pods.iter().map(|pod| pod.uid()).collect::<BTreeSet<_>>();
    let (selected, free): (Vec<_>, Vec<_>) =
        (selected.items.iter().collect(), free.iter().map(|pod| &**pod).collect());
    ensure!(uids(&selected) == uids(&free), "{selector}");

    let bounds = Patch::Merge(json!({ "spec": { "minReplicas": 1, "maxReplicas": 1 } }));
    autoscalers.patch("pool", &PatchParams::default(), &bounds).await?;
    asks(1).await?;
    world.warm("tools", 1).await?;
    let kept = world.pods().get(&pod.name_any()).await?;
    ensure!(kept.uid() == pod.uid() && kept.metadata.deletion_timestamp.is_none());
    alice.call("echo", json!({ "text": "still here" })).await?;
    world.end().await
}

#[tokio::test]
async fn a_class_whose_server_does_not_start_says_why() -> anyhow::Result<()> {
    let world = World::make("op-broken").await?;
    let command = json!({ "command": ["/bin/sh", "-c", "exit 7"] });
    world.stage.declare("broken", command).await?;
    let class = world
        .condition("broken", |it| is(it, "Ready", ConditionStatus::False, "ServerExited"))
        .await?;
    let status = class.status.context("no status")?;
    let ready = status.conditions.iter().find(|it| it.type_ == "Ready").context("no condition")?;
    ensure!(ready.message.contains("exit code 7"), "{}", ready.message);
    world
        .condition("broken", |it| is(it, "Progressing", ConditionStatus::False, "BackingOff"))
        .await?;
    let shown = world.stage.place.kubectl(&["get", "workerclass"]).await?;
    ensure!(shown.contains("False") && shown.contains("ServerExited"), "{shown}");
    let events = world.stage.place.kubectl(&["get", "events"]).await?;
    ensure!(events.contains("ServerExited"), "{events}");

    // a class that cannot be made says where and how to mend it, and once mended it works
    let tolerations = json!({ "tolerations": [{ "operator": "Bogus" }], "warm": 1 });
    world.stage.declare("unknown", tolerations).await?;
    let class = world
        .condition("unknown", |it| is(it, "Ready", ConditionStatus::False, "InvalidSpec"))
        .await?;
    let said = format!("{:?}", class.status);
    ensure!(said.contains("spec.tolerations[0].operator: `Bogus` is not known"), "{said}");
    world.change("unknown", json!({ "tolerations": [] })).await?;
    world.warm("unknown", 1).await?;
    world.end().await
}

#[tokio::test]
async fn a_class_change_replaces_those_that_are_nobodys_and_spares_who_is_bound()
-> anyhow::Result<()> {
    let world = World::make("op-change").await?;
    world.stage.declare("tools", json!({ "warm": 1 })).await?;
    let pod = world.warm("tools", 1).await?[0].clone();
    let object = world.contact("tools", "alice", Some(&*pod)).await?;
    let link = world.link(&pod)?;
    let alice = Tenant::assigned(&link, &object.uid().context("no UID")?, 1)?;
    alice.bind().await?;
    let spare = world.warm("tools", 1).await?[0].clone();
    let old = spare.labels()[REVISION].clone();

    world.change("tools", json!({ "env": { "COLOUR": "blue" } })).await?;
    let replaced = watched::all(
        world.pods(),
        format!("{},!patchbay.dev/bound", of("tools")),
        "the spare worker is of the new revision",
        |pods| pods.len() == 1 && is_warm(&pods[0]) && pods[0].labels()[REVISION] != old,
    );
    replaced.await.with_logs(|| world.operator.text())?;
    alice.call("echo", json!({ "text": "still here" })).await?;

    let maps: Api<ConfigMap> =
        Api::namespaced(world.stage.place.client.clone(), &world.stage.place.name);
    let boots = |count: usize, what: &'static str| {
        let selector = format!("{},{REVISION}", of("tools"));
        let maps = maps.clone();
        async move { watched::all(maps, selector, what, |maps| maps.len() == count).await }
    };
    boots(2, "the bound worker's boot documents stay").await?;
    world.tenants().delete(&object.name_any(), &DeleteParams::default()).await?;
    world.gone(&pod.name_any()).await?;
    boots(1, "and go with it").await?;
    world.end().await
}

#[tokio::test]
async fn a_first_contacts_tenant_is_forgotten_and_a_provisioned_one_is_not() -> anyhow::Result<()> {
    let world = World::make("op-forget").await?;
    world.stage.declare("tools", json!({ "warm": 0, "forgetAfter": "1s" })).await?;
    let by_hand = world.provision("tools", "by-hand", false).await?;
    let by_contact = world.provision("tools", "by-contact", true).await?;
    let name = by_contact.name_any();
    let gone = watched::one(world.tenants(), &name, "it is forgotten", |it| it.is_none());
    gone.await.with_logs(|| world.operator.text())?;
    world.tenants().get(&by_hand.name_any()).await?;
    world.end().await
}
