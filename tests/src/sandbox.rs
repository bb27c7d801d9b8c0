//! A worker's sandboxes as the machine's owner sees them: which processes are in one, what the
//! kernel says of their rights and mounts, and the files of their tmpfs through
//! `/proc/PID/root`.
//!
//! It needs the rights of whoever started the sandboxes, and cgroups, which tell processes apart.

use crate::{
    controller::Controller,
    processes::{self, Process},
};
use anyhow::{Context, ensure};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The MCP server's HOME.
pub const HOME: &str = "/home/worker";

/// One of a worker's two sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Holds the grant.
    Agent,
    /// The host and the MCP server.
    Server,
}

/// A mount that a process sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// The kind of file system.
    pub kind: String,
    /// Whether both the mount and its file system are writable.
    pub is_writable: bool,
}

/// The processes in one of a worker's sandboxes, the first one first.
pub fn processes_of(
    controller: &Controller,
    worker: &str,
    part: Part,
) -> anyhow::Result<Vec<Process>> {
    let part = match part {
        Part::Agent => "agent",
        Part::Server => "server",
    };
    let cgroup = format!("{worker}-{part}");
    let mut inside: Vec<(u32, Process)> = processes::descendants(controller.pid().context("pid")?)
        .into_iter()
        .filter(|process| {
            let path = format!("/proc/{}/cgroup", process.pid);
            fs::read_to_string(path).is_ok_and(|text| text.contains(&cgroup))
        })
        // bubblewrap's own process watches from outside the PID namespace
        .filter_map(|process| Some((inner_pid(process.pid)?, process)))
        .collect();
    inside.sort_by_key(|(pid, _)| *pid);
    ensure!(inside.first().is_some_and(|(pid, _)| *pid == 1), "no process of {cgroup} was found");
    Ok(inside.into_iter().map(|(_, process)| process).collect())
}

/// The process number in the innermost PID namespace, where that is not the outermost one.
pub fn inner_pid(pid: u32) -> Option<u32> {
    let numbers = status(pid, "NSpid")?;
    numbers.split_whitespace().skip(1).last()?.parse().ok()
}

/// The MCP server itself: what the host has started.
pub fn server(controller: &Controller, worker: &str) -> anyhow::Result<Process> {
    let mut inside = processes_of(controller, worker, Part::Server)?.into_iter();
    let host = inside.next().context("no host")?;
    inside.find(|process| process.parent == host.pid).context("the host has no child")
}

/// Kills one of a worker's sandboxes as the kernel would, without a word to anybody, and waits until
/// nothing of it is left.
pub async fn kill(controller: &Controller, worker: &str, part: Part) -> anyhow::Result<()> {
    let pids = strike(controller, worker, part)?;
    let gone = format!("the {part:?} of {worker} is gone");
    controller.eventually(&gone, async || Ok(!processes::any_alive(&pids))).await
}

/// Kills one of the sandboxes of the worker that a user of a class has, and waits until the controller knows: what is
/// written to an agent before may be lost with it. The worker.
pub async fn kill_of(
    controller: &Controller,
    class: &str,
    user: &str,
    part: Part,
) -> anyhow::Result<String> {
    let worker = controller.worker_of(class, user).await?;
    kill(controller, &worker, part).await?;
    let is_known = async || Ok(controller.worker_of(class, user).await.is_err());
    controller.eventually("the end is known", is_known).await?;
    Ok(worker)
}

/// Kills one of a worker's sandboxes and returns at once, while it may not even know yet: its
/// processes.
pub fn strike(controller: &Controller, worker: &str, part: Part) -> anyhow::Result<Vec<u32>> {
    let inside = processes_of(controller, worker, part)?;
    let first = inside.first().context("no process")?.pid;
    let pid = rustix::process::Pid::from_raw(i32::try_from(first)?).context("pid")?;
    // the others go with the first of their PID namespace
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    Ok(inside.into_iter().map(|process| process.pid).collect())
}

