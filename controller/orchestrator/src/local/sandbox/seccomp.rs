//! Turns the list of allowed system calls into the filter program that bubblewrap installs.
//!
//! The default answer is ENOSYS, not EPERM: the C library asks for `clone3` first and falls back
//! only where the call seems not to exist. A call of another architecture kills its process; an x32
//! call is on no list. This module must not know bubblewrap or descriptors.

use super::syscalls;
use seccompiler::{BackendError, TargetArch};
use serde_json::{Value, json};

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// No list exists for this machine.
    #[error("no system call list for this architecture")]
    Architecture(#[source] BackendError),
    /// The list could not be written as a filter document.
    #[error("cannot write the system call list")]
    Write(#[from] serde_json::Error),
    /// The list was refused.
    #[error("cannot build the system call filter")]
    Build(#[from] seccompiler::Error),
    /// The filter document held no filter of this name.
    #[error("the system call filter is missing from its own document")]
    Missing,
}

/// The filter's name in the document that is compiled.
const FILTER: &str = "sandbox";

/// `clone` flags that make namespaces. `CLONE_NEWTIME` cannot be given to `clone`: its bit belongs
/// to the exit signal there.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;

/// Socket families: Unix, IPv4, IPv6, netlink (interface lists). Vsock is not among them, because
/// no network namespace confines it; nor is `AF_ALG`.
const SOCKET_FAMILIES: &[u64] = &[1, 2, 10, 16];

/// Terminal requests that type into the terminal as if its user had: TIOCSTI, TIOCLINUX.
const TYPING_IOCTLS: &[u64] = &[0x5412, 0x541C];

/// Execution domains: plain Linux, and the query for the current one.
const PERSONALITIES: &[u64] = &[0, 0xFFFF_FFFF];

/// The filter for this machine: an array of `struct sock_filter` in native byte order, as
/// bubblewrap's `--seccomp` reads it.
pub fn program() -> Result<Vec<u8>, SeccompError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(SeccompError::Architecture)?;
    program_for(arch)
}

fn program_for(arch: TargetArch) -> Result<Vec<u8>, SeccompError> {
    let document = serde_json::to_vec(&json!({
        FILTER: {
            "mismatch_action": { "errno": ENOSYS },
            "match_action": "allow",
            "filter": rules(arch),
        }
    }))?;
    let programs = seccompiler::compile_from_json(document.as_slice(), arch)?;
    let program = programs.get(FILTER).ok_or(SeccompError::Missing)?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.push(instruction.jt);
        bytes.push(instruction.jf);
        bytes.extend_from_slice(&instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}

/// The same number on every architecture that is supported.
const ENOSYS: u32 = 38;

/// Names that are allowed whatever their arguments.
fn plain(arch: TargetArch) -> impl Iterator<Item = &'static str> {
    let legacy = match arch {
        TargetArch::x86_64 => syscalls::X86_64,
        TargetArch::aarch64 | TargetArch::riscv64 => &[],
    };
    syscalls::COMMON.iter().copied().chain([legacy]).flatten().copied()
}

fn rules(arch: TargetArch) -> Vec<Value> {
    let any_of = |syscall: &'static str, values: &'static [u64]| {
        values
            .iter()
            .map(move |value| json!({ "syscall": syscall, "args": [argument(0, "eq", *value)] }))
    };
    plain(arch)
        .map(|syscall| json!({ "syscall": syscall }))
        .chain(any_of("socket", SOCKET_FAMILIES))
        // Pairs are of Unix sockets only.
        .chain(any_of("socketpair", &[1]))
        .chain(any_of("personality", PERSONALITIES))
        .chain([
            json!({ "syscall": "clone", "args": [
                { "index": 0, "type": "dword", "op": { "masked_eq": CLONE_NAMESPACES }, "val": 0 }
            ] }),
            json!({ "syscall": "ioctl", "args": TYPING_IOCTLS
                .iter()
                .map(|request| argument(1, "ne", *request))
                .collect::<Vec<_>>() }),
        ])
        .collect()
}

/// A condition on the lower 32 bits of one argument: all that the kernel reads of these.
fn argument(index: u8, op: &str, value: u64) -> Value {
    json!({ "index": index, "type": "dword", "op": op, "val": value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What a sandboxed program must never be able to ask of the kernel.
    const DANGEROUS: &[&str] = &[
        "acct",
        "add_key",
        "bpf",
        "chroot",
        "clock_adjtime",
        "clock_settime",
        "clone3",
        "delete_module",
        "fanotify_init",
        "finit_module",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "init_module",
        "io_uring_enter",
        "io_uring_register",
        "io_uring_setup",
        "ioperm",
        "iopl",
        "kcmp",
        "kexec_file_load",
        "kexec_load",
        "keyctl",
        "lookup_dcookie",
        "mbind",
        "memfd_secret",
        "migrate_pages",
        "modify_ldt",
        "mount",
        "mount_setattr",
        "move_mount",
        "move_pages",
        "name_to_handle_at",
        "open_by_handle_at",
        "open_tree",
        "perf_event_open",
        "pidfd_getfd",
        "pivot_root",
        "process_madvise",
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
        "quotactl",
        "quotactl_fd",
        "reboot",
        "request_key",
        "setdomainname",
        "sethostname",
        "setns",
        "settimeofday",
        "swapoff",
        "swapon",
        "syslog",
        "umount2",
        "unshare",
        "uselib",
        "userfaultfd",
        "vhangup",
    ];

    /// Allowed for some arguments only, so never without a condition.
    const CONDITIONAL: &[&str] = &["clone", "ioctl", "personality", "socket", "socketpair"];

    #[test]
    fn the_filter_builds_for_both_architectures() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            let bytes = program_for(arch).unwrap();
            assert_eq!(bytes.len() % 8, 0, "{arch:?}");
            // The kernel takes at most BPF_MAXINSNS instructions.
            assert!((300..4096).contains(&(bytes.len() / 8)), "{arch:?}: {}", bytes.len() / 8);
        }
    }

    #[test]
    fn dangerous_calls_are_on_no_list() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            let allowed: BTreeSet<_> = plain(arch).collect();
            let found: Vec<_> = DANGEROUS.iter().filter(|name| allowed.contains(*name)).collect();
            assert!(found.is_empty(), "{arch:?}: {found:?}");
        }
    }

    #[test]
    fn calls_with_a_condition_are_not_allowed_without_it() {
        let rules = rules(TargetArch::x86_64);
        for name in CONDITIONAL {
            let of_name: Vec<_> = rules.iter().filter(|rule| rule["syscall"] == *name).collect();
            assert!(!of_name.is_empty(), "{name}");
            assert!(of_name.iter().all(|rule| rule["args"].is_array()), "{name}");
        }
    }

    #[test]
    fn no_name_is_listed_twice() {
        let mut seen = BTreeSet::new();
        let twice: Vec<_> = plain(TargetArch::x86_64).filter(|name| !seen.insert(*name)).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn the_namespace_flags_are_those_of_the_kernel_header() {
        let flags = [
            0x0002_0000u64, // CLONE_NEWNS
            0x0200_0000,    // CLONE_NEWCGROUP
            0x0400_0000,    // CLONE_NEWUTS
            0x0800_0000,    // CLONE_NEWIPC
            0x1000_0000,    // CLONE_NEWUSER
            0x2000_0000,    // CLONE_NEWPID
            0x4000_0000,    // CLONE_NEWNET
        ];
        assert_eq!(CLONE_NAMESPACES, flags.into_iter().fold(0, |all, flag| all | flag));
    }
}
