//! Collects ended children. As pid 1 (and as a subreaper elsewhere) the host inherits the orphans
//! of its server; uncollected, they would fill the process table of the sandbox. All are collected
//! with one call per child, and the server is told apart by its pid, so its status is never lost
//! among theirs. It must not know why a child ended.

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

/// Collects every child that has ended; returns the exit code of `main` if it was among them: its
/// code, or the negative number of the signal that ended it.
pub(crate) fn collect(main: Pid) -> Option<i32> {
    let mut code = None;
    // ends with `None` (children, but none has ended) or ECHILD (no children)
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == main {
            code = Some(exit_code(status));
        }
    }
    code
}

fn exit_code(status: WaitStatus) -> i32 {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| -signal))
        .unwrap_or_default()
}
