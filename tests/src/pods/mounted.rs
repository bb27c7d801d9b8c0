//! A directory as a pod mounts a Secret: its files are exchanged all at once, and whoever reads them sees the old ones or the
//! new ones. It must not know what is in them.

use std::{fs, io, os::unix::fs::symlink, path::PathBuf};
use tempfile::TempDir;

/// What leads to the files of the moment, as a node's agent calls it.
const DATA: &str = "..data";

/// The directory. It is there until this is dropped.
pub struct Mounted(TempDir);

impl Mounted {
    /// One with no files in it.
    pub fn empty() -> io::Result<Self> {
        tempfile::Builder::new().prefix("pb").tempdir().map(Self)
    }

    /// One with these files in it, by name.
    pub fn with(files: &[(&str, &str)]) -> io::Result<Self> {
        let mounted = Self::empty()?;
        mounted.exchange(files)?;
        Ok(mounted)
    }

    /// Where a file of this name is, or will be.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(DATA).join(name)
    }

    /// Has these files in the place of those that it had.
    pub fn exchange(&self, files: &[(&str, &str)]) -> io::Result<()> {
        let at = |name: String| self.0.path().join(name);
        let next = format!("..{}", uuid::Uuid::new_v4().simple());
        let (directory, link) = (at(next.clone()), at(format!("{next}-link")));
        fs::create_dir(&directory)?;
        for (name, content) in files {
            fs::write(directory.join(name), content)?;
        }
        symlink(&next, &link)?;
        fs::rename(&link, at(DATA.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_exchanged_under_the_same_names() {
        let mounted = Mounted::empty().unwrap();
        let read = |name| fs::read_to_string(mounted.file(name)).ok();
        assert_eq!(read("a"), None);
        mounted.exchange(&[("a", "1"), ("b", "2")]).unwrap();
        assert_eq!((read("a").as_deref(), read("b").as_deref()), (Some("1"), Some("2")));
        mounted.exchange(&[("a", "3")]).unwrap();
        assert_eq!((read("a").as_deref(), read("b")), (Some("3"), None));
    }
}
