//! What an MCP server may see of its surroundings, wherever its worker runs: sandbox and pod are held to the
//! same. It must not know how either is made.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The environment is what a worker builds from nothing, and no more. `who` is the fixture's `whoami`.
pub fn ensure_environment_is_built(who: &Value) -> anyhow::Result<()> {
    let variables: BTreeSet<_> =
        who["env"].as_object().context("env")?.keys().map(String::as_str).collect();
    let expected = BTreeSet::from([
        "AWS_EC2_METADATA_DISABLED",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "PATH",
        "PORT",
        "TMPDIR",
        "http_proxy",
        "https_proxy",
    ]);
    ensure!(variables == expected, "{variables:?}");
    Ok(())
}

/// A tool of the fixture server of a worker's pod, called by whatever way leads there: its name and its arguments.
pub trait Call: AsyncFn(&str, Value) -> anyhow::Result<Value> {}

impl<F: AsyncFn(&str, Value) -> anyhow::Result<Value>> Call for F {}

async fn text(call: &impl Call, path: &str) -> anyhow::Result<String> {
    let told = call("read_file", json!({ "path": path })).await?;
    Ok(told["text"].as_str().with_context(|| format!("{path}: {told}"))?.to_owned())
}

async fn names(call: &impl Call, path: &str) -> anyhow::Result<BTreeSet<String>> {
    let told = call("list_dir", json!({ "path": path })).await?;
    let entries = told["entries"].as_array().with_context(|| format!("{path}: {told}"))?;
    Ok(entries.iter().filter_map(|entry| entry["name"].as_str()).map(str::to_owned).collect())
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// In a pod: it is not the agent, and has no right.
pub async fn ensure_it_has_no_right(call: &impl Call) -> anyhow::Result<()> {
    let who = call("whoami", json!({})).await?;
    ensure!(who["uid"] == 10_001 && who["ppid"] == 1, "{who}");
    let status = text(call, "/proc/self/status").await?;
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
    Ok(())
}

/// In a pod: no token, no CA, no boot document but its host's; and the link takes nobody without a certificate.
pub async fn ensure_the_agents_things_are_not_there(call: &impl Call) -> anyhow::Result<()> {
    for path in [
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/patchbay/token/token",
        "/patchbay/ca/ca.crt",
        "/patchbay/probe/socket",
        "/patchbay/boot/agent.json",
    ] {
        let told = call("read_file", json!({ "path": path })).await?;
        ensure!(told["errno"] == "ENOENT", "{path}: {told}");
    }
    ensure!(names(call, "/patchbay").await? == set(["agent", "bin", "boot", "server"]));
    ensure!(names(call, "/patchbay/agent").await? == set(["control"]));
    let told = call("connect_unix", json!({ "path": "/patchbay/agent/control" })).await?;
    ensure!(told["connected"] == true, "its proxy's way: {told}");

    // the link is there, and takes nobody without a certificate
    let told = call("connect", json!({ "address": "127.0.0.1:7443" })).await?;
    ensure!(told["connected"] == true, "{told}");
    let request = "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n";
    let told = call("proxy_request", json!({ "request": request })).await?;
    ensure!(told["answer"].as_str().is_some_and(|it| it.starts_with("HTTP/1.1 403")), "{told}");
    Ok(())
}

/// In a pod: of processes there is its host, which is closed to it, and itself.
pub async fn ensure_no_other_process_is_in_reach(call: &impl Call) -> anyhow::Result<()> {
    let who = call("whoami", json!({})).await?;
    let pids = names(call, "/proc").await?;
    let pids: BTreeSet<_> = pids.into_iter().filter(|name| name.parse::<u32>().is_ok()).collect();
    ensure!(pids == BTreeSet::from(["1".to_owned(), who["pid"].to_string()]), "{pids:?}");
    for what in ["ptrace_parent", "proc_mem_1", "process_vm_readv", "pidfd_getfd", "mount"] {
        let report = call("attack", json!({ "what": what })).await?;
        let attempts =
            report["attempts"].as_array().with_context(|| format!("{what}: {report}"))?;
        let allowed: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt["allowed"] == true && attempt["target"] != who["pid"])
            .collect();
        ensure!(!attempts.is_empty() && allowed.is_empty(), "{what}: {report}");
    }
    Ok(())
}

/// In a pod of the fixture's class (4 MiB for HOME and /tmp, 1 MiB for /run): what it writes is memory.
pub async fn ensure_what_it_writes_is_memory(call: &impl Call) -> anyhow::Result<()> {
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
        let told = call("write_file", json!({ "path": path, "text": "x" })).await?;
        ensure!(
            ["EROFS", "EACCES"].contains(&told["errno"].as_str().unwrap_or("")),
            "{path}: {told}"
        );
    }
    let mounts = text(call, "/proc/self/mounts").await?;
    for (path, size) in [("/home/worker", "4096k"), ("/tmp", "4096k"), ("/run", "1024k")] {
        let told =
            call("write_file", json!({ "path": format!("{path}/own"), "text": "x" })).await?;
        ensure!(told["bytes"] == 1, "{path}: {told}");
        let mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some(path));
        let mount = mount.with_context(|| format!("{path} is no mount: {mounts}"))?;
        ensure!(mount.starts_with("tmpfs ") && mount.contains(&format!("size={size}")), "{mount}");
    }
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).context("root")?;
    ensure!(root.split(' ').nth(3).is_some_and(|options| options.starts_with("ro,")), "{root}");
    Ok(())
}
