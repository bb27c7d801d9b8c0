//! What an MCP server may see of its surroundings, wherever its worker runs: sandbox and pod are held to the
//! same. It must not know how either is made.

use anyhow::{Context, ensure};
use patchbay_core::pin::Role;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where its agent listens, seen from inside a pod.
const LINK: &str = "127.0.0.1:7443";

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

/// In a pod: it is not the agent, has no right, and leaves no core file.
pub async fn ensure_it_has_no_right(call: &impl Call) -> anyhow::Result<()> {
    let who = call("whoami", json!({})).await?;
    ensure!(who["uid"] == 10_001 && who["ppid"] == 1, "{who}");
    let status = text(call, "/proc/self/status").await?;
    for expected in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Uid:\t10001\t10001\t10001\t10001",
        "Gid:\t10001\t10001\t10001\t10001",
    ] {
        ensure!(status.lines().any(|line| line == expected), "not {expected}: {status}");
    }
    let limits = text(call, "/proc/self/limits").await?;
    let cores = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let cores: Vec<_> = cores.context("no limit of core files")?.split_whitespace().collect();
    ensure!(cores == ["0", "0", "bytes"], "{limits}");
    Ok(())
}

/// In a pod: no token, no CA, no boot document but its host's; and the link takes nobody without a certificate.
pub async fn ensure_the_agents_things_are_not_there(call: &impl Call) -> anyhow::Result<()> {
    for path in [
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "/patchbay/token/token",
        "/patchbay/ca/ca.crt",
        "/patchbay/boot/agent.json",
    ] {
        let told = call("read_file", json!({ "path": path })).await?;
        ensure!(told["errno"] == "ENOENT", "{path}: {told}");
    }
    ensure!(names(call, "/patchbay").await? == set(["agent", "bin", "boot", "server"]));
    ensure!(names(call, "/patchbay/agent").await? == set(["control"]));
    let told = call("connect_unix", json!({ "path": "/patchbay/agent/control" })).await?;
    ensure!(told["connected"] == true, "its proxy's way: {told}");

    // the link is there, and takes nobody without a certificate of the control plane's
    for (claim, alert) in [
        (None, "CertificateRequired"),
        (Some(Role::Gateway.uri()), "fatal alert"),
        (Some(Role::Operator.uri()), "fatal alert"),
    ] {
        let told = call("speak_tls", json!({ "address": LINK, "claim": claim })).await?;
        let error = told["error"].as_str().with_context(|| told.to_string())?;
        ensure!(told["letIn"] == false && error.contains(alert), "{claim:?}: {told}");
    }
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
    for what in [
        "ptrace_parent",
        "proc_mem_1",
        "process_vm_readv",
        "pidfd_getfd",
        "mount",
        "unshare_user",
        "raw_sockets",
    ] {
        let report = call("attack", json!({ "what": what })).await?;
        let attempts =
            report["attempts"].as_array().with_context(|| format!("{what}: {report}"))?;
        let allowed: Vec<_> = attempts
            .iter()
            .filter(|attempt| attempt["allowed"] == true && attempt["target"] != who["pid"])
            .collect();
        ensure!(!attempts.is_empty() && allowed.is_empty(), "{what}: {report}");
    }
    // a signal to its own host is a way to end itself, and it has no other target
    let report = call("attack", json!({ "what": "kill_all" })).await?;
    let attempts = report["attempts"].as_array().with_context(|| report.to_string())?;
    ensure!(attempts.iter().map(|tried| &tried["target"]).eq([&json!(1)]), "{report}");
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
        "/dev/escaped",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
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
