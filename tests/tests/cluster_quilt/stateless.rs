//! Upstream's checks of a stateless container, asked of a real `quilt-mcp` in a pod: the checks of the local suite of
//! this name, from outside, as whoever has the node.

use super::{bound, made, own_objects};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::DeleteParams};
use patchbay_core::launch::{AGENT_UID, SERVER_UID};
use patchbay_operator::build::{AGENT, SERVER};
use patchbay_tests::{
    cluster::until,
    pods::{PodWorker, Stage, containers, stage::ended},
    processes::{self, Process},
    quilt::{
        QuiltWorld,
        stateless::{DATA, FILES, home, in_file, known_as, stand_in_of},
    },
    sandbox::{self, HOME},
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// What the class says.
const MEMORY_LIMIT: u64 = 512 << 20;
/// The environment of the image.
const ENVIRONMENT: &str = "/opt/quilt-venv";
/// What the containers of a pod share.
const SHARED: [&str; 2] = ["/dev/mqueue", "/dev/shm"];
/// Where a container's last words go. It is a file on the node's disk, which Kubernetes lets nobody go without.
const LAST_WORDS: &str = "/dev/termination-log";

async fn pod(stage: &Stage, worker: &PodWorker) -> anyhow::Result<Pod> {
    Ok(stage.place.pods().get(&worker.name).await?)
}

/// The MCP server itself: what the host has started.
pub(crate) fn server(pod: &Pod) -> anyhow::Result<Process> {
    let mut inside = containers::processes_of(pod, SERVER)?.into_iter();
    let host = inside.next().context("no host")?;
    inside.find(|process| process.parent == host.pid).context("the host has no child")
}

/// A worker that nobody has: its volumes hold what every worker of the class has, and no credential.
fn check_anonymous(pod: &Pod, world: &QuiltWorld) -> anyhow::Result<()> {
    let server = server(pod)?.pid;
    let config = format!("{DATA}/config.yml");
    ensure!(home(server)? == [config.as_str()], "{:?}", home(server)?);
    let run = sandbox::names_in(server, "/run")?;
    ensure!(run.is_empty(), "{run:?}");
    let tmp = sandbox::names_in(server, "/tmp")?;
    let is_known =
        |name: &String| name == "patchbay-quilt-launcher.py" || name.starts_with("matplotlib");
    ensure!(tmp.iter().all(is_known), "{tmp:?}");
    let shared = sandbox::names_in(server, "/dev/shm")?;
    ensure!(shared.is_empty(), "{shared:?}");

    let path = format!("{HOME}/{config}");
    let mounts = sandbox::mounts(server)?;
    let mount = mounts.iter().find(|mount| mount.point == Path::new(&path));
    ensure!(mount.is_some_and(|mount| !mount.is_writable), "{mount:?}");
    let text = std::fs::read_to_string(sandbox::path_in(server, &path))?;
    let registry = known_as(world.catalog.registry_url())?;
    ensure!(text.contains(&format!("registryUrl: {registry}\n")), "{text}");
    Ok(())
}

/// Whether the modes let a user, or whoever shares the pod's group, write to what is mounted at a point.
fn may_write(pid: u32, user: u32, point: &Path) -> bool {
    let found = std::fs::metadata(sandbox::path_in(pid, &point.to_string_lossy()));
    found.is_ok_and(|found| found.uid() == user || found.mode() & 0o022 != 0)
}

/// No right is left to any process of a worker, and nothing but memory to write to.
fn check_constraints(pod: &Pod) -> anyhow::Result<()> {
    let agents = containers::processes_of(pod, AGENT)?;
    let servers = containers::processes_of(pod, SERVER)?;
    ensure!(servers.len() == 2, "{servers:?}");
    // of the agent's container the first alone: what a probe runs there may end while it is looked at
    let agents = agents.into_iter().take(1).map(|process| (process, AGENT_UID));
    let all = agents.chain(servers.into_iter().map(|process| (process, SERVER_UID)));
    for (Process { pid, .. }, user) in all {
        sandbox::ensure_no_right(pid)?;
        let own = vec![user.to_string(); 4].join("\t");
        for field in ["Uid", "Gid"] {
            let found = sandbox::status(pid, field);
            ensure!(found.as_deref() == Some(own.as_str()), "{pid} {field}: {found:?}");
        }
        let places: &[&str] = if user == AGENT_UID {
            &["/patchbay/agent"]
        } else {
            &[HOME, "/patchbay/server", "/run", "/tmp"]
        };
        let mut found = sandbox::writable_directories(pid)?;
        found.retain(|point, _| may_write(pid, user, point));
        let is_memory = found.values().all(|kind| ["tmpfs", "mqueue"].contains(&kind.as_str()));
        let points: BTreeSet<_> = found.keys().map(PathBuf::as_path).collect();
        let expected = SHARED.iter().chain(places).map(Path::new).collect();
        ensure!(is_memory && points == expected, "{pid} {found:?}");
        let mut files = sandbox::mounts(pid)?;
        files.retain(|mount| {
            mount.is_writable
                && sandbox::path_in(pid, &mount.point.to_string_lossy()).is_file()
                && may_write(pid, user, &mount.point)
        });
        ensure!(files.iter().map(|it| &it.point).eq([Path::new(LAST_WORDS)]), "{files:?}");
    }
    let (limit, method) = sandbox::memory_limit(server(pod)?.pid)?;
    println!("memory limit: {method}, {} MiB", limit >> 20);
    ensure!(limit == MEMORY_LIMIT, "{limit}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_passes_upstreams_checks_of_a_stateless_container() -> anyhow::Result<()> {
    let (stage, world, class) = made("stateless").await?;
    let worker = stage.worker(&class).await?;
    let pod = pod(&stage, &worker).await?;
    let process = server(&pod)?;
    let environment = sandbox::path_in(process.pid, ENVIRONMENT);
    let before = sandbox::files_below(&environment)?;
    ensure!(before.len() > 1000, "that is no environment: {}", before.len());
    check_anonymous(&pod, &world)?;
    check_constraints(&pod)?;
    ensure!(process.environ.contains("\nQUILT_DISABLE_CACHE=true\n"), "{}", process.environ);

    let link = stage.gateway(&worker).await?;
    let alice = bound(&link, &world, &world.token("alice")?, 1).await?;
    let tools = alice.tools().await?;
    ensure!(tools.len() >= 50, "{tools:?}");
    for _ in 0..5 {
        own_objects(&alice, "alice").await?;
    }

    // it is the same process as before, as confined as before, and has written what it was given
    ensure!(server(&pod)?.pid == process.pid, "the server was replaced");
    check_constraints(&pod)?;
    let home = home(process.pid)?;
    ensure!(home == FILES, "{home:?}");
    ensure!(sandbox::files_below(&environment)? == before, "the environment was written to");
    stage.place.end().await
}

/// The mounts of a pod's volumes that any process sees: the node's programs see them all.
fn volumes(uid: &str) -> BTreeSet<String> {
    let mounts = processes::all().into_iter().map(|process| {
        // one that has just ended has none
        std::fs::read_to_string(format!("/proc/{}/mounts", process.pid)).unwrap_or_default()
    });
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    mounts.flat_map(lines).filter(|line| line.contains(uid)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_worker_is_left_after_it() -> anyhow::Result<()> {
    let (stage, world, class) = made("left").await?;
    let [first, second] = [stage.worker(&class).await?, stage.worker(&class).await?];
    let token = world.token("alice")?;
    let stand_in = stand_in_of(&known_as(world.catalog.registry_url())?);
    let link = stage.gateway(&first).await?;
    let alice = bound(&link, &world, &token, 1).await?;
    own_objects(&alice, "alice").await?;
    let made = json!({
        "package_name": "alice/kept", "registry": "s3://b-alice",
        "s3_uris": ["s3://b-alice/notes/alice.txt"],
    });
    let said = alice.said("package_create", made).await?;
    ensure!(said.contains("alice/kept"), "{said}");
    let used = pod(&stage, &first).await?;
    let process = server(&used)?.pid;
    let written = in_file(process, "credentials.json", "/secret_key")?;
    ensure!(written != "expired", "the server itself has written nothing");
    let session = in_file(process, "auth.json", &stand_in)?;
    ensure!(!volumes(&first.uid).is_empty(), "its volumes are nowhere to be looked for");

    containers::kill(&used, SERVER).await?;
    stage.until(&first.name, "it has ended", |pod| ended(pod, AGENT).is_some()).await?;
    stage.place.pods().delete(&used.name_any(), &DeleteParams::default()).await?;
    until("nothing of the worker is left", async || {
        let is_there = stage.place.pods().get_opt(&first.name).await?.is_some();
        Ok(!is_there && volumes(&first.uid).is_empty())
    })
    .await?;

    // the next is one that has waited
    let next = pod(&stage, &second).await?;
    check_anonymous(&next, &world)?;
    let link = stage.gateway(&second).await?;
    let alice = bound(&link, &world, &token, 2).await?;
    own_objects(&alice, "alice").await?;
    let process = server(&next)?.pid;
    ensure!(home(process)? == FILES, "{:?}", home(process)?);
    ensure!(in_file(process, "auth.json", &stand_in)? != session, "the session is the same");
    stage.place.end().await
}
