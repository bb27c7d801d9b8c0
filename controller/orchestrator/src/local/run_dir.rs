//! Where one controller keeps its sockets, and how the next one cleans up after it.
//!
//! Each controller has a directory of its own under a common root, locked for as long as the process
//! lives; the kernel releases the lock however it ends. A directory that can be locked is a dead
//! controller's and is removed at the next start. Paths are kept short: a Unix socket's may have 107
//! bytes. This module must not know what is kept inside.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// The name of the lock file in each directory.
const LOCK: &str = "lock";
/// What a worker's longest socket path adds to the directory's own.
const LONGEST_INSIDE: usize = "/w-0123456789ab/s".len();
/// `sun_path` holds 108 bytes with its terminating NUL.
const MAX_SOCKET_PATH: usize = 107;

/// A controller's own directory. It is removed when dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    instance: String,
    _lock: OwnedFd,
}

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Sockets inside would have names that are too long for the kernel.
    #[error(
        "`{}` is too long for a run directory: socket paths inside would pass 107 bytes; choose a \
         shorter one with --run-dir", .0.display()
    )]
    TooLong(PathBuf),
    /// It cannot be made or locked.
    #[error("cannot make the run directory `{}`", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl RunDir {
    /// Makes a directory under `root`, after sweeping those of dead controllers. Returns the instances
    /// that were swept, so that what else they left can be.
    pub fn create(root: &Path) -> Result<(Self, Vec<String>), RunDirError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| RunDirError::Io { path, source }
        };
        make_private(root).map_err(failed(root))?;
        let swept = sweep(root).map_err(failed(root))?;
        let instance =
            uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect::<String>();
        let path = root.join(&instance);
        if path.as_os_str().len() + LONGEST_INSIDE > MAX_SOCKET_PATH {
            return Err(RunDirError::TooLong(path));
        }
        // locked before it has a name that another controller would sweep
        let staging = root.join(format!("new-{instance}"));
        make_private(&staging).map_err(failed(&staging))?;
        let lock = lock(&staging).map_err(failed(&staging))?;
        let lock = lock.ok_or_else(|| failed(&staging)(io::ErrorKind::WouldBlock.into()))?;
        std::fs::rename(&staging, &path).map_err(failed(&path))?;
        Ok((Self { path, instance, _lock: lock }, swept))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The controller's short random name.
    pub fn instance(&self) -> &str {
        &self.instance
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the run directory");
        }
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes the directory's lock; none if a living controller has it.
fn lock(directory: &Path) -> io::Result<Option<OwnedFd>> {
    let file = rustix::fs::open(
        directory.join(LOCK),
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn sweep(root: &Path) -> io::Result<Vec<String>> {
    let mut swept = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_instance = name.len() == 8 && name.bytes().all(|c| c.is_ascii_hexdigit());
        if !is_instance || !entry.file_type()?.is_dir() {
            continue;
        }
        // another controller may be sweeping too: what is gone is swept
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match lock(&entry.path()) {
            Ok(Some(_held)) => match std::fs::remove_dir_all(entry.path()) {
                Err(error) if !gone(&error) => return Err(error),
                _ => swept.push(name),
            },
            Ok(None) => {}
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_controllers_directory_is_swept_and_a_living_ones_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (living, swept) = RunDir::create(root.path()).unwrap();
        assert!(swept.is_empty());
        let dead = root.path().join("0badcafe");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join("socket"), "").unwrap();
        std::fs::create_dir(root.path().join("unrelated-directory")).unwrap();
        let (_second, swept) = RunDir::create(root.path()).unwrap();
        assert_eq!(swept, ["0badcafe"]);
        assert!(!dead.exists());
        assert!(living.path().exists());
        assert!(root.path().join("unrelated-directory").exists());
    }

    #[test]
    fn the_directory_is_removed_with_its_controller() {
        let root = tempfile::tempdir().unwrap();
        let (dir, _) = RunDir::create(root.path()).unwrap();
        let path = dir.path().to_owned();
        assert!(path.exists());
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_root_that_leaves_no_room_for_socket_paths_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("x".repeat(100));
        assert!(matches!(RunDir::create(&long), Err(RunDirError::TooLong(_))));
    }
}
