//! The network of a cluster: services have addresses and names, and network policies are enforced. Then the
//! operator's own policy for the workers of a class: who reaches them, and what they reach. `make test-cluster`.
//!
//! Whatever a policy is said to stop is first shown to get through without it, by the same means and from the
//! same place.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use patchbay_crds::marks::LINK_PORT;
use patchbay_tests::{
    cluster::{Strict, addresses::API_PORT, from, is_ready, shell_pod, until},
    http::Http,
    pods::{Stage, Tenant},
};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

/// Where [`listener`]s listen.
const PORT: u16 = 8080;
/// Where clouds tell a machine about itself, and hand out its credentials.
const METADATA: &str = "169.254.169.254";

/// Creates a pod with these labels that runs this script, and returns its address once it is ready.
async fn pod(place: &Strict, name: &str, labels: Value, script: &str) -> anyhow::Result<IpAddr> {
    let mut pod = shell_pod(name, script);
    pod["metadata"]["labels"] = labels;
    let pod = place.create(pod, is_ready).await?;
    let address = pod.status.and_then(|status| status.pod_ip).context("no address")?;
    Ok(address.parse()?)
}

/// A pod that answers with its name.
async fn listener(place: &Strict, name: &str, labels: Value) -> anyhow::Result<IpAddr> {
    let script =
        format!("echo {name} >/state/index.html; exec busybox httpd -f -p {PORT} -h /state");
    pod(place, name, labels, &script).await
}

/// A pod to connect from.
async fn client(place: &Strict, name: &str, labels: Value) -> anyhow::Result<IpAddr> {
    pod(place, name, labels, "exec sleep 1000000").await
}

/// The exit code of a script that runs in a pod.
async fn exit_code(place: &Strict, pod: &str, script: &str) -> anyhow::Result<i32> {
    let script = format!("{script} >/dev/null 2>&1; echo $?");
    let said = place.kubectl(&["exec", pod, "--", "/bin/sh", "-c", &script]).await?;
    said.trim().parse().with_context(|| format!("{script}: {said}"))
}

/// Whether a connection from this pod to an address comes to be. Refused and unanswered are both no.
async fn reaches(place: &Strict, from: &str, to: (IpAddr, u16)) -> anyhow::Result<bool> {
    let (address, port) = to;
    match exit_code(place, from, &format!("nc -w 2 {address} {port} -e /bin/true")).await? {
        0 => Ok(true),
        1 => Ok(false),
        other => bail!("nc ended with {other}"),
    }
}

/// What comes of a connection from the MCP server's container of a worker.
async fn connect(tenant: &Tenant<'_>, to: &str) -> anyhow::Result<Value> {
    tenant.call("connect", json!({ "address": to })).await
}

/// Waits until a policy that was just made, or taken away, is known to the node.
async fn until_reached(
    place: &Strict,
    from: &str,
    to: (IpAddr, u16),
    expected: bool,
) -> anyhow::Result<()> {
    let what = format!("{from} reaches {}:{}: {expected}", to.0, to.1);
    until(&what, async || Ok(reaches(place, from, to).await? == expected)).await
}

async fn policy(place: &Strict, name: &str, spec: Value) -> anyhow::Result<()> {
    let policies = Api::<NetworkPolicy>::namespaced(place.client.clone(), &place.name);
    let policy = json!({ "metadata": { "name": name }, "spec": spec });
    policies.create(&PostParams::default(), &from(policy)?).await?;
    Ok(())
}

