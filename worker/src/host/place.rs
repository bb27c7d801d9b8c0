//! Writes files for the MCP server: those of the boot document before it starts, and later those
//! that the agent asks for, below its HOME alone.
//!
//! Once the server runs it may be hostile, and it owns its HOME: HOME is opened before, and every
//! step below it is one directory entry that is not a symbolic link, so that nothing that the
//! server plants leads elsewhere. Each file appears whole or not at all. This module must not know
//! what the files say.

use patchbay_core::quilt::PlacedFile;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fchmod, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};
use secrecy::ExposeSecret as _;
use std::{
    ffi::{OsStr, OsString},
    fs::{DirBuilder, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Component, Path, PathBuf},
};

/// Permission bits alone: no set-uid, set-gid or sticky bit is ever placed.
const PERMISSIONS: u32 = 0o777;
/// Directories that are missing are made for their owner alone.
const DIRECTORY_MODE: u32 = 0o700;

/// A file that is not in place. The texts never quote the file's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("the MCP server has no HOME to place files in")]
    NoHome,
    #[error("`{}` is not a plain path below HOME", .0.display())]
    Outside(PathBuf),
    #[error("`{}` cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Writes the boot document's files, before anything of the MCP server runs: their paths are taken
/// as they are.
pub(crate) fn before_start(files: &[PlacedFile]) -> Result<(), PlaceError> {
    for file in files {
        let path = Path::new(&file.path);
        let fail = |source| PlaceError::Write { path: path.to_owned(), source };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(fail(io::ErrorKind::InvalidFilename.into()));
        };
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(parent)
            .and_then(|()| Ok(open_directory(CWD, parent.as_os_str(), OFlags::empty())?))
            .and_then(|parent| write(&parent, name, file))
            .map_err(fail)?;
    }
    Ok(())
}

/// The MCP server's HOME.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    directory: OwnedFd,
}

impl Home {
    /// Opens HOME; to be called before anything of the MCP server runs.
    pub(crate) fn open(path: &Path) -> Result<Self, PlaceError> {
        let directory = open_directory(CWD, path.as_os_str(), OFlags::empty())
            .map_err(|errno| PlaceError::Write { path: path.to_owned(), source: errno.into() })?;
        Ok(Self { path: path.to_owned(), directory })
    }

    /// Writes these files. After an error those before the failing one are in place.
    pub(crate) fn place(&self, files: &[PlacedFile]) -> Result<(), PlaceError> {
        files.iter().try_for_each(|file| self.place_one(file))
    }

    fn place_one(&self, file: &PlacedFile) -> Result<(), PlaceError> {
        let path = Path::new(&file.path);
        let mut steps =
            steps_below(&self.path, path).ok_or_else(|| PlaceError::Outside(path.to_owned()))?;
        let fail = |source| PlaceError::Write { path: path.to_owned(), source };
        let Some(name) = steps.pop() else {
            return Err(PlaceError::Outside(path.to_owned()));
        };
        let mut parent = self.directory.try_clone().map_err(fail)?;
        for step in steps {
            parent = enter(&parent, step).map_err(|errno| fail(errno.into()))?;
        }
        write(&parent, name, file).map_err(fail)
    }
}

/// The names that lead from `home` to `path`; none if it is not below, or not written plainly.
fn steps_below<'a>(home: &Path, path: &'a Path) -> Option<Vec<&'a OsStr>> {
    // `..` alone is no name: it would lead out, whatever the text before it is
    path.strip_prefix(home)
        .ok()
        .filter(|_| home.is_absolute())?
        .components()
        .map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect()
}

/// One step down; the directory is made if it is missing. A symbolic link is an error.
fn enter(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
        Ok(()) | Err(Errno::EXIST) => open_directory(parent.as_fd(), name, OFlags::NOFOLLOW),
        Err(errno) => Err(errno),
    }
}

fn open_directory(at: impl AsFd, path: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())
}

