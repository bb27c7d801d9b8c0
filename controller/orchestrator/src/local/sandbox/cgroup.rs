//! Bounds a sandbox's memory and processes by what this host really lets us write: cgroup v2, else
//! the v1 memory and pids controllers, else resource limits alone, which is said out loud.
//!
//! A sandbox's cgroup is `patchbay/<instance>/<name>` below the controller's own. Its first process
//! enters before it becomes bubblewrap ([`Confinement::enter_args`]). This module must not know
//! bubblewrap or what runs inside.

use super::{
    delegate::{open_v1, open_v2, remove_where_empty},
    hierarchy::Hierarchies,
    instance::Instance,
    reap,
    spec::Limits,
};
use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How sandboxes are bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One cgroup with memory and pids controllers.
    CgroupV2,
    /// One cgroup in the memory and one in the pids hierarchy.
    CgroupV1,
    /// Resource limits of each single process.
    RlimitsOnly,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CgroupV2 => "memory and processes, by cgroup v2",
            Self::CgroupV1 => "memory and processes, by cgroup v1",
            Self::RlimitsOnly => "of single processes only, by resource limits",
        })
    }
}

/// A cgroup that cannot be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A sandbox of this name runs.
    #[error("cgroup `{0}` exists already")]
    Exists(PathBuf),
    /// The kernel refused.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError::Io { verb, path: path.to_path_buf(), source }
}

/// The cgroups of this controller.
#[derive(Debug, Clone)]
pub struct Cgroups(Arc<Base>);

/// Directories of this instance.
#[derive(Debug)]
struct Base {
    kind: Kind,
    /// v2: one. v1: memory, then pids. Else none.
    dirs: Vec<PathBuf>,
}

/// Bubblewrap's own process stays in the cgroup to watch the sandbox's first one.
const MONITORS: u32 = 1;

impl Cgroups {
    /// Chooses by trying: what cannot be written is passed over.
    pub fn open(instance: &Instance) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let found = Hierarchies::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        Self::choose(&found, instance)
    }

    /// Bounds by resource limits alone, whatever the host offers.
    pub fn rlimits_only() -> Self {
        Self(Arc::new(Base { kind: Kind::RlimitsOnly, dirs: Vec::new() }))
    }

    fn choose(found: &Hierarchies, instance: &Instance) -> Self {
        let first = |candidates: &[PathBuf],
                     try_in: fn(&Path, &Instance) -> io::Result<PathBuf>| {
            candidates.iter().find_map(|dir| {
                try_in(dir, instance)
                    .inspect_err(|error| tracing::debug!(?dir, %error, "cgroup is not writable"))
                    .ok()
            })
        };
        if let Some(dir) = first(&found.v2, open_v2) {
            return Self(Arc::new(Base { kind: Kind::CgroupV2, dirs: vec![dir] }));
        }
        // `memory.limit_in_bytes` and `pids.max` are what a sandbox cannot do without.
        let memory = first(&found.memory, |dir, name| open_v1(dir, name, "memory.limit_in_bytes"));
        let pids = first(&found.pids, |dir, name| open_v1(dir, name, "pids.max"));
        match (memory, pids) {
            (Some(memory), Some(pids)) => {
                Self(Arc::new(Base { kind: Kind::CgroupV1, dirs: vec![memory, pids] }))
            }
            (partial_memory, partial_pids) => {
                for dir in partial_memory.into_iter().chain(partial_pids) {
                    remove_where_empty(&dir);
                }
                Self::rlimits_only()
            }
        }
    }

    /// How sandboxes are bounded here.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What is weaker than it should be, for a visible condition.
    pub fn degraded(&self) -> Option<&'static str> {
        match self.0.kind {
            Kind::CgroupV2 | Kind::CgroupV1 => None,
            Kind::RlimitsOnly => Some(
                "no cgroup is writable: memory is bounded for each process alone, and the number \
                 of processes is not bounded",
            ),
        }
    }

    /// Makes the cgroup of one sandbox. `name` is a DNS label.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Confinement, CgroupError> {
        let mut confinement =
            Confinement { base: Arc::clone(&self.0), dirs: Vec::new(), limits: *limits };
        for base in &self.0.dirs {
            let dir = base.join(name);
            std::fs::create_dir(&dir).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => CgroupError::Exists(dir.clone()),
                _ => failed("create", &dir)(error),
            })?;
            // From here on, dropping the confinement removes what was made.
            confinement.dirs.push(dir);
        }
        confinement.write_limits(limits)?;
        Ok(confinement)
    }

    /// Ends and removes what controllers left that no longer live. Returns the names of their
    /// sandboxes. Call it once, at start.
    pub fn sweep(&self) -> Result<Vec<String>, CgroupError> {
        let mut swept = Vec::new();
        for own in &self.0.dirs {
            let Some(parent) = own.parent() else { continue };
            for (name, dir) in children(parent)? {
                // A name that is no instance's was made by somebody else.
                let Some(instance) = Instance::parse(&name) else {
                    continue;
                };
                if instance.is_alive().map_err(failed("read the owner of", &dir))? {
                    continue;
                }
                for (sandbox, dir) in children(&dir)? {
                    end_and_remove(&[dir])?;
                    if !swept.contains(&sandbox) {
                        swept.push(sandbox);
                    }
                }
                remove(&dir)?;
            }
        }
        Ok(swept)
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        for dir in &self.dirs {
            remove_where_empty(dir);
        }
    }
}

