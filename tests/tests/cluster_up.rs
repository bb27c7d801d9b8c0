//! A cluster of one's own: up, down, and every way in which either can be cut short. `make test-cluster`.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use patchbay_tests::{
    binaries,
    cluster::{Cluster, Component, never, until},
    processes,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    process::Command,
    sync::{Mutex, MutexGuard},
};

/// One at a time: each compares what the machine has before and after.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What a cluster could leave on the machine.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    mounts: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    routes: String,
    cgroups: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
    settings: Vec<String>,
}

impl Traces {
    fn look() -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let usual = ["/run", "/var/lib", "/var/log", "/etc", "/usr/libexec", "/opt"];
        let settings = [
            "vm/overcommit_memory",
            "vm/panic_on_oom",
            "kernel/panic",
            "kernel/panic_on_oops",
            "kernel/keys/root_maxkeys",
            "kernel/keys/root_maxbytes",
            "net/ipv4/ip_forward",
        ];
        Ok(Self {
            mounts: mounts.lines().map(str::to_owned).collect(),
            interfaces: names(Path::new("/sys/class/net"))?
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
            routes: fs::read_to_string("/proc/net/route")?,
            cgroups: cgroups(&mounts)?,
            directories: usual
                .into_iter()
                .map(|directory| names(Path::new(directory)))
                .collect::<anyhow::Result<Vec<_>>>()?
                .concat()
                .into_iter()
                .filter(|path| path.is_dir())
                .collect(),
            settings: settings
                .into_iter()
                .map(|name| Ok(fs::read_to_string(Path::new("/proc/sys").join(name))?))
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

fn names(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(Vec::new());
    };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// The cgroups at the top of every hierarchy: what a cluster makes is there and below.
fn cgroups(mountinfo: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let tops = mountinfo.lines().filter(|line| line.contains(" - cgroup"));
    let tops = tops.filter_map(|line| line.split(' ').nth(4));
    let below = tops.map(|top| names(Path::new(top))).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(below.concat().into_iter().filter(|path| path.is_dir()).collect())
}

/// A directory for a cluster, which is taken down however its test ends.
struct Place {
    directory: tempfile::TempDir,
    before: Traces,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    async fn make() -> anyhow::Result<Self> {
        let alone = ALONE.lock().await;
        let directory = tempfile::Builder::new().prefix("cluster").tempdir()?;
        Ok(Self { directory, before: Traces::look()?, _alone: alone })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn tool(&self, action: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(binaries::path("cluster")?);
        command.arg(action).arg("--directory").arg(self.path()).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs the tool to its end and returns what it printed.
    async fn run(&self, action: &str) -> anyhow::Result<String> {
        let output = self.tool(action)?.stderr(Stdio::inherit()).output().await?;
        ensure!(output.status.success(), "cluster {action}: {}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What is written down; null where nothing is.
    fn state(&self) -> Value {
        let text = fs::read(self.path().join("state.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Every process on the node: components, the containers' keepers, and what runs in containers.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let init = self.state()["init"]["pid"].as_u64().context("no first process")?;
        let init = u32::try_from(init)?;
        let below = processes::descendants(init).into_iter().map(|process| process.pid);
        Ok(below.chain([init]).collect())
    }

    /// Takes it down, and compares.
    async fn leaves_nothing(&self) -> anyhow::Result<()> {
        let processes = self.processes().unwrap_or_default();
        self.run("down").await?;
        ensure!(!processes::any_alive(&processes), "some of {processes:?} are left");
        ensure!(names(self.path())?.is_empty(), "files are left: {:?}", names(self.path())?);
        let after = Traces::look()?;
        ensure!(after == self.before, "before: {:#?}\nafter: {after:#?}", self.before);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = Cluster::take_down(self.path()) {
            eprintln!("the cluster in {} is left: {error:#}", self.path().display());
        }
    }
}

fn pod(name: &str, command: &str) -> anyhow::Result<Pod> {
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main",
                "image": "patchbay.dev/pause:1",
                "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", command],
            }],
        },
    });
    Ok(serde_json::from_value(pod)?)
}

async fn runs(cluster: &Cluster, pod: &Pod) -> anyhow::Result<String> {
    let pods = Api::<Pod>::default_namespaced(cluster.client().await?);
    pods.create(&PostParams::default(), pod).await?;
    let name = pod.metadata.name.as_deref().context("a name")?;
    until(&format!("{name} runs"), async || Ok(container(&pods, name).await?.is_some())).await?;
    container(&pods, name).await?.context("it ended")
}

/// The id of a pod's container, if it runs.
async fn container(pods: &Api<Pod>, name: &str) -> anyhow::Result<Option<String>> {
    let status = pods.get(name).await?.status.unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().into_iter().next();
    Ok(container
        .filter(|each| each.state.as_ref().is_some_and(|state| state.running.is_some()))
        .and_then(|each| each.container_id))
}

#[tokio::test]
async fn a_cluster_that_is_up_stays_as_it_is_and_one_that_is_down_leaves_nothing()
-> anyhow::Result<()> {
    let place = Place::make().await?;
    let kubeconfig = place.run("up").await?;
    ensure!(fs::metadata(place.path())?.permissions().mode() & 0o777 == 0o700);
    let mode = fs::metadata(kubeconfig.trim())?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    let cluster = Cluster::attach(place.path())?.context("it is up")?;
    // something to clean up: mounts, a link, a process that ignores what it is told, and one that is orphaned
    runs(&cluster, &pod("stubborn", "trap '' TERM; (sleep 1000 &); sleep 1000")?).await?;
    let state = place.state();

    ensure!(place.run("up").await? == kubeconfig);
    ensure!(place.state() == state, "another cluster, or another process of it");
    let status = place.run("status").await?;
    ensure!(status.matches("running, pid").count() == Component::ALL.len(), "{status}");

    // the first, each component, a keeper of containers, a pause, and the pod's own
    let all = place.processes()?;
    ensure!(all.len() >= Component::ALL.len() + 4, "{all:?}");
    place.leaves_nothing().await?;
    place.leaves_nothing().await?;
    let status = place.tool("status")?.stderr(Stdio::null()).status().await?;
    ensure!(!status.success(), "status of no cluster");
    Ok(())
}

#[tokio::test]
async fn every_component_comes_back_after_it_was_killed_and_pods_run_on() -> anyhow::Result<()> {
    let place = Place::make().await?;
    let cluster = Cluster::up(place.path()).await?;
    let pods = Api::<Pod>::default_namespaced(cluster.client().await?);
    let before = runs(&cluster, &pod("before", "sleep 1000")?).await?;
    for component in Component::ALL {
        let pid = cluster.pid(component)?.context("it runs")?;
        cluster.kill(component)?;
        ensure!(!processes::any_alive(&[pid]) && cluster.pid(component)?.is_none());
        cluster.start(component).await?;
        cluster.ready().await?;
        ensure!(cluster.pid(component)?.is_some_and(|other| other != pid), "{component}");
        // this takes all of them: stored, judged, scheduled, run and reported
        runs(&cluster, &pod(&format!("after-{component}"), "sleep 1000")?).await?;
        let now = container(&pods, "before").await?;
        ensure!(now.as_ref() == Some(&before), "{component}: {before} is now {now:?}");
    }

    // orphans too, of which killed components are some, are waited for
    until("no process on the node is dead and still there", async || {
        Ok(place.processes()?.iter().all(|pid| processes::any_alive(&[*pid])))
    })
    .await?;

    // found killed by the tool
    cluster.kill(Component::Etcd)?;
    cluster.kill(Component::Kubelet)?;
    let status = place.tool("status")?.stderr(Stdio::null()).stdout(Stdio::null()).status().await?;
    ensure!(!status.success(), "status with two components killed");
    place.run("up").await?;
    Cluster::attach(place.path())?.context("it is up")?.ready().await?;
    ensure!(container(&pods, "before").await? == Some(before));

    let all = place.processes()?;
    cluster.down()?;
    ensure!(!processes::any_alive(&all), "some of {all:?} are left");
    place.leaves_nothing().await
}

#[tokio::test]
async fn what_is_killed_on_its_way_up_is_taken_down_whole() -> anyhow::Result<()> {
    let place = Place::make().await?;
    for moment in ["id", "init", "addresses", "containerd", "apiserver", "kubelet"] {
        let mut tool = place.tool("up")?.process_group(0).spawn()?;
        until(moment, async || {
            never(tool.try_wait()?.is_some(), format_args!("it was up before {moment} was seen"))?;
            let state = place.state();
            Ok(!state[moment].is_null() || !state["components"][moment].is_null())
        })
        .await?;
        tool.start_kill()?;
        tool.wait().await?;
        ensure!(place.state()["is_up"] == false, "{moment}: {}", place.state());
        place.leaves_nothing().await.with_context(|| format!("killed with {moment}"))?;
    }

    // and with no `down` in between
    let mut tool = place.tool("up")?.spawn()?;
    until("kubelet", async || Ok(!place.state()["components"]["kubelet"].is_null())).await?;
    tool.start_kill()?;
    tool.wait().await?;
    let first = place.state()["id"].clone();
    place.run("up").await?;
    ensure!(place.state()["id"] != first, "half of a cluster was taken for one");
    place.leaves_nothing().await
}

#[tokio::test]
async fn a_directory_with_something_else_in_it_is_left_alone() -> anyhow::Result<()> {
    let place = Place::make().await?;
    let file = place.path().join("config");
    fs::write(&file, "somebody's")?;
    let up = place.tool("up")?.stderr(Stdio::piped()).output().await?;
    let said = String::from_utf8_lossy(&up.stderr);
    ensure!(!up.status.success() && said.contains("something else"), "{said}");
    place.run("down").await?;
    ensure!(fs::read_to_string(file)? == "somebody's");
    Ok(())
}

#[tokio::test]
async fn a_cluster_whose_node_was_killed_is_made_anew() -> anyhow::Result<()> {
    let place = Place::make().await?;
    place.run("up").await?;
    let state = place.state();
    let all = place.processes()?;
    let init = state["init"]["pid"].as_i64().context("no first process")?;
    let init = rustix::process::Pid::from_raw(i32::try_from(init)?).context("pid")?;
    rustix::process::kill_process(init, rustix::process::Signal::KILL)?;
    until("the node's processes ended with its first", async || Ok(!processes::any_alive(&all)))
        .await?;
    place.run("up").await?;
    ensure!(place.state()["id"] != state["id"]);
    place.leaves_nothing().await
}
