//! The node: namespaces of its own for mounts, network and processes, and a first process that holds them.
//!
//! Everything of a cluster runs inside. So its end is one signal: the kernel then ends all processes, and with
//! the last of them go all mounts, interfaces, routes and firewall rules that anything inside has made. It must
//! not know what runs there.

use super::process::Recorded;
use anyhow::{Context, anyhow, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

const INIT: &str = include_str!("init.sh");

/// A node whose first process waits to be told its addresses, and ends if its parent does so before.
pub(super) struct Waiting {
    child: Child,
    process: Recorded,
}

/// Makes the namespaces and starts the first process.
pub(super) fn make(directory: &Path) -> anyhow::Result<Waiting> {
    let log = File::create(directory.join("logs/node.log"))?;
    let child = apart(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)
            .context("cannot make namespaces (it takes root)")?;
        Command::new("/bin/sh")
            .args([OsStr::new("-euc"), OsStr::new(INIT), OsStr::new("init"), directory.as_os_str()])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // a Ctrl-C at the terminal is not for the cluster
            .process_group(0)
            .spawn()
            .context("cannot start the node's first process")
    })?;
    let process = Recorded::of(child.id())?;
    Ok(Waiting { child, process })
}

impl Waiting {
    /// Its first process.
    pub(super) const fn process(&self) -> &Recorded {
        &self.process
    }

    /// Sets the node up; `line` is what its first process reads.
    pub(super) fn set_up(mut self, line: &str) -> anyhow::Result<Child> {
        let mut stdin = self.child.stdin.take().context("standard input is piped")?;
        writeln!(stdin, "{line}")?;
        let stdout = self.child.stdout.take().context("standard output is piped")?;
        let mut answer = String::new();
        BufReader::new(stdout).read_line(&mut answer)?;
        ensure!(answer == "ready\n", "the node could not be set up (see logs/node.log)");
        Ok(self.child)
    }
}

/// Starts a program on the node, as a child of its first process: nobody outside has to wait for it, and it
/// outlives whoever started it. It looks for other programs in `path`; what it says is added to `log`.
pub(super) fn start(
    init: &Recorded,
    program: &Path,
    arguments: &[String],
    path: &str,
    temporary: &Path,
    log: &Path,
) -> anyhow::Result<Recorded> {
    let node = init.open()?.context("the node is gone")?;
    let mut log = OpenOptions::new().create(true).append(true).open(log)?;
    writeln!(log, "--- {} {}", program.display(), arguments.join(" "))?;
    let to_log = log.try_clone()?;
    let output = apart(|| {
        // what is shared with other threads cannot be changed for one
        unshare(CloneFlags::CLONE_FS)?;
        setns(&node, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)
            .context("cannot enter the node")?;
        Command::new("setsid")
            // says its number, which stays the same, and becomes the program; what it says then goes to the log
            .args(["--fork", "sh", "-c", r#"echo $$; exec "$@" >&2"#, "start"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            // the usual place is read-only
            .env("TMPDIR", temporary)
            .current_dir("/")
            .stdin(Stdio::null())
            .stderr(to_log)
            .output()
            .context("cannot run setsid")
    })?;
    ensure!(output.status.success(), "setsid: {}", output.status);
    let inside = String::from_utf8_lossy(&output.stdout);
    let inside = inside.trim().parse().context("a process that does not say its number")?;
    outside(init, inside).with_context(|| format!("{} ended at once", program.display()))
}

/// The process that has this number on the node.
fn outside(init: &Recorded, inside: u32) -> anyhow::Result<Recorded> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let node = namespace(init.pid()).context("the node is gone")?;
    let found = crate::processes::all().into_iter().find(|process| {
        let own = fs::read_to_string(format!("/proc/{}/status", process.pid));
        own.is_ok_and(|status| innermost_pid(&status) == Some(inside))
            && namespace(process.pid).as_ref() == Some(&node)
    });
    Recorded::of(found.context("no such process")?.pid)
}

/// The number of a process in its own PID namespace, from its `/proc/PID/status`.
fn innermost_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Does `work` on a thread that ends with it: namespaces are changed for a thread, and for good.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.map_err(|_| anyhow!("a thread panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_on_the_node_is_the_last_one() {
        assert_eq!(innermost_pid("Name:\tx\nNSpid:\t4711\t12\n"), Some(12));
        assert_eq!(innermost_pid("Name:\tx\nNSpid:\t4711\n"), Some(4711));
        assert_eq!(innermost_pid("Name:\tx\n"), None);
    }
}
