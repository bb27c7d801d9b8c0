//! Upstream's checks of a stateless container, asked of a real `quilt-mcp` worker, and the hunt for
//! secrets: what a user brought and was given is where it belongs and nowhere else.
//!
//! The suite looks from outside, as the machine's owner: `/proc/PID/root` is the worker's own view.

use anyhow::{Context, ensure};
use patchbay_tests::{
    controller::Controller,
    mcp::McpClient,
    moto::python_environment,
    processes,
    quilt::{
        CLASS, QuiltWorld,
        isolation::listing,
        stateless::{DATA, FILES, check_tools, home, in_file},
    },
    sandbox::{self, HOME, Part},
    secrets::Secrets,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The bearer in quilt3's session with the registry.
const STAND_IN: &str = "/http:~1~1127.0.0.3/access_token";
/// What the class says by default.
const MEMORY_LIMIT: u64 = 512 << 20;

/// The workers that live now, by the directories that they have.
fn workers(controller: &Controller) -> anyhow::Result<BTreeSet<String>> {
    let files = sandbox::files_below(&controller.run_dir())?;
    let parts = files.iter().flat_map(|file| file.path.iter());
    let names = parts.filter_map(|part| part.to_str()).filter(|part| part.starts_with("w-"));
    Ok(names.map(str::to_owned).collect())
}

/// The workers that tenants have.
async fn bound(controller: &Controller) -> anyhow::Result<BTreeSet<String>> {
    let tenants = controller.tenants().await?;
    let workers = tenants.iter().filter_map(|tenant| tenant["worker"].as_str());
    Ok(workers.map(str::to_owned).collect())
}

/// The only one.
fn only(workers: BTreeSet<String>) -> anyhow::Result<String> {
    ensure!(workers.len() == 1, "{workers:?}");
    workers.into_iter().next().context("none")
}

fn data(files: &[&str]) -> Vec<String> {
    files.iter().map(|file| format!("{DATA}/{file}")).collect()
}

async fn own_objects(client: &McpClient, user: &str) -> anyhow::Result<()> {
    let objects = client.call("bucket_objects_list", listing(&format!("b-{user}"))).await?;
    ensure!(objects.to_string().contains(&format!("notes/{user}.txt")), "{objects}");
    Ok(())
}

/// A worker that nobody has: its tmpfs hold what every worker of the class has, and no credential.
fn check_anonymous(controller: &Controller, worker: &str) -> anyhow::Result<()> {
    let server = sandbox::server(controller, worker)?.pid;
    ensure!(home(server)? == data(&["config.yml"]), "{:?}", home(server)?);
    let run = sandbox::names_in(server, "/run")?;
    ensure!(run == ["patchbay/control"], "{run:?}");
    let mounts = sandbox::mounts(server)?;
    // what the class shows of the machine, which may be below the same name there
    let is_shown = |path: PathBuf| {
        let shown = mounts.iter().filter(|mount| !mount.is_writable);
        shown.map(|mount| &mount.point).any(|at| at.starts_with("/tmp") && path.starts_with(at))
    };
    let own =
        |name: &String| name == "patchbay-quilt-launcher.py" || name.starts_with("matplotlib/");
    let tmp = sandbox::names_in(server, "/tmp")?;
    let is_known = |name: &String| own(name) || is_shown(Path::new("/tmp").join(name));
    ensure!(tmp.iter().all(is_known), "{tmp:?}");

    let path = Path::new(HOME).join(DATA).join("config.yml");
    let mount = mounts.iter().find(|mount| mount.point == path).context("it is no mount")?;
    ensure!(!mount.is_writable, "{mount:?}");
    let text = std::fs::read_to_string(sandbox::path_in(server, path.to_str().context("path")?))?;
    ensure!(text.contains("registryUrl: http://127.0.0.3\n"), "{text}");
    Ok(())
}

/// No right is left to any process of a worker, and nothing but memory to write to.
fn check_constraints(controller: &Controller, worker: &str) -> anyhow::Result<()> {
    let places = BTreeSet::from([HOME, "/run", "/tmp"].map(Path::new));
    for (part, writable) in [(Part::Agent, BTreeSet::new()), (Part::Server, places)] {
        let inside = sandbox::processes_of(controller, worker, part)?;
        ensure!(inside.len() == if part == Part::Agent { 1 } else { 2 }, "{inside:?}");
        for process in inside {
            let pid = process.pid;
            sandbox::ensure_no_right(pid).with_context(|| format!("{part:?}"))?;
            let found = sandbox::writable_directories(pid)?;
            let is_memory = found.values().all(|kind| kind == "tmpfs");
            ensure!(
                is_memory && found.keys().map(PathBuf::as_path).eq(writable.iter().copied()),
                "{part:?} {pid} {found:?}"
            );
        }
    }
    let (limit, method) = sandbox::memory_limit(sandbox::server(controller, worker)?.pid)?;
    println!("memory limit: {method}, {} MiB", limit >> 20);
    ensure!(limit == MEMORY_LIMIT, "{limit}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_passes_upstreams_checks_of_a_stateless_container() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let environment = python_environment("quilt").await?;
    let controller = world.controller(1).await?;
    let before = sandbox::files_below(&environment)?;
    ensure!(before.len() > 1000, "that is no environment: {}", before.len());

    let worker = only(workers(&controller)?)?;
    check_anonymous(&controller, &worker)?;
    check_constraints(&controller, &worker)?;
    let server = sandbox::server(&controller, &worker)?;
    ensure!(server.environ.contains("\nQUILT_DISABLE_CACHE=true\n"), "{}", server.environ);

    let alice = McpClient::bearer(controller.url(CLASS), &world.token("alice")?);
    check_tools(&alice).await?;
    for _ in 0..5 {
        own_objects(&alice, "alice").await?;
    }
    ensure!(only(bound(&controller).await?)? == worker, "the warm worker was not the one");

    // it is the same process as before, as confined as before, and has written what it was given
    ensure!(sandbox::server(&controller, &worker)?.pid == server.pid, "the server was replaced");
    check_constraints(&controller, &worker)?;
    let home = home(server.pid)?;
    ensure!(home == FILES, "{home:?}");
    ensure!(sandbox::files_below(&environment)? == before, "the environment was written to");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_worker_is_left_after_it() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(1).await?;
    let alice = McpClient::bearer(controller.url(CLASS), &world.token("alice")?);
    own_objects(&alice, "alice").await?;
    let made = json!({
        "package_name": "alice/kept", "registry": "s3://b-alice",
        "s3_uris": ["s3://b-alice/notes/alice.txt"],
    });
    let made = alice.call("package_create", made).await?.to_string();
    ensure!(made.contains("alice/kept"), "{made}");
    let worker = only(bound(&controller).await?)?;
    let server = sandbox::server(&controller, &worker)?.pid;
    let written = in_file(server, "credentials.json", "/secret_key")?;
    ensure!(written != "expired", "the server itself has written nothing");
    let stand_in = in_file(server, "auth.json", STAND_IN)?;

    // the pool is filled again before the first worker ends: the next is one that has waited
    controller.wait_ready().await?;
    sandbox::kill(&controller, &worker, Part::Server).await?;
    controller
        .eventually("nothing of the worker is left", async || {
            Ok(bound(&controller).await?.is_empty() && !workers(&controller)?.contains(&worker))
        })
        .await?;
    for next in workers(&controller)? {
        check_anonymous(&controller, &next)?;
    }
    own_objects(&alice, "alice").await?;
    let next = only(bound(&controller).await?)?;
    ensure!(next != worker, "it is the same worker");
    let server = sandbox::server(&controller, &next)?.pid;
    ensure!(home(server)? == FILES);
    ensure!(in_file(server, "auth.json", STAND_IN)? != stand_in, "the session is the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_secrets_are_nowhere_but_where_they_belong() -> anyhow::Result<()> {
    let world = QuiltWorld::start().await?;
    let controller = world.controller(2).await?;
    let url = controller.url(CLASS);
    let (token, key) = (world.token("alice")?, world.api_key("alice"));
    own_objects(&McpClient::bearer(url, &token), "alice").await?;
    own_objects(&McpClient::with_headers(url, &[("x-api-key", &key)]), "alice").await?;
    let alices = only(bound(&controller).await?)?;
    own_objects(&McpClient::bearer(url, &world.token("bob")?), "bob").await?;
    let mut others = bound(&controller).await?;
    ensure!(others.remove(&alices), "alice's worker was replaced");
    let bobs = only(others)?;

    let (alice, bob) =
        (sandbox::server(&controller, &alices)?, sandbox::server(&controller, &bobs)?);
    let stand_in = in_file(alice.pid, "auth.json", STAND_IN)?;
    ensure!(stand_in.starts_with("pod-"), "{stand_in}");
    let given = ["/access_key", "/secret_key", "/token"]
        .map(|pointer| in_file(alice.pid, "credentials.json", pointer));
    let [access_key, secret_key, session_token] = given;
    let (access_key, secret_key, session_token) = (access_key?, secret_key?, session_token?);
    ensure!(access_key.starts_with("ASIA"), "no keys of STS: {access_key}");
    let brought = Secrets::new(&[("token", &token), ("key", &key)])?;
    // what her own server holds, and nobody else may; the access key's id is no secret
    let held = Secrets::new(&[
        ("stand-in", &stand_in),
        ("secret key", &secret_key),
        ("session token", &session_token),
    ])?;
    let secrets = brought.and(&held);

    secrets.not_in("the log", &controller.logs())?;
    secrets.not_in("the metrics", &controller.metrics().await?)?;
    secrets.not_in("the list of tenants", &format!("{:?}", controller.tenants().await?))?;
    for process in processes::all() {
        secrets.not_in(&format!("the arguments of {}", process.pid), &process.argv)?;
        secrets.not_in(&format!("the environment of {}", process.pid), &process.environ)?;
    }
    let found = secrets.below(&[&controller.run_dir()]).await?;
    ensure!(found.is_empty(), "in the run directory: {found:?}");

    // bob's worker: its files, and its very memory
    for directory in [HOME, "/tmp", "/run"] {
        let found = secrets.below(&[&sandbox::path_in(bob.pid, directory)]).await?;
        ensure!(found.is_empty(), "bob has {found:?}");
        // her own: what she brought never came to her server
        let found = brought.below(&[&sandbox::path_in(alice.pid, directory)]).await?;
        ensure!(found.is_empty(), "alice's server has {found:?}");
    }
    for process in sandbox::processes_of(&controller, &bobs, Part::Server)? {
        let found = secrets.in_memory_of(process.pid)?;
        ensure!(found.is_empty(), "{process:?} remembers {found:?}");
    }
    for process in sandbox::processes_of(&controller, &alices, Part::Server)? {
        let found = brought.in_memory_of(process.pid)?;
        ensure!(found.is_empty(), "{process:?} remembers {found:?}");
    }
    // the ways of looking find what is there
    let found = held.below(&[&sandbox::path_in(alice.pid, HOME)]).await?;
    let found: BTreeSet<_> = found.iter().map(|found| found.what.as_str()).collect();
    let all = BTreeSet::from(["stand-in", "secret key", "session token"]);
    ensure!(found == all, "{found:?}");
    ensure!(held.in_memory_of(alice.pid)? == all);
    let agent = sandbox::processes_of(&controller, &alices, Part::Agent)?;
    let agent = agent.first().context("no agent")?.pid;
    ensure!(!brought.in_memory_of(agent)?.is_empty(), "the agent holds no bearer");
    Ok(())
}
