//! The MCP server's process: started with an environment built from nothing, in a process group of
//! its own; its output becomes log lines, but for what is piped. It must not know the agent, or what the server
//! serves.

use super::{
    log_lines,
    reap::{self, Reaper},
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{net::unix::pipe::Receiver, task::JoinSet, time::timeout};

/// The running MCP server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    pid: Pid,
    end: reap::End,
    logs: JoinSet<()>,
}

/// Our ends of a program's standard streams, of which one message a line is read and written.
#[derive(Debug)]
pub(crate) struct Piped {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
}

/// A program's input and output, where they are pipes.
type Streams = (Option<OwnedFd>, Option<OwnedFd>);

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
    #[error("cannot read the server's output")]
    Output(#[source] io::Error),
}

/// What a program is started with, besides its command line.
#[derive(Debug)]
pub(crate) struct Surroundings<'a, E> {
    /// All of its environment.
    pub(crate) env: E,
    pub(crate) workdir: &'a Path,
    pub(crate) reaper: &'a Reaper,
}

impl ServerProcess {
    /// Starts `command`, whose input is empty and whose output is logged.
    pub(crate) fn spawn<'a>(
        command: &[String],
        surroundings: Surroundings<'_, impl IntoIterator<Item = (&'a str, &'a str)>>,
    ) -> Result<Self, SpawnError> {
        let (mut this, (_, output)) = Self::start(command, Stdio::null(), surroundings)?;
        if let Some(output) = output {
            this.logs.spawn(log_lines::log(receiver(output)?, "stdout"));
        }
        Ok(this)
    }

    /// Starts `command`, whose input and output are the caller's.
    pub(crate) fn spawn_piped<'a>(
        command: &[String],
        surroundings: Surroundings<'_, impl IntoIterator<Item = (&'a str, &'a str)>>,
    ) -> Result<(Self, Piped), SpawnError> {
        match Self::start(command, Stdio::piped(), surroundings)? {
            (this, (Some(stdin), Some(stdout))) => Ok((this, Piped { stdin, stdout })),
            _ => Err(SpawnError::Output(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn start<'a>(
        command: &[String],
        stdin: Stdio,
        surroundings: Surroundings<'_, impl IntoIterator<Item = (&'a str, &'a str)>>,
    ) -> Result<(Self, Streams), SpawnError> {
        let [program, arguments @ ..] = command else {
            return Err(SpawnError::NoCommand);
        };
        let Surroundings { env, workdir, reaper } = surroundings;
        let mut start = Command::new(program);
        start
            .args(arguments)
            .env_clear()
            .envs(env)
            .current_dir(workdir)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let (mut child, end) = reaper.spawn(&mut start).map_err(|source| SpawnError::Start {
            program: program.clone(),
            workdir: workdir.to_owned(),
            source,
        })?;
        let mut logs = JoinSet::new();
        if let Some(output) = child.stderr.take() {
            logs.spawn(log_lines::log(receiver(output.into())?, "stderr"));
        }
        let streams = (child.stdin.take().map(Into::into), child.stdout.take().map(Into::into));
        // the handle is dropped unwaited: the reaper collects the child, the only one who may
        Ok((Self { pid: Pid::from_child(&child), end, logs }, streams))
    }

    /// Waits for the server's end: its exit code, or the negative number of the signal that ended
    /// it. Cancel-safe until it returns, and to be called no more after that.
    pub(crate) async fn exited(&mut self) -> i32 {
        // the reaper lives as long as the runtime, and tells every end
        (&mut self.end).await.unwrap_or_default()
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
    use std::io::{Read as _, Write as _};

    fn shell(reaper: &Reaper, script: &str) -> ServerProcess {
        let command = ["/bin/sh", "-c", script].map(String::from);
        ServerProcess::spawn(&command, surroundings(reaper)).unwrap()
    }

    fn surroundings(reaper: &Reaper) -> Surroundings<'_, [(&'static str, &'static str); 1]> {
        Surroundings { env: [("ONLY", "this")], workdir: Path::new("/"), reaper }
    }

    /// One test, because collecting children is a matter of the whole process: two tests at once
    /// would collect each other's.
    #[tokio::test]
    async fn a_server_is_started_clean_and_collected_with_its_orphans() {
        let reaper = Reaper::start().unwrap();
        let shell = |script: &str| shell(&reaper, script);
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
            tokio::task::yield_now().await;
        }

        let mut stubborn = shell("trap '' TERM; while :; do sleep 1000; done");
        stubborn.stop(Duration::from_millis(50)).await;
        assert!(test_kill_process(stubborn.pid).is_err());

        // many at once, some of which end before anybody asks: each is told its own end
        let ends = (0..20).map(|code| (code, shell(&format!("exit {code}"))));
        for (code, mut program) in ends.collect::<Vec<_>>() {
            assert_eq!(program.exited().await, code);
        }

        let command = ["/bin/sh", "-c", "read line; echo \"heard $line\""].map(String::from);
        let (mut echo, piped) =
            ServerProcess::spawn_piped(&command, surroundings(&reaper)).unwrap();
        let mut stdin = std::fs::File::from(piped.stdin);
        stdin.write_all(b"this\n").unwrap();
        assert_eq!(echo.exited().await, 0);
        let mut said = String::new();
        std::fs::File::from(piped.stdout).read_to_string(&mut said).unwrap();
        assert_eq!(said, "heard this\n");
    }

    const STOP: Duration = Duration::from_secs(5);
}