async fn without_policy(place: &Strict, name: &str) -> anyhow::Result<()> {
    let policies = Api::<NetworkPolicy>::namespaced(place.client.clone(), &place.name);
    policies.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

fn labelled(name: &str) -> Value {
    json!({ "matchLabels": { "app": name } })
}

#[tokio::test]
async fn what_no_policy_allows_does_not_come_in() -> anyhow::Result<()> {
    let place = Strict::make("ingress").await?;
    let (server, _, _) = tokio::try_join!(
        listener(&place, "server", json!({ "app": "server" })),
        client(&place, "friend", json!({ "app": "friend" })),
        client(&place, "stranger", json!({ "app": "stranger" })),
    )?;
    let server = (server, PORT);
    for from in ["friend", "stranger"] {
        ensure!(reaches(&place, from, server).await?, "{from} is stopped by nothing yet");
    }

    policy(&place, "nothing", json!({ "podSelector": {}, "policyTypes": ["Ingress"] })).await?;
    until_reached(&place, "friend", server, false).await?;
    let allowed = json!({
        "podSelector": labelled("server"),
        "ingress": [{
            "from": [{ "podSelector": labelled("friend") }],
            "ports": [{ "protocol": "TCP", "port": PORT }],
        }],
    });
    policy(&place, "friends", allowed).await?;
    until_reached(&place, "friend", server, true).await?;
    ensure!(!reaches(&place, "stranger", server).await?, "a stranger came in");

    // the node is never stopped, and here the host is as near as the node
    let url = format!("http://{}:{PORT}/", server.0);
    ensure!(Http::default().get(&url, &[]).await?.text() == "server\n");

    without_policy(&place, "nothing").await?;
    without_policy(&place, "friends").await?;
    until_reached(&place, "stranger", server, true).await?;
    place.end().await
}

#[tokio::test]
async fn what_no_policy_allows_does_not_go_out() -> anyhow::Result<()> {
    let place = Strict::make("egress").await?;
    let host = IpAddr::from(place.cluster.addresses()?.host());
    let outside = TcpListener::bind((host, 0)).await?;
    let outside = (host, outside.local_addr()?.port());
    let (one, other, _, _) = tokio::try_join!(
        listener(&place, "one", json!({ "app": "one" })),
        listener(&place, "other", json!({ "app": "other" })),
        client(&place, "bound", json!({ "app": "bound" })),
        client(&place, "free", json!({ "app": "free" })),
    )?;
    let (one, other) = ((one, PORT), (other, PORT));
    for to in [one, other, outside] {
        ensure!(reaches(&place, "bound", to).await?, "{to:?} is stopped by nothing yet");
    }
    let egress = json!({
        "podSelector": labelled("bound"),
        "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "podSelector": labelled("one") }] }],
    });
    policy(&place, "one", egress).await?;
    until_reached(&place, "bound", other, false).await?;
    ensure!(reaches(&place, "bound", one).await?, "what is allowed");
    ensure!(!reaches(&place, "bound", outside).await?, "out of the cluster");
    for to in [other, outside] {
        ensure!(reaches(&place, "free", to).await?, "{to:?} from a pod that no policy binds");
    }

    let egress = json!({
        "podSelector": labelled("bound"),
        "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "ipBlock": { "cidr": format!("{host}/32") } }] }],
    });
    policy(&place, "outside", egress).await?;
    until_reached(&place, "bound", outside, true).await?;
    ensure!(!reaches(&place, "bound", other).await?);
    place.end().await
}

#[tokio::test]
async fn a_service_has_an_address_and_a_name() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("service", json!({})).await?;
    let place = &stage.place;
    // for its C library, which looks names up as most programs do
    without_policy(place, "patchbay-worker-tools").await?;
    let link = stage.gateway(&worker).await?;
    let alice = Tenant::new(&link);
    alice.bind().await?;
    listener(place, "server", json!({ "app": "server" })).await?;
    let services = Api::<Service>::namespaced(place.client.clone(), &place.name);
    let service = json!({
        "metadata": { "name": "front" },
        "spec": { "selector": { "app": "server" }, "ports": [{ "port": 80, "targetPort": PORT }] },
    });
    let service = services.create(&PostParams::default(), &from(service)?).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).context("no address")?;
    let namespace = &place.name;
    for name in [
        address.clone(),
        "front".to_owned(),
        format!("front.{namespace}"),
        format!("front.{namespace}.svc"),
        format!("front.{namespace}.svc.cluster.local"),
    ] {
        until(&format!("{name} leads to the service"), async || {
            let told = connect(&alice, &format!("{name}:80")).await?;
            Ok(told["peer"] == format!("{address}:80"))
        })
        .await?;
    }
    for name in ["back", "outside.example"] {
        let told = connect(&alice, &format!("{name}:80")).await?;
        // there is no errno for a name that nothing has
        ensure!(told["connected"] == false && told["errno"].is_null(), "{name}: {told}");
        ensure!(told["error"] != "timeout", "{name}: {told}");
    }
    let api = connect(&alice, "kubernetes.default.svc:443").await?;
    ensure!(api["connected"] == true, "the API server is a service too: {api}");
    let answer = Http::default().get(&format!("http://{address}/"), &[]).await?;
    ensure!(answer.text() == "server\n", "from the host: {}", answer.text());
    stage.place.end().await
}

/// The labels of a pod of Patchbay's own.
fn component(name: &str) -> Value {
    json!({ "app.kubernetes.io/part-of": "patchbay", "app.kubernetes.io/component": name })
}