/// The bounds of one sandbox. Dropping it ends what is left of the sandbox's processes.
#[derive(Debug)]
pub struct Confinement {
    base: Arc<Base>,
    dirs: Vec<PathBuf>,
    limits: Limits,
}

impl Confinement {
    /// How this sandbox is bounded.
    pub fn kind(&self) -> Kind {
        self.base.kind
    }

    /// Options of `patchbay-worker enter` that put a process and all that it starts under these
    /// bounds.
    pub fn enter_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        for dir in &self.dirs {
            args.extend(["--cgroup-procs".into(), dir.join("cgroup.procs").into()]);
        }
        if self.kind() == Kind::RlimitsOnly {
            // Only here: programs may reserve far more than they use, and a cgroup counts use.
            let bytes = self.limits.memory_bytes.to_string();
            args.extend(["--rlimit-data".into(), bytes.into()]);
        }
        args.extend(["--rlimit-nofile".into(), self.limits.files.to_string().into()]);
        args.extend(["--rlimit-core".into(), "0".into()]);
        args
    }

    /// Whether the kernel ended a process of this sandbox because the memory bound was reached.
    /// Always false where only resource limits hold: allocations fail then.
    pub fn was_oom_killed(&self) -> Result<bool, CgroupError> {
        let file = match self.kind() {
            Kind::CgroupV2 => "memory.events",
            Kind::CgroupV1 => "memory.oom_control",
            Kind::RlimitsOnly => return Ok(false),
        };
        let Some(dir) = self.dirs.first() else {
            return Ok(false);
        };
        let file = dir.join(file);
        let text = std::fs::read_to_string(&file).map_err(failed("read", &file))?;
        Ok(counter(&text, "oom_kill") > 0)
    }

    /// Ends what is left of the sandbox and removes its cgroup. Blocks while processes die: some
    /// milliseconds where the sandbox has ended already, seconds at most.
    pub fn remove(mut self) -> Result<(), CgroupError> {
        self.remove_dirs()
    }

    fn remove_dirs(&mut self) -> Result<(), CgroupError> {
        end_and_remove(&std::mem::take(&mut self.dirs))
    }

    fn write_limits(&self, limits: &Limits) -> Result<(), CgroupError> {
        let memory = limits.memory_bytes.to_string();
        let pids = limits.pids.saturating_add(MONITORS).to_string();
        match (self.kind(), self.dirs.as_slice()) {
            (Kind::CgroupV2, [dir]) => {
                write(&dir.join("memory.max"), &memory)?;
                write(&dir.join("pids.max"), &pids)?;
                // A server whose host was killed, or the reverse, is of no use.
                write(&dir.join("memory.oom.group"), "1")?;
                // Credentials in a tmpfs must not reach a disk. Kernels without swap lack the file.
                write_where_present(&dir.join("memory.swap.max"), "0")
            }
            (Kind::CgroupV1, [memory_dir, pids_dir]) => {
                write(&memory_dir.join("memory.limit_in_bytes"), &memory)?;
                write(&pids_dir.join("pids.max"), &pids)?;
                write_where_present(&memory_dir.join("memory.memsw.limit_in_bytes"), &memory)?;
                write_where_present(&memory_dir.join("memory.swappiness"), "0")
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Confinement {
    fn drop(&mut self) {
        if let Err(error) = self.remove_dirs() {
            tracing::warn!(%error, "a sandbox's cgroup stays until the next start");
        }
    }
}

fn end_and_remove(dirs: &[PathBuf]) -> Result<(), CgroupError> {
    let Some(first) = dirs.first() else {
        return Ok(());
    };
    reap::end_processes(dirs).map_err(failed("end the processes of", first))?;
    dirs.iter().try_for_each(|dir| remove(dir))
}

fn remove(dir: &Path) -> Result<(), CgroupError> {
    match std::fs::remove_dir(dir) {
        Err(error) if !reap::is_gone(&error) => Err(failed("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// Names and paths of the cgroups directly below `dir`.
fn children(dir: &Path) -> Result<Vec<(String, PathBuf)>, CgroupError> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if reap::is_gone(&error) => return Ok(found),
        entries => entries.map_err(failed("list", dir))?,
    };
    for entry in entries {
        let entry = match entry {
            Err(error) if reap::is_gone(&error) => return Ok(found),
            entry => entry.map_err(failed("list", dir))?,
        };
        // a cgroup directory says what its entries are; an entry that is gone is none
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    Ok(found)
}

fn write(file: &Path, text: &str) -> Result<(), CgroupError> {
    std::fs::write(file, text).map_err(failed("write", file))
}

fn write_where_present(file: &Path, text: &str) -> Result<(), CgroupError> {
    if file.exists() { write(file, text) } else { Ok(()) }
}

/// The value of a line `name value`, 0 where there is none.
fn counter(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{super::delegate::PARENT, *};

    const LIMITS: Limits = Limits { memory_bytes: 1 << 20, pids: 8, files: 64 };

    fn texts(args: &[OsString]) -> Vec<&str> {
        args.iter().map(|arg| arg.to_str().unwrap()).collect()
    }

    #[test]
    fn without_cgroups_each_process_is_bounded_and_that_is_said() {
        let cgroups = Cgroups::choose(&Hierarchies::default(), &Instance::new().unwrap());
        assert_eq!(cgroups.kind(), Kind::RlimitsOnly);
        assert!(cgroups.degraded().unwrap().contains("not bounded"));
        let confinement = cgroups.create("a", &LIMITS).unwrap();
        assert_eq!(
            texts(&confinement.enter_args()),
            ["--rlimit-data", "1048576", "--rlimit-nofile", "64", "--rlimit-core", "0"]
        );
        assert!(!confinement.was_oom_killed().unwrap());
    }

    #[test]
    fn a_v2_hierarchy_without_the_controllers_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.controllers"), "hugetlb memory_recursiveprot\n")
            .unwrap();
        let found = Hierarchies { v2: vec![dir.path().into()], ..Hierarchies::default() };
        assert_eq!(Cgroups::choose(&found, &Instance::new().unwrap()).kind(), Kind::RlimitsOnly);
        assert!(!dir.path().join(PARENT).exists());
    }

    #[test]
    fn one_v1_controller_alone_is_not_enough() {
        // On a plain file system the directory is made but has no `memory.limit_in_bytes`.
        let dir = tempfile::tempdir().unwrap();
        let found = Hierarchies { memory: vec![dir.path().into()], ..Hierarchies::default() };
        assert_eq!(Cgroups::choose(&found, &Instance::new().unwrap()).kind(), Kind::RlimitsOnly);
        assert_eq!(children(&dir.path().join(PARENT)).unwrap(), []);
    }

    #[test]
    fn v2_limits_and_the_way_in_are_written_below_the_instance() {
        let dir = tempfile::tempdir().unwrap();
        let base = Arc::new(Base { kind: Kind::CgroupV2, dirs: vec![dir.path().into()] });
        let confinement = Cgroups(base).create("a", &LIMITS).unwrap();
        let read = |file: &str| std::fs::read_to_string(dir.path().join("a").join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("pids.max"), "9");
        assert_eq!(read("memory.oom.group"), "1");
        let procs = dir.path().join("a/cgroup.procs");
        assert_eq!(
            texts(&confinement.enter_args()),
            [
                "--cgroup-procs",
                procs.to_str().unwrap(),
                "--rlimit-nofile",
                "64",
                "--rlimit-core",
                "0"
            ]
        );
    }

    #[test]
    fn a_name_is_used_once() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups =
            Cgroups(Arc::new(Base { kind: Kind::CgroupV1, dirs: vec![dir.path().into()] }));
        let _first = cgroups.create("a", &LIMITS).unwrap();
        assert!(matches!(cgroups.create("a", &LIMITS), Err(CgroupError::Exists(_))));
    }

    #[test]
    fn oom_kills_are_counted_apart_from_their_neighbours() {
        assert_eq!(counter("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "oom_kill"), 2);
        assert_eq!(counter("low 0\noom 3\noom_kill 0\noom_group_kill 1\n", "oom_kill"), 0);
        assert_eq!(counter("", "oom_kill"), 0);
    }
}
