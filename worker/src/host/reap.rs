//! Collects ended children. As pid 1 (and as a subreaper elsewhere) the host inherits the orphans of its programs;
//! uncollected, they would fill the process table of the sandbox. All are collected with one call per child, and each
//! program is told apart by its pid, so its status is never lost among theirs. It must not know why a child ended.

use parking_lot::Mutex;
use rustix::process::{Pid, WaitOptions, WaitStatus, set_child_subreaper, wait};
use std::{
    collections::HashMap,
    io,
    process::{Child, Command},
    sync::Arc,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// The programs that run, and whom their ends are told to.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: Mutex<HashMap<Pid, oneshot::Sender<i32>>>,
}

/// A program's end: its exit code, or the negative number of the signal that ended it.
pub(crate) type End = oneshot::Receiver<i32>;

impl Reaper {
    /// Begins to collect, for as long as the runtime runs.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let child_ended = signal(SignalKind::child())?;
        let reaper = Arc::new(Self::default());
        tokio::spawn(Arc::clone(&reaper).run(child_ended));
        Ok(reaper)
    }

    async fn run(self: Arc<Self>, mut child_ended: Signal) {
        while child_ended.recv().await.is_some() {
            self.collect();
        }
    }

    /// Starts a program. Its handle must not be waited on: that is done here.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Child, End)> {
        // held over both: one that ends at once is not collected before it is known
        let mut waiting = self.waiting.lock();
        let child = command.spawn()?;
        let (tell, end) = oneshot::channel();
        waiting.insert(Pid::from_child(&child), tell);
        Ok((child, end))
    }

    fn collect(&self) {
        let mut waiting = self.waiting.lock();
        // ends with `None` (children, but none has ended) or ECHILD (no children)
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(tell) = waiting.remove(&pid) {
                // nobody may want to know any more
                let _ = tell.send(exit_code(status));
            }
        }
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| -signal))
        .unwrap_or_default()
}
