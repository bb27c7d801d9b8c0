//! Where the files of a cluster are, all below one directory. Pure.

use super::{addresses::Addresses, component::Component};
use anyhow::ensure;
use std::path::{Path, PathBuf};

/// Directories that the node has of its own: a cluster below one of them could not see its own files.
const HIDDEN: [&str; 5] = ["/run", "/var/run", "/var/lib", "/var/log", "/proc"];

/// The files of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Below `directory`, an absolute path.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        let shown = directory.display();
        ensure!(directory.is_absolute(), "not an absolute path: {shown}");
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(directory.to_str().is_some_and(is_plain), "not a plain path: {shown}");
        let hidden = HIDDEN.iter().find(|hidden| directory.starts_with(hidden));
        ensure!(hidden.is_none(), "a cluster cannot be below {}: {shown}", hidden.unwrap_or(&""));
        Ok(Self { directory: directory.to_path_buf() })
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What runs, for whoever ends it.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state.json")
    }

    /// What runs, while it is being written.
    pub fn unfinished_state(&self) -> PathBuf {
        self.directory.join("state.json.new")
    }

    /// The administrator's.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// A component's own kubeconfig.
    pub fn kubeconfig_of(&self, component: Component) -> PathBuf {
        self.config(&format!("{component}.kubeconfig"))
    }

    /// A certificate or key.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.directory.join("pki").join(name)
    }

    /// A configuration file.
    pub fn config(&self, name: &str) -> PathBuf {
        self.directory.join("config").join(name)
    }

    /// What a component says.
    pub fn log(&self, component: Component) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }

    /// All that is said.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    /// Who asked the API server for what, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.log")
    }

    /// etcd's data.
    pub fn etcd(&self) -> PathBuf {
        self.directory.join("etcd")
    }

    /// The file system of the node: its /var/lib, /var/log and a few settings.
    pub fn node(&self) -> PathBuf {
        self.directory.join("node")
    }

    /// Root file systems of images that are made here, and their archives.
    pub fn images(&self) -> PathBuf {
        self.directory.join("images")
    }

    /// Everything below the directory that a cluster makes.
    pub fn contents(&self) -> [PathBuf; 9] {
        [
            self.pki(""),
            self.config(""),
            self.logs(),
            self.etcd(),
            self.node(),
            self.images(),
            self.kubeconfig(),
            self.unfinished_state(),
            // last: as long as it is there, the rest may be too
            self.state(),
        ]
    }
}

/// All that a component's arguments and files are made from.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where its files are.
    pub layout: Layout,
    /// Where the programs are.
    pub programs: PathBuf,
    /// Its addresses.
    pub addresses: Addresses,
    /// The cgroup of all pods, from the top of every hierarchy on.
    pub cgroup: String,
}

#[cfg(test)]
impl Plan {
    /// One that is the same at every run.
    pub(crate) fn example() -> Self {
        Self {
            layout: Layout { directory: "/cluster".into() },
            programs: "/programs".into(),
            addresses: Addresses::new(200),
            cgroup: "patchbay-cluster-0".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_the_node_could_not_see_is_refused() {
        for path in ["/run/cluster", "/var/lib/cluster", "cluster", "/tmp/a cluster"] {
            assert!(Layout::new(Path::new(path)).is_err(), "{path}");
        }
        assert!(Layout::new(Path::new("/var/libation/cluster")).is_ok());
    }
}
