//! Makes a directory of a cgroup hierarchy ready to hold sandboxes, or says why it cannot: the
//! effects behind the choice of [`super::cgroup::Cgroups::open`]. This module must not know limits.

use super::instance::Instance;
use std::{
    io,
    path::{Path, PathBuf},
};

/// The directory of all instances.
pub(super) const PARENT: &str = "patchbay";

/// Makes `dir` ready for v2 cgroups of sandboxes below `patchbay/<instance>`.
pub(super) fn open_v2(dir: &Path, instance: &Instance) -> io::Result<PathBuf> {
    let controllers = std::fs::read_to_string(dir.join("cgroup.controllers"))?;
    if !(has_word(&controllers, "memory") && has_word(&controllers, "pids")) {
        return Err(io::Error::other("memory and pids controllers are not available"));
    }
    let parent = dir.join(PARENT);
    let own = parent.join(instance.to_string());
    enable_controllers(dir)?;
    std::fs::create_dir_all(&own)?;
    enable_controllers(&parent)?;
    enable_controllers(&own)?;
    Ok(own)
}

/// A v2 cgroup passes controllers to its children only while it holds no process itself (the top of
/// the hierarchy excepted). A subtree that was delegated to us holds this process alone: it steps
/// aside into a cgroup of its own.
fn enable_controllers(dir: &Path) -> io::Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&file)?;
    if has_word(&enabled, "memory") && has_word(&enabled, "pids") {
        return Ok(());
    }
    let enable = || std::fs::write(&file, "+memory +pids");
    match enable() {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && holds_only_us(dir)? => {
            let aside = dir.join("patchbay-controller");
            std::fs::create_dir_all(&aside)?;
            std::fs::write(aside.join("cgroup.procs"), std::process::id().to_string())?;
            enable()
        }
        result => result,
    }
}

fn holds_only_us(dir: &Path) -> io::Result<bool> {
    let own = std::process::id().to_string();
    Ok(std::fs::read_to_string(dir.join("cgroup.procs"))?.lines().all(|pid| pid == own))
}

/// Makes `dir` ready for v1 cgroups of sandboxes below `patchbay/<instance>`; `needed` is the file
/// that tells the wanted controller.
pub(super) fn open_v1(dir: &Path, instance: &Instance, needed: &str) -> io::Result<PathBuf> {
    let own = dir.join(PARENT).join(instance.to_string());
    std::fs::create_dir_all(&own)?;
    match std::fs::OpenOptions::new().write(true).open(own.join(needed)) {
        Ok(_) => Ok(own),
        Err(error) => {
            remove_where_empty(&own);
            Err(error)
        }
    }
}

/// For directories that others may use as well: what is not empty stays.
pub(super) fn remove_where_empty(dir: &Path) {
    if let Err(error) = std::fs::remove_dir(dir) {
        tracing::debug!(?dir, %error, "cgroup stays");
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_ascii_whitespace().any(|each| each == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A v2 directory on a plain file system, where enabling a controller always succeeds.
    fn v2(controllers: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(dir.path().join("cgroup.subtree_control"), "").unwrap();
        dir
    }

    #[test]
    fn controllers_are_enabled_on_the_way_down() {
        let dir = v2("cpu memory pids\n");
        // The kernel makes these files with the directory.
        let parent = dir.path().join(PARENT);
        let instance = Instance::new().unwrap();
        let own = parent.join(instance.to_string());
        std::fs::create_dir_all(&own).unwrap();
        for made in [&parent, &own] {
            std::fs::write(made.join("cgroup.subtree_control"), "").unwrap();
        }
        assert_eq!(open_v2(dir.path(), &instance).unwrap(), own);
        for enabled in [dir.path(), parent.as_path(), own.as_path()] {
            let text = std::fs::read_to_string(enabled.join("cgroup.subtree_control")).unwrap();
            assert_eq!(text, "+memory +pids", "{}", enabled.display());
        }
    }

    #[test]
    fn what_is_enabled_already_is_not_written_again() {
        let dir = v2("");
        let control = dir.path().join("cgroup.subtree_control");
        std::fs::write(&control, "cpu memory pids\n").unwrap();
        enable_controllers(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&control).unwrap(), "cpu memory pids\n");
    }

    #[test]
    fn a_cgroup_with_other_processes_is_not_ours_to_leave() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id();
        std::fs::write(dir.path().join("cgroup.procs"), format!("{own}\n")).unwrap();
        assert!(holds_only_us(dir.path()).unwrap());
        std::fs::write(dir.path().join("cgroup.procs"), format!("1\n{own}\n")).unwrap();
        assert!(!holds_only_us(dir.path()).unwrap());
    }
}
