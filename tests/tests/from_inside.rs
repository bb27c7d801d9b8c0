//! What a hostile MCP server reaches from inside its sandbox: nothing but itself.
//!
//! The fixture server runs in a real worker behind the real gateway and tries. Whatever is said to
//! be out of reach exists, and the test has reached it from outside before.

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use patchbay_tests::{
    binaries,
    controller::{Controller, ControllerConfig, api_key, fixture_documents},
    http::Http,
    inside,
    mcp::McpClient,
    sandbox::{self, HOME, Part},
    secrets::Secrets,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const CLASS: &str = "inside";

async fn start(warm: u32, users: &[&str], class_fields: &str) -> anyhow::Result<Controller> {
    config(warm, users, class_fields)?.start().await
}

fn config(warm: u32, users: &[&str], class_fields: &str) -> anyhow::Result<ControllerConfig> {
    Ok(ControllerConfig::new(fixture_documents(CLASS, warm, users, class_fields)?))
}

fn client(controller: &Controller, user: &str) -> McpClient {
    McpClient::bearer(controller.url(CLASS), &api_key(user))
}

/// Calls a tool with a path and wants it refused with this errno.
async fn refused(client: &McpClient, tool: &str, path: &Path, errno: &str) -> anyhow::Result<()> {
    let told = client.call(tool, json!({ "path": path, "text": "written" })).await?;
    ensure!(told["errno"] == errno, "{tool} {}: {told}, not {errno}", path.display());
    Ok(())
}

async fn names(client: &McpClient, directory: &str) -> anyhow::Result<BTreeSet<String>> {
    let told = client.call("list_dir", json!({ "path": directory })).await?;
    let entries = told["entries"].as_array().with_context(|| format!("{directory}: {told}"))?;
    Ok(entries.iter().filter_map(|entry| entry["name"].as_str()).map(str::to_owned).collect())
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test]
async fn of_the_machines_files_it_sees_the_listed_ones_alone() -> anyhow::Result<()> {
    let controller = start(2, &["alice", "bob"], "").await?;
    let (alice, bob) = (client(&controller, "alice"), client(&controller, "bob"));
    let own = format!("{HOME}/own");
    bob.call("write_file", json!({ "path": own, "text": "bob's own" })).await?;
    alice.call("echo", json!({ "text": "here" })).await?;

    let run_dir = controller.run_dir();
    let documents = run_dir.with_file_name("documents.yaml");
    let bobs = controller.worker_of(CLASS, "bob").await?;
    let bobs = sandbox::path_in(sandbox::server(&controller, &bobs)?.pid, &own);
    for path in [&documents, &bobs, Path::new("/etc/shadow"), Path::new("/etc/hostname")] {
        ensure!(path.is_file(), "{} is not there to be hidden", path.display());
        refused(&alice, "read_file", path, "ENOENT").await?;
    }
    for directory in [&run_dir, Path::new("/var"), Path::new("/sys"), Path::new("/boot")] {
        ensure!(directory.is_dir(), "{} is not there to be hidden", directory.display());
        refused(&alice, "list_dir", directory, "ENOENT").await?;
    }

    // what leads to the server's program and to its host's is there, and nothing beside it
    let program = binaries::path("fixture-server")?;
    let directory = program.parent().context("directory")?;
    let programs = names(&alice, directory.to_str().context("name")?).await?;
    ensure!(programs == set(["fixture-server", "patchbay-worker"]), "{programs:?}");
    let mut beside = directory;
    while let Some(directory) = beside.parent().filter(|directory| *directory != Path::new("/")) {
        let name = beside.file_name().and_then(|name| name.to_str()).context("name")?;
        let seen = names(&alice, directory.to_str().context("name")?).await?;
        ensure!(seen == set([name]), "beside {}: {seen:?}", beside.display());
        beside = directory;
    }
    if !program.starts_with("/root") {
        refused(&alice, "list_dir", Path::new("/root"), "ENOENT").await?;
    }
    let users = alice.call("read_file", json!({ "path": "/etc/passwd" })).await?.to_string();
    ensure!(users.contains("worker:x:10001") && !users.contains("/bin/bash"), "{users}");
    Ok(())
}

#[tokio::test]
async fn it_writes_to_its_own_memory_and_nowhere_else() -> anyhow::Result<()> {
    let controller = start(2, &["alice", "bob"], "").await?;
    let (alice, bob) = (client(&controller, "alice"), client(&controller, "bob"));
    let program = binaries::path("fixture-server")?;
    for (path, errno) in [
        (Path::new("/escaped"), "EROFS"),
        (Path::new("/usr/escaped"), "EROFS"),
        (Path::new("/usr/bin/env"), "EROFS"),
        (Path::new("/etc/escaped"), "EROFS"),
        (Path::new("/etc/passwd"), "EROFS"),
        (Path::new("/home/escaped"), "EROFS"),
        (Path::new("/dev/escaped"), "EROFS"),
        (Path::new("/proc/sys/kernel/core_pattern"), "EROFS"),
        (Path::new("/proc/sys/vm/drop_caches"), "EROFS"),
        (Path::new("/proc/self/oom_score_adj"), "EROFS"),
        (program.as_path(), "EROFS"),
        (Path::new("/sys/kernel/escaped"), "ENOENT"),
    ] {
        refused(&alice, "write_file", path, errno).await?;
    }
    let mark = format!("mark-{}", uuid::Uuid::new_v4());
    for directory in [HOME, "/tmp", "/run"] {
        let path = format!("{directory}/{mark}");
        let told = alice.call("write_file", json!({ "path": path, "text": mark })).await?;
        ensure!(told["bytes"] == mark.len(), "{path}: {told}");
        ensure!(names(&alice, directory).await?.contains(&mark), "{path} cannot be listed");
        refused(&bob, "read_file", Path::new(&path), "ENOENT").await?;
        ensure!(!names(&bob, directory).await?.contains(&mark), "bob sees {path}");
        ensure!(!Path::new(&path).exists(), "{path} is the machine's own");
    }
    let outside = Secrets::new(&[("mark", &mark)])?.below(&[&controller.run_dir()]).await?;
    ensure!(outside.is_empty(), "{outside:?}");
    Ok(())
}

/// What a probe tried.
async fn attempts(client: &McpClient, what: &str) -> anyhow::Result<Vec<Value>> {
    let report = client.call("attack", json!({ "what": what })).await?;
    Ok(report["attempts"].as_array().with_context(|| format!("{what}: {report}"))?.clone())
}

#[tokio::test]
async fn its_agent_its_host_and_every_other_process_are_out_of_reach() -> anyhow::Result<()> {
    let controller = start(2, &["alice", "bob"], "").await?;
    let (alice, bob) = (client(&controller, "alice"), client(&controller, "bob"));
    let who = alice.call("whoami", json!({})).await?;
    bob.call("echo", json!({ "text": "here" })).await?;

    // its host, which holds no secret, and itself
    let seen = names(&alice, "/proc").await?;
    let pids: BTreeSet<_> = seen.iter().filter(|name| name.parse::<u32>().is_ok()).collect();
    let itself = who["pid"].to_string();
    ensure!(pids == BTreeSet::from([&"1".to_owned(), &itself]), "{pids:?}");
    ensure!(who["ppid"] == 1 && who["uid"] == 10001, "{who}");

    for (what, errno) in [
        ("ptrace_parent", "ENOSYS"),
        ("proc_mem_1", "EACCES"),
        ("process_vm_readv", "ENOSYS"),
        ("pidfd_getfd", "ENOSYS"),
        ("mount", "ENOSYS"),
        ("unshare_user", "ENOSYS"),
    ] {
        let tried = attempts(&alice, what).await?;
        ensure!(!tried.is_empty(), "{what} tried nothing");
        for attempt in tried {
            ensure!(attempt["allowed"] == false && attempt["errno"] == errno, "{what}: {attempt}");
        }
    }
    for attempt in attempts(&alice, "raw_sockets").await? {
        ensure!(attempt["allowed"] == false, "{attempt}");
    }
    // a signal to its own host is a way to end itself, and it has no other target
    let targets = attempts(&alice, "kill_all").await?;
    ensure!(targets.iter().map(|tried| &tried["target"]).eq([&json!(1)]), "{targets:?}");

    let (mine, others) =
        (controller.worker_of(CLASS, "alice").await?, controller.worker_of(CLASS, "bob").await?);
    let agent = sandbox::processes_of(&controller, &mine, Part::Agent)?;
    let neighbour = sandbox::processes_of(&controller, &others, Part::Server)?;
    for process in agent.iter().chain(&neighbour) {
        for file in ["environ", "mem", "maps", "cmdline"] {
            let path = format!("/proc/{}/{file}", process.pid);
            ensure!(Path::new(&path).exists(), "{path} is not there to be hidden");
            refused(&alice, "read_file", Path::new(&path), "ENOENT").await?;
        }
    }
    Ok(())
}

async fn connect(client: &McpClient, address: &str) -> anyhow::Result<Value> {
    client.call("connect", json!({ "address": address })).await
}

#[tokio::test]
async fn there_is_no_network_but_its_own_loopback() -> anyhow::Result<()> {
    let controller = start(1, &["alice"], "").await?;
    let alice = client(&controller, "alice");
    let address = |url: &str| {
        let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        authority.map(str::to_owned).with_context(|| url.to_owned())
    };
    // the kernel accepts for a listener that nobody asks, so what connects is connected
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let second = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await?;
    for reachable in [
        first.local_addr()?.to_string(),
        second.local_addr()?.to_string(),
        address(controller.url(CLASS))?,
        address(&controller.admin)?,
    ] {
        TcpStream::connect(&reachable).await?;
        let told = connect(&alice, &reachable).await?;
        ensure!(told["errno"] == "ECONNREFUSED", "{reachable}: {told}");
    }
    for away in ["169.254.169.254:80", "1.1.1.1:443", "10.0.0.1:80", "[fd00:ec2::254]:80"] {
        let told = connect(&alice, away).await?;
        ensure!(told["errno"] == "ENETUNREACH", "{away}: {told}");
    }
    // its own server and its proxy's pipe are there, so a refusal above is no broken probe
    for own in ["127.0.0.1:8000", "127.0.0.1:3128"] {
        let told = connect(&alice, own).await?;
        ensure!(told["connected"] == true, "{own}: {told}");
    }
    Ok(())
}

#[tokio::test]
async fn of_unix_sockets_it_reaches_its_own_control_socket_alone() -> anyhow::Result<()> {
    let controller = start(1, &["alice"], "").await?;
    let alice = client(&controller, "alice");
    alice.call("echo", json!({ "text": "here" })).await?;
    ensure!(names(&alice, "/run").await? == set(["patchbay"]));
    ensure!(names(&alice, "/run/patchbay").await? == set(["control"]));

    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("socket");
    let _listener = UnixListener::bind(&socket)?;
    let mut sockets = vec![socket];
    for found in sandbox::files_below(&controller.run_dir())? {
        let path = controller.run_dir().join(found.path);
        if UnixStream::connect(&path).await.is_ok() {
            sockets.push(path);
        }
    }
    ensure!(sockets.len() >= 5, "the class's and the worker's sockets: {sockets:?}");
    for path in &sockets {
        refused(&alice, "connect_unix", path, "ENOENT").await?;
    }
    let told = alice.call("connect_unix", json!({ "path": "/run/patchbay/control" })).await?;
    ensure!(told["connected"] == true, "{told}");
    Ok(())
}

#[tokio::test]
async fn its_environment_is_built_from_nothing() -> anyhow::Result<()> {
    let mark = format!("mark-{}", uuid::Uuid::new_v4());
    let controller = config(1, &["alice"], "")?
        .env("PATCHBAY_TESTS_MARK", &mark)
        .env("NO_PROXY", "*")
        .env("no_proxy", "*")
        .env("AWS_SECRET_ACCESS_KEY", &mark)
        .start()
        .await?;
    let outside = std::fs::read(format!("/proc/{}/environ", controller.pid().context("pid")?))?;
    ensure!(String::from_utf8_lossy(&outside).contains(&mark), "the controller has no mark");
    let alice = client(&controller, "alice");
    let who = alice.call("whoami", json!({})).await?;
    inside::ensure_environment_is_built(&who)?;
    ensure!(!who.to_string().contains(&mark), "{who}");

    // nor in that of any process of the worker, its agent included
    let worker = controller.worker_of(CLASS, "alice").await?;
    for part in [Part::Agent, Part::Server] {
        for process in sandbox::processes_of(&controller, &worker, part)? {
            let environ = std::fs::read(format!("/proc/{}/environ", process.pid))?;
            ensure!(!String::from_utf8_lossy(&environ).contains(&mark), "{process:?}");
        }
    }
    Ok(())
}

/// What the proxy answers to a request for `target`.
async fn ask_proxy(client: &McpClient, method: &str, target: &str) -> anyhow::Result<String> {
    let host = target.strip_prefix("http://").unwrap_or(target);
    let host = host.split('/').next().unwrap_or(host);
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let told = client.call("proxy_request", json!({ "request": request })).await?;
    Ok(told["answer"].as_str().with_context(|| format!("{target}: {told}"))?.to_owned())
}

/// Two addresses that were free a moment ago: documents name them before anybody listens there.
async fn free_addresses() -> anyhow::Result<[SocketAddr; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok([first.local_addr()?, second.local_addr()?])
}

#[tokio::test]
async fn its_proxy_leads_to_what_is_listed_and_never_to_the_gateway() -> anyhow::Result<()> {
    let listed = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await?;
    let named = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let [gateway, admin] = free_addresses().await?;
    let host = |address: SocketAddr| {
        format!("{{ host: {}, port: {}, plainHttp: true }}", address.ip(), address.port())
    };
    // the gateway's own are listed too: by mistake, or by somebody who means ill
    let egress = format!(
        "  egress:\n    hosts:\n      - {}\n      - {}\n      - {}\n      \
         - {{ host: localhost, port: {}, plainHttp: true }}\n",
        host(listed.local_addr()?),
        host(gateway),
        host(admin),
        named.local_addr()?.port(),
    );
    let controller = config(1, &["alice"], &egress)?.listen(gateway, admin).start().await?;
    let alice = client(&controller, "alice");

    // what is listed is reached: the refusals below are no broken proxy's
    let target = listed.local_addr()?.to_string();
    let (granted, accepted) = tokio::join!(ask_proxy(&alice, "CONNECT", &target), async {
        listed.accept().await.map(drop)
    });
    accepted?;
    let granted = granted?;
    ensure!(granted.starts_with("HTTP/1.1 200"), "{target}: {granted}");

    let unlisted = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let unlisted = unlisted.local_addr()?.to_string();
    let own = [gateway.to_string(), admin.to_string()];
    let local_name = format!("localhost:{}", named.local_addr()?.port());
    for (target, why) in [
        (unlisted.as_str(), "hostNotAllowed"),
        ("169.254.169.254:80", "hostNotAllowed"),
        ("[fd00:ec2::254]:80", "hostNotAllowed"),
        ("example.com:443", "hostNotAllowed"),
        // a listed name is no listed address, and the controller's own addresses are nobody's
        (&local_name, "localhost has no address that may be dialled"),
        (&own[0], "127.0.0.1 has no address that may be dialled"),
        (&own[1], "127.0.0.1 has no address that may be dialled"),
    ] {
        for (method, target) in
            [("CONNECT", target.to_owned()), ("GET", format!("http://{target}/tenants"))]
        {
            let logged = controller.logs().len();
            let answer = ask_proxy(&alice, method, &target).await?;
            ensure!(answer.starts_with("HTTP/1.1 403"), "{method} {target}: {answer}");
            if !answer.contains(why) {
                controller
                    .eventually(&format!("{method} {target}: {answer}: {why}"), async || {
                        Ok(controller.logs().get(logged..).is_some_and(|log| log.contains(why)))
                    })
                    .await?;
            }
        }
    }
    let outside = Http::default().get(&format!("http://{admin}/livez"), &[]).await?;
    ensure!(outside.status.is_success(), "the admin pages are not there to be reached");
    Ok(())
}

#[tokio::test]
async fn nothing_of_a_worker_is_left_in_the_next() -> anyhow::Result<()> {
    let controller = start(1, &["alice"], "").await?;
    let alice = client(&controller, "alice");
    // where the programs under test are below one of these, the way to them is there as well
    let places = [HOME, "/tmp", "/run"];
    let look = async || try_join_all(places.map(|directory| names(&alice, directory))).await;
    let fresh = look().await?;
    ensure!(fresh[0].is_empty() && fresh[2].contains("patchbay"), "{fresh:?}");
    alice.call("remember", json!({ "key": "k", "value": "lost" })).await?;
    let recalled = alice.call("recall", json!({ "key": "k" })).await?;
    ensure!(recalled == json!({ "memory": "lost", "file": "lost" }), "{recalled}");
    for directory in places {
        let path = format!("{directory}/left");
        alice.call("write_file", json!({ "path": path, "text": "lost" })).await?;
    }
    let worker = controller.worker_of(CLASS, "alice").await?;
    sandbox::kill(&controller, &worker, Part::Server).await?;
    controller
        .eventually("the worker is gone", async || {
            let tenants = controller.tenants().await?;
            Ok(!tenants.iter().any(|tenant| tenant["worker"] == worker.as_str()))
        })
        .await?;

    let recalled = alice.call("recall", json!({ "key": "k" })).await?;
    ensure!(recalled == json!({ "memory": null, "file": null }), "{recalled}");
    ensure!(controller.worker_of(CLASS, "alice").await? != worker);
    ensure!(look().await? == fresh, "{fresh:?}");
    let gone = controller.run_dir();
    controller
        .eventually("nothing of the worker is left outside", async || {
            let files = sandbox::files_below(&gone)?;
            Ok(!files.iter().any(|file| file.path.to_string_lossy().contains(&worker)))
        })
        .await
}

#[tokio::test]
async fn a_server_beyond_its_memory_limit_ends_and_the_next_request_has_another()
-> anyhow::Result<()> {
    let controller = start(1, &["alice"], "  resources: { memory: 64Mi }\n").await?;
    let alice = client(&controller, "alice");
    let within = alice.call("eat_memory", json!({ "mib": 16 })).await?;
    ensure!(within == json!({ "touchedMib": 16, "refused": false }), "{within}");
    let worker = controller.worker_of(CLASS, "alice").await?;
    let limit = sandbox::memory_limit(sandbox::server(&controller, &worker)?.pid);
    let beyond = alice.modern_call("eat_memory", json!({ "mib": 256 })).await;
    match limit {
        Ok((bytes, method)) => {
            println!("memory limit: {method}, {} MiB", bytes >> 20);
            ensure!(bytes == 64 << 20, "{bytes}");
            let text = beyond.map(|answer| answer.text()).unwrap_or_default();
            ensure!(!text.contains("touchedMib"), "it lives: {text}");
            controller
                .eventually("the log names the memory limit", async || {
                    Ok(controller.logs().lines().any(|line| {
                        line.contains(&worker)
                            && line.contains("a worker has ended")
                            && line.contains("memory limit")
                    }))
                })
                .await?;
            alice.call("echo", json!({ "text": "again" })).await?;
            ensure!(controller.worker_of(CLASS, "alice").await? != worker, "it was not replaced");
        }
        Err(why) => {
            println!("memory limit: of each process ({why})");
            ensure!(controller.logs().contains("IsolationDegraded"), "weaker, and not said");
            let text = beyond?.text();
            ensure!(text.contains("refused") && text.contains("true"), "{text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_has_no_more_processes_than_its_class_says() -> anyhow::Result<()> {
    let controller = start(1, &["alice"], "  resources: { pids: 24 }\n").await?;
    let alice = client(&controller, "alice");
    let told = alice.call("spawn_children", json!({ "n": 64 })).await?;
    ensure!(told["errno"] == "EAGAIN", "{told}");
    ensure!(told["spawned"].as_u64().is_some_and(|n| n > 4 && n < 24), "{told}");
    // and it goes on
    let told = alice.call("spawn_children", json!({ "n": 4 })).await?;
    ensure!(told == json!({ "spawned": 4 }), "{told}");
    Ok(())
}
