//! Turns the number of an inherited descriptor into an owned one, once.
//!
//! This is the worker's only `unsafe` code: a number carries no proof that it is an open descriptor
//! and that nothing else in this process owns it. The first is asked of the kernel; the second
//! follows from close-on-exec: an inherited descriptor cannot have had it, everything that the
//! standard library or the runtime opens does, and whatever is taken here gets it at once. This
//! file must not know what the descriptors are for.
#![allow(unsafe_code)]

use rustix::{
    fs::{FileType, OFlags, fcntl_getfl, fstat},
    io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd},
    net::{AddressFamily, sockopt},
};
use std::{
    fs::File,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// A descriptor that is not what the boot document said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritedError {
    #[error("it is not open")]
    NotOpen(#[source] Errno),
    #[error("it was not inherited: it is close-on-exec, so this process opened or took it")]
    NotInherited,
    #[error("it is not {expected}")]
    WrongKind { expected: &'static str },
    #[error("its properties cannot be read")]
    Unknown(#[source] Errno),
}

/// Takes a descriptor that can be read: a pipe, a file or a socket.
pub(crate) fn reader(fd: RawFd) -> Result<File, InheritedError> {
    let owned = take(fd)?;
    expect(is_stream(&owned, OFlags::WRONLY)?, "a readable pipe, file or socket")?;
    Ok(File::from(owned))
}

/// Takes a descriptor that can be written: a pipe, a file or a socket.
pub(crate) fn writer(fd: RawFd) -> Result<File, InheritedError> {
    let owned = take(fd)?;
    expect(is_stream(&owned, OFlags::RDONLY)?, "a writable pipe, file or socket")?;
    Ok(File::from(owned))
}

/// Takes a listening Unix socket.
pub(crate) fn unix_listener(fd: RawFd) -> Result<std::os::unix::net::UnixListener, InheritedError> {
    const KIND: &str = "a listening Unix socket";
    let owned = take(fd)?;
    expect(file_type(&owned)? == FileType::Socket, KIND)?;
    let listens = sockopt::socket_acceptconn(&owned).map_err(InheritedError::Unknown)?;
    let domain = sockopt::socket_domain(&owned).map_err(InheritedError::Unknown)?;
    expect(listens && domain == AddressFamily::UNIX, KIND)?;
    Ok(owned.into())
}

fn take(fd: RawFd) -> Result<OwnedFd, InheritedError> {
    if fd < 0 {
        return Err(InheritedError::NotOpen(Errno::BADF));
    }
    // SAFETY: the number is not -1, and it is only handed to fcntl, which answers EBADF where it is
    // not open. The borrow ends before the descriptor is owned.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed).map_err(InheritedError::NotOpen)?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(InheritedError::NotInherited);
    }
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC).map_err(InheritedError::NotOpen)?;
    // SAFETY: it is open (fcntl said so), and nothing else in this process owns it: it was not
    // close-on-exec until the line above, and what is taken once is refused the second time.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn is_stream(fd: &OwnedFd, other_direction: OFlags) -> Result<bool, InheritedError> {
    let kind = file_type(fd)?;
    let access = fcntl_getfl(fd).map_err(InheritedError::Unknown)? & OFlags::ACCMODE;
    Ok(matches!(kind, FileType::Fifo | FileType::RegularFile | FileType::Socket)
        && access != other_direction)
}

fn file_type(fd: &OwnedFd) -> Result<FileType, InheritedError> {
    let stat = fstat(fd).map_err(InheritedError::Unknown)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

const fn expect(is_right: bool, expected: &'static str) -> Result<(), InheritedError> {
    if is_right { Ok(()) } else { Err(InheritedError::WrongKind { expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::{
            fd::{AsFd, IntoRawFd},
            unix::net::UnixListener,
        },
    };

    /// The number of a descriptor as a child would find it: open, and not close-on-exec.
    fn as_inherited(fd: impl Into<OwnedFd>) -> RawFd {
        let fd = fd.into();
        fcntl_setfd(fd.as_fd(), FdFlags::empty()).unwrap();
        fd.into_raw_fd()
    }

    #[test]
    fn a_pipe_is_taken_by_its_direction() {
        let (read, write) = std::io::pipe().unwrap();
        let mut writer = writer(as_inherited(write)).unwrap();
        let mut reader = reader(as_inherited(read)).unwrap();
        writer.write_all(b"words").unwrap();
        let mut words = [0; 5];
        reader.read_exact(&mut words).unwrap();
        assert_eq!(&words, b"words");
        assert!(fcntl_getfd(&reader).unwrap().contains(FdFlags::CLOEXEC));
    }

    #[test]
    fn the_wrong_end_of_a_pipe_is_refused() {
        let (read, write) = std::io::pipe().unwrap();
        assert!(matches!(writer(as_inherited(read)), Err(InheritedError::WrongKind { .. })));
        assert!(matches!(reader(as_inherited(write)), Err(InheritedError::WrongKind { .. })));
    }

    #[test]
    fn a_descriptor_is_never_owned_twice() {
        let (read, _write) = std::io::pipe().unwrap();
        let fd = as_inherited(read);
        let _owner = reader(fd).unwrap();
        assert!(matches!(reader(fd), Err(InheritedError::NotInherited)));
    }

    #[test]
    fn what_is_not_open_is_refused() {
        assert!(matches!(reader(-1), Err(InheritedError::NotOpen(_))));
        assert!(matches!(reader(1_000_000), Err(InheritedError::NotOpen(_))));
    }

    #[test]
    fn only_a_listening_unix_socket_is_a_unix_listener() {
        let directory = tempfile::tempdir().unwrap();
        let listening = UnixListener::bind(directory.path().join("s")).unwrap();
        assert!(unix_listener(as_inherited(listening)).is_ok());

        let (connected, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (pipe, _write) = std::io::pipe().unwrap();
        for fd in [as_inherited(connected), as_inherited(tcp), as_inherited(pipe)] {
            assert!(matches!(unix_listener(fd), Err(InheritedError::WrongKind { .. })));
        }
    }
}
