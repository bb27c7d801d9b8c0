//! A process that was started here, as it is written down: its number, and when it started, so that a later
//! process with the same number is never taken for it.

use anyhow::{Context, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

/// A process, dead or alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recorded {
    pid: i32,
    /// In clock ticks since the boot.
    started: u64,
    boot: String,
}

impl Recorded {
    /// The process that has this number now.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let started = started(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(Self { pid: i32::try_from(pid)?, started, boot: boot()? })
    }

    /// Its number.
    pub(super) const fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// A descriptor of it, which never means another process; none if it is gone.
    pub(super) fn open(&self) -> anyhow::Result<Option<OwnedFd>> {
        let pid = Pid::from_raw(self.pid).context("not a process number")?;
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // looked at with the descriptor in hand: from here on the number may be given away
        let is_same = started(self.pid()) == Some(self.started) && boot()? == self.boot;
        Ok(is_same.then_some(pidfd))
    }

    /// Whether it runs. One that nobody has waited for yet does not.
    pub(super) fn is_alive(&self) -> anyhow::Result<bool> {
        match self.open()? {
            None => Ok(false),
            Some(pidfd) => Ok(!ends(&pidfd, Duration::ZERO)?),
        }
    }

    /// Ends it as the kernel would, and waits for its end; for the first process of a PID namespace, that is
    /// the end of all. One that is gone is no error.
    pub(super) fn kill(&self, limit: Duration) -> anyhow::Result<()> {
        let Some(pidfd) = self.open()? else {
            return Ok(());
        };
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        ensure!(ends(&pidfd, limit)?, "process {} does not end", self.pid);
        Ok(())
    }
}

/// Whether the process of this descriptor has ended, or does so in time.
fn ends(pidfd: &OwnedFd, limit: Duration) -> anyhow::Result<bool> {
    let limit = Timespec::try_from(limit)?;
    loop {
        let mut polled = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut polled, Some(&limit)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// When the process started: the 22nd field of its stat.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name in parentheses may hold anything, so count from its end
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn boot() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_recorded_process_is_ended_and_one_with_its_number_is_not() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let recorded = Recorded::of(child.id()).unwrap();
        assert!(recorded.is_alive().unwrap());

        let earlier = Recorded { started: recorded.started - 1, ..recorded.clone() };
        let other_boot = Recorded { boot: "another".to_owned(), ..recorded.clone() };
        for other in [earlier, other_boot] {
            assert!(!other.is_alive().unwrap());
            other.kill(Duration::from_secs(1)).unwrap();
        }
        assert!(recorded.is_alive().unwrap());

        recorded.kill(Duration::from_secs(10)).unwrap();
        assert!(!recorded.is_alive().unwrap(), "a zombie has ended");
        child.wait().unwrap();
        recorded.kill(Duration::from_secs(1)).unwrap();
    }
}
