//! The one thread that starts processes.
//!
//! Bubblewrap dies with the *thread* that started it, so that thread must live as long as the
//! sandboxes do: a thread of an asynchronous runtime's pool does not. Descriptors are inherited
//! under their own numbers by clearing close-on-exec for the moment of the spawn; nothing else in
//! this process may start processes, or it could inherit them too. This module must not know what
//! is started.

use super::{devices, stray};
use parking_lot::Mutex;
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
};
use tokio::sync::{mpsc, oneshot};

/// A program to start. Its environment is empty, its input `/dev/null`, its outputs pipes.
pub struct SpawnCommand {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What it inherits, under the same numbers. Closed here once it has started.
    pub inherit: Vec<OwnedFd>,
}

/// A program that was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The thread could not be started.
    #[error("cannot start the thread that starts sandboxes")]
    Thread(#[source] io::Error),
    /// The thread could not shield the host from what it starts.
    #[error(
        "cannot shield the host's device nodes from sandboxes (start as another user than root)"
    )]
    Shield(#[source] io::Error),
    /// Descriptors that the controller was started with could not be kept from sandboxes.
    #[error("cannot keep this process's own descriptors from sandboxes")]
    Stray(#[source] io::Error),
    /// The program could not be started.
    #[error("cannot start `{program}`")]
    Program {
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The thread is gone.
    #[error("the thread that starts sandboxes has ended")]
    Ended,
}

/// A process that runs, not yet awaited.
pub(super) struct Spawned {
    pub(super) process: Child,
    /// Refers to this very process, whatever becomes of its number.
    pub(super) pidfd: OwnedFd,
}

enum Request {
    Spawn(SpawnCommand, oneshot::Sender<Result<Spawned, SpawnError>>),
    Reap(Child),
}

/// Starts processes on a thread of its own. The thread ends, and with it every sandbox, when the
/// last clone is dropped; a running child holds one.
#[derive(Clone)]
pub struct Spawner {
    requests: mpsc::UnboundedSender<Request>,
}

/// Held while descriptors are inheritable, should a process have several spawners.
pub(super) static INHERITING: Mutex<()> = Mutex::new(());

impl Spawner {
    /// Starts the thread.
    pub fn start() -> Result<Self, SpawnError> {
        {
            // Not while another spawner has made descriptors inheritable on purpose.
            let _inheriting = INHERITING.lock();
            stray::keep_from_children().map_err(SpawnError::Stray)?;
        }
        let (requests, received) = mpsc::unbounded_channel();
        let (ready, shielded) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("sandbox-spawner".into())
            .spawn(move || {
                let shield = devices::shield();
                let is_shielded = shield.is_ok();
                if ready.send(shield).is_ok() && is_shielded {
                    serve(received);
                }
            })
            .map_err(SpawnError::Thread)?;
        shielded.recv().map_err(|_| SpawnError::Ended)?.map_err(SpawnError::Shield)?;
        Ok(Self { requests })
    }

    /// Starts `command`.
    pub(super) async fn spawn(&self, command: SpawnCommand) -> Result<Spawned, SpawnError> {
        let (reply, started) = oneshot::channel();
        self.requests.send(Request::Spawn(command, reply)).map_err(|_| SpawnError::Ended)?;
        started.await.map_err(|_| SpawnError::Ended)?
    }

    /// Takes over a process that has been killed, so that no zombie is left of it.
    pub(super) fn reap(&self, process: Child) {
        if self.requests.send(Request::Reap(process)).is_err() {
            tracing::debug!("the spawner has ended before a process was reaped");
        }
    }
}

fn serve(mut requests: mpsc::UnboundedReceiver<Request>) {
    while let Some(request) = requests.blocking_recv() {
        match request {
            Request::Spawn(command, reply) => {
                if let Err(Ok(unwanted)) = reply.send(spawn_here(command)) {
                    // Whoever asked has gone.
                    end(unwanted.process);
                }
            }
            Request::Reap(process) => end(process),
        }
    }
}

fn end(mut process: Child) {
    if let Err(error) = process.kill().and_then(|()| process.wait().map(drop)) {
        tracing::warn!(%error, pid = process.id(), "cannot end a process");
    }
}

fn spawn_here(command: SpawnCommand) -> Result<Spawned, SpawnError> {
    let SpawnCommand { program, args, inherit } = command;
    let start = || {
        let _inheriting = INHERITING.lock();
        for descriptor in &inherit {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        let started = Command::new(&program)
            .args(args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        // Before the lock is given up, and whether or not there is a process.
        drop(inherit);
        started
    };
    let failed = |source| SpawnError::Program { program: program.clone(), source };
    let mut process = start().map_err(failed)?;
    match pidfd_open(Pid::from_child(&process), PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Spawned { process, pidfd }),
        Err(error) => {
            if process.kill().is_ok() {
                end(process);
            }
            Err(failed(error.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        os::fd::AsRawFd as _,
    };

    fn shell(script: &str, inherit: Vec<OwnedFd>) -> SpawnCommand {
        SpawnCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()], inherit }
    }

    fn output(mut spawned: Spawned) -> String {
        let mut text = String::new();
        spawned.process.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(spawned.process.wait().unwrap().success());
        text
    }

    #[tokio::test]
    async fn a_descriptor_is_inherited_under_its_own_number_and_closed_here() {
        let spawner = Spawner::start().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"through the pipe").unwrap();
        drop(writer);
        let number = reader.as_raw_fd();
        let script = format!("cat /proc/self/fd/{number}");
        let started = spawner.spawn(shell(&script, vec![reader.into()])).await.unwrap();
        assert_eq!(output(started), "through the pipe");
    }

    #[tokio::test]
    async fn the_next_process_does_not_inherit_what_the_last_one_did() {
        let spawner = Spawner::start().unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        let number = writer.as_raw_fd();
        let kept = writer.try_clone().unwrap();
        output(spawner.spawn(shell("true", vec![writer.into()])).await.unwrap());
        let script =
            format!("for n in {number} {}; do ! test -e /dev/fd/$n; done", kept.as_raw_fd());
        output(spawner.spawn(shell(&script, Vec::new())).await.unwrap());
    }

    #[tokio::test]
    async fn the_environment_is_empty() {
        let spawner = Spawner::start().unwrap();
        let command =
            SpawnCommand { program: "/usr/bin/env".into(), args: Vec::new(), inherit: Vec::new() };
        assert_eq!(output(spawner.spawn(command).await.unwrap()), "");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let spawner = Spawner::start().unwrap();
        let command = SpawnCommand {
            program: "/does/not/exist".into(),
            args: Vec::new(),
            inherit: Vec::new(),
        };
        let error = spawner.spawn(command).await.err().unwrap();
        assert_eq!(error.to_string(), "cannot start `/does/not/exist`");
    }
}
