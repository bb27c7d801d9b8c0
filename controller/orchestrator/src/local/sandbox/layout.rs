//! What the host's root looks like, read once at the edge: which of its directories are symbolic
//! links and which of the public files under `/etc` exist.
//!
//! The sandbox's root is built from this list and from nothing else: `/etc` holds keys and password
//! hashes, and a sandbox started by root reads files as their owner would. This module must not
//! know what a sandbox mounts beyond the system's own files.

use std::{
    io,
    path::{Path, PathBuf},
};

/// How a directory of the host's root is rebuilt inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootEntry {
    /// A symbolic link with this target (a merged `/usr`).
    Link(PathBuf),
    /// A directory of its own.
    Directory,
}

/// The host's root, as far as a sandbox sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLayout {
    /// `/bin`, `/sbin` and the library directories that exist, by path.
    pub root: Vec<(PathBuf, RootEntry)>,
    /// Public files and directories under `/etc` that exist.
    pub etc: Vec<PathBuf>,
}

const ROOT: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs need of `/etc` beyond users and hosts (which the sandbox has of its own): the
/// dynamic linker's cache, certificates, chosen alternatives, the time zone. Certificates are named
/// narrowly, for `/etc/ssl/private` and `/etc/pki/tls/private` hold keys.
const ETC: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates.conf",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

impl HostLayout {
    /// Reads this host's layout.
    pub fn read() -> io::Result<Self> {
        Self::read_under(Path::new("/"))
    }

    fn read_under(host: &Path) -> io::Result<Self> {
        let outside = |inside: &str| host.join(inside.trim_start_matches('/'));
        let mut root = Vec::new();
        for &path in ROOT {
            match std::fs::symlink_metadata(outside(path)) {
                Ok(found) if found.is_symlink() => {
                    let target = std::fs::read_link(outside(path))?;
                    root.push((PathBuf::from(path), RootEntry::Link(target)));
                }
                Ok(_) => root.push((PathBuf::from(path), RootEntry::Directory)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut etc = Vec::new();
        for &path in ETC {
            if std::fs::exists(outside(path))? {
                etc.push(PathBuf::from(path));
            }
        }
        Ok(Self { root, etc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_directories_and_absences_are_told_apart() {
        let host = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("usr/bin", host.path().join("bin")).unwrap();
        std::fs::create_dir_all(host.path().join("lib")).unwrap();
        std::fs::create_dir_all(host.path().join("etc/ssl/certs")).unwrap();
        std::fs::create_dir_all(host.path().join("etc/ssl/private")).unwrap();
        std::fs::write(host.path().join("etc/shadow"), "root:hash").unwrap();
        let layout = HostLayout::read_under(host.path()).unwrap();
        assert_eq!(
            layout,
            HostLayout {
                root: vec![
                    ("/bin".into(), RootEntry::Link("usr/bin".into())),
                    ("/lib".into(), RootEntry::Directory),
                ],
                etc: vec!["/etc/ssl/certs".into()],
            }
        );
    }
}