/// A field of `/proc/PID/status`.
pub fn status(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// What `/proc/PID/mountinfo` says (see proc(5)).
pub fn mounts(pid: u32) -> anyhow::Result<Vec<Mount>> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    text.lines().map(|line| mount(line).with_context(|| format!("unreadable: {line}"))).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(4);
    let (point, options) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, super_options) = (file_system.next()?, file_system.nth(1)?);
    let is_writable = |options: &str| options.split(',').any(|option| option == "rw");
    Some(Mount {
        point: point.into(),
        kind: kind.to_owned(),
        is_writable: is_writable(options) && is_writable(super_options),
    })
}

/// Fails if any right is left to a process, or could come back to it.
pub fn ensure_no_right(pid: u32) -> anyhow::Result<()> {
    for (field, expected) in [
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ] {
        let found = status(pid, field);
        ensure!(found.as_deref() == Some(expected), "{pid} {field}: {found:?}");
    }
    Ok(())
}

/// The mounts in which a process could make files, as far as they themselves go: where, and the kind of file system.
/// Its root is none of them, or this fails.
pub fn writable_directories(pid: u32) -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let mounts = mounts(pid)?;
    let root = mounts.iter().rfind(|mount| mount.point == Path::new("/"));
    ensure!(root.is_some_and(|root| !root.is_writable), "{pid} {root:?}");
    // single device nodes and terminals: no file can be made there
    let directories = mounts.into_iter().filter(|mount| {
        let inside = path_in(pid, &mount.point.to_string_lossy());
        mount.is_writable && mount.kind != "devpts" && inside.is_dir()
    });
    Ok(directories.map(|mount| (mount.point, mount.kind)).collect())
}

/// A path of a process's root, as seen from outside.
pub fn path_in(pid: u32, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root{path}"))
}

/// The bound on memory of a process's cgroup, in bytes, and which kind of cgroup it is.
pub fn memory_limit(pid: u32) -> anyhow::Result<(u64, &'static str)> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().context("cgroup")?, fields.next());
        let (top, file, kind) = match controllers {
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "cgroup v1"),
            "" => ("/sys/fs/cgroup", "memory.max", "cgroup v2"),
            _ => continue,
        };
        let file = format!("{top}{}/{file}", path.context("cgroup")?);
        if let Ok(text) = fs::read_to_string(&file) {
            return Ok((text.trim().parse().with_context(|| format!("{file}: {text}"))?, kind));
        }
    }
    anyhow::bail!("no memory controller in {own}")
}

/// One file below a directory: its path, and what changes with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// From the directory on.
    pub path: PathBuf,
    /// Length in bytes, and when content or metadata last changed, in seconds and nanoseconds.
    pub stamp: (u64, i64, i64),
}

/// Everything below a directory that is no directory itself, in order. Symbolic links are not
/// followed; mount points are.
pub fn files_below(top: &Path) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut left = vec![top.to_path_buf()];
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                // a temporary file of a living server
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            };
            if metadata.is_dir() {
                left.push(path);
                continue;
            }
            let stamp = (metadata.len(), metadata.ctime(), metadata.ctime_nsec());
            found.push(Found { path: path.strip_prefix(top)?.to_path_buf(), stamp });
        }
    }
    found.sort();
    Ok(found)
}

/// The names below a directory of a process's root, slash-separated and in order.
pub fn names_in(pid: u32, directory: &str) -> anyhow::Result<Vec<String>> {
    let found = files_below(&path_in(pid, directory))?;
    Ok(found.into_iter().map(|file| file.path.to_string_lossy().into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_writable_only_if_its_file_system_is_too() {
        let line = "36 35 98:0 /a /b rw,noatime shared:1 - tmpfs tmpfs rw,size=4k";
        let found = mount(line).unwrap();
        assert_eq!((found.point.to_str(), found.is_writable), (Some("/b"), true));
        assert!(!mount(&line.replace("rw,noatime", "ro,noatime")).unwrap().is_writable);
        assert!(!mount(&line.replace("rw,size", "ro,size")).unwrap().is_writable);
    }

    #[test]
    fn a_changed_file_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/file"), "hay needle hay").unwrap();
        let before = files_below(folder.path()).unwrap();
        fs::write(folder.path().join("deep/file"), "hay").unwrap();
        assert_ne!(files_below(folder.path()).unwrap(), before);
    }
}
