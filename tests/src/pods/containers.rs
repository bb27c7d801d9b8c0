//! The processes of a pod's containers, looked at from outside, and ended as the kernel would end them. It must not know what
//! they were for.

use crate::{
    cluster::{apart, until},
    processes::{self, Process},
    sandbox::inner_pid,
};
use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use nix::sched::{CloneFlags, setns};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
};

/// What is known of a container of a pod.
pub fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == container)
}

/// The processes in a container, the first one first. What a probe runs there comes and goes.
pub fn processes_of(pod: &Pod, container: &str) -> anyhow::Result<Vec<Process>> {
    let id = status(pod, container).and_then(|status| status.container_id.as_deref());
    let id = id.and_then(|id| id.strip_prefix("containerd://")).context("it does not run")?;
    let inside = processes::all().into_iter().filter(|process| is_of(process.pid, id));
    let mut inside: Vec<(u32, Process)> =
        inside.filter_map(|process| Some((inner_pid(process.pid)?, process))).collect();
    inside.sort_by_key(|(pid, _)| *pid);
    ensure!(inside.first().is_some_and(|(pid, _)| *pid == 1), "nothing runs in the container {id}");
    Ok(inside.into_iter().map(|(_, process)| process).collect())
}

/// Ends everything in a container with SIGKILL, and returns once it has ended.
pub async fn kill(pod: &Pod, container: &str) -> anyhow::Result<()> {
    let inside = processes_of(pod, container)?;
    let inside: Vec<u32> = inside.into_iter().map(|process| process.pid).collect();
    for pid in &inside {
        let number = Pid::from_raw(i32::try_from(*pid)?).context("no process number")?;
        match kill_process(number, Signal::KILL) {
            // the first one's end is the others' too
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    until("its processes have ended", async || Ok(!processes::any_alive(&inside))).await
}

/// Listens at an address of a pod's own network, such as its loopback, which nothing outside of it reaches.
pub fn listener_in(pod: &Pod, container: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let first = processes_of(pod, container)?.into_iter().next().context("nothing runs in it")?;
    let network = File::open(format!("/proc/{}/ns/net", first.pid))?;
    // a socket is of the network that its thread was in when it was made
    apart(|| {
        setns(&network, CloneFlags::CLONE_NEWNET).context("cannot enter its network")?;
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
    })
}

/// A container's processes are in cgroups that have its id in their names.
fn is_of(pid: u32, id: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id))
}