#[tokio::test]
async fn a_worker_is_reached_by_gateways_and_operators_of_its_namespace_alone() -> anyhow::Result<()>
{
    let (stage, worker) = Stage::with_worker("reached", json!({})).await?;
    let place = &stage.place;
    let elsewhere = Strict::make("elsewhere").await?;
    let link = (worker.address.ip(), LINK_PORT);
    tokio::try_join!(
        client(place, "gateway", component("gateway")),
        client(place, "operator", component("operator")),
        client(place, "worker", component("worker")),
        client(place, "partless", json!({ "app.kubernetes.io/component": "gateway" })),
        client(place, "stranger", json!({})),
        client(&elsewhere, "gateway", component("gateway")),
    )?;
    until_reached(place, "stranger", link, false).await?;
    for (from, expected) in
        [("gateway", true), ("operator", true), ("worker", false), ("partless", false)]
    {
        ensure!(reaches(place, from, link).await? == expected, "{from}");
    }
    ensure!(!reaches(&elsewhere, "gateway", link).await?, "a gateway of another namespace");

    // nothing else but the policy stops them
    without_policy(place, "patchbay-worker-tools").await?;
    until_reached(place, "stranger", link, true).await?;
    ensure!(reaches(&elsewhere, "gateway", link).await?);
    elsewhere.end().await?;
    stage.place.end().await
}

/// A pod that listens at the metadata address, on the node, as the real ones are reached through it.
fn metadata_server(name: &str) -> Value {
    let script = format!(
        "trap 'busybox ip address delete {METADATA}/32 dev lo; exit' TERM
        busybox ip address add {METADATA}/32 dev lo
        busybox httpd -f -p {METADATA}:80 -h /bin & wait"
    );
    json!({
        "metadata": { "name": name },
        "spec": {
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "main",
                "image": "patchbay.dev/pause:1",
                "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", script],
                "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } },
            }],
        },
    })
}

#[tokio::test]
async fn a_worker_reaches_what_its_class_lists_and_nothing_of_the_cluster() -> anyhow::Result<()> {
    let stage = Stage::make("reaches").await?;
    let place = &stage.place;
    let addresses = place.cluster.addresses()?;
    let host = IpAddr::from(addresses.host());
    let listener_outside = TcpListener::bind((host, 0)).await?;
    let port = listener_outside.local_addr()?.port();
    let outside = place.name_outside("outside", addresses.host()).await?;
    let elsewhere = Strict::make("neighbour").await?;
    let (neighbour, _) = tokio::try_join!(
        listener(&elsewhere, "neighbour", json!({})),
        client(&elsewhere, "control", json!({})),
    )?;
    let system = Api::<Pod>::default_namespaced(place.client.clone());
    let metadata = format!("metadata-{}", place.name);
    system.create(&PostParams::default(), &from(metadata_server(&metadata))?).await?;

    let (api, node) = (IpAddr::from(addresses.api()), IpAddr::from(addresses.node()));
    let forbidden = [
        ("the metadata address", (METADATA.parse()?, 80)),
        ("the API server as a service", (api, 443)),
        ("the API server where it is", (node, API_PORT)),
        ("the node's kubelet", (node, 10250)),
        ("a pod of somebody else", (neighbour, PORT)),
    ];
    for (what, to) in forbidden {
        until(what, async || reaches(&elsewhere, "control", to).await).await?;
    }

    for (name, cidrs, reaches_outside) in [
        ("closed", json!([]), false),
        ("listed", json!([format!("{host}/32")]), true),
        ("open", json!(["0.0.0.0/0"]), true),
    ] {
        let class = stage.class(name, json!({ "egress": { "cidrs": cidrs } })).await?;
        let worker = stage.worker(&class).await?;
        let link = stage.gateway(&worker).await?;
        let alice = Tenant::new(&link);
        alice.bind().await?;
        let neighbour = SocketAddr::new(neighbour, PORT).to_string();
        until("the policy is known to the node", async || {
            Ok(connect(&alice, &neighbour).await?["connected"] == false)
        })
        .await?;
        for (what, (address, port)) in forbidden {
            let told = connect(&alice, &SocketAddr::new(address, port).to_string()).await?;
            ensure!(told["connected"] == false, "{name} reaches {what}: {told}");
        }
        // by name, so that it has been looked up before it is refused
        let told = connect(&alice, &format!("{outside}:{port}")).await?;
        ensure!(told["connected"] == reaches_outside, "{name}: {told}");
        ensure!(reaches_outside || told["errno"] == "ECONNREFUSED", "{name}: {told}");
    }
    system.delete(&metadata, &DeleteParams::default()).await?;
    until("the node has no metadata address", async || {
        Ok(system.get_opt(&metadata).await?.is_none())
    })
    .await?;
    elsewhere.end().await?;
    stage.place.end().await
}