/// Writes beside and renames over, which replaces a symbolic link instead of following it.
fn write(parent: &OwnedFd, name: &OsStr, file: &PlacedFile) -> io::Result<()> {
    let mut beside = OsString::from(".patchbay-");
    beside.push(name);
    match unlinkat(parent, &beside, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut written = File::from(openat(parent, &beside, flags, Mode::RUSR | Mode::WUSR)?);
    let placed = written
        .write_all(file.text.expose_secret().as_bytes())
        // the mode that was asked for, whatever the umask
        .and_then(|()| Ok(fchmod(&written, Mode::from_raw_mode(file.mode & PERMISSIONS))?))
        .and_then(|()| Ok(renameat(parent, &beside, parent, name)?));
    if placed.is_err() {
        let _ = unlinkat(parent, &beside, AtFlags::empty());
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    fn file(path: &Path, text: &str) -> PlacedFile {
        PlacedFile { path: path.to_str().unwrap().into(), text: text.into(), mode: 0o640 }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_placed_with_its_parents_and_mode_and_replaced_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b/auth.json");
        let opened = Home::open(home.path()).unwrap();
        opened.place(&[file(&path, "the first, longer text")]).unwrap();
        assert_eq!(mode(&home.path().join("a")), 0o700);
        assert_eq!(mode(&path), 0o640);
        opened.place(&[PlacedFile { mode: 0o4600, ..file(&path, "second") }]).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("second", 0o600));
        let left: Vec<_> = fs::read_dir(home.path().join("a/b")).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn nothing_is_placed_outside_of_home() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        fs::create_dir(&home).unwrap();
        let opened = Home::open(&home).unwrap();
        for path in
            ["../outside", "a/../../outside", "/etc/outside", "../home2/outside", "", "a/../b"]
        {
            let refused = opened.place(&[file(&home.join(path), "x")]);
            assert!(matches!(refused, Err(PlaceError::Outside(_))), "{path}: {refused:?}");
        }
        let refused = opened.place(&[PlacedFile { path: "relative".into(), ..file(&home, "x") }]);
        assert!(matches!(refused, Err(PlaceError::Outside(_))), "{refused:?}");
        assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    }

    #[test]
    fn a_planted_symbolic_link_is_refused_on_the_way_and_replaced_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let [home, elsewhere] = ["home", "elsewhere"].map(|name| directory.path().join(name));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let victim = elsewhere.join("victim");
        fs::write(&victim, "untouched").unwrap();
        symlink(&elsewhere, home.join("a")).unwrap();
        symlink(&victim, home.join("auth.json")).unwrap();
        symlink(&victim, home.join(".patchbay-auth.json")).unwrap();
        let opened = Home::open(&home).unwrap();

        let refused = opened.place(&[file(&home.join("a/victim"), "x")]);
        assert!(matches!(refused, Err(PlaceError::Write { .. })), "{refused:?}");
        opened.place(&[file(&home.join("auth.json"), "x")]).unwrap();
        assert!(fs::symlink_metadata(home.join("auth.json")).unwrap().is_file());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    }

    #[test]
    fn a_home_that_is_swapped_for_a_link_is_still_the_one_that_was_opened() {
        let directory = tempfile::tempdir().unwrap();
        let [home, elsewhere] = ["home", "elsewhere"].map(|name| directory.path().join(name));
        fs::create_dir(&home).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let opened = Home::open(&home).unwrap();
        fs::rename(&home, directory.path().join("moved")).unwrap();
        symlink(&elsewhere, &home).unwrap();
        opened.place(&[file(&home.join("auth.json"), "x")]).unwrap();
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert!(directory.path().join("moved/auth.json").exists());
    }

    #[test]
    fn files_of_the_boot_document_are_written_where_they_say() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x/launcher.py");
        before_start(&[file(&path, "print()")]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "print()");
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert!(before_start(&[file(Path::new("/"), "x")]).is_err());
    }
}
