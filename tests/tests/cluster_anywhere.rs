//! What an installation promises on any cluster: on this machine's own by `make test-cluster`, and on the one of
//! whoever runs `KUBECONFIG=... make test-cluster`. It needs no more of a cluster than its API, and leaves the kinds.

use anyhow::{Context, ensure};
use http::StatusCode;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Node, Pod, Service},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use patchbay_crds::{Tenant, WorkerClass, tenant::Phase};
use patchbay_tests::{
    anywhere::{Anywhere, Forward},
    chart::{self, RELEASE},
    cluster::{from, is_ready, until},
    controller::api_key,
    mcp::McpClient,
    pods::{
        stage::ensure_kinds,
        users::{CLASS, provider},
    },
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const USERS: [&str; 2] = ["alice", "bob"];
/// Longer than any pause between two calls of a user who is not to be idle.
const IDLE: &str = "20s";

/// An installation in a namespace of its own.
struct Installation {
    target: Anywhere,
    namespace: String,
}

impl Installation {
    async fn make() -> anyhow::Result<Self> {
        let target = Anywhere::find().await?;
        ensure_kinds(&target.client).await?;
        let namespace =
            format!("patchbay-test-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let object: Namespace =
            from(json!({ "metadata": { "name": namespace, "labels": labels } }))?;
        let namespaces = Api::<Namespace>::all(target.client.clone());
        namespaces.create(&PostParams::default(), &object).await?;
        let installation = Self { target, namespace };
        installation.helm("install", "first").await?;
        Ok(installation)
    }

    /// Installs it, or upgrades it, with this edition of its class.
    async fn helm(&self, command: &str, edition: &str) -> anyhow::Result<()> {
        let values = self.values(edition).await?;
        chart::run_by(self.target.helm(), &[command, RELEASE], &self.namespace, &values)
            .await
            .map(drop)
    }

    async fn values(&self, edition: &str) -> anyhow::Result<Value> {
        let mut own = chart::image(&self.target.controller)?;
        own["pullPolicy"] = json!("IfNotPresent");
        let (ranges, issuer) = tokio::try_join!(self.ranges(), self.issuer())?;
        Ok(json!({
            "crds": { "install": false },
            "image": own,
            "workerImage": chart::image(&self.target.worker)?,
            "cluster": { "ranges": ranges },
            "classes": { (CLASS): {
                "image": self.target.fixture, "command": ["/fixture-server"], "warm": 2,
                "server": { "readyPath": "/healthz" }, "resources": { "memory": "128Mi" },
                "tmpfs": { "home": "4Mi", "tmp": "4Mi", "run": "1Mi" },
                "env": { "EDITION": edition }, "idleTimeout": IDLE,
            }},
            "providers": { "keys": provider("keys", &USERS, &json!({}))?.spec },
            "clusterUsers": { "enabled": true, "classes": [CLASS], "issuer": issuer },
        }))
    }

    /// What the cluster keeps for itself, as far as its API tells.
    async fn ranges(&self) -> anyhow::Result<Vec<String>> {
        let nodes =
            Api::<Node>::all(self.target.client.clone()).list(&ListParams::default()).await?;
        let mut ranges = Vec::new();
        for node in nodes {
            ranges.extend(node.spec.and_then(|spec| spec.pod_cidr));
            let addresses = node.status.and_then(|status| status.addresses).into_iter().flatten();
            let own = addresses.filter(|each| each.type_ == "InternalIP");
            ranges.extend(own.map(|each| {
                let length = if each.address.contains(':') { 128 } else { 32 };
                format!("{}/{length}", each.address)
            }));
        }
        let services = Api::<Service>::namespaced(self.target.client.clone(), "default");
        let own = services.get("kubernetes").await?.spec.and_then(|spec| spec.cluster_ip);
        ranges.extend(own.map(|address| format!("{address}/32")));
        ranges.sort();
        ranges.dedup();
        Ok(ranges)
    }

    async fn issuer(&self) -> anyhow::Result<String> {
        let request = http::Request::get("/.well-known/openid-configuration").body(Vec::new())?;
        let discovery: Value = self.target.client.request(request).await?;
        Ok(discovery["issuer"].as_str().context("the cluster names no issuer")?.to_owned())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.target.client.clone(), &self.namespace)
    }

    /// Waits until both programs are there twice and a worker is warm.
    async fn ready(&self) -> anyhow::Result<()> {
        let (deployments, classes) = (self.api::<Deployment>(), self.api::<WorkerClass>());
        let up = until("both programs are ready, and workers are warm", async || {
            for name in ["patchbay-operator", "patchbay-gateway"] {
                let status = deployments.get(name).await?.status;
                if status.and_then(|status| status.ready_replicas) != Some(2) {
                    return Ok(false);
                }
            }
            Ok(classes.get(CLASS).await?.status.is_some_and(|status| status.warm > 0))
        })
        .await;
        match up {
            Ok(()) => Ok(()),
            Err(error) => Err(error.context(self.told().await)),
        }
    }

    async fn told(&self) -> String {
        let mut command = self.target.kubectl();
        let show =
            ["get", "pods,workerclasses,events", "-o", "wide", "--namespace", &self.namespace];
        let output = command.args(show).output().await;
        output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default()
    }

    /// A way to each gateway.
    async fn gateways(&self) -> anyhow::Result<Vec<Forward>> {
        let params = ListParams::default().labels("app.kubernetes.io/component=gateway");
        let mut ways = Vec::new();
        for pod in self.api::<Pod>().list(&params).await?.iter().filter(|pod| is_ready(pod)) {
            ways.push(self.target.forward(&self.namespace, &pod.name_any(), "http").await?);
        }
        Ok(ways)
    }

    /// The tenants, by whom they are.
    async fn tenants(&self) -> anyhow::Result<BTreeMap<String, Tenant>> {
        let all = self.api::<Tenant>().list(&ListParams::default()).await?;
        Ok(all.into_iter().map(|it| (it.spec.identity.subject.clone(), it)).collect())
    }

    async fn tenant(&self, user: &str) -> anyhow::Result<Tenant> {
        self.tenants().await?.remove(user).with_context(|| format!("{user} is no tenant"))
    }

    /// Waits until a worker's pod is gone or has ended.
    async fn worker_ended(&self, tenant: &Tenant) -> anyhow::Result<()> {
        let worker = tenant.spec.assignment.as_ref().context("no worker")?.worker.clone();
        let pods = self.api::<Pod>();
        until("the worker has ended", async || {
            let phase = pods.get_opt(&worker).await?.and_then(|pod| pod.status?.phase);
            Ok(!phase.is_some_and(|phase| phase == "Running" || phase == "Pending"))
        })
        .await
    }

    /// Takes it away; nothing but the namespace is left, which goes too.
    async fn end(self) -> anyhow::Result<()> {
        let mut uninstall = self.target.helm();
        uninstall.args(["uninstall", RELEASE, "--namespace", &self.namespace]);
        let output = uninstall.output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // owned by what is gone, and nothing waits for an operator that is no more
        let pods = self.api::<Pod>();
        until("no pod is left but the tests', which Helm keeps for what they said", async || {
            let all = pods.list(&ListParams::default()).await?;
            Ok(all.iter().all(|pod| {
                let annotations = pod.metadata.annotations.as_ref();
                annotations.is_some_and(|all| all.contains_key("helm.sh/hook"))
            }))
        })
        .await?;
        let namespaces = Api::<Namespace>::all(self.target.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        until("the namespace is gone", async || {
            Ok(namespaces.get_opt(&self.namespace).await?.is_none())
        })
        .await
    }
}

/// A user through one of the gateways.
fn client(gateway: &Forward, user: &str) -> McpClient {
    McpClient::bearer(&format!("{}/mcp", gateway.url), &api_key(user))
}

#[tokio::test]
async fn an_installation_keeps_its_promises_on_this_cluster_and_leaves_nothing()
-> anyhow::Result<()> {
    let it = Installation::make().await?;
    it.ready().await?;
    let said = it
        .target
        .helm()
        .args(["test", RELEASE, "--logs", "--namespace", &it.namespace])
        .output()
        .await?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.status.success(), "{text}\n{}", String::from_utf8_lossy(&said.stderr));
    println!("{text}");

    // two users, each first through another gateway, then through both
    let gateways = it.gateways().await?;
    ensure!(gateways.len() == 2, "{}", it.told().await);
    for (gateway, user) in gateways.iter().zip(USERS) {
        let own = json!({ "key": "mine", "value": user });
        client(gateway, user).call("remember", own).await.with_context(|| user.to_owned())?;
    }
    for gateway in &gateways {
        for (user, other) in [("alice", "bob"), ("bob", "alice")] {
            let mine =
                client(gateway, user).call("recall", json!({ "key": "mine" })).await?.to_string();
            ensure!(mine.contains(user) && !mine.contains(other), "{user}: {mine}");
        }
    }
    let nobody =
        McpClient::bearer(&format!("{}/mcp", gateways[0].url), "pb_nobody_no-such-key-no-such-key");
    let refused = nobody.modern_call("echo", json!({ "text": "x" })).await?;
    ensure!(refused.status == StatusCode::UNAUTHORIZED, "{}", refused.text());

    // suspended: out, with the worker
    let (alice, bob) = (it.tenant("alice").await?, it.tenant("bob").await?);
    let suspend = |suspended: bool| Patch::Merge(json!({ "spec": { "suspended": suspended } }));
    let (tenants, params) = (it.api::<Tenant>(), PatchParams::default());
    tenants.patch(&bob.name_any(), &params, &suspend(true)).await?;
    it.worker_ended(&bob).await?;
    for gateway in &gateways {
        let answer = client(gateway, "bob").modern_call("echo", json!({ "text": "x" })).await?;
        ensure!(answer.reason().as_deref() == Some("tenant_suspended"), "{}", answer.text());
    }
    tenants.patch(&bob.name_any(), &params, &suspend(false)).await?;
    until("bob is let in again", async || {
        let answer =
            client(&gateways[0], "bob").modern_call("echo", json!({ "text": "x" })).await?;
        Ok(answer.status == StatusCode::OK)
    })
    .await?;

    // deleted: what comes after is somebody else, with nothing of the old
    tenants.delete(&alice.name_any(), &DeleteParams::default()).await?;
    it.worker_ended(&alice).await?;
    client(&gateways[1], "alice").call("echo", json!({ "text": "x" })).await?;
    let anew = it.tenant("alice").await?;
    ensure!(anew.uid() != alice.uid() && anew.name_any() == alice.name_any());
    let mine = client(&gateways[0], "alice").call("recall", json!({ "key": "mine" })).await?;
    ensure!(!mine.to_string().contains("alice"), "{mine}");

    // a class that changes: served on, and by what the class is now; idle: asleep, and awake at the next call
    it.helm("upgrade", "second").await?;
    client(&gateways[1], "alice").call("echo", json!({ "text": "x" })).await?;
    until("alice is asleep", async || {
        let status = it.tenant("alice").await?.status;
        Ok(status.and_then(|status| status.phase) == Some(Phase::Asleep))
    })
    .await?;
    let awake = client(&gateways[0], "alice").call("whoami", json!({})).await?;
    ensure!(awake["env"]["EDITION"] == "second", "{awake}");
    let awake = it.tenant("alice").await?.spec.assignment.context("no worker")?;
    let before = anew.spec.assignment.context("no worker")?;
    ensure!(awake.uid != before.uid && awake.epoch > before.epoch, "{awake:?} {before:?}");
    drop(gateways);
    it.end().await
}
