//! Keeps descriptors that the controller itself was started with out of its sandboxes: a job
//! server's pipes, a terminal, a service's sockets. Rust opens everything close-on-exec, so what is
//! not is somebody else's. This module must not know what is meant to be inherited.

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use std::{
    io,
    os::fd::{BorrowedFd, RawFd},
};

/// The first number behind standard input, output and error, which every child gets anew.
const FIRST: RawFd = 3;

/// Marks every open descriptor from 3 on as close-on-exec. To be called once, before anything is
/// made inheritable on purpose.
pub(super) fn keep_from_children() -> io::Result<()> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        numbers.extend(number.filter(|number| *number >= FIRST));
    }
    numbers.into_iter().try_for_each(keep_one)
}

#[allow(unsafe_code)]
fn keep_one(number: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor was open a moment ago and is borrowed for two flag calls. Should
    // another thread have closed it since, these fail or set a flag on its successor that Rust sets
    // anyway.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let keep = fcntl_getfd(descriptor).and_then(|flags| {
        if flags.contains(FdFlags::CLOEXEC) {
            return Ok(());
        }
        fcntl_setfd(descriptor, FdFlags::CLOEXEC)
    });
    match keep {
        // Closed since: the listing's own descriptor always is.
        Err(Errno::BADF) => Ok(()),
        result => result.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inheritable_descriptor_is_marked() {
        let _inheriting = super::super::spawn::INHERITING.lock();
        let (reader, _writer) = io::pipe().unwrap();
        let copy = rustix::io::dup(&reader).unwrap();
        assert!(!fcntl_getfd(&copy).unwrap().contains(FdFlags::CLOEXEC));
        keep_from_children().unwrap();
        assert!(fcntl_getfd(&copy).unwrap().contains(FdFlags::CLOEXEC));
    }
}
