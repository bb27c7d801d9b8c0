//! What one sandbox is, as values: its program, what it sees, what it may write, and its bounds.
//!
//! [`SandboxSpec::validate`] refuses what could weaken the sandbox or be misread on the way to it,
//! so that everything behind it may take a spec at its word. This module must not know bubblewrap,
//! cgroups or processes.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Component, Path, PathBuf},
};

/// One sandbox.
pub struct SandboxSpec {
    /// A DNS label, unique among the running sandboxes: names the cgroup and the logs.
    pub name: String,
    /// The program: an absolute path, the same inside and outside.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// All of its environment (bubblewrap adds `PWD`).
    pub env: BTreeMap<String, String>,
    /// Its working directory, inside.
    pub workdir: PathBuf,
    /// Its user and group inside, never 0.
    pub uid: u32,
    /// Its host name, a DNS label.
    pub hostname: String,
    /// Further host paths that it may read, under the same path inside.
    pub read_only: Vec<PathBuf>,
    /// Host files or sockets that it may read or connect to, and where they are inside.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// The only places that it may write to.
    pub tmpfs: Vec<Tmpfs>,
    /// Descriptors that it inherits, each under the number that it has here (`as_raw_fd`): tell the
    /// program these numbers.
    pub descriptors: Vec<OwnedFd>,
    /// Its bounds.
    pub limits: Limits,
}

/// A writable place, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where, inside.
    pub path: PathBuf,
    /// At most this many bytes (the kernel rounds up to pages). They count as memory of the
    /// sandbox.
    pub bytes: u64,
    /// Permission bits of its root directory, such as `0o700`.
    pub mode: u32,
}

/// Bounds on one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all its processes and tmpfs together, bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Open files per process.
    pub files: u64,
}

/// A spec that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A name that is no DNS label.
    #[error("sandbox {field} `{value}` must be 1 to 63 lower-case letters, digits and inner '-'")]
    Name {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// A path that is relative or has `..` in it.
    #[error("sandbox path `{0}` must be absolute, without `.` or `..`")]
    Path(PathBuf),
    /// A host path that would show the sandbox what it must not see.
    #[error("sandbox may not see the host's `{0}` as a whole: name what is needed of it")]
    TooMuch(PathBuf),
    /// A place inside that the sandbox itself lays out.
    #[error("sandbox place `{0}` is laid out by the sandbox itself")]
    Reserved(PathBuf),
    /// Two things at one place.
    #[error("sandbox place `{0}` is named twice")]
    Twice(PathBuf),
    /// A NUL byte where text goes to another program.
    #[error("sandbox {0} holds a NUL byte")]
    Nul(&'static str),
    /// A variable's name that cannot be one.
    #[error("sandbox variable name `{0}` is empty or holds '='")]
    Variable(String),
    /// Root inside.
    #[error("sandbox user must not be 0")]
    Root,
    /// A bound of nothing.
    #[error("sandbox {0} must be more than 0")]
    Zero(&'static str),
}

/// Host directories that hold secrets, other users' files, devices or kernel state. Parts of them
/// may be named, never all.
const NEVER_WHOLE: &[&str] = &[
    "/", "/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/var",
];

/// Host trees of which nothing may be named: they are kernel interfaces, not files.
const NEVER_AT_ALL: &[&str] = &["/dev", "/proc", "/sys"];

/// Where POSIX shared memory and named semaphores live: the one place under `/dev` for a tmpfs.
const SHARED_MEMORY: &str = "/dev/shm";

impl SandboxSpec {
    /// Refuses a spec that is not well-formed or would open the sandbox.
    pub fn validate(&self) -> Result<(), SpecError> {
        check_label("name", &self.name)?;
        check_label("hostname", &self.hostname)?;
        if self.uid == 0 {
            return Err(SpecError::Root);
        }
        check_limits(&self.limits)?;
        check_path(&self.program)?;
        check_path(&self.workdir)?;
        for host in self.read_only.iter().chain(self.binds.iter().map(|(host, _)| host)) {
            check_host_path(host)?;
        }
        self.check_places()?;
        self.check_text()
    }

    fn check_places(&self) -> Result<(), SpecError> {
        let mut places: Vec<&Path> = Vec::new();
        for path in self.read_only.iter().chain(self.binds.iter().map(|(_, inside)| inside)) {
            check_place(path)?;
            places.push(path);
        }
        for tmpfs in &self.tmpfs {
            if tmpfs.path != Path::new(SHARED_MEMORY) {
                check_place(&tmpfs.path)?;
            }
            if tmpfs.bytes == 0 {
                return Err(SpecError::Zero("tmpfs size"));
            }
            places.push(&tmpfs.path);
        }
        places.sort_unstable();
        match places.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => Err(SpecError::Twice(pair.iter().take(1).collect())),
            None => Ok(()),
        }
    }

    fn check_text(&self) -> Result<(), SpecError> {
        if self.args.iter().any(|arg| has_nul(arg)) {
            return Err(SpecError::Nul("argument"));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains('=') {
                return Err(SpecError::Variable(name.clone()));
            }
            if name.contains('\0') || value.contains('\0') {
                return Err(SpecError::Nul("environment"));
            }
        }
        Ok(())
    }
}

fn check_label(field: &'static str, value: &str) -> Result<(), SpecError> {
    let edge = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = value.as_bytes();
    let is_label = bytes.len() <= 63
        && bytes.iter().all(|c| edge(c) || *c == b'-')
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge);
    if is_label { Ok(()) } else { Err(SpecError::Name { field, value: value.to_owned() }) }
}

