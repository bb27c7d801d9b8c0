//! What an MCP server reaches from inside its container of a worker's pod: nothing but itself. The same attacks
//! as on the local sandbox (`from_inside`), where the cluster's isolation has to stop them. `make test-cluster`.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{HostAlias, Pod};
use patchbay_gateway::forward::link::Link;
use patchbay_tests::{
    inside,
    pods::{Stage, Tenant},
};
use serde_json::json;
use std::collections::BTreeSet;
use tokio::net::TcpListener;

/// A tenant that the worker behind this link serves.
async fn bound(link: &Link) -> anyhow::Result<Tenant<'_>> {
    let tenant = Tenant::new(link);
    tenant.bind().await?;
    Ok(tenant)
}

async fn text(tenant: &Tenant<'_>, path: &str) -> anyhow::Result<String> {
    let told = tenant.call("read_file", json!({ "path": path })).await?;
    Ok(told["text"].as_str().with_context(|| format!("{path}: {told}"))?.to_owned())
}

async fn names(tenant: &Tenant<'_>, path: &str) -> anyhow::Result<BTreeSet<String>> {
    let told = tenant.call("list_dir", json!({ "path": path })).await?;
    let entries = told["entries"].as_array().with_context(|| format!("{path}: {told}"))?;
    Ok(entries.iter().filter_map(|entry| entry["name"].as_str()).map(str::to_owned).collect())
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test]
async fn it_has_no_right_and_an_environment_built_from_nothing() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("rights", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    // who it is: not the agent, and without a right
    let who = alice.call("whoami", json!({})).await?;
    ensure!(who["uid"] == 10_001 && who["ppid"] == 1, "{who}");
    let status = text(&alice, "/proc/self/status").await?;
    for expected in [
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Uid:\t10001\t10001\t10001\t10001",
        "Gid:\t10001\t10001\t10001\t10001",
    ] {
        ensure!(status.lines().any(|line| line == expected), "not {expected}: {status}");
    }
    inside::ensure_environment_is_built(&who)?;

    stage.place.end().await
}

#[tokio::test]
async fn what_is_the_agents_alone_is_not_there() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("agents", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    // no token, no CA, no boot document but its host's
    for path in [
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/patchbay/token/token",
        "/patchbay/ca/ca.crt",
        "/patchbay/probe/socket",
        "/patchbay/boot/agent.json",
    ] {
        let told = alice.call("read_file", json!({ "path": path })).await?;
        ensure!(told["errno"] == "ENOENT", "{path}: {told}");
    }
    ensure!(names(&alice, "/patchbay").await? == set(["agent", "bin", "boot", "server"]));
    ensure!(names(&alice, "/patchbay/agent").await? == set(["control"]));
    let told = alice.call("connect_unix", json!({ "path": "/patchbay/agent/control" })).await?;
    ensure!(told["connected"] == true, "its proxy's way: {told}");

    // the link is there, and takes nobody without a certificate
    let told = alice.call("connect", json!({ "address": "127.0.0.1:7443" })).await?;
    ensure!(told["connected"] == true, "{told}");
    let request = "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n";
    let told = alice.call("proxy_request", json!({ "request": request })).await?;
    ensure!(told["answer"].as_str().is_some_and(|it| it.starts_with("HTTP/1.1 403")), "{told}");
    stage.place.end().await
}

#[tokio::test]
async fn its_agent_its_host_and_every_other_process_are_out_of_reach() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("processes", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    let who = alice.call("whoami", json!({})).await?;
    // of processes: its host, which is closed to it, and itself
    let pids = names(&alice, "/proc").await?;
    let pids: BTreeSet<_> = pids.into_iter().filter(|name| name.parse::<u32>().is_ok()).collect();
    ensure!(pids == BTreeSet::from(["1".to_owned(), who["pid"].to_string()]), "{pids:?}");
    for what in ["ptrace_parent", "proc_mem_1", "process_vm_readv", "pidfd_getfd", "mount"] {
        let report = alice.call("attack", json!({ "what": what })).await?;
        let attempts =
            report["attempts"].as_array().with_context(|| format!("{what}: {report}"))?;
        let allowed: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt["allowed"] == true && attempt["target"] != who["pid"])
            .collect();
        ensure!(!attempts.is_empty() && allowed.is_empty(), "{what}: {report}");
    }

    stage.place.end().await
}

#[tokio::test]
async fn what_it_writes_is_memory() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("memory", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    // what it writes is memory
    for path in [
        "/escaped",
        "/etc/escaped",
        "/fixture-server",
        "/patchbay/escaped",
        "/patchbay/agent/escaped",
        "/patchbay/bin/patchbay-worker",
        "/patchbay/boot/host.json",
        "/proc/sys/kernel/core_pattern",
    ] {
        let told = alice.call("write_file", json!({ "path": path, "text": "x" })).await?;
        ensure!(
            ["EROFS", "EACCES"].contains(&told["errno"].as_str().unwrap_or("")),
            "{path}: {told}"
        );
    }
    let mounts = text(&alice, "/proc/self/mounts").await?;
    for (path, size) in [("/home/worker", "4096k"), ("/tmp", "4096k"), ("/run", "1024k")] {
        let told =
            alice.call("write_file", json!({ "path": format!("{path}/own"), "text": "x" })).await?;
        ensure!(told["bytes"] == 1, "{path}: {told}");
        let mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some(path));
        let mount = mount.with_context(|| format!("{path} is no mount: {mounts}"))?;
        ensure!(mount.starts_with("tmpfs ") && mount.contains(&format!("size={size}")), "{mount}");
    }
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).context("root")?;
    ensure!(root.split(' ').nth(3).is_some_and(|options| options.starts_with("ro,")), "{root}");

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
