//! Puts this process under limits that its parent could only set from outside, and becomes a
//! program: control groups by writing its own pid, resource limits by the system call, then `exec`.
//! It must not know what the program or the limits are for.

use clap::Args;
use rustix::process::{
    Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit,
};
use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// What to enter, and what to become.
#[derive(Debug, Args)]
pub(crate) struct Enter {
    /// The process that starts this one: end with it, even before the program can see to that
    /// itself.
    #[arg(long, value_name = "PID")]
    parent: Option<i32>,
    /// Files that take a pid (`cgroup.procs`).
    #[arg(long, value_name = "PATH", num_args = 1..)]
    cgroup_procs: Vec<PathBuf>,
    /// `RLIMIT_DATA`, bytes.
    #[arg(long, value_name = "BYTES")]
    rlimit_data: Option<u64>,
    /// `RLIMIT_NOFILE`, descriptors.
    #[arg(long, value_name = "N")]
    rlimit_nofile: Option<u64>,
    /// `RLIMIT_CORE`, bytes.
    #[arg(long, value_name = "N")]
    rlimit_core: Option<u64>,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Why the program did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    #[error("cannot join the control group of `{}`", path.display())]
    ControlGroup {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot set the limit {resource:?} to {value}")]
    Limit {
        resource: Resource,
        value: u64,
        #[source]
        source: rustix::io::Errno,
    },
    #[error("cannot be made to end with process {parent}")]
    ParentDeath {
        parent: i32,
        #[source]
        source: rustix::io::Errno,
    },
    #[error("process {0}, which this one was to end with, has ended")]
    Orphaned(i32),
    #[error("no program was named")]
    NoProgram,
    #[error("cannot run `{}`", program.display())]
    Exec {
        program: OsString,
        #[source]
        source: io::Error,
    },
}

impl Enter {
    /// Becomes the program; returns only if that failed.
    pub(crate) fn run(self) -> EnterError {
        match self.prepare() {
            Ok(()) => self.exec(),
            Err(error) => error,
        }
    }

    fn prepare(&self) -> Result<(), EnterError> {
        if let Some(parent) = self.parent {
            end_with(parent)?;
        }
        for path in &self.cgroup_procs {
            join(path).map_err(|source| EnterError::ControlGroup { path: path.clone(), source })?;
        }
        for (resource, value) in [
            (Resource::Data, self.rlimit_data),
            (Resource::Nofile, self.rlimit_nofile),
            (Resource::Core, self.rlimit_core),
        ] {
            let Some(value) = value else { continue };
            let limit = Rlimit { current: Some(value), maximum: Some(value) };
            setrlimit(resource, limit).map_err(|source| EnterError::Limit {
                resource,
                value,
                source,
            })?;
        }
        Ok(())
    }

    fn exec(self) -> EnterError {
        let mut words = self.command.into_iter();
        let Some(program) = words.next() else {
            return EnterError::NoProgram;
        };
        let source = Command::new(&program).args(words).exec();
        EnterError::Exec { program, source }
    }
}

fn join(path: &Path) -> io::Result<()> {
    // never `create`: a file made here would be no control group, and the limit silently missing
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(std::process::id().to_string().as_bytes())
}

/// Asks the kernel first and looks second, so that a parent that ends in between is noticed. The
/// wish is kept over `exec`.
fn end_with(parent: i32) -> Result<(), EnterError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|source| EnterError::ParentDeath { parent, source })?;
    let is_there = getppid().is_some_and(|now| now.as_raw_nonzero().get() == parent);
    if is_there { Ok(()) } else { Err(EnterError::Orphaned(parent)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        enter: Enter,
    }

    fn parse(words: &[&str]) -> Enter {
        Cli::try_parse_from([&["enter"], words].concat()).unwrap().enter
    }

    #[test]
    fn everything_behind_the_dashes_is_the_program() {
        let enter = parse(&["--cgroup-procs", "/a", "/b", "--rlimit-core", "0", "--", "sh", "--x"]);
        assert_eq!(enter.cgroup_procs, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(enter.rlimit_core, Some(0));
        assert_eq!(enter.command, ["sh", "--x"]);
        assert!(Cli::try_parse_from(["enter", "--rlimit-core", "0"]).is_err());
    }

    #[test]
    fn a_control_group_that_does_not_exist_is_never_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cgroup.procs");
        let error = parse(&["--cgroup-procs", path.to_str().unwrap(), "--", "true"]).run();
        assert!(matches!(error, EnterError::ControlGroup { .. }), "{error:?}");
        assert!(!path.exists());
    }

    #[test]
    fn the_own_pid_is_written_before_the_program_is_looked_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let error = parse(&["--cgroup-procs", path, "--", "/nowhere/program"]).run();
        assert!(matches!(error, EnterError::Exec { .. }), "{error:?}");
        let written = std::fs::read_to_string(path).unwrap();
        assert_eq!(written, std::process::id().to_string());
    }
}
