//! From a [`SandboxSpec`] to a running sandbox: makes the cgroup, writes bubblewrap's options and
//! the filter into anonymous memory, and starts it all through the one spawner thread. The
//! decisions are in the modules that this one calls; this module must not know what a worker is.

use super::{
    bwrap::{self, SetupFds, bwrap_args},
    cgroup::{CgroupError, Cgroups, Confinement},
    child::{Child, Ended, Output},
    layout::HostLayout,
    seccomp::{self, SeccompError},
    spawn::{SpawnCommand, SpawnError, Spawner},
    spec::{SandboxSpec, SpecError},
};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::Signal,
};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Seek as _, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

/// The programs that make a sandbox.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Bubblewrap 0.8 or later, an absolute path.
    pub bwrap: PathBuf,
    /// The command that enters the cgroup, sets resource limits and becomes the command after `--`:
    /// `patchbay-worker enter`. The first part is an absolute path.
    pub enter: Vec<OsString>,
}

impl Tools {
    /// Bubblewrap where distributions install it, and the `enter` command of the worker's program.
    pub fn with_worker(worker: &Path) -> Self {
        Self {
            bwrap: "/usr/bin/bwrap".into(),
            // until bubblewrap has set itself to end with this process, `enter` has
            enter: vec![
                worker.into(),
                "enter".into(),
                "--parent".into(),
                std::process::id().to_string().into(),
            ],
        }
    }
}

/// A sandbox that was not started, or whose end could not be seen.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Bubblewrap is not installed.
    #[error("`{0}` is missing: install the package `bubblewrap`")]
    NoBubblewrap(PathBuf),
    /// There is no `enter` command.
    #[error("no command enters the cgroup of a sandbox")]
    NoEnter,
    /// The host's root could not be read.
    #[error("cannot read the layout of the host's root")]
    Layout(#[source] io::Error),
    /// The spec is refused.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// There is no system call filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// The cgroup could not be made.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Nothing could be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A descriptor could not be made, read or watched.
    #[error("cannot prepare or watch a sandbox")]
    Io(#[from] io::Error),
}

/// Starts sandboxes. Dropping it ends none: a running sandbox keeps what it needs.
pub struct Launcher {
    tools: Tools,
    layout: HostLayout,
    cgroups: Cgroups,
    seccomp: Vec<u8>,
    spawner: Spawner,
}

impl Launcher {
    /// Reads the host once and starts the spawner thread.
    pub fn new(tools: Tools, cgroups: Cgroups) -> Result<Self, LaunchError> {
        if !tools.bwrap.exists() {
            return Err(LaunchError::NoBubblewrap(tools.bwrap));
        }
        if tools.enter.is_empty() {
            return Err(LaunchError::NoEnter);
        }
        Ok(Self {
            tools,
            layout: HostLayout::read().map_err(LaunchError::Layout)?,
            cgroups,
            seccomp: seccomp::program()?,
            spawner: Spawner::start()?,
        })
    }

    /// How sandboxes are bounded here.
    pub fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// The programs in use.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Starts any program, unconfined, by the thread that starts sandboxes: no other may.
    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Starts a sandbox. That its program runs is not known yet: see [`Ended::NeverStarted`].
    pub async fn start(&self, spec: SandboxSpec) -> Result<Sandbox, LaunchError> {
        spec.validate()?;
        let confinement = self.cgroups.create(&spec.name, &spec.limits)?;
        let (status, reports) = io::pipe()?;
        let seccomp = memory_file("seccomp", &self.seccomp)?;
        let passwd = memory_file("passwd", bwrap::passwd(&spec).as_bytes())?;
        let group = memory_file("group", bwrap::group(&spec).as_bytes())?;
        let hosts = memory_file("hosts", bwrap::hosts(&spec).as_bytes())?;
        let fds = SetupFds {
            seccomp: seccomp.as_raw_fd(),
            status: reports.as_raw_fd(),
            passwd: passwd.as_raw_fd(),
            group: group.as_raw_fd(),
            hosts: hosts.as_raw_fd(),
        };
        let options = bwrap::encode(&bwrap_args(&spec, &self.layout, &fds));
        let options = memory_file("options", &options)?;
        let mut command = self.command(&confinement, options.as_raw_fd(), &spec)?;
        command.inherit = spec.descriptors;
        command.inherit.extend([reports.into(), seccomp, passwd, group, hosts, options]);
        let spawned = self.spawner.spawn(command).await?;
        let child = Child::watch(spawned, status, self.spawner.clone()).await?;
        Ok(Sandbox { name: spec.name, child, confinement: Some(confinement), exit: None })
    }

    /// `enter LIMITS -- bwrap --args FD -- PROGRAM ARGS`.
    fn command(
        &self,
        confinement: &Confinement,
        options: i32,
        spec: &SandboxSpec,
    ) -> Result<SpawnCommand, LaunchError> {
        let (enter, enter_args) = self.tools.enter.split_first().ok_or(LaunchError::NoEnter)?;
        let mut args = enter_args.to_vec();
        args.extend(confinement.enter_args());
        args.extend(["--".into(), self.tools.bwrap.clone().into()]);
        args.extend(["--args".into(), options.to_string().into()]);
        args.extend(["--".into(), spec.program.clone().into()]);
        args.extend(spec.args.iter().cloned());
        Ok(SpawnCommand { program: enter.into(), args, inherit: Vec::new() })
    }
}

/// How a sandbox ended, and whether memory was the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub ended: Ended,
    /// Whether the kernel killed a process of it at the memory bound.
    pub is_oom_killed: bool,
}

