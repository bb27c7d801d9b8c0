//! Turns a [`SandboxSpec`] into bubblewrap's options: pure, so that the whole sandbox can be read
//! in one snapshot. The root is a list of what is shown, never the host's root with parts taken
//! away.
//!
//! The options travel through `--args FD`, so that neither paths nor environment are seen in a
//! process list. This module must not open, spawn or know cgroups.

use super::{
    layout::{HostLayout, RootEntry},
    spec::{SandboxSpec, Tmpfs},
};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// Numbers of the descriptors that bubblewrap reads or writes while it builds the sandbox. It
/// closes them before the program starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupFds {
    /// The seccomp program ([`super::seccomp::program`]).
    pub seccomp: i32,
    /// Where bubblewrap reports the sandbox's first process and its exit code.
    pub status: i32,
    /// Contents of `/etc/passwd` ([`passwd`]).
    pub passwd: i32,
    /// Contents of `/etc/group` ([`group`]).
    pub group: i32,
    /// Contents of `/etc/hosts` ([`hosts`]).
    pub hosts: i32,
}

/// One thing at one place inside.
enum Mount {
    Link(PathBuf),
    ReadOnly(PathBuf),
    Tmpfs { bytes: u64, mode: u32 },
    Dev,
    Proc,
    File(i32),
}

