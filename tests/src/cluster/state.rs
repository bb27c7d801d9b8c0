//! What runs, written down before it matters, so that any later run can end it. It must not know how.

use super::{addresses::Addresses, component::Component, layout::Layout, process::Recorded};
use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// What one cluster has made outside of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Names what is made on the host, so that nothing else has such a name.
    pub id: String,
    /// Where its programs are.
    pub programs: PathBuf,
    /// The first process of the node's namespaces. All others are inside and end with it.
    pub init: Option<Recorded>,
    /// Its addresses.
    pub addresses: Option<Addresses>,
    /// The components that were started, dead or alive.
    pub components: BTreeMap<Component, Recorded>,
    /// Whether it was ready once. If not, whatever brought it up has not come to its end.
    pub is_up: bool,
}

impl State {
    /// Of a cluster of which nothing is made yet.
    pub(super) fn new(programs: PathBuf) -> Self {
        let mut id = uuid::Uuid::new_v4().simple().to_string();
        id.truncate(8);
        Self {
            id,
            programs,
            init: None,
            addresses: None,
            components: BTreeMap::new(),
            is_up: false,
        }
    }

    /// The host's link to the node.
    pub(super) fn link(&self) -> String {
        format!("pb{}", self.id)
    }

    /// The cgroup of all pods.
    pub(super) fn cgroup(&self) -> String {
        format!("patchbay-cluster-{}", self.id)
    }

    /// What was written last; none where there is no cluster.
    pub(super) fn load(layout: &Layout) -> anyhow::Result<Option<Self>> {
        let path = layout.state();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        serde_json::from_slice(&text).with_context(|| format!("unreadable: {}", path.display()))
    }

    /// Written beside its place and moved there, so that whoever finds it finds all of it.
    pub(super) fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        let unfinished = layout.unfinished_state();
        write_private(&unfinished, &serde_json::to_vec_pretty(self)?)?;
        fs::rename(&unfinished, layout.state())?;
        Ok(())
    }
}

/// Makes a directory that is for this user alone, and those above it.
pub(super) fn make_private(directory: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make {}", directory.display()))
}

/// Writes a file that is for this user alone.
pub(super) fn write_private(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(content.as_ref())?;
    Ok(())
}

/// Held while a cluster is brought up or down: one at a time. It ends with its holder, however that ends.
#[derive(Debug)]
pub(super) struct Turn(
    #[expect(dead_code, reason = "the lock is held as long as it is open")] File,
);

/// Waits for the turn at this cluster.
pub(super) fn take_turn(layout: &Layout) -> anyhow::Result<Turn> {
    make_private(layout.directory())?;
    let directory = File::open(layout.directory())?;
    // it may have been there
    directory.set_permissions(Permissions::from_mode(0o700))?;
    flock(&directory, FlockOperation::LockExclusive)?;
    Ok(Turn(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let layout = Layout::new(folder.path()).unwrap();
        let _turn = take_turn(&layout).unwrap();
        assert_eq!(State::load(&layout).unwrap(), None);

        let mut state = State::new("/programs".into());
        state.addresses = Some(Addresses::new(200));
        state.components.insert(Component::Etcd, Recorded::of(std::process::id()).unwrap());
        state.save(&layout).unwrap();
        assert_eq!(State::load(&layout).unwrap(), Some(state));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(layout.directory()), mode(&layout.state())), (0o700, 0o600));
    }

    #[test]
    fn two_clusters_name_nothing_alike_and_the_kernel_takes_the_names() {
        let [one, two] = [State::new("/a".into()), State::new("/a".into())];
        assert_ne!(one.link(), two.link());
        assert_ne!(one.cgroup(), two.cgroup());
        assert!(one.link().len() <= 15, "IFNAMSIZ");
    }
}
