//! A running sandbox's processes: awaiting their end and ending them, by pidfd.
//!
//! Two processes are watched: bubblewrap's own, which reports, and the sandbox's first, pid 1 of
//! its namespace, whose end the kernel reports only when no other process of the namespace is left.
//! This module must not know what a sandbox is made of.

use super::{
    lines::Lines,
    pidfd::PidFd,
    spawn::{Spawned, Spawner},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal},
};
use serde::Deserialize;
use std::{
    io,
    os::fd::OwnedFd,
    process::{Child as Process, ChildStderr, ChildStdout},
};
use tokio::{io::BufReader, net::unix::pipe::Receiver};

/// What a sandboxed program writes, line by line.
pub type Output = Lines<BufReader<Receiver>>;

/// How a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its program exited with this code; 128 + n stands for signal n.
    Exited(i32),
    /// It was killed from outside: by [`Child::kill`], or with bubblewrap.
    Killed,
    /// Its program never ran: bubblewrap said why on its error output.
    NeverStarted,
}

/// One line that bubblewrap writes on `--json-status-fd`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StatusLine {
    child_pid: Option<i32>,
    exit_code: Option<i32>,
}

/// A running sandbox. Dropping it kills the sandbox.
pub struct Child {
    /// None once it was handed over for reaping.
    process: Option<Process>,
    monitor: PidFd,
    init: Option<PidFd>,
    status: Output,
    stdout: Option<Output>,
    stderr: Option<Output>,
    is_reaped: bool,
    spawner: Spawner,
}

impl Child {
    /// Watches bubblewrap, which was just started and reports on `status`. Returns once the
    /// sandbox's first process exists or bubblewrap has given up.
    pub(super) async fn watch(
        started: Spawned,
        status: io::PipeReader,
        spawner: Spawner,
    ) -> io::Result<Self> {
        let Spawned { mut process, pidfd } = started;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let mut child = Self {
            process: Some(process),
            monitor: PidFd::watch(pidfd)?,
            init: None,
            status: output_of(status.into())?,
            stdout: stdout.map(ChildStdout::into).map(output_of).transpose()?,
            stderr: stderr.map(ChildStderr::into).map(output_of).transpose()?,
            is_reaped: false,
            spawner,
        };
        if let Some(pid) = child.next_status().await?.and_then(|line| line.child_pid) {
            child.init = open_init(pid, child.monitor_pid())?;
        }
        Ok(child)
    }

    /// Bubblewrap's process.
    pub fn monitor_pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// What the program writes on its standard output: to be taken once and read to its end, or the
    /// program blocks when the pipe is full.
    pub fn take_stdout(&mut self) -> Option<Output> {
        self.stdout.take()
    }

    /// What the program, and bubblewrap before it, write on standard error: as
    /// [`Self::take_stdout`].
    pub fn take_stderr(&mut self) -> Option<Output> {
        self.stderr.take()
    }

    /// Waits until no process of the sandbox is left. Can be cancelled and called again.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        self.monitor.ended().await?;
        if let Some(init) = &self.init {
            init.ended().await?;
        }
        let mut exit_code = None;
        while let Some(line) = self.next_status().await? {
            exit_code = line.exit_code.or(exit_code);
        }
        let process = self.process.as_mut().ok_or(io::ErrorKind::NotFound)?;
        // Its end was just reported, so this does not block.
        let status = process.wait()?;
        self.is_reaped = true;
        Ok(match exit_code {
            Some(code) => Ended::Exited(code),
            None if status.code().is_some() => Ended::NeverStarted,
            None => Ended::Killed,
        })
    }

    /// Sends `signal` to the program. As pid 1 of its namespace it sees only what it listens for,
    /// `KILL` and `STOP` excepted.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.init.as_ref().map_or(Ok(()), |init| init.signal(signal))
    }

    /// Kills every process of the sandbox; [`Self::wait`] then tells when they are gone.
    pub fn kill(&self) -> io::Result<()> {
        // Bubblewrap first, so that it does not report the kill as an exit of the program's own.
        self.monitor.signal(Signal::KILL)?;
        self.signal(Signal::KILL)
    }

    async fn next_status(&mut self) -> io::Result<Option<StatusLine>> {
        match self.status.next().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line.text)?)),
            None => Ok(None),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        if let Err(error) = self.kill() {
            tracing::warn!(%error, "cannot kill a sandbox");
        }
        if let Some(process) = self.process.take() {
            self.spawner.reap(process);
        }
    }
}

fn output_of(pipe: OwnedFd) -> io::Result<Output> {
    Ok(Lines::new(BufReader::new(Receiver::from_owned_fd(pipe)?)))
}

/// Opens the sandbox's first process; none where it has ended already.
fn open_init(pid: i32, monitor: Option<u32>) -> io::Result<Option<PidFd>> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let Some(init) = PidFd::open(pid)? else {
        return Ok(None);
    };
    // The number was read from a pipe, so it may belong to another process by now. Bubblewrap is
    // not reaped yet: whoever is its child cannot be anyone else's.
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let parent = match std::fs::read_to_string(path) {
        Ok(status) => parent_of(&status),
        Err(error) if is_gone(&error) => None,
        Err(error) => return Err(error),
    };
    Ok((parent.is_some() && parent == monitor).then_some(init))
}

/// Whether a file of `/proc/PID` cannot be read because the process ended before or after the open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

fn parent_of(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_from_its_own_line() {
        assert_eq!(parent_of("Name:\tPPid: 7\nPid:\t2\nPPid:\t41\nTracerPid:\t0\n"), Some(41));
        assert_eq!(parent_of("Name:\tx\n"), None);
    }

    #[tokio::test]
    async fn a_process_of_another_parent_is_not_taken_for_the_sandbox() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(open_init(own, Some(1 << 30)).unwrap().is_none());
    }
}
