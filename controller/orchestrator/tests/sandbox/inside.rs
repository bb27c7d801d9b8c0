//! What a program in a sandbox sees and may ask of the kernel.

use crate::support::{launcher, look, run, shell, tools};
use patchbay_orchestrator::local::sandbox::{Cgroups, Ended, Instance, Tmpfs, doctor};

#[tokio::test]
async fn the_doctor_finds_every_property_here() {
    let found = doctor::probe(tools(), Cgroups::open(&Instance::new().unwrap())).await;
    let failed: Vec<_> = found.iter().filter(|property| !property.ok).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for expected in [
        "bubblewrap",
        "sandbox starts",
        "read-only root",
        "host files",
        "no capabilities",
        "no new privileges",
        "system call filter",
        "no network",
        "process namespace",
        "no nested namespaces",
        "bounded tmpfs",
        "limits",
    ] {
        assert!(found.iter().any(|property| property.name == expected), "{expected}");
    }
}

#[tokio::test]
async fn without_bubblewrap_the_doctor_says_what_to_install() {
    let mut tools = tools();
    tools.bwrap = "/does/not/exist".into();
    let found = doctor::probe(tools, Cgroups::rlimits_only()).await;
    assert_eq!(found.len(), 1);
    assert!(!found[0].ok);
    assert!(found[0].fix.as_ref().unwrap().contains("apt install bubblewrap"));
}

#[tokio::test]
async fn only_tmpfs_can_be_written_to() {
    let script = "for d in / /usr /usr/bin /etc /dev /dev/shm /proc /run /home /var; do \
                  touch $d/x 2>/dev/null && echo $d; done; touch /tmp/x && echo /tmp";
    assert_eq!(look("writes", script).await, "/tmp\n");
}

#[tokio::test]
async fn every_writable_file_system_is_a_tmpfs_of_the_spec() {
    let script = "sed -n 's/^[^ ]* \\([^ ]*\\) \\([^ ]*\\) rw.*/\\1 \\2/p' /proc/self/mounts";
    let mounts = look("mounts", script).await;
    // Single device nodes and the sandbox's own terminals: no file can be made there.
    let writable = |mount: &&str| !mount.ends_with(" devtmpfs") && !mount.ends_with(" devpts");
    assert_eq!(mounts.lines().filter(writable).collect::<Vec<_>>(), ["/tmp tmpfs"]);
}

#[tokio::test]
async fn device_nodes_of_the_host_work_but_cannot_be_changed() {
    // To the modes that they have, so that nothing is harmed where this fails.
    let script = "for n in null zero full random urandom tty; do \
                  chmod $(stat -c %a /dev/$n) /dev/$n 2>/dev/null && echo changed $n; \
                  touch -c -m -r /dev/$n /dev/$n 2>/dev/null && echo touched $n; done; \
                  echo x > /dev/null && head -c 2 /dev/zero | wc -c && \
                  head -c 2 /dev/urandom | wc -c";
    assert_eq!(look("devices", script).await, "2\n2\n");
}

#[tokio::test]
async fn kernel_settings_cannot_be_changed() {
    let script = "for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches \
                  /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/self/oom_score_adj; do \
                  { true >> $f; } 2>/dev/null && echo $f; done; true";
    assert_eq!(look("settings", script).await, "");
}

#[tokio::test]
async fn of_the_hosts_files_only_the_listed_ones_are_there() {
    let root = look("root", "ls -1 / | grep -v -E '^lib|^bin$|^sbin$'").await;
    assert_eq!(root, "dev\netc\nproc\ntmp\nusr\n");
    let script = "for f in /etc/shadow /etc/ssl/private /etc/hostname /etc/resolv.conf /root /home \
                  /var /run /sys /boot /etc/machine-id /etc/ssh; do \
                  test -e $f && echo $f; done; true";
    assert_eq!(look("files", script).await, "");
}

#[tokio::test]
async fn it_has_users_hosts_and_certificates_of_its_own() {
    assert_eq!(look("user", "id -un; id -u; hostname").await, "worker\n10001\ninside\n");
    assert!(!look("users", "cat /etc/passwd").await.contains("/bin/bash"));
    assert!(look("hosts", "getent hosts localhost").await.contains("localhost"));
}

#[tokio::test]
async fn the_environment_is_the_specs_alone() {
    assert_eq!(look("env", "env | sort").await, "PATH=/usr/bin:/bin\nPWD=/tmp\n");
}

#[tokio::test]
async fn it_is_process_1_and_sees_no_other() {
    assert_eq!(look("processes", "echo $$ /proc/[0-9]*").await, "1 /proc/1\n");
}

#[tokio::test]
async fn there_is_no_network_but_its_own_loopback() {
    let script = r#"
        use strict; use Socket;
        socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
        for my $to ([169, 254, 169, 254], [127, 0, 0, 1], [8, 8, 8, 8]) {
            my $there = pack_sockaddr_in(80, pack("C4", @$to));
            print connect($s, $there) ? "connected " : $!{ENETUNREACH} ? "away " : "refused ";
        }"#;
    let mut spec = shell("network", "");
    spec.program = "/usr/bin/perl".into();
    spec.args = vec!["-MErrno".into(), "-e".into(), script.into()];
    let outcome = run(&launcher(), spec).await;
    assert_eq!(outcome.stdout.trim(), "away refused away", "{}", outcome.stderr);
}

