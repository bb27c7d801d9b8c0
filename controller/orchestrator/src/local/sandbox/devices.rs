//! Shields the host's device nodes from sandboxes that root starts.
//!
//! Bubblewrap shows its sandbox the host's own `/dev/null`, `/dev/zero` and the like, and cannot
//! mount them read-only and usable at once. A sandbox that root starts runs as their owner,
//! whatever its uid inside: it could take `/dev/null` away from the whole host with one `chmod`. So
//! the thread that starts sandboxes has a mount namespace of its own, where these nodes are
//! read-only mounts; a sandbox inherits that and cannot undo it. Writing *to* a device needs no
//! writable mount.

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount},
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{io, path::Path};

/// The nodes that bubblewrap 0.8 shows (`--dev`).
const NODES: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Gives the calling thread its own mount namespace with read-only device nodes. Does nothing for
/// anyone but root, who alone owns these nodes. To be called once, on a thread of its own: the
/// thread no longer shares its working directory with the process, and its children inherit all
/// this.
pub(super) fn shield() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    own_mount_namespace()?;
    // Mounts that the host makes later still arrive here; ours never leave.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    for node in NODES.iter().copied().filter(|node| Path::new(node).exists()) {
        mount_bind(node, node)?;
        // No NODEV here, or the device could no longer be opened.
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount_remount(node, flags, c"")?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn own_mount_namespace() -> io::Result<()> {
    // SAFETY: the call is unsafe for the sake of `UnshareFlags::FILES`, after which descriptors of
    // other threads may mean something else here. Descriptors stay shared: only mounts and the
    // working directory become this thread's own.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn change_null() -> io::Result<()> {
        // To the mode that it has: harmless where the shield fails.
        let mode = std::fs::metadata("/dev/null")?.permissions();
        std::fs::set_permissions("/dev/null", mode)
    }

    #[test]
    fn shielded_nodes_work_but_cannot_be_changed() {
        let (written, changed) = std::thread::spawn(|| {
            shield().unwrap();
            let written = std::fs::OpenOptions::new()
                .write(true)
                .open("/dev/null")
                .and_then(|mut null| null.write_all(b"x"));
            (written, change_null())
        })
        .join()
        .unwrap();
        written.unwrap();
        let kind = changed.unwrap_err().kind();
        if rustix::process::geteuid().is_root() {
            assert_eq!(kind, io::ErrorKind::ReadOnlyFilesystem);
            change_null().expect("only the shielded thread is kept from it");
        } else {
            assert_eq!(kind, io::ErrorKind::PermissionDenied);
        }
    }
}