/// A running sandbox. Dropping it kills its processes and removes its cgroup, which can block for
/// some milliseconds: await [`Sandbox::wait`] where that matters.
pub struct Sandbox {
    name: String,
    // Before the confinement, so that a drop kills by the parent's pidfd first.
    child: Child,
    confinement: Option<Confinement>,
    exit: Option<Exit>,
}

impl Sandbox {
    /// The name in its spec.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its processes: output, signals and the kill.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The program's standard output, once: read it to its end.
    pub fn take_stdout(&mut self) -> Option<Output> {
        self.child.take_stdout()
    }

    /// The standard error output of bubblewrap and of the program, once: read it to its end.
    pub fn take_stderr(&mut self) -> Option<Output> {
        self.child.take_stderr()
    }

    /// Sends `signal` to the sandbox's first process.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child.signal(signal)
    }

    /// Kills every process of the sandbox.
    pub fn kill(&self) -> io::Result<()> {
        self.child.kill()
    }

    /// Waits until no process is left and removes the cgroup. Can be cancelled and called again.
    pub async fn wait(&mut self) -> Result<Exit, LaunchError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let ended = self.child.wait().await?;
        let is_oom_killed = match &self.confinement {
            Some(confinement) => confinement.was_oom_killed()?,
            None => false,
        };
        let exit = Exit { ended, is_oom_killed };
        self.exit = Some(exit);
        if let Some(confinement) = self.confinement.take() {
            tokio::task::spawn_blocking(|| confinement.remove())
                .await
                .map_err(io::Error::other)??;
        }
        Ok(exit)
    }
}

/// A file in memory alone, to be read from its start by whoever inherits it.
fn memory_file(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_bubblewrap_is_told_what_to_install() {
        let tools = Tools { bwrap: "/does/not/exist".into(), enter: vec!["/bin/sh".into()] };
        let error = Launcher::new(tools, Cgroups::rlimits_only()).err().unwrap();
        assert!(error.to_string().contains("install the package `bubblewrap`"));
    }

    #[test]
    fn a_memory_file_is_read_from_its_start() {
        let file = memory_file("test", b"text").unwrap();
        assert_eq!(io::read_to_string(File::from(file)).unwrap(), "text");
    }
}