fn check_limits(limits: &Limits) -> Result<(), SpecError> {
    let named = [
        ("memory limit", limits.memory_bytes),
        ("process limit", u64::from(limits.pids)),
        ("file limit", limits.files),
    ];
    match named.into_iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(SpecError::Zero(name)),
        None => Ok(()),
    }
}

fn check_path(path: &Path) -> Result<(), SpecError> {
    let mut components = path.components();
    let is_plain = components.next() == Some(Component::RootDir)
        && components.all(|part| matches!(part, Component::Normal(_)))
        // `components` hides `.` parts and doubled slashes, so compare with what it would rebuild.
        && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    if !is_plain {
        return Err(SpecError::Path(path.to_path_buf()));
    }
    if has_nul(path.as_os_str()) { Err(SpecError::Nul("path")) } else { Ok(()) }
}

fn check_host_path(path: &Path) -> Result<(), SpecError> {
    check_path(path)?;
    let refused = NEVER_WHOLE.iter().any(|whole| path == Path::new(whole))
        || NEVER_AT_ALL.iter().any(|tree| path.starts_with(tree));
    if refused { Err(SpecError::TooMuch(path.to_path_buf())) } else { Ok(()) }
}

fn check_place(path: &Path) -> Result<(), SpecError> {
    check_path(path)?;
    let reserved = path == Path::new("/")
        || path == Path::new("/etc")
        || path == Path::new("/usr")
        || NEVER_AT_ALL.iter().any(|tree| path.starts_with(tree));
    if reserved { Err(SpecError::Reserved(path.to_path_buf())) } else { Ok(()) }
}

fn has_nul(text: &OsStr) -> bool {
    text.as_bytes().contains(&0)
}

#[cfg(test)]
pub(super) mod fixtures {
    use super::{Limits, SandboxSpec, Tmpfs};
    use std::{collections::BTreeMap, path::PathBuf};

