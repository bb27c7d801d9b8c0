//! What the containers of a worker's pod share, their network and their IPC: the MCP server finds nothing of its
//! agent's there but the link, and cannot take its agent's or its host's place.

use super::bound;
use anyhow::{Context, ensure};
use http::StatusCode;
use patchbay_core::{
    launch::{AGENT_UID, SERVER_UID},
    link::WorkerPhase,
};
use patchbay_tests::pods::{PodWorker, Stage, Tenant};
use serde_json::json;
use std::collections::BTreeSet;

/// The state of a socket that listens, in `/proc/net`.
const LISTENS: &str = "0A";
/// The link, the host's end of the proxy, and the fixture's own port, as the kernel writes them.
const LINK: (&str, u32) = ("00000000000000000000000000000000:1D13", AGENT_UID);
const PROXY: (&str, u32) = ("0100007F:0C38", SERVER_UID);
const OWN: (&str, u32) = ("0100007F:1F40", SERVER_UID);

async fn text(server: &Tenant<'_>, path: &str) -> anyhow::Result<String> {
    let told = server.call("read_file", json!({ "path": path })).await?;
    Ok(told["text"].as_str().with_context(|| format!("{path}: {told}"))?.to_owned())
}

/// The lines of a table of `/proc`, without its head.
async fn table(server: &Tenant<'_>, path: &str) -> anyhow::Result<Vec<String>> {
    Ok(text(server, path).await?.lines().skip(1).map(str::to_owned).collect())
}

/// Where somebody listens for TCP, and which user that is.
async fn listeners(server: &Tenant<'_>) -> anyhow::Result<BTreeSet<(String, u32)>> {
    let mut found = BTreeSet::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in table(server, path).await? {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, user, ..] = fields[..] else {
                anyhow::bail!("{path}: {line}")
            };
            if state == LISTENS {
                found.insert((local.to_owned(), user.parse()?));
            }
        }
    }
    Ok(found)
}

/// It still serves its tenant, and its agent has not heard of anything.
async fn ensure_unharmed(
    stage: &Stage,
    worker: &PodWorker,
    alice: &Tenant<'_>,
) -> anyhow::Result<()> {
    let status = stage.status(worker).await?;
    ensure!(status.phase == WorkerPhase::Bound, "{:?}", status.phase);
    let told = alice.call("echo", json!({ "text": "still" })).await?;
    ensure!(told == json!({ "text": "still" }), "{told}");
    Ok(())
}

#[tokio::test]
async fn of_its_agents_sockets_it_sees_the_link_and_reaches_no_other() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("sockets", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    let expected = [LINK, PROXY, OWN].map(|(address, user)| (address.to_owned(), user));
    let found = listeners(&alice).await?;
    ensure!(found == BTreeSet::from(expected), "{found:?}");
    for path in ["udp", "udp6", "raw", "raw6", "packet"].map(|name| format!("/proc/net/{name}")) {
        let others = table(&alice, &path).await?;
        ensure!(others.is_empty(), "{path}: {others:?}");
    }

    // a name with a path is its agent's or its host's; an abstract one would be in reach of all of the pod
    let sockets = table(&alice, "/proc/net/unix").await?;
    let named: BTreeSet<_> =
        sockets.iter().filter_map(|line| line.split_whitespace().nth(7)).collect();
    let expected = ["/patchbay/agent/control", "/patchbay/server/socket"];
    ensure!(named == BTreeSet::from(expected), "{named:?}");
    for path in expected {
        let told = alice.call("connect_unix", json!({ "path": path })).await?;
        ensure!(told["errno"].is_null(), "{path}: {told}");
    }
    ensure_unharmed(&stage, &worker, &alice).await?;
    stage.place.end().await
}

#[tokio::test]
async fn it_cannot_listen_where_its_agent_does() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("listens", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    let port = worker.address.port();
    for address in ["0.0.0.0", "127.0.0.1", "127.0.0.2", "[::]", "[::1]"]
        .map(|host| format!("{host}:{port}"))
        .into_iter()
        .chain([worker.address.to_string()])
    {
        let told = alice.call("listen", json!({ "address": address })).await?;
        ensure!(told["errno"] == "EADDRINUSE", "{address}: {told}");
    }
    // elsewhere it may: the refusals above are no broken tool's
    let told = alice.call("listen", json!({ "address": "0.0.0.0:0" })).await?;
    ensure!(told["listening"] == true, "{told}");
    ensure_unharmed(&stage, &worker, &alice).await?;
    stage.place.end().await
}

#[tokio::test]
async fn its_agent_takes_it_for_a_client_of_the_proxy_and_never_for_its_host() -> anyhow::Result<()>
{
    let (stage, worker) = Stage::with_worker("poses", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    // what a host says of its server's end and of files; and requests that are for the link
    for said in [
        "{\"serverExited\":7}\n",
        "\"placed\"\n",
        "POST /v1/bind HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "POST /v1/drain HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ] {
        let told = alice.call("proxy_request", json!({ "request": said })).await?;
        let answer = told["answer"].as_str().with_context(|| told.to_string())?;
        ensure!(answer.starts_with("HTTP/1.1 400"), "{said}: {answer}");
        ensure_unharmed(&stage, &worker, &alice).await?;
    }
    let bob = Tenant::new(&link);
    let refused = bob.raw_call("echo", json!({ "text": "bob's" })).await?;
    ensure!(refused.status == StatusCode::MISDIRECTED_REQUEST, "{}", refused.text());
    stage.place.end().await
}

#[tokio::test]
async fn what_a_pods_containers_share_of_memory_holds_nothing() -> anyhow::Result<()> {
    let (stage, worker) = Stage::with_worker("ipc", json!({})).await?;
    let link = stage.gateway(&worker).await?;
    let alice = bound(&link).await?;
    for path in ["/dev/shm", "/dev/mqueue"] {
        let told = alice.call("list_dir", json!({ "path": path })).await?;
        ensure!(told == json!({ "entries": [] }), "{path}: {told}");
    }
    for path in ["shm", "msg", "sem"].map(|name| format!("/proc/sysvipc/{name}")) {
        let entries = table(&alice, &path).await?;
        ensure!(entries.is_empty(), "{path}: {entries:?}");
    }
    stage.place.end().await
}
