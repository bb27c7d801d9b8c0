//! Prepares the MCP server's container, in one that runs before it and as its user: puts this very program
//! where it will find it, whatever its image holds, and makes directories in which files will be mounted. A
//! mount's missing parents would be made by root, and the server could not write beside it. It must not know
//! what is mounted.

use clap::Args;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// This program's file, by whatever name it was called.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Everybody may run it, and nobody write it.
const PROGRAM_MODE: u32 = 0o555;
const DIRECTORY_MODE: u32 = 0o700;

/// What to prepare.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Copy this program to this new file.
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// Make this directory and those above it that are missing, for this user alone.
    #[arg(long, value_name = "PATH")]
    directory: Vec<PathBuf>,
}

/// Something that could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("the program cannot be copied to `{}`", path.display())]
    Copy {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` cannot be made", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Install {
    /// Prepares everything.
    pub(crate) fn run(self) -> Result<(), InstallError> {
        let Self { to, directory } = self;
        for path in directory {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(&path)
                .map_err(|source| InstallError::Directory { path, source })?;
        }
        copy(&to).map_err(|source| InstallError::Copy { path: to, source })
    }
}

fn copy(to: &Path) -> io::Result<()> {
    // an init container that is run again finds what it made; it may not write it, but may replace it
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut target = OpenOptions::new().write(true).create_new(true).mode(PROGRAM_MODE).open(to)?;
    io::copy(&mut File::open(THIS_PROGRAM)?, &mut target).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_program_is_copied_whole_and_again_and_directories_are_this_users_alone() {
        let place = tempfile::tempdir().unwrap();
        let [to, home] = ["program", "home"].map(|name| place.path().join(name));
        for _ in 0..2 {
            let install = Install { to: to.clone(), directory: vec![home.join("a/b")] };
            install.run().unwrap();
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&to) & 0o555, 0o555);
        assert_eq!((mode(&home.join("a")), mode(&home.join("a/b"))), (0o700, 0o700));
        assert_eq!(fs::read(&to).unwrap(), fs::read(THIS_PROGRAM).unwrap());
    }
}
