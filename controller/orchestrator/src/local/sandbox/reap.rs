//! Ends every process of a cgroup and waits for that, by pidfd: no process number is signalled that
//! could meanwhile belong to another process, and no time is slept. This module must not know what
//! the cgroup was for.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// A killed process needs no longer than this, unless the kernel holds it.
const DEATH: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// With forks forbidden one round is enough. More are for cgroups where that cannot be forbidden.
const ROUNDS: usize = 16;

/// Kills all processes of the cgroup in `dirs` (the same cgroup in every hierarchy that it is in)
/// and waits until they are dead. Blocks for some milliseconds, or for the bounds above.
pub(super) fn end_processes(dirs: &[PathBuf]) -> io::Result<()> {
    for dir in dirs {
        // Whoever cannot fork cannot outrun the kills. Only a pids controller has this file.
        write_where_present(&dir.join("pids.max"), "0")?;
        // v2 kills a whole subtree at once.
        write_where_present(&dir.join("cgroup.kill"), "1")?;
    }
    for _ in 0..ROUNDS {
        let mut living = Vec::new();
        for dir in dirs {
            living.extend(processes(dir)?);
        }
        if living.is_empty() {
            return Ok(());
        }
        for process in &living {
            match pidfd_send_signal(process, Signal::KILL) {
                // Ended already.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for process in &living {
            if poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&DEATH))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
    Err(io::Error::other("processes of a cgroup fork faster than they can be killed"))
}

fn processes(dir: &Path) -> io::Result<Vec<OwnedFd>> {
    let list = dir.join("cgroup.procs");
    let mut found = Vec::new();
    for pid in pids(&list)? {
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The number may have changed hands between reading and opening: what is open now must
            // still be in this cgroup.
            Ok(process) if pids(&list)?.contains(&pid) => found.push(process),
            Ok(_) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn pids(list: &Path) -> io::Result<Vec<Pid>> {
    match std::fs::read_to_string(list) {
        Ok(text) => Ok(text.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()),
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether a cgroup was removed: its files are absent, or (open or half removed) have no device. Several
/// controllers may clean up after one that was killed.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn write_where_present(file: &Path, text: &str) -> io::Result<()> {
    // `fs::write` would create the file on anything but a cgroup file system.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    match written {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn an_absent_or_empty_cgroup_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.procs"), "").unwrap();
        end_processes(&[dir.path().to_path_buf(), dir.path().join("absent")]).unwrap();
        assert!(!dir.path().join("cgroup.kill").exists());
    }

    #[test]
    fn a_cgroup_that_another_controller_removes_meanwhile_is_gone() {
        assert!(is_gone(&io::Error::from_raw_os_error(Errno::NODEV.raw_os_error())));
        assert!(is_gone(&io::ErrorKind::NotFound.into()));
        assert!(!is_gone(&io::ErrorKind::PermissionDenied.into()));
    }

    #[test]
    fn a_listed_process_is_killed_and_awaited() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        std::fs::write(dir.path().join("cgroup.procs"), format!("{}\n", child.id())).unwrap();
        // The list is a plain file here, so it names the process for ever and the rounds run out.
        let error = end_processes(&[dir.path().to_path_buf()]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other);
        let status = child.try_wait().unwrap().expect("it is dead when the call returns");
        assert!(!status.success());
    }
}
