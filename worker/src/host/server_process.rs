//! The MCP server's process: started with an environment built from nothing, in a process group of
//! its own; its output becomes log lines; its end is collected together with its orphans'. It must
//! not know the agent, or what the server serves.

use super::{log_lines, reap};
use rustix::process::{Pid, Signal, kill_process_group, set_child_subreaper};
use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    net::unix::pipe::Receiver,
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    task::JoinSet,
    time::timeout,
};

/// The running MCP server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    pid: Pid,
    child_ended: SignalStream,
    logs: JoinSet<()>,
}

/// A server that did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("the command is empty")]
    NoCommand,
    #[error("cannot run `{program}` in `{}`", workdir.display())]
    Start {
        program: String,
        workdir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot collect ended processes")]
    Reap(#[source] io::Error),
    #[error("cannot read the server's output")]
    Output(#[source] io::Error),
}

impl ServerProcess {
    /// Starts `command` in `workdir` with no environment but `env`.
    pub(crate) fn spawn<'a>(
        command: &[String],
        env: impl IntoIterator<Item = (&'a str, &'a str)>,
        workdir: &Path,
    ) -> Result<Self, SpawnError> {
        let [program, arguments @ ..] = command else {
            return Err(SpawnError::NoCommand);
        };
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| SpawnError::Reap(errno.into()))?;
        // before the start, or the end of a short-lived server could pass unseen
        let child_ended = signal(SignalKind::child()).map_err(SpawnError::Reap)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(env)
            .current_dir(workdir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| SpawnError::Start {
                program: program.clone(),
                workdir: workdir.to_owned(),
                source,
            })?;
        let mut logs = JoinSet::new();
        if let Some(output) = child.stdout.take() {
            logs.spawn(log_lines::log(receiver(output.into())?, "stdout"));
        }
        if let Some(output) = child.stderr.take() {
            logs.spawn(log_lines::log(receiver(output.into())?, "stderr"));
        }
        // the handle is dropped unwaited: `reap` collects the child, the only one who may
        Ok(Self { pid: Pid::from_child(&child), child_ended, logs })
    }

    /// Waits for the server's end: its exit code, or the negative number of the signal that ended
    /// it. Cancel-safe until it returns, and to be called no more after that.
    pub(crate) async fn exited(&mut self) -> i32 {
        loop {
            if let Some(code) = reap::collect(self.pid) {
                return code;
            }
            self.child_ended.recv().await;
        }
    }

    /// Ends the server and its process group: SIGTERM, and after `limit` SIGKILL.
    pub(crate) async fn stop(&mut self, limit: Duration) {
        self.signal(Signal::TERM);
        if timeout(limit, self.exited()).await.is_err() {
            tracing::warn!("the MCP server did not end on SIGTERM");
            self.signal(Signal::KILL);
            self.exited().await;
        }
    }

    /// Waits up to `limit` for the rest of the output, which orphans of the server may hold open.
    pub(crate) async fn finish_logs(mut self, limit: Duration) {
        self.signal(Signal::KILL);
        let reading = async { while self.logs.join_next().await.is_some() {} };
        if timeout(limit, reading).await.is_err() {
            tracing::debug!("the MCP server's output was still open at the end");
        }
    }

    fn signal(&self, signal: Signal) {
        // fails only where the group has ended, which is what the signal is for
        if let Err(errno) = kill_process_group(self.pid, signal) {
            tracing::debug!(%errno, "the MCP server's process group has ended");
        }
    }
}

fn receiver(output: OwnedFd) -> Result<Receiver, SpawnError> {
    Receiver::from_owned_fd(output).map_err(SpawnError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::test_kill_process;

    fn shell(script: &str) -> ServerProcess {
        let command = ["/bin/sh", "-c", script].map(String::from);
        ServerProcess::spawn(&command, [("ONLY", "this")], Path::new("/")).unwrap()
    }

    /// One test, because collecting children is a matter of the whole process: two tests at once
    /// would collect each other's.
    #[tokio::test]
    async fn a_server_is_started_clean_and_collected_with_its_orphans() {
        // env prints PWD and the like where a shell runs it; `HOME` is what this process would leak
        let mut server = shell("test -z \"$HOME\" && test \"$ONLY\" = this && exit 7");
        assert_eq!(server.exited().await, 7);
        server.finish_logs(STOP).await;

        let mut killed = shell("kill -9 $$");
        assert_eq!(killed.exited().await, -9);

        // the orphan outlives its parent, becomes a child of this process, and is collected too
        let pid_file = tempfile::NamedTempFile::new().unwrap();
        let path = pid_file.path().display();
        let mut server =
            shell(&format!("(sh -c 'echo $$ > {path}; exec sleep 1000' &) ; sleep 1000"));
        let orphan = loop {
            let text = std::fs::read_to_string(pid_file.path()).unwrap();
            if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
                break Pid::from_raw(pid).unwrap();
            }
            tokio::task::yield_now().await;
        };
        server.stop(STOP).await;
        while test_kill_process(orphan).is_ok() {
            reap::collect(server.pid);
            tokio::task::yield_now().await;
        }

        let mut stubborn = shell("trap '' TERM; while :; do sleep 1000; done");
        stubborn.stop(Duration::from_millis(50)).await;
        assert!(test_kill_process(stubborn.pid).is_err());
    }

    const STOP: Duration = Duration::from_secs(5);
}
