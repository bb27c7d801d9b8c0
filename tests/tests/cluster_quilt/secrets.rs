//! The hunt for secrets inside two users' pods: what one of them brought is in the memory of their own agent, what
//! their server was given is in that server, and neither is anywhere else. Objects, logs and the node's disk are
//! looked through where everything is installed.

use super::{bound, made, own_objects, stateless::server};
use anyhow::{Context, ensure};
use patchbay_operator::build::{AGENT, SERVER};
use patchbay_tests::{
    pods::containers,
    processes,
    quilt::stateless::{in_file, known_as, stand_in_of},
    sandbox::{self, HOME},
    secrets::Secrets,
};
use std::collections::BTreeSet;

/// Everything that a server can write files to.
const PLACES: [&str; 5] = [HOME, "/tmp", "/run", "/patchbay/server", "/dev/shm"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_secrets_are_in_no_other_users_pod_and_what_they_brought_in_no_server()
-> anyhow::Result<()> {
    let (stage, world, class) = made("secrets").await?;
    let [hers, his] = [stage.worker(&class).await?, stage.worker(&class).await?];
    let token = world.token("alice")?;
    let links = [stage.gateway(&hers).await?, stage.gateway(&his).await?];
    own_objects(&bound(&links[0], &world, &token, 1).await?, "alice").await?;
    own_objects(&bound(&links[1], &world, &world.token("bob")?, 1).await?, "bob").await?;
    let pods = stage.place.pods();
    let (hers, his) = (pods.get(&hers.name).await?, pods.get(&his.name).await?);
    let (alice, bob) = (server(&hers)?, server(&his)?);

    let registry = known_as(world.catalog.registry_url())?;
    let stand_in = in_file(alice.pid, "auth.json", &stand_in_of(&registry))?;
    ensure!(stand_in.starts_with("pod-"), "{stand_in}");
    let [secret_key, session_token] =
        ["/secret_key", "/token"].map(|pointer| in_file(alice.pid, "credentials.json", pointer));
    let (secret_key, session_token) = (secret_key?, session_token?);
    let brought = Secrets::new(&[("token", &token)])?;
    let held = Secrets::new(&[
        ("stand-in", &stand_in),
        ("secret key", &secret_key),
        ("session token", &session_token),
    ])?;
    let secrets = brought.and(&held);

    for process in processes::all() {
        let text = format!("{}\n{}", process.argv, process.environ);
        secrets.not_in(&format!("what {} shows", process.pid), &text)?;
    }
    for directory in PLACES {
        let found = secrets.below(&[&sandbox::path_in(bob.pid, directory)]).await?;
        ensure!(found.is_empty(), "bob has {found:?}");
        // her own: what she brought never came to her server
        let found = brought.below(&[&sandbox::path_in(alice.pid, directory)]).await?;
        ensure!(found.is_empty(), "alice's server has {found:?}");
    }
    for process in containers::processes_of(&his, SERVER)? {
        let found = secrets.in_memory_of(process.pid)?;
        ensure!(found.is_empty(), "{} remembers {found:?}", process.argv);
    }
    for process in containers::processes_of(&hers, SERVER)? {
        let found = brought.in_memory_of(process.pid)?;
        ensure!(found.is_empty(), "{} remembers {found:?}", process.argv);
    }
    let agent = |pod| containers::processes_of(pod, AGENT)?.into_iter().next().context("no agent");
    let his_agent = agent(&his)?.pid;
    let found = secrets.in_memory_of(his_agent)?;
    ensure!(found.is_empty(), "bob's agent remembers {found:?}");

    // the ways of looking find what is there
    let found = held.below(&[&sandbox::path_in(alice.pid, HOME)]).await?;
    let found: BTreeSet<_> = found.iter().map(|found| found.what.as_str()).collect();
    let all = BTreeSet::from(["stand-in", "secret key", "session token"]);
    ensure!(found == all, "{found:?}");
    ensure!(held.in_memory_of(alice.pid)? == all);
    let remembered = brought.in_memory_of(agent(&hers)?.pid)?;
    ensure!(!remembered.is_empty(), "the agent holds no bearer");
    stage.place.end().await
}