/// Bubblewrap's options for `spec`, without the program. `spec` has passed
/// [`SandboxSpec::validate`].
pub fn bwrap_args(spec: &SandboxSpec, layout: &HostLayout, fds: &SetupFds) -> Vec<OsString> {
    let mut args = Options::default();
    confine(&mut args, spec, fds);
    args.push(&["--clearenv"]);
    for (name, value) in &spec.env {
        args.push(&["--setenv", name, value]);
    }
    for (place, mount) in mounts(spec, layout, fds) {
        args.mount(&place, &mount);
    }
    args.push(&["--chdir"]).path(&spec.workdir);
    // Bubblewrap leaves its root and /dev as writable, unbounded tmpfs, and /proc writable: where
    // the sandbox was started by root, its processes own files such as
    // /proc/sys/kernel/core_pattern. The remount is not recursive, so every tmpfs of the spec stays
    // writable.
    args.push(&["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]);
    args.0
}

fn confine(args: &mut Options, spec: &SandboxSpec, fds: &SetupFds) {
    let uid = spec.uid.to_string();
    args.push(&["--unshare-user", "--uid", &uid, "--gid", &uid, "--disable-userns"])
        .push(&["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"])
        .push(&["--unshare-cgroup-try"])
        .push(&["--hostname", &spec.hostname])
        // Without a session of its own, a program could type into the controller's terminal.
        .push(&["--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"])
        .push(&["--seccomp", &fds.seccomp.to_string()])
        .push(&["--json-status-fd", &fds.status.to_string()]);
}

/// Everything that is mounted, parents before what lies in them: so a file can be bound into a
/// tmpfs, and a tmpfs never hides what was bound below it.
fn mounts(spec: &SandboxSpec, layout: &HostLayout, fds: &SetupFds) -> Vec<(PathBuf, Mount)> {
    let mut mounts: Vec<(PathBuf, Mount)> = vec![
        ("/dev".into(), Mount::Dev),
        ("/etc/group".into(), Mount::File(fds.group)),
        ("/etc/hosts".into(), Mount::File(fds.hosts)),
        ("/etc/passwd".into(), Mount::File(fds.passwd)),
        ("/proc".into(), Mount::Proc),
        ("/usr".into(), Mount::ReadOnly("/usr".into())),
    ];
    mounts.extend(layout.root.iter().map(|(path, entry)| {
        let mount = match entry {
            RootEntry::Link(target) => Mount::Link(target.clone()),
            RootEntry::Directory => Mount::ReadOnly(path.clone()),
        };
        (path.clone(), mount)
    }));
    let same = |path: &PathBuf| (path.clone(), Mount::ReadOnly(path.clone()));
    mounts.extend(layout.etc.iter().map(same));
    mounts.extend(spec.read_only.iter().map(same));
    if !is_shown(&spec.program, spec, layout) {
        mounts.push(same(&spec.program));
    }
    mounts.extend(
        spec.binds.iter().map(|(host, place)| (place.clone(), Mount::ReadOnly(host.clone()))),
    );
    mounts.extend(spec.tmpfs.iter().map(|Tmpfs { path, bytes, mode }| {
        (path.clone(), Mount::Tmpfs { bytes: *bytes, mode: *mode })
    }));
    mounts.sort_by(|(a, _), (b, _)| a.cmp(b));
    mounts
}

/// Whether the program is seen without a mount of its own.
fn is_shown(program: &Path, spec: &SandboxSpec, layout: &HostLayout) -> bool {
    program.starts_with("/usr")
        || layout.root.iter().any(|(path, _)| program.starts_with(path))
        || spec.read_only.iter().any(|path| program.starts_with(path))
        || spec.binds.iter().any(|(_, place)| program.starts_with(place))
}

/// `/etc/passwd` of a sandbox: the host's users are none of its business, and programs expect that
/// their own uid has a name.
pub fn passwd(spec: &SandboxSpec) -> String {
    let (uid, home) = (spec.uid, spec.env.get("HOME").map_or("/", String::as_str));
    // A colon or a line feed would start another field or another user.
    let home = if home.contains([':', '\n']) { "/" } else { home };
    format!(
        "root:x:0:0:root:/:/usr/sbin/nologin\n\
         worker:x:{uid}:{uid}:worker:{home}:/usr/sbin/nologin\n\
         nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    )
}

/// `/etc/group` of a sandbox.
pub fn group(spec: &SandboxSpec) -> String {
    format!("root:x:0:\nworker:x:{}:\nnogroup:x:65534:\n", spec.uid)
}

/// `/etc/hosts` of a sandbox: its own loopback, and no name of the host's network.
pub fn hosts(spec: &SandboxSpec) -> String {
    format!("127.0.0.1 localhost {}\n::1 localhost\n", spec.hostname)
}

/// The NUL-separated form that `--args FD` reads.
pub fn encode(args: &[OsString]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for arg in args {
        bytes.extend_from_slice(arg.as_bytes());
        bytes.push(0);
    }
    bytes
}

#[derive(Default)]
struct Options(Vec<OsString>);

impl Options {
    fn push(&mut self, options: &[&str]) -> &mut Self {
        self.0.extend(options.iter().map(OsString::from));
        self
    }

    fn path(&mut self, path: impl AsRef<OsStr>) -> &mut Self {
        self.0.push(path.as_ref().to_owned());
        self
    }

    fn mount(&mut self, place: &Path, mount: &Mount) {
        match mount {
            Mount::Link(target) => self.push(&["--symlink"]).path(target),
            Mount::ReadOnly(host) => self.push(&["--ro-bind"]).path(host),
            // `--perms` and `--size` hold for the next mount only.
            Mount::Tmpfs { bytes, mode } => self
                .push(&["--perms", &format!("{mode:04o}"), "--size", &bytes.to_string()])
                .push(&["--tmpfs"]),
            Mount::Dev => self.push(&["--dev"]),
            Mount::Proc => self.push(&["--proc"]),
            Mount::File(fd) => self.push(&["--perms", "0444", "--file", &fd.to_string()]),
        }
        .path(place);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::spec::fixtures::spec, *};

    const FDS: SetupFds = SetupFds { seccomp: 10, status: 11, passwd: 12, group: 13, hosts: 14 };

    fn layout() -> HostLayout {
        HostLayout {
            root: vec![
                ("/bin".into(), RootEntry::Link("usr/bin".into())),
                ("/lib32".into(), RootEntry::Directory),
            ],
            etc: vec!["/etc/ld.so.cache".into(), "/etc/ssl/certs".into()],
        }
    }

    fn args() -> Vec<String> {
        args_of(&spec())
    }

    fn args_of(spec: &SandboxSpec) -> Vec<String> {
        bwrap_args(spec, &layout(), &FDS)
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    fn position(args: &[String], wanted: &[&str]) -> Option<usize> {
        args.windows(wanted.len()).position(|window| window == wanted)
    }

    #[track_caller]
    fn assert_has(wanted: &[&str]) {
        assert!(position(&args(), wanted).is_some(), "{wanted:?} is missing");
    }

    #[test]
    fn the_whole_sandbox_reads_as_one_list() {
        let mut text = String::new();
        for arg in args() {
            let separator = if arg.starts_with("--") { "\n" } else { " " };
            text.push_str(separator);
            text.push_str(&arg);
        }
        insta::assert_snapshot!(text.trim_start(), @r"
        --unshare-user
        --uid 10001
        --gid 10001
        --disable-userns
        --unshare-pid
        --unshare-ipc
        --unshare-uts
        --unshare-net
        --unshare-cgroup-try
        --hostname worker
        --die-with-parent
        --new-session
        --as-pid-1
        --cap-drop ALL
        --seccomp 10
        --json-status-fd 11
        --clearenv
        --setenv HOME /home/worker
        --symlink usr/bin /bin
        --dev /dev
        --perms 0444
        --file 13 /etc/group
        --perms 0444
        --file 14 /etc/hosts
        --ro-bind /etc/ld.so.cache /etc/ld.so.cache
        --perms 0444
        --file 12 /etc/passwd
        --ro-bind /etc/ssl/certs /etc/ssl/certs
        --perms 0700
        --size 2097152
        --tmpfs /home/worker
        --ro-bind /run/patchbay/config.yml /home/worker/.config/config.yml
        --ro-bind /lib32 /lib32
        --ro-bind /opt/patchbay/patchbay-worker /opt/patchbay/patchbay-worker
        --proc /proc
        --ro-bind /srv/venv /srv/venv
        --perms 1777
        --size 1048576
        --tmpfs /tmp
        --ro-bind /usr /usr
        --chdir /home/worker
        --remount-ro /proc
        --remount-ro /dev
        --remount-ro /
        ");
    }

    #[test]
    fn every_namespace_is_its_own() {
        for name in ["user", "pid", "ipc", "uts", "net", "cgroup-try"] {
            assert_has(&[&format!("--unshare-{name}")]);
        }
        assert_has(&["--disable-userns"]);
        assert_has(&["--uid", "10001", "--gid", "10001"]);
        assert_has(&["--hostname", "worker"]);
    }

    #[test]
    fn it_dies_with_its_parent_and_has_no_capability_and_no_terminal() {
        for option in ["--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"] {
            assert_has(&[option]);
        }
        assert_has(&["--cap-drop", "ALL"]);
        assert_has(&["--seccomp", "10"]);
        assert!(!args().iter().any(|arg| arg == "--cap-add" || arg == "--share-net"));
    }

    #[test]
    fn nothing_of_the_host_is_writable_and_the_root_is_never_bound() {
        let args = args();
        for writable in ["--bind", "--bind-try", "--dev-bind", "--dev-bind-try", "--bind-fd"] {
            assert!(!args.iter().any(|arg| arg == writable), "{writable}");
        }
        assert_eq!(position(&args, &["--ro-bind", "/"]), None);
        assert_eq!(position(&args, &["--ro-bind", "/etc"]), None);
    }

    #[test]
    fn of_etc_only_the_listed_files_are_shown() {
        let args = args();
        let mut shown: Vec<&str> =
            args.iter().map(String::as_str).filter(|arg| arg.starts_with("/etc")).collect();
        shown.dedup();
        assert_eq!(
            shown,
            ["/etc/group", "/etc/hosts", "/etc/ld.so.cache", "/etc/passwd", "/etc/ssl/certs"]
        );
    }

    #[test]
    fn the_root_is_read_only_once_everything_is_mounted() {
        let args = args();
        let first_remount = position(&args, &["--remount-ro", "/proc"]).unwrap();
        assert_eq!(
            &args[first_remount..],
            ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]
        );
    }

    #[test]
    fn sizes_and_modes_belong_to_their_own_tmpfs() {
        assert_has(&["--perms", "1777", "--size", "1048576", "--tmpfs", "/tmp"]);
        assert_has(&["--perms", "0700", "--size", "2097152", "--tmpfs", "/home/worker"]);
    }

    #[test]
    fn a_file_bound_into_a_tmpfs_comes_after_it() {
        let args = args();
        let tmpfs = position(&args, &["--tmpfs", "/home/worker"]).unwrap();
        let bound = ["--ro-bind", "/run/patchbay/config.yml", "/home/worker/.config/config.yml"];
        assert!(tmpfs < position(&args, &bound).unwrap());
    }

    #[test]
    fn the_program_is_bound_only_where_it_is_not_shown_already() {
        let program = "/opt/patchbay/patchbay-worker";
        assert_has(&["--ro-bind", program, program]);
        for shown in ["/usr/bin/env", "/bin/sh", "/srv/venv/bin/python"] {
            let mut spec = spec();
            spec.program = shown.into();
            assert_eq!(position(&args_of(&spec), &["--ro-bind", shown]), None, "{shown}");
        }
    }

    #[test]
    fn the_environment_is_set_and_the_program_is_left_out() {
        assert_has(&["--setenv", "HOME", "/home/worker"]);
        assert!(!args().iter().any(|arg| arg == "--boot-fd"));
    }

    #[test]
    fn a_home_with_a_colon_adds_no_user() {
        let mut spec = spec();
        spec.env.insert("HOME".into(), "/\nevil:x:0:0::/:/bin/sh".into());
        assert_eq!(passwd(&spec).lines().count(), 3);
        assert!(!passwd(&spec).contains("evil"));
    }

    #[test]
    fn encoded_arguments_are_ended_by_nul() {
        assert_eq!(encode(&["--a".into(), String::new().into(), "b".into()]), b"--a\0\0b\0");
    }
}
