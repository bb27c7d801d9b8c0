//! Where this process could make cgroups: from the text of `/proc/self/mountinfo` and
//! `/proc/self/cgroup` to candidate directories, best first. Pure; whether a candidate is writable
//! is tried in [`super::cgroup`].

use std::path::{Component, Path, PathBuf};

/// Candidate directories per hierarchy. The first is this process's own cgroup, so that limits on
/// the controller hold for its sandboxes too; the second is the top of the hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Hierarchies {
    /// The v2 hierarchy.
    pub(super) v2: Vec<PathBuf>,
    /// The v1 memory controller.
    pub(super) memory: Vec<PathBuf>,
    /// The v1 pids controller.
    pub(super) pids: Vec<PathBuf>,
}

impl Hierarchies {
    pub(super) fn parse(mountinfo: &str, own_cgroups: &str) -> Self {
        Self {
            v2: candidates(mountinfo, own_cgroups, None),
            memory: candidates(mountinfo, own_cgroups, Some("memory")),
            pids: candidates(mountinfo, own_cgroups, Some("pids")),
        }
    }
}

/// Candidates for the v1 `controller`, or for v2 where there is none.
fn candidates(mountinfo: &str, own_cgroups: &str, controller: Option<&str>) -> Vec<PathBuf> {
    let Some((root, top)) = mountinfo.lines().find_map(|line| mount_of(line, controller)) else {
        return Vec::new();
    };
    let own = own_cgroups
        .lines()
        .find_map(|line| own_path(line, controller))
        // Outside of what is mounted here: a container that shows only a part of the hierarchy.
        .and_then(|own| own.strip_prefix(root).ok())
        .filter(|own| own.components().all(|part| matches!(part, Component::Normal(_))))
        .map(|own| top.join(own));
    let mut candidates: Vec<PathBuf> = own.into_iter().collect();
    if !candidates.iter().any(|own| own == top) {
        candidates.push(top.to_path_buf());
    }
    candidates
}

/// Root within the hierarchy and mount point, if a line of `mountinfo` (see proc(5)) mounts the
/// wanted hierarchy. Mount points with escaped characters are passed over: none is used for
/// cgroups.
fn mount_of<'a>(line: &'a str, controller: Option<&str>) -> Option<(&'a Path, &'a Path)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut filesystem = filesystem.split(' ');
    let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
    let wanted = match controller {
        None => kind == "cgroup2",
        Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
    };
    (wanted && !point.contains('\\')).then_some((Path::new(root), Path::new(point)))
}

/// The path of a line `number:controllers:path` (cgroups(7)) if it is of the wanted hierarchy.
fn own_path<'a>(line: &'a str, controller: Option<&str>) -> Option<&'a Path> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let wanted = match controller {
        None => controllers.is_empty(),
        Some(name) => controllers.split(',').any(|each| each == name),
    };
    wanted.then_some(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delegated_v2_subtree_comes_before_the_top() {
        let found = Hierarchies::parse(
            "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate",
            "0::/user.slice/user-1000.slice/run-1.scope\n",
        );
        assert_eq!(
            found.v2,
            [
                PathBuf::from("/sys/fs/cgroup/user.slice/user-1000.slice/run-1.scope"),
                PathBuf::from("/sys/fs/cgroup")
            ]
        );
        assert!(found.memory.is_empty() && found.pids.is_empty());
    }

    #[test]
    fn v1_controllers_are_found_by_their_mount_options() {
        let found = Hierarchies::parse(
            "40 32 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
             41 32 0:34 / /sys/fs/cgroup/cpu,pids rw,relatime - cgroup cgroup rw,cpu,pids\n\
             42 32 0:35 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
            "5:cpu,pids:/\n4:memory:/service/a\n0::/\n",
        );
        assert_eq!(
            found,
            Hierarchies {
                v2: vec!["/sys/fs/cgroup/unified".into()],
                memory: vec![
                    "/sys/fs/cgroup/memory/service/a".into(),
                    "/sys/fs/cgroup/memory".into()
                ],
                pids: vec!["/sys/fs/cgroup/cpu,pids".into()],
            }
        );
    }

    #[test]
    fn a_container_that_shows_a_part_of_the_hierarchy_gets_paths_within_it() {
        let found = Hierarchies::parse(
            "40 32 0:33 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
            "4:memory:/docker/abc/inner",
        );
        assert_eq!(
            found.memory,
            [PathBuf::from("/sys/fs/cgroup/memory/inner"), "/sys/fs/cgroup/memory".into()]
        );
    }

    #[test]
    fn a_cgroup_outside_of_the_mount_leaves_only_the_top() {
        let mountinfo = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(
            Hierarchies::parse(mountinfo, "0::/../other").v2,
            [PathBuf::from("/sys/fs/cgroup")]
        );
    }

    #[test]
    fn without_cgroups_there_is_no_candidate() {
        let found = Hierarchies::parse("20 1 8:1 / / rw - ext4 /dev/vda rw\nbroken", "");
        assert_eq!(found, Hierarchies::default());
    }
}
