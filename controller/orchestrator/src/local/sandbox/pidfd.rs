//! A process by descriptor: its end can be awaited and it can be signalled, and neither can ever
//! reach another process that was given the same number. This module must not know what the process
//! is.

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{io, os::fd::OwnedFd};
use tokio::io::{Interest, unix::AsyncFd};

/// A process that is watched from an asynchronous runtime.
#[derive(Debug)]
pub(super) struct PidFd(AsyncFd<OwnedFd>);

impl PidFd {
    /// The process `pid`; none where there is no such process.
    pub(super) fn open(pid: Pid) -> io::Result<Option<Self>> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Self::watch(pidfd).map(Some),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Watches `pidfd`. To be called within a runtime.
    #[allow(unsafe_code)]
    pub(super) fn watch(pidfd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` keeps its descriptor open and the same until it is dropped, and this
        // type never gives it out to be replaced.
        let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        Ok(Self(watched))
    }

    /// Waits for the process's end. For the first process of a PID namespace that is the end of
    /// all.
    pub(super) async fn ended(&self) -> io::Result<()> {
        // A pidfd stays readable from the end on, so the readiness is not cleared.
        self.0.readable().await.map(drop)
    }

    /// Sends `signal`. A process that has ended already is no error.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.0.get_ref(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn the_end_is_seen_again_and_again_and_a_late_signal_is_no_error() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = PidFd::open(Pid::from_child(&child)).unwrap().unwrap();
        process.signal(Signal::KILL).unwrap();
        process.ended().await.unwrap();
        process.ended().await.unwrap();
        child.wait().unwrap();
        process.signal(Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_number_of_no_process_is_none() {
        let unused = Pid::from_raw(1 << 30).unwrap();
        assert!(PidFd::open(unused).map_err(|error| error.kind()).is_ok_and(|pid| pid.is_none()));
    }
}