    /// A spec that uses every field but the descriptors.
    pub(crate) fn spec() -> SandboxSpec {
        SandboxSpec {
            name: "w-1".into(),
            program: "/opt/patchbay/patchbay-worker".into(),
            args: vec!["host".into(), "--boot-fd".into(), "7".into()],
            env: BTreeMap::from([("HOME".into(), "/home/worker".into())]),
            workdir: "/home/worker".into(),
            uid: 10001,
            hostname: "worker".into(),
            read_only: vec!["/srv/venv".into()],
            binds: vec![(
                PathBuf::from("/run/patchbay/config.yml"),
                PathBuf::from("/home/worker/.config/config.yml"),
            )],
            tmpfs: vec![
                Tmpfs { path: "/tmp".into(), bytes: 1 << 20, mode: 0o1777 },
                Tmpfs { path: "/home/worker".into(), bytes: 2 << 20, mode: 0o700 },
            ],
            descriptors: Vec::new(),
            limits: Limits { memory_bytes: 64 << 20, pids: 64, files: 256 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{fixtures::spec, *};

    fn refusal(change: impl FnOnce(&mut SandboxSpec)) -> SpecError {
        let mut spec = spec();
        change(&mut spec);
        spec.validate().unwrap_err()
    }

    #[test]
    fn a_plain_spec_is_accepted() {
        assert_eq!(spec().validate(), Ok(()));
    }

    #[test]
    fn names_that_are_no_dns_label_are_refused() {
        for bad in ["", "a/b", "..", "A", "-a", "a-", &"a".repeat(64)] {
            assert!(matches!(refusal(|s| s.name = bad.into()), SpecError::Name { .. }), "{bad}");
            assert!(matches!(refusal(|s| s.hostname = bad.into()), SpecError::Name { .. }));
        }
    }

    #[test]
    fn root_inside_is_refused() {
        assert_eq!(refusal(|s| s.uid = 0), SpecError::Root);
    }

    #[test]
    fn relative_and_climbing_paths_are_refused() {
        for bad in ["usr/bin/sh", "/usr/../etc/shadow", "/usr/./bin/sh", "/usr//bin/sh", ""] {
            assert!(matches!(refusal(|s| s.program = bad.into()), SpecError::Path(_)), "{bad}");
            assert!(matches!(refusal(|s| s.read_only = vec![bad.into()]), SpecError::Path(_)));
        }
    }

    #[test]
    fn host_trees_that_hold_secrets_are_never_shown_whole() {
        for bad in ["/", "/etc", "/root", "/home", "/proc/1", "/sys/fs/cgroup", "/dev/vda", "/run"]
        {
            let path = PathBuf::from(bad);
            assert_eq!(
                refusal(|s| s.read_only = vec![path.clone()]),
                SpecError::TooMuch(path.clone())
            );
            assert_eq!(
                refusal(|s| s.binds = vec![(path.clone(), "/opt/x".into())]),
                SpecError::TooMuch(path)
            );
        }
    }

    #[test]
    fn nothing_is_mounted_over_what_the_sandbox_lays_out() {
        for bad in ["/", "/proc", "/proc/self", "/dev", "/dev/null", "/etc", "/usr"] {
            let tmpfs = vec![Tmpfs { path: bad.into(), bytes: 1, mode: 0o700 }];
            assert_eq!(refusal(|s| s.tmpfs = tmpfs), SpecError::Reserved(bad.into()));
        }
    }

    #[test]
    fn shared_memory_may_be_a_tmpfs() {
        let mut spec = spec();
        spec.tmpfs.push(Tmpfs { path: "/dev/shm".into(), bytes: 4096, mode: 0o1777 });
        assert_eq!(spec.validate(), Ok(()));
    }

    #[test]
    fn two_things_at_one_place_are_refused() {
        assert_eq!(
            refusal(|s| s.read_only.push("/tmp/../tmp".into())),
            SpecError::Path("/tmp/../tmp".into())
        );
        assert_eq!(
            refusal(|s| s.binds.push(("/srv/x".into(), "/home/worker".into()))),
            SpecError::Twice("/home/worker".into())
        );
    }

    #[test]
    fn bounds_of_nothing_are_refused() {
        assert_eq!(refusal(|s| s.limits.memory_bytes = 0), SpecError::Zero("memory limit"));
        assert_eq!(refusal(|s| s.limits.pids = 0), SpecError::Zero("process limit"));
        assert_eq!(refusal(|s| s.limits.files = 0), SpecError::Zero("file limit"));
        let tmpfs = vec![Tmpfs { path: "/tmp".into(), bytes: 0, mode: 0o700 }];
        assert_eq!(refusal(|s| s.tmpfs = tmpfs), SpecError::Zero("tmpfs size"));
    }

    #[test]
    fn nul_bytes_never_reach_the_argument_list() {
        assert_eq!(refusal(|s| s.args.push("a\0--bind".into())), SpecError::Nul("argument"));
        assert_eq!(
            refusal(|s| drop(s.env.insert("A".into(), "b\0c".into()))),
            SpecError::Nul("environment")
        );
        assert_eq!(refusal(|s| s.workdir = "/a\0b".into()), SpecError::Nul("path"));
        assert_eq!(
            refusal(|s| drop(s.env.insert("A=B".into(), "c".into()))),
            SpecError::Variable("A=B".into())
        );
    }
}
