//! The cgroup of all pods of a cluster, in every hierarchy of this machine. Kubelet wants it to be there, and
//! makes what is below it; the kernel takes none of that away when the processes end.

use anyhow::{Context, ensure};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

/// What a hierarchy of version 2 has to hand on for pods to be limited.
const CONTROLLERS: &str = "+cpuset +cpu +io +memory +pids";

/// Makes the cgroup `name`.
pub(super) fn make(name: &str) -> anyhow::Result<()> {
    let tops = tops(&fs::read_to_string("/proc/self/mountinfo")?);
    ensure!(!tops.is_empty(), "this machine has no cgroups");
    for top in tops {
        // version 2 only; fails where a service manager keeps it to itself, and then kubelet says what it lacks
        let _ = fs::write(top.join("cgroup.subtree_control"), CONTROLLERS);
        let cgroup = top.join(name);
        fs::create_dir_all(&cgroup).with_context(|| cgroup.display().to_string())?;
    }
    Ok(())
}

/// Removes the cgroup `name` and all below it, if it is there. Its processes have been ended.
pub(super) fn remove(name: &str) -> anyhow::Result<()> {
    for top in tops(&fs::read_to_string("/proc/self/mountinfo")?) {
        let cgroup = top.join(name);
        let mut left = 100;
        while let Err(error) = remove_below(&cgroup) {
            ensure!(
                left > 0 && error.kind() == ErrorKind::ResourceBusy,
                "{error}: {}",
                cgroup.display()
            );
            left -= 1;
            // the kernel tells nobody when the last of a cgroup's processes is taken apart
            sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

fn remove_below(cgroup: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(cgroup) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// Where the hierarchies are mounted, from the text of `/proc/self/mountinfo`.
fn tops(mountinfo: &str) -> Vec<PathBuf> {
    let top = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let kind = file_system.split(' ').next()?;
        let point = mount.split(' ').nth(4)?;
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(point))
    };
    mountinfo.lines().filter_map(top).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_of_either_version_is_found() {
        let mountinfo = "31 30 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                         24 23 0:22 / /sys rw - sysfs sysfs rw\n\
                         32 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        let expected = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        assert_eq!(tops(mountinfo), expected);
    }
}
