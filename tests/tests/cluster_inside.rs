//! What an MCP server reaches from inside its container of a worker's pod: nothing but itself. The same attacks
//! as on the local sandbox (`from_inside`), where the cluster's isolation has to stop them. `make test-cluster`.

#[path = "cluster_inside/memory.rs"]
mod memory;
#[path = "cluster_inside/shared.rs"]
mod shared;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{HostAlias, Pod};
use patchbay_gateway::forward::link::Link;
use patchbay_tests::{
    inside,
    pods::{Stage, Tenant},
};
use serde_json::json;
use tokio::net::TcpListener;

/// A tenant that the worker behind this link serves.
async fn bound(link: &Link) -> anyhow::Result<Tenant<'_>> {
    let tenant = Tenant::new(link);
    tenant.bind().await?;
    Ok(tenant)
}

#[tokio::test]
async fn it_has_no_right_and_an_environment_built_from_nothing() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("rights", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    inside::ensure_it_has_no_right(&async |tool: &str, given| alice.call(tool, given).await)
        .await?;
    inside::ensure_environment_is_built(&alice.call("whoami", json!({})).await?)?;
    stage.place.end().await
}

#[tokio::test]
async fn what_is_the_agents_alone_is_not_there() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("agents", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    inside::ensure_the_agents_things_are_not_there(&async |tool: &str, given| {
        alice.call(tool, given).await
    })
    .await?;
    stage.place.end().await
}

#[tokio::test]
async fn its_agent_its_host_and_every_other_process_are_out_of_reach() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("processes", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    inside::ensure_no_other_process_is_in_reach(&async |tool: &str, given| {
        alice.call(tool, given).await
    })
    .await?;
    stage.place.end().await
}

#[tokio::test]
async fn what_it_writes_is_memory() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("memory", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    inside::ensure_what_it_writes_is_memory(&async |tool: &str, given| {
        alice.call(tool, given).await
    })
    .await?;
    stage.place.end().await
}

#[tokio::test]
async fn its_proxy_looks_names_up_by_itself_and_leads_to_what_is_listed() -> anyhow::Result<()> {
    let stage = Stage::make("proxy").await?;
    let host = stage.place.cluster.addresses()?.host();
    let listed = TcpListener::bind((host, 0)).await?;
    let port = listed.local_addr()?.port();
    let hosts = json!([{ "host": "listed.example", "port": port }]);
    let egress = json!({ "hosts": hosts, "cidrs": [format!("{host}/32")] });
    let class = stage.class("tools", json!({ "egress": egress })).await?;
    let alias = |pod: &mut Pod| {
        let names = ["listed.example", "unlisted.example"].map(str::to_owned).to_vec();
        let alias = HostAlias { ip: host.to_string(), hostnames: Some(names) };
        pod.spec.get_or_insert_default().host_aliases = Some(vec![alias]);
    };
    let worker = stage.changed_worker(&class, alias).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    let ask = async |name: &str| {
        let request = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
        let told = alice.call("proxy_request", json!({ "request": request })).await?;
        anyhow::Ok(told["answer"].as_str().with_context(|| told.to_string())?.to_owned())
    };
    let (answer, accepted) =
        tokio::join!(ask("listed.example"), async { listed.accept().await.map(drop) });
    accepted?;
    let answer = answer?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let refused = ask("unlisted.example").await?;
    ensure!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    stage.place.end().await
}

#[tokio::test]
async fn a_quilt_workers_configuration_is_fixed_and_its_session_is_placed_beside_it()
-> anyhow::Result<()> {
    let fields = json!({
        "command": ["/bin/quilt"],
        "profile": "quilt",
        "credentials": { "source": "catalog", "catalog": {
            "origin": "https://catalog.example", "registry": "https://registry.example",
            "region": "us-east-1",
        }},
    });
    let (stage, worker) = Stage::with_worker("quilt", fields).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    let data = "/home/worker/.local/share/Quilt";
    let read = async |name: &str| {
        alice.call("read_file", json!({ "path": format!("{data}/{name}") })).await
    };
    let configuration = read("config.yml").await?.to_string();
    ensure!(configuration.contains("navigator_url: http://catalog.example"), "{configuration}");
    let path = format!("{data}/config.yml");
    let told = alice.call("write_file", json!({ "path": path, "text": "elsewhere" })).await?;
    ensure!(told["errno"] == "EROFS", "{told}");

    let session = read("auth.json").await?.to_string();
    ensure!(session.contains("pod-"), "{session}");
    ensure!(!session.contains(alice.claim.tenant.as_str()), "it has the user's bearer");
    let told =
        alice.call("read_file", json!({ "path": "/tmp/patchbay-quilt-launcher.py" })).await?;
    ensure!(told.to_string().contains("quilt_mcp.main"), "{told}");
    stage.place.end().await
}