/// Numbers of system calls that would break out of the sandbox or into its neighbours.
#[cfg(target_arch = "x86_64")]
const FORBIDDEN: &[(&str, u32)] = &[
    ("ptrace", 101),
    ("mount", 165),
    ("pivot_root", 155),
    ("chroot", 161),
    ("add_key", 248),
    ("keyctl", 250),
    ("unshare", 272),
    ("perf_event_open", 298),
    ("open_by_handle_at", 304),
    ("setns", 308),
    ("process_vm_readv", 310),
    ("process_vm_writev", 311),
    ("bpf", 321),
    ("userfaultfd", 323),
    ("io_uring_setup", 425),
    ("clone3", 435),
    ("pidfd_getfd", 438),
    ("x32 getpid", 0x4000_0027),
];
#[cfg(target_arch = "aarch64")]
const FORBIDDEN: &[(&str, u32)] = &[
    ("ptrace", 117),
    ("mount", 40),
    ("pivot_root", 41),
    ("chroot", 51),
    ("add_key", 217),
    ("keyctl", 219),
    ("unshare", 97),
    ("perf_event_open", 241),
    ("open_by_handle_at", 265),
    ("setns", 268),
    ("process_vm_readv", 270),
    ("process_vm_writev", 271),
    ("bpf", 280),
    ("userfaultfd", 282),
    ("io_uring_setup", 425),
    ("clone3", 435),
    ("pidfd_getfd", 438),
];

#[tokio::test]
async fn forbidden_system_calls_do_not_exist() {
    let numbers: Vec<_> = FORBIDDEN.iter().map(|(_, number)| number.to_string()).collect();
    // Without Errno's names: 38 is ENOSYS. The first argument is a process that exists.
    let script = format!(
        "for my $n ({}) {{ my $r = syscall($n, 1, 0, 0, 0, 0); print $r, ' ', $!+0, qq(\\n); }}",
        numbers.join(",")
    );
    let mut spec = shell("calls", "");
    spec.program = "/usr/bin/perl".into();
    spec.args = vec!["-e".into(), script.into()];
    let outcome = run(&launcher(), spec).await;
    let answers: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(answers.len(), FORBIDDEN.len(), "{}", outcome.stderr);
    for ((name, _), answer) in FORBIDDEN.iter().zip(answers) {
        assert_eq!(answer, "-1 38", "{name}");
    }
}

#[tokio::test]
async fn sockets_are_of_the_allowed_families_only() {
    // Unix, IPv4, IPv6, netlink; then vsock (no network namespace confines it), AF_ALG and packet.
    let script = "for my $f (1, 2, 10, 16, 40, 38, 17) { \
                  my $made = socket(my $s, $f, $f == 16 ? 3 : 1, 0); \
                  print $made ? 'yes ' : $!+0 == 38 ? 'none ' : \"$! \"; }";
    let mut spec = shell("families", "");
    spec.program = "/usr/bin/perl".into();
    spec.args = vec!["-e".into(), script.into()];
    let outcome = run(&launcher(), spec).await;
    assert_eq!(outcome.stdout.trim(), "yes yes yes yes none none none", "{}", outcome.stderr);
}

#[tokio::test]
async fn namespaces_cannot_be_nested() {
    let script = "for kind in user mount net pid; do \
                  unshare --$kind true 2>/dev/null && echo $kind; done; \
                  bwrap --ro-bind / / true 2>/dev/null && echo bwrap; true";
    assert_eq!(look("nested", script).await, "");
}

#[tokio::test]
async fn what_is_bound_is_read_only_and_lies_in_its_tmpfs() {
    let host = tempfile::tempdir().unwrap();
    let file = host.path().join("config.yml");
    std::fs::write(&file, "from the host\n").unwrap();
    let mut spec = shell(
        "bound",
        "cat /home/worker/.config/config.yml; \
         echo x 2>/dev/null >> /home/worker/.config/config.yml && echo written; \
         chmod 600 /home/worker/.config/config.yml 2>/dev/null && echo changed; \
         rm -f /home/worker/.config/config.yml 2>/dev/null && echo removed; \
         touch /home/worker/mine && stat -c %a /home/worker",
    );
    spec.tmpfs.push(Tmpfs { path: "/home/worker".into(), bytes: 1 << 20, mode: 0o700 });
    spec.binds.push((file.clone(), "/home/worker/.config/config.yml".into()));
    let outcome = run(&launcher(), spec).await;
    assert_eq!(outcome.stdout, "from the host\n700\n", "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "from the host\n");
}

#[tokio::test]
async fn a_program_that_is_missing_never_starts_and_the_reason_is_told() {
    let mut spec = shell("missing", "");
    spec.program = "/usr/bin/does-not-exist".into();
    let outcome = run(&launcher(), spec).await;
    assert_eq!(outcome.exit.ended, Ended::NeverStarted);
    assert!(outcome.stderr.contains("does-not-exist"), "{}", outcome.stderr);
}
